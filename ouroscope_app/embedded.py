"""All four services in one process, on loopback ports of their own: the embedded default.

They are the same gRPC services as elsewhere and talk over real sockets; only the launching differs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from types import MappingProxyType

from ouroscope.client import CoordinatorClient, Patience
from ouroscope.executor import processors
from ouroscope.rpc.channel import open_channel
from ouroscope.security.connection import PLAIN
from ouroscope_app.home import Home
from services.analyzer import service as analyzer
from services.analyzer.tools import open_tools
from services.coordinator import service as coordinator
from services.coordinator.collector import GRACE
from services.generator import service as generator
from services.generator.declared import DeclaredBackend
from services.trainer import service as trainer

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the embedded services listen."""

    generator: str
    trainer: str
    analyzer: str
    coordinator: str
    metrics: str
    """URL of the Prometheus endpoint."""
    page: str
    """URL of the page to look at."""


@dataclass(frozen=True, slots=True)
class Workers:
    """Where the embedded workers listen."""

    generator: str
    trainer: str
    analyzer: str


@asynccontextmanager
async def embedded_workers(
    home: Home, ports: Mapping[str, int] = MappingProxyType({}), backends: Sequence[DeclaredBackend] = ()
) -> AsyncIterator[Workers]:
    """Start generator, trainer and analyzer without a coordinator, and stop them in the opposite order."""
    store, threads = home.store(), threads_each()
    starting = {
        "generator": partial(generator.start, threads=threads, declared=backends),
        "trainer": partial(trainer.start, threads=threads),
        "analyzer": partial(analyzer.start, tools=open_tools()),
    }
    async with AsyncExitStack() as stack:
        addresses = {}
        for name, start in starting.items():
            running = await start(store, f"{LOOPBACK}:{ports.get(name, 0)}")
            stack.push_async_callback(running.stop)
            addresses[name] = f"{LOOPBACK}:{running.port}"
        yield Workers(**addresses)


@asynccontextmanager
async def embedded_services(
    home: Home,
    ports: dict[str, int] | None = None,
    *,
    backends: Sequence[DeclaredBackend] = (),
    recover: bool = False,
    metrics_grace: float = GRACE,
) -> AsyncIterator[Addresses]:
    """Start the four services and stop them in the opposite order.

    Args:
        home: Where their data lies.
        ports: By service, `metrics` and `page`; 0 or nothing takes a free one.
        backends: Servers that runs may name.
        recover: Whether runs that were interrupted go on by themselves.
        metrics_grace: Seconds that the series of an ended run stay.
    """
    ports = ports or {}
    store = home.store()
    async with AsyncExitStack() as stack:
        workers = await stack.enter_async_context(embedded_workers(home, ports, backends))
        driver = await coordinator.start(
            home.path,
            store,
            f"{LOOPBACK}:{ports.get('coordinator', 0)}",
            metrics_address=f"{LOOPBACK}:{ports.get('metrics', 0)}",
            page_address=f"{LOOPBACK}:{ports.get('page', 0)}",
            recover=recover,
            metrics_grace=metrics_grace,
            **asdict(workers),
        )
        stack.push_async_callback(driver.stop)
        yield Addresses(
            **asdict(workers),
            coordinator=f"{LOOPBACK}:{driver.port}",
            metrics=f"http://{LOOPBACK}:{driver.metrics_port}/metrics",
            page=driver.page_url,
        )


def threads_each() -> int:
    """Return the threads that the generator and the trainer take each: together as many as there are processors.

    While one arm is trained another one writes. Two operations that each ask for all processors wait for one another
    at every barrier: measured on 2 busy cores, 2 threads each made generation 7 to 20 times slower than 1 thread each.
    """
    return max(1, processors() // 2)


@asynccontextmanager
async def coordinator_client(address: str) -> AsyncIterator[CoordinatorClient]:
    """Connect to a coordinator of this machine and close the channel afterwards."""
    channel = open_channel(address, PLAIN)
    try:
        # On this machine nobody begins it elsewhere: whoever watches hears soon that it has ended.
        yield CoordinatorClient(channel, Patience(back=10.0))
    finally:
        await channel.close()
