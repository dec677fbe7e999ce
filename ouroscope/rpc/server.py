"""Starts and stops one gRPC server: health, reflection, metrics, limits, drain. Knows no service by name."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from ouroscope.addresses import bind_failure, check_free, check_reach, join_address, split_address
from ouroscope.errors import OuroscopeError
from ouroscope.rpc.decoding import Decoding
from ouroscope.rpc.guard import Guard
from ouroscope.rpc.interceptors import counting, traced
from ouroscope.rpc.tls import server_credentials
from ouroscope.security.settings import Security
from ouroscope.telemetry import tracing
from ouroscope.telemetry.service_metrics import ServiceMetrics

log = structlog.get_logger(__name__)

MAX_RECEIVED_BYTES = 4 * 1024 * 1024 + 64 * 1024
"""Largest message a server accepts: gRPC's own default and a little room for the envelope of a 4 MiB document."""

AddServices = Callable[[grpc.aio.Server], Sequence[str]]
Closer = Callable[[], Awaitable[None]]


class RunningServer:
    """A server that answers. `stop` drains it; stopping twice is harmless."""

    def __init__(
        self,
        server: grpc.aio.Server,
        health_servicer: health.aio.HealthServicer,
        host: str,
        port: int,
        on_drain: Sequence[Closer],
    ) -> None:
        self._server = server
        self._health = health_servicer
        self._on_drain = tuple(on_drain)
        self._stopping: asyncio.Task[None] | None = None
        self.port = port
        """Port in use, also where 0 was asked for."""
        self.address = join_address(host, port)
        """What a channel on this machine is opened with."""

    async def stop(self, grace: float = 10.0, *, notice: float = 0.0) -> None:
        """Drain: health says NOT_SERVING, `notice` seconds later no call is accepted, those at work get `grace` more.

        What the server was given as `on_drain` is closed meanwhile, so that long work ends and its waiters are let go.
        """
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._drain(grace, notice))
        await asyncio.shield(self._stopping)

    async def wait_stopped(self) -> None:
        """Return when the server has stopped."""
        await self._server.wait_for_termination()

    async def _drain(self, grace: float, notice: float) -> None:
        await self._health.enter_graceful_shutdown()
        log.info("rpc.draining", address=self.address)
        await asyncio.sleep(notice)
        closings = [closer() for closer in self._on_drain]
        outcomes = await asyncio.gather(*closings, self._server.stop(grace), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                log.error("rpc.drain_failed", address=self.address, exc_info=outcome)
        log.info("rpc.stopped", address=self.address)


async def serve(
    add_services: AddServices,
    address: str,
    *,
    metrics: ServiceMetrics | None = None,
    allow_public: bool = False,
    security: Security = Security(),  # noqa: B008  # frozen
    on_drain: Sequence[Closer] = (),
    max_connection_age: float = 600.0,
    option: str = "--address",
) -> RunningServer:
    """Start a server on `address` and return it when it answers.

    Args:
        add_services: adds the servicers to the server and returns the full names of their services.
        address: `host:port`; port 0 takes a free one.
        metrics: where calls are counted; None counts nothing.
        allow_public: whether an address that other machines reach may be used although strangers are not kept out.
        security: TLS, tokens, limits; by default none of them.
        on_drain: called when the server stops, for example to close a table of tasks.
        max_connection_age: seconds after which clients are told to connect anew, so that they find new replicas.
        option: what sets the address, for the text of errors.

    Raises:
        InvalidRequest: `address` is not an address.
        PreconditionFailed: it is in use, forbidden, not of this machine, or public without protection and
            `allow_public`.
    """
    host, port = split_address(address)
    check_reach(address, allow_public=allow_public or security.protects, option=option)
    check_free(host, port, option)
    # Traces outside, so that a count knows the trace that it is an example of.
    # The guard inside both: what it refuses is counted and traced.
    interceptors = [
        *([traced()] if tracing.is_on() else []),
        *([counting(metrics)] if metrics else []),
        *([Guard(security.access, security.limits, mutual=security.mutual)] if security.guards else []),
        Decoding(),
    ]
    server = grpc.aio.server(interceptors=interceptors, options=_options(max_connection_age))
    names = tuple(add_services(server))
    health_servicer = _add_health_and_reflection(server, names)
    try:
        bound = _open_port(server, join_address(host, port), security)
    except RuntimeError as error:
        raise bind_failure(host, port, option) from error
    await server.start()
    for name in names:
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    running = RunningServer(server, health_servicer, host, bound, on_drain)
    log.info(
        "rpc.serving",
        address=running.address,
        services=list(names),
        tls=security.tls is not None,
        mutual=security.mutual,
        tokens=security.access is not None,
    )
    return running


async def serve_until_signalled(
    start: Callable[[], Awaitable[RunningServer]], *, grace: float = 10.0, notice: float = 0.0
) -> None:
    """Start a server, serve until SIGTERM or SIGINT, drain. A second signal ends the process at once.

    Raises:
        OuroscopeError: the server could not start.
    """
    loop, signalled = asyncio.get_running_loop(), asyncio.Event()

    def note(number: signal.Signals) -> None:
        log.info("process.signalled", signal=number.name)
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
        signalled.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, note, number)
    running = await _start_unless(signalled, start)
    if running is not None:
        await signalled.wait()
        await running.stop(grace, notice=notice)


async def _start_unless(
    signalled: asyncio.Event, start: Callable[[], Awaitable[RunningServer]]
) -> RunningServer | None:
    """Loading a model takes a while; a signal in that time must not wait for it."""
    starting, stopped = asyncio.ensure_future(start()), asyncio.create_task(signalled.wait())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if starting.done():
        return starting.result()
    starting.cancel()
    await asyncio.wait({starting})
    return None


def run_until_signalled(
    start: Callable[[], Awaitable[RunningServer]], *, grace: float = 10.0, notice: float = 0.0
) -> int:
    """Run `serve_until_signalled` as a whole process; return its exit status. A failed start is one line of log."""
    try:
        asyncio.run(serve_until_signalled(start, grace=grace, notice=notice))
    except OuroscopeError as error:
        log.error("process.not_started", error=error.message, reason=error.reason)
        return 1
    return 0


def _open_port(server: grpc.aio.Server, address: str, security: Security) -> int:
    if security.tls is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, server_credentials(security.tls, mutual=security.mutual))


def _options(max_connection_age: float) -> list[tuple[str, int]]:
    return [
        # Without it a second server on the same port starts happily and takes every other call.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_RECEIVED_BYTES),
        ("grpc.max_connection_age_ms", round(max_connection_age * 1000)),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Clients of ours ping once a minute; the default would answer that with "too many pings".
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
    ]


def _add_health_and_reflection(server: grpc.aio.Server, names: Sequence[str]) -> health.aio.HealthServicer:
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    shown = (*names, health.SERVICE_NAME, reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection")
    reflection.enable_server_reflection(shown, server)
    # v1 has the messages of v1alpha under another package; grpcio-reflection only registers the old name.
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(shown).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.reflection.v1.ServerReflection", methods),)
    )
    return health_servicer
