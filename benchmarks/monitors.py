"""What monitors cost: one call beside the analysis that it rests on, and a coordinator with many of them.

    python -m benchmarks.monitors call FILE [--words 100000] [--rounds 5] [--parser none]
    python -m benchmarks.monitors many [--monitors 1000] [--generations 100]

FILE is JSON lines with `id` and `text`. `call` runs an analyzer and a coordinator as processes and measures in turns
RecordGeneration, and Analyze with Compare without a coordinator: median seconds of CPU of all processes, client
included, and by the wall. `many` fills the tables, starts a coordinator on them and tells how long that takes, its
memory, and how long a scrape takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from ouroscope.client import AnalyzerClient, MonitorClient
from ouroscope.corpora.readers import read_documents
from ouroscope.records.analysis import (
    Compare,
    Comparison,
    Family,
    FamilyEffect,
    MetricEffect,
    Policy,
    Verdict,
    VerdictReason,
)
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.monitors import Monitor, MonitorGeneration
from services.analyzer.catalogue import CATALOGUE
from services.coordinator.database import open_history
from services.coordinator.monitors.comparing import EXPLAIN
from services.coordinator.monitors.history import MonitorHistory, Recorded
from services.coordinator.monitors.judging import WHOLE
from services.coordinator.monitors.relay import REPEATED_TEXTS, VIEW
from services.coordinator.rows import Measured
from services.coordinator.stages import DRAWN_CONCEPTS
from services.coordinator.tables import monitor_generations

NOW = datetime.now(UTC)
REPORT = ArtifactRef(ArtifactKind.REPORT, "0" * 64)
SCRAPES = 11


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    call = kinds.add_parser("call")
    call.add_argument("file")
    call.add_argument("--words", type=int, default=100_000)
    call.add_argument("--rounds", type=int, default=5)
    call.add_argument("--parser", default="none")
    many = kinds.add_parser("many")
    many.add_argument("--monitors", type=int, default=1000)
    many.add_argument("--generations", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.kind == "call":
            documents = list(_of_words(read_documents(options.file), options.words))
            asyncio.run(_call(Path(folder), documents, options.rounds, options.parser))
        else:
            asyncio.run(_many(Path(folder), options.monitors, options.generations))


async def _call(home: Path, documents: list[Document], rounds: int, parser: str) -> None:
    with _analyzer(home, parser) as measuring, _coordinator(home, measuring.address) as watching:
        processes = (measuring.process, watching.process, psutil.Process())
        async with (
            AnalyzerClient.connect(measuring.address) as analyzer,
            MonitorClient.connect(watching.address) as monitors,
        ):
            await monitors.create_monitor("m")
            first = await monitors.record_generation("monitors/m", 0, documents)
            assert first.report is not None
            baseline = first.report
            numbers = iter(range(1, 10**6))

            async def alone() -> None:
                report = await analyzer.analyze(
                    documents, view=VIEW, drawn_concepts=DRAWN_CONCEPTS, repeated_texts=REPEATED_TEXTS
                )
                assert report.report is not None
                asked = Compare(baseline=baseline, candidate=report.report, generation=1, explain=EXPLAIN)
                await analyzer.compare(asked)

            async def monitored() -> None:
                await monitors.record_generation("monitors/m", next(numbers), documents)

            ours, theirs, own, idle = [], [], 0.0, 0.0
            for _ in range(rounds):
                began = _cpu((watching.process,))
                theirs.append(await _timed(alone, processes))
                between = _cpu((watching.process,))
                ours.append(await _timed(monitored, processes))
                idle, own = idle + between - began, own + _cpu((watching.process,)) - between
    words = sum(len(document.text.split()) for document in documents)
    print(f"{words} words in {len(documents)} documents, parser {parser}, medians of {rounds} rounds")
    for position, unit in enumerate(("CPU seconds", "wall seconds")):
        call, rest = (statistics.median(one[position] for one in side) for side in (ours, theirs))
        ratios = statistics.median(a[position] / b[position] for a, b in zip(ours, theirs, strict=True))
        print(f"{unit}: RecordGeneration {call:.3f}, Analyze and Compare {rest:.3f}, median ratio {ratios:.3f}")
    used, walls = (sum(one[position] for one in theirs) for position in (0, 1))
    # The coordinator looks for work of runs all the time: what it uses while nobody calls is not the call's.
    extra = own - idle * sum(wall for _, wall in ours) / walls
    print(f"CPU of the coordinator for one call: {extra / rounds:.3f} s, {100 * extra / used:.1f} % of the analysis")


async def _timed(work: Callable[[], Awaitable[None]], processes: tuple[psutil.Process, ...]) -> tuple[float, float]:
    used, began = _cpu(processes), time.perf_counter()
    await work()
    return _cpu(processes) - used, time.perf_counter() - began


def _cpu(processes: tuple[psutil.Process, ...]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(one.user + one.system for one in times))


async def _many(home: Path, monitors: int, generations: int) -> None:
    await _fill(home, monitors, generations)
    size = sum(file.stat().st_size for file in (home / "state").iterdir()) / 2**20
    print(f"{monitors} monitors with {generations} generations each: {size:.0f} MiB of tables")
    with _analyzer(home, "none") as measuring:
        began = time.perf_counter()
        with _coordinator(home, measuring.address) as watching:
            used = _cpu((watching.process,))
            print(f"answers after {time.perf_counter() - began:.2f} s, {used:.2f} s of them CPU")
            print(f"memory then: {_memory(watching.process):.0f} MiB")
            scrapes = [_scraped(watching.metrics_url) for _ in range(SCRAPES)]
            print(f"scrape: median {statistics.median(took for took, _ in scrapes):.3f} s, {scrapes[-1][1]} bytes")
            async with MonitorClient.connect(watching.address) as client:
                began = time.perf_counter()
                listed = [monitor async for monitor in client.list_monitors()]
                print(f"list of {len(listed)} monitors: {time.perf_counter() - began:.2f} s")
                began = time.perf_counter()
                history = [one async for one in client.list_generations(listed[0].name)]
                print(f"history of {len(history)} generations: {time.perf_counter() - began:.2f} s")
            print(f"memory at the end: {_memory(watching.process):.0f} MiB")


async def _fill(home: Path, monitors: int, generations: int) -> None:
    """Write the rows: those of the first monitor as the coordinator writes them, the others as copies of them."""
    runs = await open_history(home)
    history = MonitorHistory(runs.database)
    for number in range(monitors):
        monitor = Monitor(name=f"monitors/m{number:05}", baseline=REPORT, create_time=NOW, update_time=NOW)
        await history.create(monitor, None, "")
        newest = _generation(monitor.name, generations - 1)
        await history.keep(
            Monitor(**{**_fields(monitor), "generations": generations, "newest": newest.generation}), [newest], None
        )
        first = monitor_generations.c.monitor == "m00000", monitor_generations.c.number == generations - 1
        template = await runs.database.one(monitor_generations.select().where(*first))
        rows = [_copy(dict(template._mapping), generations - 1, f"m{number:05}", n) for n in range(generations - 1)]
        async with runs.database.change() as connection:
            if rows:
                await connection.execute(monitor_generations.insert(), rows)
    await runs.close()


def _fields(monitor: Monitor) -> dict[str, Any]:
    return {name: getattr(monitor, name) for name in Monitor.__dataclass_fields__}


def _copy(row: dict[str, Any], known: int, monitor: str, number: int) -> dict[str, Any]:
    """Return a row of another monitor and number, from one of the number `known`."""
    payload = row["payload"].replace(f"monitors/m00000/generations/{known}", f"monitors/{monitor}/generations/{number}")
    numbered = f'"number":{known}', f'"number":{number}'
    changed = {"payload": payload.replace(*numbered), "effects": row["effects"].replace(*numbered)}
    return {**row, **changed, "monitor": monitor, "number": number}


def _generation(monitor: str, number: int) -> Recorded:
    """Return a generation as large as a real one: an effect of every metric of the catalogue."""
    headline = [info for info in CATALOGUE if info.headline]
    families = tuple(
        FamilyEffect(
            family=family,
            effect=0.123456789,
            lower=-0.123456789,
            upper=0.456789123,
            p_value=0.98765,
            metrics=tuple(info.id for info in headline if info.family is family),
        )
        for family in Family
    )
    metrics = tuple(
        MetricEffect(
            id=info.id,
            baseline=5.123456789,
            candidate=5.123456789,
            effect=0.123456789,
            lower=-0.123456789,
            upper=0.123456789,
        )
        for info in CATALOGUE
    )
    comparison = Comparison(
        verdict=Verdict.STABLE,
        reason=VerdictReason.WITHIN_MARGIN,
        sentence="Stable: nothing is worse than the baseline by the margin of 1.",
        budget=50_000,
        families=families,
        metrics=metrics,
        policy=Policy(),
    )
    generation = MonitorGeneration(
        name=f"{monitor}/generations/{number}",
        number=number,
        report=REPORT,
        comparison=comparison,
        verdict=comparison.verdict,
        reason=comparison.reason,
        sentence=comparison.sentence,
        create_time=NOW,
        judge_time=NOW,
    )
    values = tuple(Measured(id=info.id, value=1.0, model=info.family is Family.MODEL) for info in CATALOGUE)
    return Recorded(generation=generation, values=values, baselines={WHOLE: REPORT})


def _scraped(url: str) -> tuple[float, int]:
    began = time.perf_counter()
    size = len(urllib.request.urlopen(url).read())
    return time.perf_counter() - began, size


def _memory(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 2**20)


def _of_words(documents: Iterator[Document], words: int) -> Iterator[Document]:
    taken = 0
    for document in documents:
        if taken >= words:
            return
        taken += len(document.text.split())
        yield document


class _Running:
    """A service as a process, read off its log."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.process = psutil.Process(child.pid)
        self.address = self.metrics_url = ""
        assert child.stderr is not None
        for line in child.stderr:
            told = json.loads(line)
            self.metrics_url = told.get("url", self.metrics_url)
            if told["event"] == "rpc.serving":
                self.address = told["address"]
                return
        raise SystemExit("a service did not start")


@contextmanager
def _service(name: str, settings: dict[str, str]) -> Iterator[_Running]:
    told = {f"OURO_{name.upper()}_{key}": value for key, value in settings.items()}
    command = [sys.executable, "-m", f"services.{name}"]
    child = subprocess.Popen(command, env={**os.environ, **told}, stderr=subprocess.PIPE, text=True)
    try:
        yield _Running(child)
    finally:
        child.kill()
        child.communicate()


def _analyzer(home: Path, parser: str) -> Any:
    place = {"STORE": str(home / "store"), "ADDRESS": "127.0.0.1:0", "METRICS_PORT": "0", "PARSER": parser}
    return _service("analyzer", place)


def _coordinator(home: Path, analyzer: str) -> Any:
    places = dict.fromkeys(("ADDRESS", "METRICS_ADDRESS", "PAGE_ADDRESS"), "127.0.0.1:0")
    return _service("coordinator", {**places, "HOME": str(home), "ANALYZER": analyzer, "LOG_LEVEL": "info"})


if __name__ == "__main__":
    main()
