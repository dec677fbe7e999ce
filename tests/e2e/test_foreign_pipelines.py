"""Pipelines that are not ours, as their owners would run them, watched by real services on real ports."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ouroscope.client import MonitorClient, open_channel
from ouroscope.corpora.docstrings import gather
from ouroscope.corpora.sources import Source
from ouroscope.records.analysis import Verdict
from ouroscope.records.monitors import MonitorGeneration
from ouroscope.store import ArtifactStore
from services.analyzer import service as analyzer
from services.coordinator import service as coordinator
from tests.unit.analyzer.corpora import prose

pytestmark = pytest.mark.e2e

NOBODY = "127.0.0.1:1"
BASELINE, STABLE, COLLAPSE = None, Verdict.STABLE, Verdict.COLLAPSE
# Words of Zipf's law: the same language twice, then a tenth of it.
GENERATIONS = [prose(300, 50, seed, vocabulary) for seed, vocabulary in enumerate((2_000, 2_000, 200))]

Run = Callable[..., Awaitable["subprocess.CompletedProcess[str]"]]


@dataclass
class Services:
    """An analyzer and a coordinator that answer."""

    address: str
    metrics: str

    async def history(self, monitor: str) -> list[MonitorGeneration]:
        """Return what the coordinator keeps of a monitor."""
        async with open_channel(self.address) as channel:
            return [one async for one in MonitorClient(channel).list_generations(f"monitors/{monitor}")]

    async def shown(self, monitor: str) -> dict[str, float]:
        """Return what Prometheus would scrape of a monitor, by name and values of further labels."""
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(self.metrics).read().decode())
        samples = [one for family in text_string_to_metric_families(page) for one in family.samples]
        ours = [one for one in samples if one.labels.pop("monitor", None) == monitor]
        return {" ".join([one.name, *one.labels.values()]): one.value for one in ours}


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    store = ArtifactStore(str(tmp_path / "store"))
    measuring = await analyzer.start(store)
    keeping = await coordinator.start(
        tmp_path / "home", store, analyzer=measuring.address, generator=NOBODY, trainer=NOBODY
    )
    yield Services(keeping.address, keeping.metrics_url)
    await keeping.stop(grace=1.0)
    await measuring.stop(grace=0.0)


@pytest.fixture
def run(tmp_path: Path, root: Path) -> Run:
    """Run a program beside the event loop of the services."""

    async def begin(*command: object, stdin: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", **environ}
        words = [str(part) for part in command]
        return await asyncio.to_thread(
            lambda: subprocess.run(
                words, input=stdin, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=400
            )
        )

    return begin


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


async def check_watched(services: Services, monitor: str) -> None:
    """The three generations are kept, and the last one is what Prometheus sees."""
    history = await services.history(monitor)
    assert [(one.number, one.verdict) for one in history] == [(0, BASELINE), (1, STABLE), (2, COLLAPSE)]
    shown = await services.shown(monitor)
    assert shown["ouroscope_monitor_collapse_verdict COLLAPSE"] == 1
    assert shown["ouroscope_monitor_collapse_verdict STABLE"] == 0
    assert shown["ouroscope_monitor_generation"] == 2
    assert shown["ouroscope_monitor_collapse_family_effect text"] > 1


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_training_with_transformers_is_watched_and_its_collapse_ends_it(
    services: Services, run: Run, root: Path, tmp_path: Path
) -> None:
    pytest.importorskip("accelerate")
    human = [" ".join(one.text.split()[:30]) for one in gather((Source(name="networkx"),)).documents[:64]]
    prompts = write(tmp_path / "human.txt", human[:40])
    snakes = ["The snake eats the snake eats the snake eats the snake."] * 96
    done, model = [], root / "models/ouro-tiny"
    for number, (texts, rate) in enumerate([(human[40:], 5e-4), (snakes, 3e-3)]):
        file, output = write(tmp_path / f"texts-{number}.txt", texts), tmp_path / f"generation-{number}"
        script = [sys.executable, root / "examples/trainer/train.py", "--model", model, "--texts", file]
        where = ["--prompts", prompts, "--output", output, "--coordinator", services.address, "--monitor", "trained"]
        done.append(await run(*script, *where, "--epochs", number + 1, "--learning-rate", rate, "--new-tokens", 16))
        model = output
    assert [one.returncode for one in done] == [0, 3], [one.stdout + one.stderr for one in done]
    assert "is the baseline" in done[0].stdout
    first, second = await services.history("trained")
    assert (first.verdict, second.verdict) == (BASELINE, COLLAPSE)
    assert second.sentence in done[1].stdout
    assert (first.description, second.description) == ("step 3", "step 24")
    assert (await services.shown("trained"))["ouroscope_monitor_collapse_verdict COLLAPSE"] == 1


async def test_a_shell_script_watches_a_pipeline(
    services: Services, run: Run, root: Path, tmp_path: Path, program: Callable[[str], str]
) -> None:
    program("jq")
    files = [write(tmp_path / f"texts-{number}.txt", texts) for number, texts in enumerate(GENERATIONS)]
    call = f"{sys.executable} {root / 'examples/shell/call.py'}"
    script = root / "examples/shell/monitor.sh"
    done = await run("sh", script, "shell", *files, COORDINATOR=services.address, CALL=call)
    assert done.returncode == 0, done.stderr
    told = [line.split("\t") for line in done.stdout.splitlines()]
    assert [verdict for verdict, _ in told] == ["BASELINE", "VERDICT_STABLE", "VERDICT_COLLAPSE"]
    await check_watched(services, "shell")
    again = await run("sh", script, "shell", *files, COORDINATOR=services.address, CALL=call)
    assert again.returncode != 0
    assert again.stderr.startswith("ALREADY_EXISTS: ")


async def test_node_watches_a_pipeline(
    services: Services, run: Run, root: Path, tmp_path: Path, program: Callable[[str], str], node_modules: Path
) -> None:
    example = tmp_path / "node"
    shutil.copytree(root / "examples/node", example, ignore=shutil.ignore_patterns("node_modules", "includes"))
    (example / "node_modules").symlink_to(node_modules)
    made = await run(sys.executable, root / "proto/generate.py", "--includes", example / "includes")
    assert made.returncode == 0, made.stderr
    command = [program("node"), example / "monitor.mjs", "--protos", root / "proto", "--address", services.address]
    told = []
    for number, texts in enumerate(GENERATIONS):
        text = "".join(f"{line}\n" for line in texts)
        done = await run(*command, "--monitor", "node", "--number", number, stdin=text)
        told.append((done.returncode, json.loads(done.stdout)["verdict"]))
    assert told == [(0, None), (0, "STABLE"), (3, "COLLAPSE")]
    await check_watched(services, "node")
    refused = await run(*command, "--monitor", "Not A Name", "--number", 0, stdin="a text\n")
    assert (refused.returncode, json.loads(refused.stdout)["reason"]) == (1, "INVALID_REQUEST")


async def test_a_pipeline_in_python_reports_files_and_logs_of_a_gateway(
    services: Services, run: Run, root: Path, tmp_path: Path
) -> None:
    texts = write(tmp_path / "texts.txt", GENERATIONS[0])
    calls = [[_logged(number, text) for number, text in enumerate(part)] for part in GENERATIONS[1:]]
    plain = write(tmp_path / "calls.jsonl", ["not JSON", *calls[0]])
    packed = tmp_path / "calls.jsonl.gz"
    packed.write_bytes(gzip.compress("\n".join(calls[1]).encode()))
    command = [sys.executable, root / "examples/pipeline/watch.py", "--coordinator", services.address]
    done = [await run(*command, number, file) for number, file in enumerate((texts, plain, packed))]
    assert [one.returncode for one in done] == [0, 0, 3], [one.stderr for one in done]
    await check_watched(services, "pipeline-example")
    assert [one.description for one in await services.history("pipeline-example")] == ["", "model m", "model m"]


def _logged(number: int, text: str) -> str:
    request = {"model": "m", "prompt": f"Prompt {number}"}
    return json.dumps({"request": request, "response": {"model": "m", "choices": [{"index": 0, "text": text}]}})
