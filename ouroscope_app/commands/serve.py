"""`ouroscope serve`: one service, or all four, until a signal."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
from collections.abc import Sequence
from enum import StrEnum

import typer

from ouroscope.errors import InvalidRequest
from ouroscope_app.declared import BACKENDS, declared_in
from ouroscope_app.home import Home
from ouroscope_app.live import announced
from ouroscope_app.output import command, notes
from services.generator.declared import DeclaredBackend


class Service(StrEnum):
    """What can be served."""

    GENERATOR = "generator"
    TRAINER = "trainer"
    ANALYZER = "analyzer"
    COORDINATOR = "coordinator"
    ALL = "all"


FIRST_PORT = 50051
PORTS = {"generator": FIRST_PORT, "trainer": FIRST_PORT + 1, "analyzer": FIRST_PORT + 2, "coordinator": FIRST_PORT + 3}
WEB_PORTS = {"page": 9463, "metrics": 9464}


@command
def serve(
    service: Service = typer.Argument(help="Which service, or `all` four in one process."),
    backends: str = BACKENDS,
) -> None:
    """Serve one service, or all four in one process, until Ctrl-C or SIGTERM; then drain and stop.

    **Each service alone** reads its settings from variables `OURO_<SERVICE>_*` (an unknown one is an error):
    `OURO_GENERATOR_ADDRESS=0.0.0.0:50051 ouroscope serve generator`. The coordinator is told where the workers are:
    `OURO_COORDINATOR_GENERATOR=host:50051`, `OURO_COORDINATOR_TRAINER`, `OURO_COORDINATOR_ANALYZER`.

    **`all`** listens on 127.0.0.1: generator 50051, trainer 50052, analyzer 50053, coordinator 50054, page 9463,
    metrics 9464.

    `--backends` is for `all` and `generator` (there it is the same as `OURO_GENERATOR_BACKENDS`): servers that runs
    and requests may then name.
    """
    declared = declared_in(backends)
    if service is Service.ALL:
        asyncio.run(_serve_all(Home.find(os.environ).prepare(), declared))
        return
    if backends and service is not Service.GENERATOR:
        raise InvalidRequest(f"--backends is for all and generator; the {service.value} runs no models")
    if backends:
        os.environ["OURO_GENERATOR_BACKENDS"] = backends
    _default_to_home(service)
    module = importlib.import_module(f"services.{service.value}.__main__")
    raise typer.Exit(module.main())


def _default_to_home(service: Service) -> None:
    """Let a service that was not told otherwise use the data folder that every other command uses."""
    home = Home.find(os.environ).prepare().path
    prefix = f"OURO_{service.value.upper()}"
    os.environ.setdefault(f"{prefix}_STORE", str(home / "store"))
    if service is Service.COORDINATOR:
        os.environ.setdefault(f"{prefix}_HOME", str(home))


async def _serve_all(home: Home, backends: Sequence[DeclaredBackend]) -> None:
    from ouroscope_app.embedded import embedded_services

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with embedded_services(home, {**PORTS, **WEB_PORTS}, backends=backends, recover=True) as addresses:
        with announced(home, addresses.coordinator, addresses.metrics, addresses.page):
            notes.print(f"coordinator [bold]{addresses.coordinator}[/], metrics {addresses.metrics}, data {home.path}")
            notes.print(f"page [bold]{addresses.page}[/] (open it in a browser)")
            await stop.wait()
            notes.print("draining")
