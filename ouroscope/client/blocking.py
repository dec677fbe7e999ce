"""An event loop in a thread of its own, for clients whose methods block. Knows no service."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc.aio

from ouroscope.client.long_work import Patience
from ouroscope.rpc.channel import open_channel
from ouroscope.security.connection import Connection

T = TypeVar("T")
Client = TypeVar("Client")


class Blocking(Generic[Client]):
    """Holds an async client and runs its calls. Its event loop runs in a thread; close it, or use `with`."""

    def __init__(
        self,
        kind: Callable[[grpc.aio.Channel, Patience | None], Client],
        address: str,
        patience: Patience | None,
        connection: Connection | None = None,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ouroscope-client", daemon=True)
        self._thread.start()
        # A channel belongs to the loop that it was made in.
        try:
            self._channel, self._client = self._run(self._open(kind, address, patience, connection))
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel and end the thread; closing twice is harmless."""
        if self._loop.is_closed():
            return
        self._run(self._channel.close())
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:
            # Ctrl-C reaches this thread only: the call in the other one must end too.
            running.cancel()
            raise

    def _all(self, records: AsyncIterator[T]) -> tuple[T, ...]:
        async def collect() -> tuple[T, ...]:
            return tuple([record async for record in records])

        return self._run(collect())

    async def _open(
        self,
        kind: Callable[[grpc.aio.Channel, Patience | None], Client],
        address: str,
        patience: Patience | None,
        connection: Connection | None,
    ) -> tuple[grpc.aio.Channel, Client]:
        channel = open_channel(address, connection)
        return channel, kind(channel, patience)
