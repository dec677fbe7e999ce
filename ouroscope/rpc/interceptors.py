"""Counts every call of a server. Only metrics: errors are mapped inside the methods (`ouroscope.rpc.errors`)."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from ouroscope.telemetry.service_metrics import ServiceMetrics


class MetricsInterceptor(grpc.aio.ServerInterceptor):
    """Counts calls by service, method and status, their duration, and those in flight.

    Calls of methods that the server does not have are not counted: their names are the caller's free choice.
    """

    def __init__(self, metrics: ServiceMetrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap the handler of one call."""
        handler = await continuation(details)
        if handler is None:
            return None
        _, service, method = details.method.split("/", 2)
        kind = _kind(handler)
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
        async def counted(request: Any, context: Any) -> Any:
            with self._counted(service, method, context):
                return await behaviour(request, context)

        return counted

    def _around_stream(self, behaviour: Any, service: str, method: str) -> Any:
        async def counted(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._counted(service, method, context):
                async for answer in behaviour(request, context):
                    yield answer

        return counted

    @contextmanager
    def _counted(self, service: str, method: str, context: Any) -> Iterator[None]:
        in_flight = self._metrics.in_flight.labels(service, method)
        in_flight.inc()
        start, failure = time.perf_counter(), grpc.StatusCode.OK
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            failure = grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            failure = context.code()
            raise
        except Exception:
            failure = grpc.StatusCode.UNKNOWN
            raise
        finally:
            in_flight.dec()
            self._metrics.seconds.labels(service, method).observe(time.perf_counter() - start)
            self._metrics.handled.labels(service, method, failure.name).inc()


def _kind(handler: Any) -> str:
    asks = "stream" if handler.request_streaming else "unary"
    answers = "stream" if handler.response_streaming else "unary"
    return f"{asks}_{answers}"
