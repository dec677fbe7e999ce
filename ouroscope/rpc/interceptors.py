"""What happens around every call of a server: it is counted and traced.

Errors are mapped inside the methods (`ouroscope.rpc.errors`).
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc
import grpc.aio

from ouroscope.telemetry import tracing
from ouroscope.telemetry.service_metrics import ServiceMetrics

Around = Callable[[str, str, Any], AbstractContextManager[None]]
"""Wraps the handling of one call, given its service, its method and its context."""


class AroundCalls(grpc.aio.ServerInterceptor):
    """Wraps every call of a method that the server has; names of others are the caller's free choice."""

    def __init__(self, around: Around) -> None:
        self._around = around

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap the handler of one call."""
        handler = await continuation(details)
        if handler is None:
            return None
        _, service, method = details.method.split("/", 2)
        kind = kind_of(handler)
        behaviour = getattr(handler, kind)
        if inspect.isasyncgenfunction(behaviour):
            wrapped: Any = self._around_stream(behaviour, service, method)
        elif inspect.iscoroutinefunction(behaviour):
            wrapped = self._around_call(behaviour, service, method)
        else:
            return handler
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def _around_call(self, behaviour: Any, service: str, method: str) -> Any:
        async def wrapped(request: Any, context: Any) -> Any:
            with self._around(service, method, context):
                return await behaviour(request, context)

        return wrapped

    def _around_stream(self, behaviour: Any, service: str, method: str) -> Any:
        async def wrapped(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._around(service, method, context):
                async for answer in behaviour(request, context):
                    yield answer

        return wrapped


def counting(metrics: ServiceMetrics) -> AroundCalls:
    """Return what counts calls by service, method and status, their duration, and those in flight."""

    @contextmanager
    def counted(service: str, method: str, context: Any) -> Iterator[None]:
        in_flight = metrics.in_flight.labels(service, method)
        in_flight.inc()
        start, outcome = time.perf_counter(), Outcome(context)
        try:
            with outcome.noted():
                yield
        finally:
            in_flight.dec()
            seconds = metrics.seconds.labels(service, method)
            seconds.observe(time.perf_counter() - start, exemplar=tracing.exemplar())
            metrics.handled.labels(service, method, outcome.code.name).inc()

    return AroundCalls(counted)


def traced() -> AroundCalls:
    """Return what goes on with the trace of the caller, or begins one."""

    @contextmanager
    def spanned(service: str, method: str, context: Any) -> Iterator[None]:
        outcome = Outcome(context)
        with tracing.served(service, method, context.invocation_metadata() or ()):
            try:
                with outcome.noted():
                    yield
            finally:
                tracing.note_status(outcome.code.name, ok=outcome.code is grpc.StatusCode.OK)

    return AroundCalls(spanned)


class Outcome:
    """How the handling of one call ended."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.code = grpc.StatusCode.OK

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the status that comes of what is inside."""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.code = grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            self.code = self._context.code()
            raise
        except Exception:
            self.code = grpc.StatusCode.UNKNOWN
            raise


def kind_of(handler: Any) -> str:
    """Return what a handler asks and answers, as gRPC names it: `unary_unary` to `stream_stream`."""
    asks = "stream" if handler.request_streaming else "unary"
    answers = "stream" if handler.response_streaming else "unary"
    return f"{asks}_{answers}"
