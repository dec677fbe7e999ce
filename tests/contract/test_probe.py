"""A container asks for its own health by a small program."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence

import grpc.aio

from ouroscope.rpc.probe import is_serving, main
from ouroscope.rpc.server import serve


def nothing(_: grpc.aio.Server) -> Sequence[str]:
    return ()


def probe(address: str) -> int:
    return subprocess.run([sys.executable, "-m", "ouroscope.rpc.probe", address], check=False, timeout=60).returncode


async def test_a_server_is_healthy_while_it_serves_and_not_any_more_once_it_is_gone() -> None:
    server = await serve(nothing, "127.0.0.1:0")
    assert await asyncio.to_thread(probe, server.address) == 0
    await server.stop(grace=0.0)
    assert not await asyncio.to_thread(is_serving, server.address, 1.0)
    assert await asyncio.to_thread(main, [server.address]) == 1


async def test_of_several_addresses_one_has_to_serve() -> None:
    server = await serve(nothing, "127.0.0.1:0")
    try:
        assert await asyncio.to_thread(main, ["127.0.0.1:1", server.address]) == 0
        assert await asyncio.to_thread(main, ["127.0.0.1:1", "127.0.0.1:2"]) == 1
    finally:
        await server.stop(grace=0.0)


def test_it_tells_how_it_is_used() -> None:
    assert main([]) == 2
