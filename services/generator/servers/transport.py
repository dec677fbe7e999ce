"""Requests to the replicas of one server: bounded in number, tried again, stopped at once.

Work comes from threads that may block; the requests run in one event loop of their own, so that whoever waits can
stop all of them between two looks at the clock.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ouroscope.errors import Unavailable
from ouroscope.settings import Secret
from services.generator.servers.loop import Loop
from services.generator.servers.replicas import MAX_ANSWER_BYTES, Call, Replica, Replicas

log = structlog.get_logger(__name__)

R = TypeVar("R")

_SOON, _FEW = 10.0, 3
"""Seconds of a try, and tries, of a question that somebody waits for."""
_LONGEST_WAIT = 30.0


class Transport:
    """Asks the replicas of one backend. Thread-safe; starts its loop with the first request."""

    def __init__(
        self,
        server: str,
        urls: Sequence[str],
        *,
        token: Secret | None = None,
        token_variable: str = "",
        concurrency: int = 16,
        scoring_concurrency: int = 2,
        timeout: float = 120.0,
        attempts: int = 6,
        first_wait: float = 0.5,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        """Note where the replicas are; nothing is asked yet.

        Args:
            server: Name of the backend, for errors and logs.
            urls: Of the replicas, without the path of a request.
            token: Sent as bearer token.
            token_variable: Where the token comes from, for errors.
            concurrency: Requests in flight, all replicas together.
            scoring_concurrency: Of them, requests for log-probabilities of a whole text.
            timeout: Seconds of one try.
            attempts: Tries of one request.
            first_wait: Seconds before the second try at most; they double from try to try.
            max_answer_bytes: Largest answer that is read.
        """
        self.server, self.token_variable, self.timeout = server, token_variable, timeout
        self._attempts = attempts
        self._slots, self._scoring_slots = asyncio.Semaphore(concurrency), asyncio.Semaphore(scoring_concurrency)
        self._waits = wait_random_exponential(multiplier=first_wait, max=_LONGEST_WAIT)
        self._replicas = Replicas(
            server,
            urls,
            token=token,
            token_variable=token_variable,
            concurrency=concurrency,
            timeout=timeout,
            max_answer_bytes=max_answer_bytes,
        )
        self._loop = Loop(self._replicas.close)
        self._inside = threading.local()

    def run(
        self,
        calls: Sequence[Call[R]],
        pulse: Callable[[int], None],
        *,
        tokens: Callable[[int, R], int] = lambda _, __: 0,
        scoring: bool = False,
    ) -> list[R]:
        """Make every request and return the answers in their order. Blocks; not to be called from an event loop.

        Args:
            calls: The requests.
            pulse: Hears `tokens` of every answer, and 0 ten times a second; if it raises, all requests are stopped.
            tokens: What an answer is worth, by the place of its request.
            scoring: Whether these are requests for log-probabilities of whole texts, of which few may be in flight.

        Raises:
            OuroscopeError: the first that was final, or Unavailable after the last try; the others are stopped.
        """
        slots = self._scoring_slots if scoring else self._slots
        among = self.among
        starts = [partial(self._tried, call, slots, self._attempts, self.timeout, among) for call in calls]
        return self._loop.run(starts, pulse, tokens)

    def everywhere(
        self,
        call: Call[R],
        pulse: Callable[[int], None] = lambda _: None,
        *,
        soon: bool = False,
        spare: bool = False,
    ) -> list[R]:
        """Make the request to every replica and return their answers in the order of `urls`.

        It waits for no other request, and stops when `pulse` or `check` raise.

        Args:
            call: The request.
            pulse: As for `run`.
            soon: Whether somebody waits for it: a few tries of ten seconds at most.
            spare: Whether a replica that cannot be reached is done without, as long as another one answers; it gets no
                work until it has answered such a request.

        Raises:
            OuroscopeError: as `run`.
        """
        attempts, seconds = (_FEW, _SOON) if soon else (self._attempts, self.timeout)
        attempts, seconds = min(attempts, self._attempts), min(seconds, self.timeout)
        ask = partial(self._reached, call, attempts, seconds) if spare else partial(self._told, call, attempts, seconds)

        def look(tokens: int) -> None:
            self.check()
            pulse(tokens)

        found = self._loop.run([partial(ask, each) for each in self._replicas], look)
        answers = [answer for answer in found if not isinstance(answer, Unavailable)]
        if not answers:
            raise next(answer for answer in found if isinstance(answer, Unavailable))
        return answers

    @property
    def there(self) -> frozenset[int]:
        """Return the numbers of the replicas that answered when all were asked last."""
        return self._replicas.there

    @property
    def among(self) -> frozenset[int]:
        """Return the replicas that this thread's work goes to; see `only`."""
        told: frozenset[int] | None = getattr(self._inside, "among", None)
        return self.there if told is None else told

    @contextmanager
    def only(self, replicas: frozenset[int]) -> Iterator[None]:
        """Let this thread's work go to these replicas alone while inside."""
        self._inside.among = replicas
        try:
            yield
        finally:
            self._inside.among = None

    @contextmanager
    def stoppable(self, check: Callable[[], None]) -> Iterator[None]:
        """Let what this thread asks of all replicas while inside be stopped by `check`, which then raises."""
        before, self._inside.check = self.check, check
        try:
            yield
        finally:
            self._inside.check = before

    @property
    def check(self) -> Callable[[], None]:
        """Return what tells this thread to stop; see `stoppable`."""
        told: Callable[[], None] = getattr(self._inside, "check", _never)
        return told

    async def get(self, replica: Replica, route: str, **options: Any) -> Any:
        """Return the JSON answer to a GET; see `send`."""
        return await self.send(replica, "GET", route, **options)

    async def post(self, replica: Replica, route: str, body: Any, **options: Any) -> Any:
        """Return the JSON answer to a POST of JSON; see `send`."""
        return await self.send(replica, "POST", route, json=body, **options)

    async def send(self, replica: Replica, method: str, route: str, *, plain: bool = False, **options: Any) -> Any:
        """Make one request and return what it answers; see `Replicas.send`."""
        return await self._replicas.send(replica, method, route, plain=plain, **options)

    def close(self) -> None:
        """Stop what is in flight and close all connections; nothing can be asked afterwards."""
        self._loop.close()

    async def _tried(
        self,
        call: Call[R],
        slots: AbstractAsyncContextManager[None],
        attempts: int,
        seconds: float,
        among: frozenset[int],
    ) -> R:
        """Make one request, again and again while the error may pass; the slot is kept, so that a busy server rests."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_attempt(attempts),
            wait=self._wait_before,
            before_sleep=self._tell,
            reraise=True,
        )
        async with slots:
            return await retrying(self._replicas.attempt, call, among, seconds)

    async def _told(self, call: Call[R], attempts: int, seconds: float, replica: Replica) -> R:
        return await self._tried(call, nullcontext(), attempts, seconds, frozenset({replica.number}))

    async def _reached(self, call: Call[R], attempts: int, seconds: float, replica: Replica) -> R | Unavailable:
        """Return the answer of one replica; an error in its place if it cannot be reached while others can."""
        if replica.lost and self.there:
            # It was waited for when it was lost.
            attempts, seconds = 1, min(_SOON, seconds)
        try:
            answer = await self._told(call, attempts, seconds, replica)
        except Unavailable as error:
            if not replica.lost:
                log.warning("replica.lost", backend=self.server, replica=replica.number, error=str(error))
            replica.lost = True
            return error
        if replica.lost:
            log.info("replica.back", backend=self.server, replica=replica.number)
            replica.lost, replica.resting_until = False, 0.0
        return answer

    def _wait_before(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, Unavailable) else 0.0
        return max(asked, self._waits(state))

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = round(state.upcoming_sleep, 3)
        log.warning("server.retry", backend=self.server, attempt=state.attempt_number, wait=wait, error=str(error))


def _never() -> None:
    """Do not tell anybody to stop."""
