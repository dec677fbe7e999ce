"""Refuses what is no message of the method that is called, and methods that a service has by name only.

gRPC itself would answer with the name of a class and the text of an exception, and say that the fault is the server's.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from ouroscope.errors import InvalidRequest
from ouroscope.rpc.errors import rpc_errors
from ouroscope.rpc.interceptors import kind_of

TOLD = "what arrived is no message of this method; is the caller of another version, or meant for another service?"
_BROKEN = object()
"""Stands for bytes that are no message, on their way to where they can be refused."""


class Decoding(grpc.aio.ServerInterceptor):
    """Lets a method see only what it can decode; what it cannot is a fault of the caller."""

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Wrap the handler of one call."""
        handler = await continuation(details)
        if handler is None or handler.request_deserializer is None:
            return handler
        kind = kind_of(handler)
        behaviour = getattr(handler, kind)
        if inspect.isasyncgenfunction(behaviour):
            wrapped: Any = _stream(behaviour)
        elif inspect.iscoroutinefunction(behaviour):
            wrapped = _single(behaviour)
        else:
            # What libraries generate for a method that nobody wrote raises in a thread; all of ours are coroutines.
            wrapped = _missing
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(wrapped, _lenient(handler.request_deserializer), handler.response_serializer)


def _lenient(deserializer: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decode(raw: bytes) -> Any:
        try:
            return deserializer(raw)
        except DecodeError:
            return _BROKEN

    return decode


def _single(behaviour: Any) -> Any:
    async def wrapped(request: Any, context: Any) -> Any:
        async with rpc_errors(context):
            return await behaviour(_whole(request), context)

    return wrapped


def _stream(behaviour: Any) -> Any:
    async def wrapped(request: Any, context: Any) -> AsyncIterator[Any]:
        async with rpc_errors(context):
            async for answer in behaviour(_whole(request), context):
                yield answer

    return wrapped


async def _missing(request: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this service does not have this method")


def _whole(request: Any) -> Any:
    """Return a request, or the requests of a stream, of which none is broken.

    Raises:
        InvalidRequest: it is; in a stream when its turn comes.
    """
    if hasattr(request, "__aiter__"):
        return _all_whole(request)
    return _checked(request)


async def _all_whole(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for message in messages:
        yield _checked(message)


def _checked(message: Any) -> Any:
    if message is _BROKEN:
        raise InvalidRequest(TOLD)
    return message
