"""Work on a Ray cluster: `RayExecutor`, an executor like those of `ouroscope.executor`. Imports no ray.

What talks to the cluster is a child process (see `driver`): the head of a cluster may be lost, and whoever asked lives
on with a typed error. A cluster runs what it is sent and answers with pickles, so it must be as trusted as this
process; docs/ray.md says how strangers are kept out.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import pickle
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, Future
from importlib.util import find_spec
from typing import Any, TypeVar

from ouroscope.cluster.driver import LOST, NEWS, Wanted, main
from ouroscope.errors import CapabilityMissing, FieldProblem, InvalidRequest, OuroscopeError, Unavailable
from ouroscope.executor import AHEAD, Executor, executor_of, in_order

T = TypeVar("T")
R = TypeVar("R")

RAY = "ray"
KINDS = ("local", RAY)
"""Where work may be done: on this machine, in as many processes as are asked for, or on a Ray cluster."""
CONNECT_SECONDS = 30.0
"""Seconds after which a cluster that does not answer counts as unreachable."""
PATIENCE_SECONDS = 120.0
"""Seconds without any worker after which a cluster is given up: an autoscaler may need a minute for a node."""
_GRACE_SECONDS = 5.0

_CLOSING = "the connection to the Ray cluster is closed"


class RayExecutor:
    """Does the work in `workers` actors of a cluster, connected when first needed. Any number of threads may ask."""

    def __init__(
        self,
        address: str,
        workers: int = 1,
        *,
        processors: int = 1,
        accelerators: int = 0,
        connect_seconds: float = CONNECT_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Remember where the cluster is.

        Args:
            address: `host:port` of its head, `auto` for that of this machine, or `ray://host:port`.
            workers: actors; those that find no room yet are waited for while others work.
            processors: of each worker.
            accelerators: of each worker; without any it sees none.
            connect_seconds: after which a cluster that does not answer is unreachable.
            patience_seconds: without any worker after which the cluster is given up.

        Raises:
            CapabilityMissing: the package `ray` is not installed.
        """
        if find_spec("ray") is None:
            raise CapabilityMissing("Ray is not installed here: `pip install 'ouroscope[ray]'`")
        self._wanted = Wanted(
            address=address,
            workers=workers,
            processors=processors,
            accelerators=accelerators,
            patience=patience_seconds,
        )
        self._connect_seconds = connect_seconds
        self._turn = threading.Lock()
        self._link: _Link | None = None
        self._closed = False

    def map(self, work: Callable[[T], R], items: Iterable[T], look: Callable[[], None] | None = None) -> Generator[R]:
        """Yield `work(item)` for each item, at most a few items ahead of the reader.

        Work whose actor or node is lost is done again elsewhere. `look` is called ten times a second while an answer
        is waited for, and may raise to leave.

        Raises:
            Unavailable: nobody listens there, the cluster was lost, it has no room, or the executor is closed.
            PreconditionFailed: the cluster runs another version of Ray, Python or Ouroscope.
            NotAuthenticated: it wants another token.
        """
        submit = functools.partial(self._submit, work)
        try:
            yield from in_order(submit, items, AHEAD * self._wanted.workers, look)
        except CancelledError as error:
            raise Unavailable(_CLOSING) from error

    def close(self) -> None:
        """Leave the cluster; what has begun there is given up."""
        with self._turn:
            self._closed, link = True, self._link
        if link is not None:
            link.close()

    def _submit(self, work: Callable[[T], R], item: T) -> Future[R]:
        return self._linked().submit(pickle.dumps((work, item)))

    def _linked(self) -> _Link:
        """Return the connection, a new one where the last cluster was lost."""
        with self._turn:
            if self._closed:
                raise Unavailable(_CLOSING)
            if self._link is None or self._link.lost:
                self._link = _Link(self._wanted, self._connect_seconds)
            return self._link


def open_executor(
    kind: str, workers: int, address: str = "", *, processors: int = 1, accelerators: int = 0
) -> Executor:
    """Return what does the work: `local` in so many processes of this machine (1 is this one), or `ray`.

    `processors` and `accelerators` are those of each worker of a cluster.

    Raises:
        InvalidRequest: there is no such kind, or a cluster without an address (and the reverse).
        CapabilityMissing: the package `ray` is not installed.
    """
    if kind not in KINDS:
        raise InvalidRequest(f"there is no executor {kind[:40]!r}; use {' or '.join(KINDS)}")
    if (kind == RAY) != bool(address):
        problem = FieldProblem("ray_address", "goes with the executor ray: host:port of its head, or auto")
        raise InvalidRequest(f"{problem.field} {problem.description}", [problem])
    if kind == RAY:
        return RayExecutor(address, workers, processors=processors, accelerators=accelerators)
    return executor_of(workers)


class _Link:
    """One life of the process that talks to the cluster, and the answers that it owes."""

    def __init__(self, wanted: Wanted, seconds: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=main, args=(theirs, wanted), daemon=True, name="ray-driver")
        self._process.start()
        theirs.close()
        self._turn = threading.Lock()
        self._tickets = itertools.count()
        self._owed: dict[int, Future[Any]] = {}
        self._end: OuroscopeError | None = None
        self._reader: threading.Thread | None = None
        try:
            self._greet(seconds)
        except OuroscopeError:
            self.close()
            raise
        self._reader = threading.Thread(target=self._listen, daemon=True, name="ray-answers")
        self._reader.start()

    @property
    def lost(self) -> bool:
        """Return whether nothing can be asked of it any more."""
        return self._end is not None

    def submit(self, order: bytes) -> Future[Any]:
        """Hand out one order."""
        future: Future[Any] = Future()
        with self._turn:
            if self._end is not None:
                raise self._end
            ticket = next(self._tickets)
            self._owed[ticket] = future
            self._tell(ticket, order)
        future.add_done_callback(functools.partial(self._forget, ticket))
        return future

    def close(self) -> None:
        """End the process, with grace where it serves."""
        self._fail(Unavailable(_CLOSING))
        with self._turn:
            self._tell(NEWS, None)
        self._process.join(_GRACE_SECONDS if self._reader else 0.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        # Closed last: nothing wakes a reader of a pipe that is closed on its own side.
        if self._reader:
            self._reader.join()
        self._connection.close()

    def _greet(self, seconds: float) -> None:
        try:
            if not self._connection.poll(seconds):
                raise Unavailable(
                    f"no Ray cluster answered within {seconds:.0f} seconds; check the address of its head"
                )
            _, (reached, refusal) = self._connection.recv()
        except (EOFError, OSError) as error:
            raise LOST from error
        if not reached:
            raise pickle.loads(refusal)

    def _listen(self) -> None:
        try:
            while True:
                ticket, (done, content) = self._connection.recv()
                if ticket == NEWS:
                    self._fail(pickle.loads(content))
                else:
                    self._pay(ticket, done, content)
        except (EOFError, OSError):
            self._fail(LOST)

    def _pay(self, ticket: int, done: bool, content: bytes) -> None:
        with self._turn:
            future = self._owed.pop(ticket, None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        try:
            answer = pickle.loads(content)
        except Exception as error:  # whatever the class of the answer raises while it is made
            done, answer = False, error
        if done:
            future.set_result(answer)
        else:
            future.set_exception(answer)

    def _forget(self, ticket: int, future: Future[Any]) -> None:
        """Say that nobody waits for an answer any more."""
        with self._turn:
            if self._owed.pop(ticket, None) is not None and future.cancelled():
                self._tell(ticket, None)

    def _tell(self, ticket: int, order: bytes | None) -> None:
        try:
            self._connection.send((ticket, order))
        except (OSError, ValueError):
            # The reader finds out as well, and tells all who wait.
            self._end = self._end or LOST

    def _fail(self, why: OuroscopeError) -> None:
        with self._turn:
            self._end = self._end or why
            owed, self._owed = self._owed, {}
        for future in owed.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(why)
