"""The process that speaks with a Ray cluster for the one that started it; the only code that imports ray.

It is a process of its own because Ray ends a driver whose cluster is lost, and a service must live on. Work goes
through it as bytes: it hands each order to an actor that is free, and one whose actor was lost to another actor. Ray
itself restarts what was lost, on any node that has room.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import pickle
import re
import signal
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any

from ouroscope.addresses import split_address
from ouroscope.cluster.actor import Actor, Answer, versions
from ouroscope.errors import (
    CapabilityMissing,
    InvalidRequest,
    NotAuthenticated,
    OuroscopeError,
    PreconditionFailed,
    Unavailable,
)

NEWS = -1
"""In place of a ticket: that the cluster was reached, or why it cannot be used; and back, that work is to end."""

_AHEAD = 2
# Orders that an actor has at once: it never waits for the next one.
_ATTEMPTS = 4
# Actors that one order may cost; one that ends them all is most likely too large.
_REACH_SECONDS = 5.0
_PAUSE_SECONDS = 0.2
# Between two questions whether a lost actor is back.
_CLIENT = "ray://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of a cluster."""

    address: str
    """`host:port` of the head, `auto` for the cluster of this machine, or `ray://host:port`."""
    workers: int
    processors: int = 1
    """Of each worker."""
    accelerators: int = 0
    """Of each worker."""
    patience: float
    """Seconds in which no worker answers after which the cluster counts as lost."""


def main(connection: Connection, wanted: Wanted) -> None:
    """Serve the other end of `connection` until it is closed."""
    # Ctrl-C is for the parent to handle; what Ray writes for people is in its own logs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _silence()
    try:
        ray = _connected(wanted)
    except OuroscopeError as refusal:
        connection.send((NEWS, (False, pickle.dumps(refusal))))
        return
    connection.send((NEWS, (True, b"")))
    asyncio.run(_Hands(ray, connection, wanted).serve())
    ray.shutdown()


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _connected(wanted: Wanted) -> Any:
    """Return the module `ray`, connected."""
    _reach(wanted.address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise CapabilityMissing("Ray is not installed here: `pip install 'ouroscope[ray]'`") from error
    try:
        ray.init(wanted.address, log_to_driver=False, configure_logging=False, namespace="ouroscope")
    except Exception as error:  # it raises RuntimeError, ConnectionError, ValueError and its own
        raise refusal_of(error) from error
    return ray


def _reach(address: str) -> None:
    """Say within seconds that nobody listens; Ray itself would try for a minute."""
    if address == "auto":
        return
    host, port = split_address(address.removeprefix(_CLIENT))
    try:
        socket.create_connection((host, port), _REACH_SECONDS).close()
    except OSError as error:
        raise Unavailable(
            f"no Ray cluster listens on {address}; start it, or give the address of its head (--ray-address, "
            "OURO_ANALYZER_RAY_ADDRESS, OURO_GENERATOR_RAY_ADDRESS)",
            address=address,
        ) from error


def refusal_of(error: Exception) -> OuroscopeError:
    """Return in our words why Ray would not connect."""
    if type(error).__name__ == "AuthenticationError":
        return NotAuthenticated(
            "the Ray cluster wants another token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as there"
        )
    if "Version mismatch" in str(error):
        told = re.findall(r"(?:Ray|Python): (\S+)", str(error))
        theirs, ours = (f"Ray {told[at]}, Python {told[at + 1]}" for at in (0, 2)) if len(told) >= 4 else ("other", "")
        return PreconditionFailed(
            f"the cluster runs other versions ({theirs}) than this process ({ours}); use one image for both"
        )
    if isinstance(error, ValueError):
        return InvalidRequest("that is not the address of a Ray cluster: give host:port of its head, or auto")
    return Unavailable("the Ray cluster does not take work now; see that its head is up, then try again")


@dataclass(slots=True, eq=False)
class _Hand:
    """One life of an actor: after a restart it is another hand."""

    actor: Any
    lost: bool = False


@dataclass(frozen=True, slots=True, order=True)
class _Order:
    """One piece of work; tickets count, so the older order is the smaller one."""

    ticket: int
    work: bytes = field(compare=False)
    losses: int = field(default=0, compare=False)
    """Actors that were lost over it."""


class _Hands:
    """The actors, and the orders that wait for one of them."""

    def __init__(self, ray: Any, connection: Connection, wanted: Wanted) -> None:
        self._lost_errors = ray.exceptions.RayError
        # Ray restarts it wherever there is room; orders are handed on by us, so that they do not wait for that.
        room = {"num_cpus": wanted.processors, "num_gpus": wanted.accelerators}
        self._kind = ray.remote(**room, max_restarts=-1, max_task_retries=0)(Actor)
        self._connection, self._wanted = connection, wanted
        # The oldest first: answers are read in order, so what a lost actor had holds up all that came later.
        self._orders: asyncio.PriorityQueue[_Order] = asyncio.PriorityQueue()
        self._waiting: set[int] = set()
        # Held here, since the loop holds no task: one that nobody holds may be collected as garbage in the middle.
        self._tasks: set[asyncio.Task[None]] = set()
        self._alive = 0
        self._patience: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()

    async def serve(self) -> None:
        """Work until the other end closes the connection, or no actor can work."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._listen, args=(loop,), daemon=True, name="orders").start()
        self._count(0)
        for _ in range(self._wanted.workers):
            self._spawn(self._admit(self._kind.remote()))
        await self._ended.wait()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop has ended, and all work with it
            try:
                while True:
                    loop.call_soon_threadsafe(self._hear, *self._connection.recv())
            except (EOFError, OSError):
                loop.call_soon_threadsafe(self._ended.set)

    def _hear(self, ticket: int, work: bytes | None) -> None:
        """Take an order; without work, forget one that no actor has begun, or end."""
        if work is not None:
            self._waiting.add(ticket)
            self._orders.put_nowait(_Order(ticket, work))
        elif ticket == NEWS:
            self._ended.set()
        else:
            self._waiting.discard(ticket)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _use(self, hand: _Hand) -> None:
        """Give an actor one order after the other as long as it lives."""
        while (order := await self._next(hand)) is not None:
            try:
                answer: Answer = await hand.actor.do.remote(order.work)
            except self._lost_errors:
                return self._lose(hand, order)
            except ConnectionError:
                return self._refuse(LOST)
            self._send(order.ticket, answer)

    async def _next(self, hand: _Hand) -> _Order | None:
        """Return the oldest order that somebody waits for; None if the actor was lost meanwhile."""
        while True:
            order = await self._orders.get()
            if hand.lost:
                self._orders.put_nowait(order)
                return None
            if order.losses or order.ticket in self._waiting:
                # It has begun: whoever forgets it now waits for nothing.
                self._waiting.discard(order.ticket)
                return order

    def _lose(self, hand: _Hand, order: _Order) -> None:
        """Hand an order on, and wait for the actor to come back."""
        if not hand.lost:
            hand.lost = True
            self._count(-1)
            self._spawn(self._admit(hand.actor))
        if order.losses + 1 < _ATTEMPTS:
            return self._orders.put_nowait(replace(order, losses=order.losses + 1))
        told = f"{_ATTEMPTS} workers of the cluster were lost over one piece of work, perhaps for want of memory"
        self._send(order.ticket, (False, pickle.dumps(Unavailable(told))))

    async def _admit(self, actor: Any) -> None:
        """Let an actor work once it answers: the first time, and whenever Ray has restarted it."""
        while True:
            try:
                about = await actor.about.remote()
                break
            except self._lost_errors as error:
                if "import" in str(error):
                    return self._refuse(_UNLIKE)
                # Not there yet, or killed for good: then another takes its place.
                await asyncio.sleep(_PAUSE_SECONDS)
                actor = self._kind.remote() if _is_dead(error) else actor
            except ConnectionError:
                return self._refuse(LOST)
        if about != versions():
            return self._refuse(_UNLIKE)
        self._count(1)
        hand = _Hand(actor)
        for _ in range(_AHEAD):
            self._spawn(self._use(hand))

    def _count(self, change: int) -> None:
        """Note how many actors can work; after a while without any the cluster is given up."""
        self._alive += change
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if not self._alive:
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(self._wanted.patience, self._refuse, _NO_ROOM)

    def _refuse(self, refusal: OuroscopeError) -> None:
        self._send(NEWS, (False, pickle.dumps(refusal)))
        self._ended.set()

    def _send(self, ticket: int, answer: Answer) -> None:
        try:
            self._connection.send((ticket, answer))
        except OSError:  # nobody listens any more
            self._ended.set()


LOST = Unavailable("the Ray cluster was lost; try again once its head is up, finished parts are kept")
"""Where this process is a node of the cluster Ray ends it; through `ray://` only calls fail, with ConnectionError."""


def _is_dead(error: Exception) -> bool:
    """Return whether Ray will not restart the actor: somebody ended it on purpose."""
    return type(error).__name__ == "ActorDiedError"


_UNLIKE = PreconditionFailed(
    "the workers of the cluster have no ouroscope, or other versions of it, of Python or of its libraries than this "
    "process; use one image for both"
)
_NO_ROOM = Unavailable(
    "no worker of the Ray cluster could begin: it has no free processor (or accelerator); add nodes, or wait until "
    "other jobs end"
)
