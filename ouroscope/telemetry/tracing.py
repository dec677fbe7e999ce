"""Traces of calls and stages through all services, by OpenTelemetry. Costs nothing where nobody asked for them.

Asked for by the variables that OpenTelemetry itself defines, `OTEL_EXPORTER_OTLP_ENDPOINT` above all, so that one
setting serves every program of a cluster. The library is an extra: without it everything here does nothing.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog

from ouroscope.errors import PreconditionFailed

log = structlog.get_logger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Variables that ask for traces; OpenTelemetry reads these and its others (headers, sampling, timeouts) by itself."""
OFF = "OTEL_SDK_DISABLED"
UNTRACED = ("grpc.health.v1.Health", "grpc.reflection")
"""Asked every few seconds by machines; their spans would bury all others."""

LAST_SPANS_SECONDS = 2.0
"""How long the end of a process waits for a collector."""

_started: list[Any] = []
# The tracer of this process once traces are on. OpenTelemetry keeps its provider for the process, and so must we.


def start_tracing(service: str, environ: Mapping[str, str]) -> Callable[[], None]:
    """Begin to send spans if `environ` asks for it; return what sends the last of them at the end of the process.

    Args:
        service: how this process is called in traces, unless OTEL_SERVICE_NAME says otherwise.
        environ: the environment.

    Raises:
        PreconditionFailed: traces are asked for and the extra is not installed.
    """
    asked = next((name for name in ENDPOINTS if environ.get(name)), None)
    if asked is None or environ.get(OFF, "").lower() == "true" or _started:
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        told = f"{asked} asks for traces and OpenTelemetry is not installed: pip install 'ouroscope[tracing]'"
        raise PreconditionFailed(told) from error
    exporter = OTLPSpanExporter()
    stop = use(BatchSpanProcessor(exporter), environ.get("OTEL_SERVICE_NAME") or service)
    log.info("tracing.started", endpoint_from=asked)

    def flush_and_stop() -> None:
        # A collector that does not answer must not hold up the end of a process for as long as it is asked again.
        giving_up = threading.Timer(LAST_SPANS_SECONDS, exporter.shutdown)
        giving_up.start()
        stop()
        giving_up.cancel()

    return flush_and_stop


def use(processor: Any, service: str) -> Callable[[], None]:
    """Send spans to an OpenTelemetry span processor from now on; return what stops that."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(processor)
    _started.append(provider)

    def stop() -> None:
        if provider in _started:
            _started.remove(provider)
            provider.shutdown()

    return stop


def is_on() -> bool:
    """Return whether this process sends spans."""
    return bool(_started)


def client_interceptors() -> Sequence[Any]:
    """Return what a gRPC channel needs to hand on the trace of its caller: nothing where traces are off.

    Calls that send many messages are left out: the library's interceptor waits for the answer before it lets the first
    message through. They take `headers`.
    """
    if not _started:
        return ()
    # Here, so that a command that makes no call need not load gRPC to start.
    import grpc.aio
    from opentelemetry.instrumentation.grpc import aio_client_interceptors

    interceptors: Any = aio_client_interceptors  # they ship without types
    found = interceptors(tracer_provider=_started[-1], filter_=_is_traced)
    return tuple(one for one in found if not isinstance(one, grpc.aio.StreamUnaryClientInterceptor))


def headers() -> tuple[tuple[str, str], ...]:
    """Return the metadata that hands the trace at work on to a service; none where traces are off."""
    if not _started:
        return ()
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return tuple(carrier.items())


@contextmanager
def span(name: str, lane: str = "", **attributes: str | int | float) -> Iterator[None]:
    """Do what is inside as a span; attributes are numbers and names, never text of documents.

    Args:
        name: what is done, the same for all things of a kind.
        lane: what lasts longer than a process, for example a run: all its spans are one trace, also after a restart.
        attributes: which one it is.
    """
    if not _started:
        yield
        return
    tracer = _started[-1].get_tracer("ouroscope")
    told = {f"ouroscope.{key}": value for key, value in attributes.items()}
    parent = _trace_of(lane) if lane else None
    # The message of an exception may quote what it met; its class and our own log say enough.
    with tracer.start_as_current_span(name, context=parent, attributes=told, record_exception=False):
        yield


def exemplar() -> dict[str, str] | None:
    """Return the trace at work as the label of an exemplar, or None where there is none that is kept."""
    if not _started:
        return None
    from opentelemetry import trace

    current = trace.get_current_span().get_span_context()
    kept = current.is_valid and current.trace_flags.sampled
    return {"trace_id": trace.format_trace_id(current.trace_id)} if kept else None


@contextmanager
def served(service: str, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Iterator[None]:
    """Handle a call of another process as a span of the trace that its metadata names."""
    if not _started or service.startswith(UNTRACED):
        yield
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind

    carrier = {key: value for key, value in metadata if isinstance(value, str)}
    tracer = _started[-1].get_tracer("ouroscope")
    with tracer.start_as_current_span(
        f"{service}/{method}",
        context=extract(carrier),
        kind=SpanKind.SERVER,
        attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        record_exception=False,
        set_status_on_exception=False,
    ):
        yield


def note_status(code: str, *, ok: bool) -> None:
    """Note on the span at work with which gRPC status its call ended."""
    if not _started:
        return
    from opentelemetry import trace

    span = trace.get_current_span()
    span.set_attribute("rpc.grpc.status", code)
    if not ok:
        span.set_status(trace.StatusCode.ERROR, code)


def _trace_of(lane: str) -> Any:
    """Return a context whose trace is named by `lane`: no process needs to remember it for the next one."""
    from opentelemetry import trace

    digest = hashlib.sha256(lane.encode()).digest()
    sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    root = trace.SpanContext(
        int.from_bytes(digest[:16]), int.from_bytes(digest[16:24]), is_remote=True, trace_flags=sampled
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(root))


def _is_traced(call: Any) -> bool:
    method = call if isinstance(call, str) else getattr(call, "method", "") or getattr(call, "full_method", "")
    text = method.decode() if isinstance(method, bytes) else str(method)
    return not any(text.lstrip("/").startswith(service) for service in UNTRACED)
