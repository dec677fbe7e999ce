"""Monitors of a coordinator that is stopped, or killed, and started again on the same home."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from ouroscope.client import MonitorClient
from ouroscope.errors import Unavailable
from ouroscope.records.documents import Document
from ouroscope.records.monitors import Monitor
from ouroscope.store import ArtifactStore
from services.analyzer import service as analyzer_service
from services.coordinator import service
from tests.log_events import event
from tests.unit.coordinator.fakes import Team

NAME = "monitors/news"

Begin = Callable[[str], subprocess.Popen[str]]


def documents(seed: int, count: int = 30) -> list[Document]:
    return [Document(id=str(n), text=f"document {n} of generation {seed} is short") for n in range(count)]


@pytest.fixture
def coordinator(tmp_path: Path, root: Path) -> Iterator[Begin]:
    """Start coordinators as processes, all on one home; all are ended at the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(analyzer: str) -> subprocess.Popen[str]:
        places = dict.fromkeys(("ADDRESS", "METRICS_ADDRESS", "PAGE_ADDRESS"), "127.0.0.1:0")
        told = {"HOME": str(tmp_path), "ANALYZER": analyzer, **places}
        environment = {**os.environ, **{f"OURO_COORDINATOR_{name}": value for name, value in told.items()}}
        command = [sys.executable, "-m", "services.coordinator"]
        started.append(subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for each in started:
        each.kill()
        each.communicate()


async def serving(process: subprocess.Popen[str]) -> str:
    """Return the address of a coordinator once it answers."""
    return str((await asyncio.to_thread(event, process, "rpc.serving"))["address"])


async def test_a_stopped_coordinator_leaves_its_monitors_to_the_next(tmp_path: Path) -> None:
    store, team = ArtifactStore(str(tmp_path / "store")), Team(tmp_path / "workers")
    first = await service.start(tmp_path, store, workers=team.workers)
    async with MonitorClient.connect(first.address) as monitors:
        await monitors.create_monitor("news", Monitor(description="kept"))
        told = [await monitors.record_generation(NAME, number, documents(number)) for number in (0, 1, 2)]
    await first.stop(grace=1.0)
    second = await service.start(tmp_path, store, workers=team.workers)
    shown = await asyncio.to_thread(lambda: urllib.request.urlopen(second.metrics_url).read().decode())
    assert 'ouroscope_monitor_generation{monitor="news"} 2' in shown, "without the store, without a call"
    async with MonitorClient.connect(second.address) as monitors:
        assert [one async for one in monitors.list_generations(NAME)] == told
        assert (await monitors.get_monitor(NAME)).description == "kept"
        third = await monitors.record_generation(NAME, 3, documents(3))
    await second.stop(grace=1.0)
    assert third.verdict is not None
    assert third.verdict.value == "COLLAPSE", "it was judged with what the first coordinator had recorded"


async def test_a_call_that_a_kill_broke_can_be_made_again_and_records_once(tmp_path: Path, coordinator: Begin) -> None:
    analyzer = await analyzer_service.start(ArtifactStore(str(tmp_path / "store")))
    killed = coordinator(analyzer.address)
    begun, request = asyncio.Event(), str(uuid.uuid4())

    async def endless() -> AsyncIterator[Document]:
        for document in documents(1, count=100_000):
            yield document
            begun.set()
            await asyncio.sleep(0)

    async with MonitorClient.connect(await serving(killed)) as monitors:
        await monitors.create_monitor("news")
        await monitors.record_generation(NAME, 0, documents(0))
        broken = asyncio.create_task(monitors.record_generation(NAME, 1, endless(), request_id=request))
        await begun.wait()
        killed.send_signal(signal.SIGKILL)
        with pytest.raises(Unavailable):
            await broken
    async with MonitorClient.connect(await serving(coordinator(analyzer.address))) as monitors:
        assert (await monitors.get_monitor(NAME)).generations == 1
        first = await monitors.record_generation(NAME, 1, documents(1), request_id=request)
        assert await monitors.record_generation(NAME, 1, documents(1), request_id=request) == first
        assert (await monitors.get_monitor(NAME)).generations == 2
    await analyzer.stop(grace=0.0)


async def test_without_its_analyzer_a_coordinator_says_so_and_records_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    nowhere = {"generator": "127.0.0.1:1", "trainer": "127.0.0.1:1", "analyzer": "127.0.0.1:1"}
    running = await service.start(tmp_path, store, **nowhere)
    async with MonitorClient.connect(running.address) as monitors:
        await monitors.create_monitor("news")
        with pytest.raises(Unavailable, match="cannot be reached"):
            await monitors.record_generation(NAME, 0, documents(0))
        assert (await monitors.get_monitor(NAME)).generations == 0
    await running.stop(grace=1.0)
