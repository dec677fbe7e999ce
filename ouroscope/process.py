"""A service as a process: settings from the environment, logs, traces, metrics, then serve until a signal.

What the processes of the services have in common; knows none of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeVar

import structlog

from ouroscope.errors import OuroscopeError
from ouroscope.rpc.server import run_until_signalled
from ouroscope.security.settings import Security, read_security
from ouroscope.settings import load
from ouroscope.telemetry.http import start_metrics_endpoint
from ouroscope.telemetry.logs import configure_logs
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.telemetry.tracing import start_tracing

log = structlog.get_logger(__name__)


class ProcessSettings(Protocol):
    """What every process is told."""

    @property
    def grace(self) -> float:
        """Seconds that calls at work get when the process is told to stop."""

    @property
    def log_json(self) -> bool:
        """Whether logs are JSON lines."""

    @property
    def log_level(self) -> str:
        """Least level that is logged."""


class WorkerSettings(ProcessSettings, Protocol):
    """What a process is told that shows its metrics by itself."""

    @property
    def metrics_host(self) -> str:
        """Address of the metrics endpoint."""

    @property
    def allow_plaintext(self) -> bool:
        """Whether strangers may reach it."""

    @property
    def metrics_port(self) -> int:
        """Port of the metrics endpoint."""


P = TypeVar("P", bound=ProcessSettings)
W = TypeVar("W", bound=WorkerSettings)


def run_process(kind: type[P], prefix: str, start: Callable[[P, Security], Awaitable[Any]]) -> int:
    """Serve until a signal what `start` starts, and return the exit status of the process.

    Args:
        kind: class of the settings, read from the environment.
        prefix: of their variables, for example `OURO_ANALYZER`.
        start: starts the service and returns what answers; only its `stop` is called.
    """
    with ExitStack() as closing:
        try:
            settings = closing.enter_context(_settled(kind, prefix))
            security = read_security(os.environ)
        except OuroscopeError as error:
            return _not_started(error)
        return run_until_signalled(lambda: start(settings, security), grace=settings.grace)


def run_worker(kind: type[W], prefix: str, start: Callable[[W, ServiceMetrics, Security], Awaitable[Any]]) -> int:
    """Serve as `run_process` does, with an endpoint that shows what the service counts."""
    with ExitStack() as closing:
        try:
            settings = closing.enter_context(_settled(kind, prefix))
            security, metrics = read_security(os.environ), ServiceMetrics()
            endpoint = start_metrics_endpoint(
                metrics.registry,
                settings.metrics_port,
                host=settings.metrics_host,
                option=f"{prefix}_METRICS_PORT",
                security=security,
                allow_public=settings.allow_plaintext,
            )
        except OuroscopeError as error:
            return _not_started(error)
        closing.callback(endpoint.close)
        log.info("metrics.serving", url=endpoint.url)
        return run_until_signalled(lambda: start(settings, metrics, security), grace=settings.grace)


def run_once(kind: type[P], prefix: str, work: Callable[[P], Coroutine[Any, Any, None]]) -> int:
    """Do `work` with the settings of a service, without serving, and return the exit status of the process."""
    with ExitStack() as closing:
        try:
            asyncio.run(work(closing.enter_context(_settled(kind, prefix))))
        except OuroscopeError as error:
            return _not_started(error)
    return 0


@contextmanager
def _settled(kind: type[P], prefix: str) -> Iterator[P]:
    """Read the settings, and let logs and traces be as they say for as long as the process lives."""
    configure_logs(json=True)
    settings = load(kind, os.environ, prefix)
    configure_logs(json=settings.log_json, level=settings.log_level)
    stop_tracing = start_tracing(prefix.lower().replace("ouro_", "ouroscope-"), os.environ)
    try:
        yield settings
    finally:
        stop_tracing()


def _not_started(error: OuroscopeError) -> int:
    log.error("process.not_started", error=error.message, reason=error.reason)
    return 1
