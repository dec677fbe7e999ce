"""A channel that is opened anew when the certificates of its client change, for clients that live for months.

gRPC takes the certificates of a channel once, when it is made. Stubs keep this one; each call takes the newest channel
behind it, and a channel that was replaced is closed when its last call has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc.aio

from ouroscope.security.watched import Watched

LAST_CALL = 3600.0
"""Seconds that calls of a channel that was replaced may still take."""


class RenewedChannel(grpc.aio.Channel):
    """Looks like one channel."""

    def __init__(self, watched: Watched[grpc.aio.Channel]) -> None:
        """Use the channels that `watched` gives, which opens a new one when a file has changed."""
        self._watched = watched
        self._channel = watched.get()
        self._replaced: dict[asyncio.Task[None], grpc.aio.Channel] = {}

    def newest(self) -> grpc.aio.Channel:
        """Return the channel for the next call."""
        channel = self._watched.get()
        if channel is not self._channel:
            task = asyncio.ensure_future(self._channel.close(LAST_CALL))
            self._replaced[task] = self._channel
            task.add_done_callback(lambda ended: self._replaced.pop(ended, None))
            self._channel = channel
        return self._channel

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(None)

    async def close(self, grace: float | None = None) -> None:
        """Close what is open; calls of channels that were replaced end too."""
        for task, channel in tuple(self._replaced.items()):
            task.cancel()
            await channel.close(None)
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the newest channel."""
        return self.newest().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when the newest channel has another state."""
        await self.newest().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Return when the newest channel is connected."""
        await self.newest().channel_ready()

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        """Return what makes calls of one method."""
        return _Method(self.newest, lambda channel: channel.unary_unary(*args, **options))

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        """Return what makes calls of one method."""
        return _Method(self.newest, lambda channel: channel.unary_stream(*args, **options))

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        """Return what makes calls of one method."""
        return _Method(self.newest, lambda channel: channel.stream_unary(*args, **options))

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        """Return what makes calls of one method."""
        return _Method(self.newest, lambda channel: channel.stream_stream(*args, **options))


class _Method:
    """Makes calls of one method over whatever channel is the newest."""

    def __init__(self, newest: Callable[[], grpc.aio.Channel], make: Callable[[grpc.aio.Channel], Any]) -> None:
        self._newest, self._make = newest, make
        self._channel = newest()
        self._method = make(self._channel)

    def __call__(self, *args: Any, **options: Any) -> Any:
        channel = self._newest()
        if channel is not self._channel:
            self._channel, self._method = channel, self._make(channel)
        return self._method(*args, **options)
