"""Ways to make a call: one answer, many answers, many messages, pages. Each has a deadline and raises our own errors.

Knows how services talk, not what any of them does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import grpc.aio

from ouroscope.rpc.errors import error_from_rpc
from ouroscope.telemetry import tracing
from ouroscope.wire import from_proto

R = TypeVar("R")
T = TypeVar("T")

Headers = Sequence[tuple[str, str]]


async def call(method: Any, request: Any, timeout: float, metadata: Headers = ()) -> Any:
    """Make one call with one answer; `metadata` are its headers.

    Raises:
        OuroscopeError: what the service raised, or what became of the connection.
    """
    try:
        return await method(request, timeout=timeout, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from error


async def stream(method: Any, request: Any, timeout: float | None = None) -> AsyncIterator[Any]:
    """Yield the answers of a call that has many; leaving the loop early ends the call."""
    running = method(request, timeout=timeout)
    try:
        async for answer in running:
            yield answer
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from error
    finally:
        running.cancel()


async def send_all(method: Any, messages: AsyncGenerator[Any], timeout: float) -> Any:
    """Send a stream of messages and return the one answer; a failure of `messages` ends the call and is raised."""
    try:
        return await sent(method(timeout=timeout, metadata=tracing.headers()), messages)
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from error


async def sent(running: Any, messages: AsyncGenerator[Any]) -> Any:
    """Send a stream of messages in a call that was begun, and return the one answer.

    Raises:
        AioRpcError: what the service said, which is not always what grpc.aio makes of it.
    """
    outcomes: list[grpc.aio.AioRpcError] = []
    running.add_done_callback(lambda call: outcomes.append(_outcome_of(call)))
    try:
        async with aclosing(messages):
            async for message in messages:
                if not await _is_sent(running, message):
                    break
        await running.done_writing()
        return await running
    except grpc.aio.AioRpcError as error:
        raise (_true_outcome(outcomes) or error) from None
    finally:
        running.cancel()


async def _is_sent(running: Any, message: Any) -> bool:
    """False once the service has answered early: what it said is in its answer."""
    try:
        await running.write(message)
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        return False
    return True


def _true_outcome(outcomes: list[grpc.aio.AioRpcError]) -> grpc.aio.AioRpcError | None:
    # When a service answers while a message is being written, grpc.aio sets `INTERNAL: Internal error from Core` before
    # or after what the service said, and keeps the last of the two (grpc/grpc#36066). The other one is meant.
    meant = [outcome for outcome in outcomes if outcome.details() != "Internal error from Core"]
    return meant[0] if meant else None


def _outcome_of(call: Any) -> grpc.aio.AioRpcError:
    trailer = _at_once(call.trailing_metadata())
    return grpc.aio.AioRpcError(_at_once(call.code()), grpc.aio.Metadata(), trailer, details=_at_once(call.details()))


def _at_once(answer: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine gives that has nothing to wait for; the next turn of the loop could be too late."""
    try:
        answer.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    answer.close()
    raise RuntimeError("a finished call has no outcome")


async def pages(method: Any, request: Any, field: str, kind: type[R], timeout: float) -> AsyncIterator[R]:
    """Yield the records of `field` from all pages of a list."""
    while True:
        answer = await call(method, request, timeout)
        for message in getattr(answer, field):
            yield from_proto(kind, message)
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token
