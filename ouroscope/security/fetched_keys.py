"""Keys of an identity provider at a URL: asked for seldom, one request at a time, kept while the provider is down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import structlog

from ouroscope.errors import Unavailable

if TYPE_CHECKING:
    from jwt import PyJWK

log = structlog.get_logger(__name__)

FRESH = 300.0
"""Seconds after which keys are asked for again."""
ASK_AGAIN = 30.0
"""Least seconds between two requests, so that tokens with keys that do not exist are no storm at the provider."""
KEPT = 3600.0
"""Seconds that keys are still good while the provider does not answer."""

Keys = Mapping[str, "PyJWK"]


class FetchedKeys:
    """The keys by their identifier; safe in any thread."""

    def __init__(
        self,
        fetch: Callable[[], Keys],
        failures: tuple[type[Exception], ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask for nothing yet.

        Args:
            fetch: asks the provider; may wait.
            failures: what `fetch` raises where the provider does not answer, or not with keys.
            clock: tells the time in seconds.
        """
        self._fetch, self._failures, self._clock = fetch, failures, clock
        self._keys: Keys = {}
        self._fetched = self._tried = float("-inf")
        self._lock = threading.Lock()

    def get(self, key_id: str) -> PyJWK | None:
        """Return a key, or None where the provider does not show it.

        Raises:
            Unavailable: the provider has not told its keys for too long.
        """
        if not self._is_known(key_id):
            with self._lock:
                # Another thread may have asked meanwhile.
                if not self._is_known(key_id) and self._clock() - self._tried >= ASK_AGAIN:
                    self._renew()
        if self._clock() - self._fetched > KEPT:
            raise Unavailable("the keys of the identity provider cannot be fetched now", retry_after=ASK_AGAIN)
        return self._keys.get(key_id)

    def _is_known(self, key_id: str) -> bool:
        return key_id in self._keys and self._clock() - self._fetched < FRESH

    def _renew(self) -> None:
        self._tried = self._clock()
        try:
            self._keys = self._fetch()
        except self._failures as error:
            log.warning("oidc_keys.not_fetched", kind=type(error).__name__)
        else:
            self._fetched = self._clock()
