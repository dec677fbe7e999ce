"""What a server backend needs of whatever brings weights to its server. The ways to do it are in `handover`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Served

_LOOK = 0.1


class Weights(Protocol):
    """Brings the weights of a model to a server and knows which ones it serves. Used by several threads."""

    def hold(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """Keep the weights that are served from being changed by others while inside; see `Backend.hold`."""

    def ensure(self, model: ArtifactRef, check: Callable[[], None]) -> Served:
        """Make every replica serve the model and return what answers for it. `Served.model` is the name to ask for.

        One that cannot be reached gets no work, as long as another one can.

        Calls `check` while it waits, which may raise to stop.

        Raises:
            NotFound: the model is not in the store.
            PreconditionFailed: the server serves other weights and cannot be made to serve these.
            Unavailable: no replica can be reached, or one was not ready in time.
        """

    def verify(self, model: ArtifactRef) -> None:
        """Ask every replica whether it serves the model now; cheap, called before and after every part of the work.

        One that cannot be reached gets no work, as long as another one can; see `Transport.there`.

        Raises:
            PreconditionFailed: one serves other weights.
            Unavailable: none can be reached.
        """


@contextmanager
def turn(lock: threading.Lock, check: Callable[[], None]) -> Iterator[None]:
    """Hold `lock` while inside; `check` is called ten times a second while it is waited for, and may raise to stop."""
    while not lock.acquire(timeout=_LOOK):
        check()
    try:
        yield
    finally:
        lock.release()
