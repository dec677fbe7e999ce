"""Replicas of an analyzer that are restarted while callers go on: a sample of benchmarks/load.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.load import Heard, callers
from ouroscope.rpc.server import RunningServer
from ouroscope.store import ArtifactStore
from services.analyzer import service


async def test_no_call_fails_while_replicas_are_restarted_one_after_the_other(tmp_path: Path) -> None:
    store, heard, stop = ArtifactStore(str(tmp_path)), Heard(), asyncio.Event()
    replicas: list[RunningServer] = [await service.start(store) for _ in range(2)]
    addresses = [one.address for one in replicas]
    calling = asyncio.create_task(callers("ipv4:" + ",".join(addresses), 8, heard, stop.is_set))

    async def answers_after(count: int) -> None:
        async with asyncio.timeout(120):
            while len(heard.seconds) < count:
                await asyncio.sleep(0.01)

    await answers_after(8)
    for number, address in enumerate(addresses):
        await replicas[number].stop(grace=10.0)
        replicas[number] = await service.start(store, address)
        await answers_after(len(heard.seconds) + 16)
    stop.set()
    await calling
    for one in replicas:
        await one.stop(grace=0.0)
    assert not heard.failed
