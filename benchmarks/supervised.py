"""Services as processes that are started again when they end, on ports that stay: what breaking them needs.

Knows nothing of what is asked of them. Every process carries a mark in its environment, so that one that was left
behind is found, whoever its parent is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from ouroscope.rpc.probe import is_serving

ROOT = Path(__file__).resolve().parent.parent
WORKERS = ("generator", "trainer", "analyzer")
MARK = "OUROSCOPE_CAMPAIGN"
LOOK = 0.1
"""Seconds between two looks at whether a process still lives."""
START = 300.0
"""Seconds that a process gets until it answers, on a machine that is busy."""
STOP = 60.0


class Supervised:
    """One service, `python -m services.NAME`, which is started again whenever it has ended."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str], mark: str, port: int) -> None:
        self.name = name
        self.address = f"127.0.0.1:{port}"
        self.starts = 0
        self.log = folder / f"{name}.log"
        told = {f"OURO_{name.upper()}_{key}": value for key, value in settings.items()}
        address = {f"OURO_{name.upper()}_ADDRESS": self.address}
        self._environment = {**os.environ, **address, **told, MARK: mark}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the number of the process that there is now."""
        assert self._process is not None
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Return whether there is a process."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, unless it lives."""
        if self.lives:
            return
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", f"services.{self.name}"]
            self._process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)
        self.starts += 1

    def kill(self) -> list[psutil.Process]:
        """End it as no process can prevent; return the processes that it had started."""
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.pid).children(recursive=True)
            os.kill(self.pid, signal.SIGKILL)
            return children
        return []

    def stop(self) -> None:
        """Ask it to end, and wait; one that does not is killed."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Supervisor:
    """Looks after services."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.services: dict[str, Supervised] = {}
        self.held: set[str] = set()
        """Services that are not started again for now."""
        self._mark = uuid.uuid4().hex

    def add(self, name: str, settings: Mapping[str, str], port: int, known_as: str = "") -> Supervised:
        """Take in a service that listens on `port` and start it; a second of the same kind needs a name of its own."""
        folder = self.folder / (known_as or name)
        folder.mkdir(exist_ok=True)
        added = self.services[known_as or name] = Supervised(name, folder, settings, self._mark, port)
        added.start()
        return added

    def marked(self) -> list[psutil.Process]:
        """Return every process that stems from here."""
        return [process for process in psutil.process_iter() if _mark_of(process) == self._mark]

    async def keep(self) -> None:
        """Start again what has ended, for ever."""
        while True:
            for name, service in self.services.items():
                if name not in self.held:
                    service.start()
            await asyncio.sleep(LOOK)

    async def serving(self) -> None:
        """Return when all answer.

        Raises:
            TimeoutError: one does not; its log says why.
        """
        for service in self.services.values():
            await until(lambda one=service: is_serving(one.address), START)  # type: ignore[misc]

    def stop(self) -> list[str]:
        """End all for good, and return the command lines of what was left behind, which is ended too."""
        self.held.update(self.services)
        for service in reversed(self.services.values()):
            service.stop()
        left = self.marked()
        lines = [" ".join(_command(process)) for process in left]
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return lines


@asynccontextmanager
async def supervised(folder: Path) -> AsyncIterator[Supervisor]:
    """Yield a supervisor; at the end everything is stopped."""
    supervisor = Supervisor(folder)
    keeper = asyncio.create_task(supervisor.keep())
    try:
        yield supervisor
    finally:
        keeper.cancel()
        await asyncio.to_thread(supervisor.stop)


def add_all(supervisor: Supervisor, home: Path, threads: int, database: str = "") -> str:
    """Start the four services on one home, and return the address of the coordinator."""
    ports = dict(zip((*WORKERS, "coordinator"), free_ports(4), strict=True))
    place = {"STORE": str(home / "store")}
    for name in WORKERS:
        told = {} if name == "analyzer" else {"THREADS": str(threads)}
        supervisor.add(name, {**place, "METRICS_PORT": "0", **told}, ports[name])
    told = {name.upper(): f"127.0.0.1:{ports[name]}" for name in WORKERS}
    told |= {"HOME": str(home), "METRICS_ADDRESS": "127.0.0.1:0", "PAGE_ADDRESS": "", "DATABASE": database}
    return supervisor.add("coordinator", {**place, **told}, ports["coordinator"]).address


def end_cleanly() -> None:
    """Let SIGTERM end this program as Ctrl-C does, so that no service is left behind."""
    # Not by raising SystemExit: gRPC swallows what is raised while it is called.
    # A shell that starts a program in the background has it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Return when it holds; it may block.

    Raises:
        TimeoutError: it did not within `seconds`.
    """
    last = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        if time.monotonic() > last:
            raise TimeoutError(f"waited {seconds:g} seconds in vain")
        await asyncio.sleep(LOOK)


def _mark_of(process: psutil.Process) -> str:
    try:
        return str(process.environ().get(MARK, "")) if process.status() != psutil.STATUS_ZOMBIE else ""
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []
