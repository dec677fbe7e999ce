"""What an analyzer does under more calls than it can take, and while its replicas are restarted.

    python -m benchmarks.load calls [--seconds 300] [--callers 500] [--result FILE]
    python -m benchmarks.load restart [--callers 50] [--rounds 3] [--result FILE]

`calls`: one analyzer as a process, and callers that ask it for a small Analyze without a pause. Told are the calls
answered and refused, median and 99th percentile of the seconds of an answered one, the memory of the analyzer, and how
often it did not say that it serves. Who is refused (RESOURCE_EXHAUSTED) waits as long as it was told (RetryInfo).

`restart`: two replicas behind one address, told to end one after the other, as an update of a Deployment does, while
callers go on. A call that was cut is made again, up to ten times; one that fails even so counts as failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import structlog
from rich.progress import Progress

from benchmarks.supervised import Supervised, Supervisor, end_cleanly, free_ports, supervised, until
from ouroscope.client import AnalyzerClient
from ouroscope.errors import Busy, OuroscopeError, Unavailable
from ouroscope.records.documents import Document
from ouroscope.rpc.probe import is_serving
from ouroscope.security.connection import PLAIN

DOCUMENTS = [Document(id=str(n), text="the cat sat on the mat and looked at the moon " * 3) for n in range(20)]
CHANNELS = 8
ATTEMPTS = 10
LOOK = 1.0
FLAT = 1.1
"""Memory counts as flat if its last quarter is at most so many times its second; the first is warming up."""


@dataclass(slots=True)
class Heard:
    """What callers heard."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    unguided: int = 0
    """Refusals that did not say when to ask again."""
    again: int = 0
    """Calls that were cut and made again."""
    failed: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """Return the figures."""
        ranks = statistics.quantiles(self.seconds, n=100) if len(self.seconds) > 1 else [0.0] * 99
        return {
            "answered": len(self.seconds),
            "refused": self.refused,
            "refused_without_retry_info": self.unguided,
            "made_again": self.again,
            "failed": dict(self.failed),
            "median_seconds": round(ranks[49], 4),
            "p99_seconds": round(ranks[98], 4),
        }


@dataclass(slots=True)
class Watched:
    """What was seen of a process from outside."""

    memory: list[int] = field(default_factory=list)
    not_serving: int = 0
    looks: int = 0

    def summary(self) -> dict[str, Any]:
        """Return the figures; memory in MiB."""
        quarter = max(1, len(self.memory) // 4)
        second = statistics.median(self.memory[quarter : 2 * quarter] or self.memory)
        last = statistics.median(self.memory[-quarter:])
        return {
            "memory_mib": {"second_quarter": round(second / 2**20, 1), "last_quarter": round(last / 2**20, 1)},
            "memory_is_flat": last <= FLAT * second,
            "health_looks": self.looks,
            "health_not_serving": self.not_serving,
        }


async def ask(client: AnalyzerClient, heard: Heard, stopping: Callable[[], bool]) -> None:
    """Make one call, again and again until it is answered, it fails for another reason, or it is time to stop."""
    cut = 0
    while not stopping():
        began = time.perf_counter()
        try:
            await client.analyze(DOCUMENTS, metrics=["types"])
        except Busy as busy:
            heard.refused += 1
            heard.unguided += busy.retry_after <= 0
            await asyncio.sleep(busy.retry_after * random.uniform(0.75, 1.5))
        except Unavailable as error:
            cut += 1
            heard.again += 1
            if cut == ATTEMPTS:
                heard.failed[error.reason] += 1
                return
            await asyncio.sleep(min(2.0, 0.1 * 2**cut) * random.uniform(0.75, 1.25))
        except OuroscopeError as error:
            heard.failed[error.reason] += 1
            return
        else:
            heard.seconds.append(time.perf_counter() - began)
            return


async def callers(address: str, count: int, heard: Heard, stopping: Callable[[], bool]) -> None:
    """Let so many ask without a pause, over a few channels."""

    async def caller(client: AnalyzerClient) -> None:
        while not stopping():
            await ask(client, heard, stopping)

    async with AsyncExitStack() as stack:
        opened = [AnalyzerClient.connect(address, connection=PLAIN) for _ in range(min(CHANNELS, count))]
        clients = [await stack.enter_async_context(one) for one in opened]
        await asyncio.gather(*(caller(clients[number % len(clients)]) for number in range(count)))


async def watch(service: Supervised, watched: Watched, stopping: Callable[[], bool]) -> None:
    """Look at the memory and the health of a process now and then."""
    process = psutil.Process(service.pid)
    while not stopping():
        watched.memory.append(process.memory_info().rss)
        watched.looks += 1
        watched.not_serving += not await asyncio.to_thread(is_serving, service.address, 30.0)
        await asyncio.sleep(LOOK)


async def under_load(folder: Path, seconds: float, count: int) -> dict[str, Any]:
    """Ask one analyzer for more than it takes."""
    async with supervised(folder) as supervisor:
        service = supervisor.add("analyzer", _settings(folder), free_ports(1)[0])
        await supervisor.serving()
        heard, watched, end = Heard(), Watched(), time.monotonic() + seconds

        def over() -> bool:
            return time.monotonic() > end

        async with asyncio.TaskGroup() as group:
            group.create_task(_shown(seconds, over))
            group.create_task(watch(service, watched, over))
            group.create_task(callers(service.address, count, heard, over))
        return {"seconds": seconds, "callers": count, **heard.summary(), **watched.summary(), "starts": service.starts}


async def while_restarted(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Restart replicas one after the other while callers go on."""
    async with supervised(folder) as supervisor:
        names = ("first", "second")
        replicas = [
            supervisor.add("analyzer", _settings(folder), port, known_as=name)
            for name, port in zip(names, free_ports(2), strict=True)
        ]
        await supervisor.serving()
        heard, stop = Heard(), asyncio.Event()
        address = "ipv4:" + ",".join(one.address for one in replicas)
        calling = asyncio.create_task(callers(address, count, heard, stop.is_set))
        for _ in range(rounds):
            for replica in replicas:
                await _restart(replica, supervisor)
                # So that the next one does not go before anybody has found this one again.
                answered = len(heard.seconds)
                await until(lambda so_far=answered: len(heard.seconds) > so_far + count, 300.0)  # type: ignore[misc]
        stop.set()
        await calling
        restarts = sum(one.starts - 1 for one in replicas)
        return {"callers": count, "restarts": restarts, **heard.summary()}


async def _restart(replica: Supervised, supervisor: Supervisor) -> None:
    """Tell it to end, as Kubernetes does; the supervisor starts the next one, which is ready when this returns."""
    starts = replica.starts
    psutil.Process(replica.pid).terminate()
    await until(lambda: replica.starts > starts, 120.0)
    await supervisor.serving()


def _settings(folder: Path) -> dict[str, str]:
    return {"STORE": str(folder / "store"), "METRICS_PORT": "0", "PARSER": "none", "LOG_LEVEL": "warning"}


async def _shown(seconds: float, over: Callable[[], bool]) -> None:
    with Progress(disable=not sys.stderr.isatty()) as bar:
        task, began = bar.add_task("seconds", total=seconds), time.monotonic()
        while not over():
            bar.update(task, completed=time.monotonic() - began)
            await asyncio.sleep(0.5)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    calls, restart = kinds.add_parser("calls"), kinds.add_parser("restart")
    calls.add_argument("--seconds", type=float, default=300.0)
    calls.add_argument("--callers", type=int, default=500)
    restart.add_argument("--callers", type=int, default=50)
    restart.add_argument("--rounds", type=int, default=3)
    for each in (calls, restart):
        each.add_argument("--result", type=Path)
    options = parser.parse_args()
    end_cleanly()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder:
        if options.kind == "calls":
            found = asyncio.run(under_load(Path(folder), options.seconds, options.callers))
        else:
            found = asyncio.run(while_restarted(Path(folder), options.callers, options.rounds))
    text = json.dumps(found, indent=1)
    print(text)
    if options.result:
        options.result.write_text(text + "\n")


if __name__ == "__main__":
    main()
