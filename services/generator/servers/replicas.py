"""The servers that serve the same weights: one request to the least busy of them, bounded in size and time.

Knows HTTP, nothing of models and nothing of trying again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from ouroscope.errors import OuroscopeError, Unavailable
from ouroscope.settings import Secret
from services.generator.servers import faults

R = TypeVar("R")

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Of one answer: log-probabilities of the longest texts stay far below."""
_ERROR_BYTES = 4096
"""Read of an answer that is no success."""
_REST = 5.0
"""Seconds that a replica is passed over after it failed, if another one is there."""


@dataclass(slots=True, eq=False)
class Replica:
    """One of the servers that serve the same weights."""

    number: int
    """Place in the list of `urls`: what logs say instead of the address, which may hold a secret."""
    url: str
    client: httpx.AsyncClient
    in_flight: int = 0
    resting_until: float = 0.0
    lost: bool = False
    """Whether it could not be reached when all were asked last: work goes to the others until it answers again."""


Call = Callable[[Replica], Awaitable[R]]
"""A request to whichever replica is chosen; made again, maybe to another one, if it raises Unavailable."""


class Replicas:
    """The replicas of one backend. Used by one event loop, but for `there`."""

    def __init__(
        self,
        server: str,
        urls: Sequence[str],
        *,
        token: Secret | None,
        token_variable: str,
        concurrency: int,
        timeout: float,
        max_answer_bytes: int,
    ) -> None:
        """Note where they are; see `Transport`."""
        self._server, self._token_variable = server, token_variable
        self._max_answer_bytes = max_answer_bytes
        token_header = {"Authorization": f"Bearer {token.reveal()}"} if token else {}
        self._headers = {"Accept-Encoding": "identity", **token_header}
        self._timeout, self._limits = timeout, httpx.Limits(max_connections=None, max_keepalive_connections=concurrency)
        self._all = [Replica(number, url, self._client(url)) for number, url in enumerate(urls)]

    def __iter__(self) -> Iterator[Replica]:
        """Yield all, in the order of `urls`."""
        return iter(self._all)

    @property
    def there(self) -> frozenset[int]:
        """Return the numbers of those that answered when all were asked last."""
        return frozenset(each.number for each in self._all if not each.lost)

    async def attempt(self, call: Call[R], among: frozenset[int], seconds: float) -> R:
        """Make one request to the least busy of some replicas.

        Raises:
            OuroscopeError: Unavailable for what may pass, after which the replica rests for a while.
        """
        chosen = self._choice(among)
        chosen.in_flight += 1
        try:
            async with asyncio.timeout(seconds):
                return await call(chosen)
        except (OuroscopeError, httpx.HTTPError, httpx.StreamError, OSError) as error:
            known = self._typed(error, chosen.url, seconds)
            if isinstance(known, Unavailable):
                chosen.resting_until = time.monotonic() + max(_REST, known.retry_after)
            raise known from error
        finally:
            chosen.in_flight -= 1

    async def send(self, replica: Replica, method: str, route: str, *, plain: bool = False, **options: Any) -> Any:
        """Make one request and return its JSON answer, None if the answer is empty.

        Redirects are not followed: where a server is, is the operator's word alone. With `plain` the answer is no JSON
        and is returned as bytes.

        Raises:
            OuroscopeError: see `faults.error_of`; Unavailable for what may pass.
        """
        async with replica.client.stream(method, route, **options) as response:
            body = await self._read(response)
        if not response.is_success:
            raise self._refusal(response, route, body)
        if plain:
            return body
        try:
            return json.loads(body) if body.strip() else None
        except (ValueError, RecursionError) as error:
            raise faults.broken(self._server, route) from error

    async def close(self) -> None:
        """Close all connections."""
        for replica in self._all:
            await replica.client.aclose()

    def _choice(self, among: frozenset[int]) -> Replica:
        """Return the least busy of some replicas; one that failed lately only if all have."""
        now = time.monotonic()
        asked = [each for each in self._all if each.number in among] or self._all
        return min(asked, key=lambda each: (each.resting_until > now, each.in_flight, each.resting_until))

    def _typed(self, error: Exception, url: str, seconds: float) -> OuroscopeError:
        if isinstance(error, OuroscopeError):
            return error
        if isinstance(error, (TimeoutError, httpx.TimeoutException)):
            return faults.late(self._server, url, seconds)
        return faults.lost(self._server, url)

    def _refusal(self, response: httpx.Response, route: str, body: bytes) -> OuroscopeError:
        return faults.error_of(
            response.status_code,
            server=self._server,
            route=route,
            token_variable=self._token_variable,
            body=body,
            retry_after=faults.seconds_to_wait(response.headers),
        )

    async def _read(self, response: httpx.Response) -> bytes:
        """Return the body as it came: asked for without compression, so that a small answer cannot unfold to a big."""
        most = self._max_answer_bytes if response.is_success else _ERROR_BYTES
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > most:
                if response.is_success:
                    raise faults.oversized(self._server, most)
                break
        return bytes(body[:most])

    def _client(self, url: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=url, headers=self._headers, timeout=self._timeout, limits=self._limits, follow_redirects=False
        )
