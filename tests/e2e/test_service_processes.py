"""The four services as processes while their clocks jump, and what they show afterwards of secrets and of texts.

Every process is told another time than the machine has, by libfaketime, which reads how far it is off from a file; what
counts seconds (CLOCK_MONOTONIC) stays true, as it does on a machine whose clock is set. `test_faults.py` does the same
to a coordinator alone, without that library.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import urllib.request
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.kills import SMALLER, Left, World, differences, left, reference_world, undisturbed
from benchmarks.supervised import WORKERS, Supervisor, free_ports, supervised
from ouroscope.client import CoordinatorClient, open_channel
from ouroscope.corpora.stored import read_corpus
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.runs import Run, RunSpec, RunState
from ouroscope.security.connection import PLAIN
from ouroscope.store import ArtifactStore
from ouroscope_app.embedded import threads_each
from ouroscope_app.specs import load_spec
from tests.conftest import IN_CI
from tests.e2e.specs import write_small_spec

pytestmark = [pytest.mark.e2e, pytest.mark.proof, pytest.mark.timeout(900)]

LIBRARY = "faketime/libfaketimeMT.so.1"
JUMPS = tuple(timedelta(hours=hours) for hours in (30, -9, 24 * 400, -5, -3))
"""How far the clocks are off, one after the other."""
SLEEP = """
# libfaketime refuses to sleep until a time of the true clock (EINVAL), which is how Python sleeps; this waits instead.
import threading, time
time.sleep = lambda seconds: threading.Event().wait(seconds) and None
"""
SECRET = "xyzzy-marked-secret"
HELD = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY")
ALIKE = 8
"""So many words in a row are a quotation, not a coincidence."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A run that is over."""

    folder: Path
    run: Run
    expected: Left
    found: Left
    jumps: int
    commands: set[str]
    """Command lines of all processes that there were."""
    overview: str
    report: str
    metrics: str

    def logs(self, service: str) -> str:
        return (self.folder / "logs" / service / f"{service}.log").read_text()


@pytest.fixture(scope="module")
def jumping(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The file that says how far the clocks of processes are off that this one starts; None without the library."""
    if not any(Path("/usr/lib").glob(f"*/{LIBRARY}")):
        assert not IN_CI, "faketime is not installed"
        return None
    file = tmp_path_factory.mktemp("clock") / "offset"
    set_clock(file, timedelta())
    return file


def set_clock(file: Path, offset: timedelta) -> None:
    """Let all of them jump."""
    part = file.with_suffix(".part")
    part.write_text(f"{offset.total_seconds():+.0f}s\n")
    part.replace(file)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory, jumping: Path | None) -> Loop:
    folder = tmp_path_factory.mktemp("processes")
    spec = load_spec(str(write_small_spec(folder)), SMALLER)
    with pytest.MonkeyPatch.context() as environment:
        expected = asyncio.run(quiet(folder, spec))
        for name in HELD:
            environment.setenv(name, SECRET)
        if jumping:
            follow(jumping, environment)
        return asyncio.run(disturbed(folder, spec, expected, jumping))


def follow(file: Path, environment: pytest.MonkeyPatch) -> None:
    """Let processes that are started from now on have their time from there."""
    (library,) = Path("/usr/lib").glob(f"*/{LIBRARY}")
    (file.parent / "sitecustomize.py").write_text(SLEEP)
    environment.setenv("PYTHONPATH", str(file.parent), prepend=os.pathsep)
    environment.setenv("LD_PRELOAD", str(library))
    environment.setenv("FAKETIME_TIMESTAMP_FILE", str(file))
    # Files keep the time at which they were written, as those of a machine whose clock is set.
    for name in ("FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"):
        environment.setenv(name, "1")


async def quiet(folder: Path, spec: RunSpec) -> Left:
    async with reference_world(folder) as world:
        return await undisturbed(world, spec, "small")


async def disturbed(folder: Path, spec: RunSpec, expected: Left, jumping: Path | None) -> Loop:
    async with supervised(folder / "logs") as supervisor:
        world, pages, metrics = await begun(supervisor, folder / "home")
        name = await world.create(spec, "small")
        jumps, commands = 0, set[str]()
        async for count in jumped(world, name, jumping):
            jumps = count
            commands |= await asyncio.to_thread(command_lines, supervisor)
        run = await world.ended(name)
        found = left(await world.generations(name), world.artifacts(), set(), 0.0)
        urls = (f"http://{pages}/", f"http://{pages}/runs/small", f"http://{metrics}/metrics")
        told = [await asyncio.to_thread(fetch, url) for url in urls]
        assert {service.starts for service in supervisor.services.values()} == {1}, "none had to be started again"
    return Loop(folder, run, expected, found, jumps, commands, *told)


async def begun(supervisor: Supervisor, home: Path) -> tuple[World, str, str]:
    """Start the four services; return them with the addresses of the page and of the metrics."""
    places = [f"127.0.0.1:{port}" for port in free_ports(6)]
    common = {"STORE": str(home / "store"), "LOG_LEVEL": "debug"}
    for name, place in zip(WORKERS, places, strict=False):
        told = {} if name == "analyzer" else {"THREADS": str(threads_each())}
        supervisor.add(name, {**common, "METRICS_PORT": "0", **told}, port_of(place))
    *workers, driver, page, metrics = places
    told = dict(zip((name.upper() for name in WORKERS), workers, strict=True))
    told |= {"HOME": str(home), "PAGE_ADDRESS": page, "METRICS_ADDRESS": metrics}
    address = supervisor.add("coordinator", {**common, **told}, port_of(driver)).address
    await supervisor.serving()
    return World(address, ArtifactStore(str(home / "store"))), page, metrics


def port_of(place: str) -> int:
    return int(place.rpartition(":")[2])


async def jumped(world: World, name: str, file: Path | None) -> AsyncIterator[int]:
    """Let the clocks jump whenever another stage has begun; yield how often they did."""
    seen = set()
    async with open_channel(world.address, PLAIN) as channel:
        async for event in CoordinatorClient(channel).watch_run(name):
            stage = (event.arm, event.generation, event.stage)
            if event.stage and stage not in seen:
                seen.add(stage)
                if file and len(seen) <= len(JUMPS):
                    set_clock(file, JUMPS[len(seen) - 1])
                yield min(len(seen), len(JUMPS)) if file else 0


def command_lines(supervisor: Supervisor) -> set[str]:
    """Return how each process there is now was started."""
    found = set()
    for process in supervisor.marked():
        # One that was seen may have ended.
        with suppress(psutil.NoSuchProcess):
            found.add(" ".join(process.cmdline()))
    return found


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert answer.status == 200
        return str(answer.read().decode())


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def quotations(texts: Iterable[str]) -> set[tuple[str, ...]]:
    """Return all that is long enough to be recognised."""
    found = (words(text) for text in texts)
    return {each for one in found for each in zip(*(islice(one, start, None) for start in range(ALIKE)), strict=False)}


def jumped_clocks(loop: Loop) -> None:
    if not loop.jumps:
        pytest.skip("libfaketime is not installed (Debian: faketime)")


def test_a_run_whose_services_all_see_their_clocks_jump_leaves_what_an_undisturbed_one_leaves(loop: Loop) -> None:
    jumped_clocks(loop)
    assert loop.jumps == len(JUMPS)
    assert (loop.run.state, loop.run.error) == (RunState.SUCCEEDED, None)
    assert differences(loop.expected, loop.found) == []


@pytest.mark.parametrize("service", [*WORKERS, "coordinator"])
def test_every_service_has_seen_another_time_and_took_nothing_for_too_late(loop: Loop, service: str) -> None:
    jumped_clocks(loop)
    lines = [json.loads(line) for line in loop.logs(service).splitlines()]
    times = [datetime.fromisoformat(line["timestamp"]) for line in lines]
    assert max(times) - min(times) > timedelta(hours=2), "the clock of this process has jumped"
    assert [line for line in lines if line["level"] in ("warning", "error", "critical")] == []
    assert "DEADLINE_EXCEEDED" not in loop.logs(service)


def test_times_that_run_backwards_break_neither_the_page_nor_a_metric(loop: Loop) -> None:
    jumped_clocks(loop)
    assert "/runs/small" in loop.overview
    assert "replace" in loop.report
    samples = [sample for family in text_string_to_metric_families(loop.metrics) for sample in family.samples]
    seconds = [one for one in samples if one.name.startswith("ouroscope_stage_duration_seconds")]
    assert seconds
    assert all(0 <= one.value < 3600 for one in seconds), "what a stage took is counted, not subtracted"


def test_nothing_of_any_document_is_in_a_log_even_of_all_that_is_logged(loop: Loop) -> None:
    store = ArtifactStore(str(loop.folder / "home" / "store"))
    texts = [document.text for ref in store.list(ArtifactKind.CORPUS) for document in read_corpus(store, ref)]
    telling = quotations(texts)
    assert len(telling) > 1000
    for service in (*WORKERS, "coordinator"):
        assert '"debug"' in loop.logs(service), "everything is logged"
        assert not quotations([loop.logs(service)]) & telling


def test_a_secret_is_in_no_log_page_metric_artifact_or_list_of_processes(loop: Loop) -> None:
    logs = "".join(loop.logs(service) for service in (*WORKERS, "coordinator"))
    shown = "\n".join([logs, loop.overview, loop.report, loop.metrics, *loop.commands])
    assert all(f"services.{service}" in shown for service in (*WORKERS, "coordinator"))
    assert SECRET not in shown
    kept = [path for path in (loop.folder / "home").rglob("*") if path.is_file()]
    assert len(kept) > 50
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []
