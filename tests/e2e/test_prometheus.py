"""A real Prometheus beside a real coordinator: the shipped rules see a collapse, and series end with what they tell of.

The run is small and its policy strict: trained on its own cold text, a model is surer of itself after two turns.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from ouroscope.client import CoordinatorClient, SyncMonitors, open_channel
from ouroscope.records.documents import Document
from ouroscope.records.runs import RunState
from ouroscope_app.specs import load_spec
from tests.e2e.prometheus import Prometheus, prometheus, wait_until
from tests.e2e.specs import write_small_spec

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import asyncio, json, signal, sys
from pathlib import Path

from ouroscope.telemetry.logs import configure_logs
from ouroscope_app.embedded import embedded_services
from ouroscope_app.home import Home


async def main() -> None:
    configure_logs(json=False, level="warning")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with embedded_services(Home(Path(sys.argv[1])).prepare(), metrics_grace=15.0) as at:
        print(json.dumps({"coordinator": at.coordinator, "metrics": at.metrics}), flush=True)
        await stop.wait()


asyncio.run(main())
"""
COLLAPSING = {
    "documents": 40,
    "document_tokens": 48,
    "sampling": {"temperature": 0.5},
    "recipe": {"steps": 20, "batch_size": 2, "block_tokens": 64, "learning_rate": 0.003},
    "evaluation": {
        **{"prompts": 32, "prompt_length": 8, "heldout_documents": 20, "max_tokens": 48, "last_n": 8, "samples": 1}
    },
    "policy": {"margin": 1.0, "far_bound": 1.5},
}


@dataclass(frozen=True)
class Place:
    """Where things are."""

    coordinator: str
    metrics: str
    spec: Path
    corpus: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The four services as one process."""
    folder = tmp_path_factory.mktemp("watched")
    spec = write_small_spec(folder)
    spec.write_text(yaml.safe_dump(yaml.safe_load(spec.read_text()) | COLLAPSING))
    command = [sys.executable, "-c", PROGRAM, str(folder / "home")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            at = json.loads(process.stdout.readline())
            yield Place(at["coordinator"], urlsplit(at["metrics"]).netloc, spec, folder / "corpus.jsonl")
        finally:
            process.terminate()
            process.wait(120)


@pytest.fixture(scope="module")
def watching(
    place: Place, program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that has scraped the coordinator."""
    folder = tmp_path_factory.mktemp("prometheus") / "here"
    with prometheus(program("prometheus"), folder, place.metrics) as running:
        wait_until(lambda: running.query('up{job="ouroscope-coordinator"} == 1'), "a first scrape")
        yield running


@pytest.fixture(scope="module")
def doomed(place: Place, watching: Prometheus) -> RunState:
    """How the run ended that was watched from its beginning."""
    return asyncio.run(carry_out(place))


async def carry_out(place: Place) -> RunState:
    async with open_channel(place.coordinator) as channel:
        client = CoordinatorClient(channel)
        run = await client.create_run(load_spec(str(place.spec)), "doomed")
        states = [event.state async for event in client.watch_run(run.name)]
    return states[-1]


def test_the_collapse_of_one_arm_is_told(doomed: RunState, watching: Prometheus) -> None:
    assert doomed is RunState.SUCCEEDED
    wait_until(lambda: watching.fired("OuroscopeRunCollapse"), "the alert")
    assert [(one["run"], one["arm"]) for one in watching.fired("OuroscopeRunCollapse")] == [("doomed", "replace")]


def test_a_generation_that_cannot_be_judged_is_told_and_a_deleted_monitor_is_gone(
    place: Place, watching: Prometheus
) -> None:
    lines = [json.loads(line)["text"] for line in place.corpus.read_text().splitlines()]
    documents = [Document(id=str(number), text=text) for number, text in enumerate(lines)]
    with SyncMonitors(place.coordinator) as monitors:
        monitors.create_monitor("pipeline")
        monitors.record_generation("monitors/pipeline", 0, documents)
        wait_until(lambda: watching.query('ouroscope_monitor_generation{monitor="pipeline"} == 0'), "the baseline")
        assert not watching.query('ouroscope_monitor_collapse_verdict{monitor="pipeline"}')
        monitors.record_generation("monitors/pipeline", 1, documents[:10])
        wait_until(lambda: watching.fired("OuroscopeMonitorCannotTell"), "the alert")
        assert not watching.fired("OuroscopeMonitorCollapse")
        monitors.delete_monitor("monitors/pipeline")
        wait_until(lambda: not watching.query('{monitor="pipeline"}'), "the end of the series", timeout=30)


@pytest.mark.parametrize("page", sorted(ROOT.glob("deploy/grafana/dashboards/*.json")), ids=lambda page: page.stem)
def test_prometheus_can_evaluate_every_query_of_a_dashboard(page: Path, watching: Prometheus) -> None:
    queries = [
        target["expr"] for panel in json.loads(page.read_text())["panels"] for target in panel.get("targets", ())
    ]
    assert queries
    for query in queries:
        watching.query(re.sub(r"\$\w+", ".*", query))


# The last one: while the others looked, the time has passed for which the series of an ended run stay.
@pytest.mark.usefixtures("doomed")
def test_the_series_end_with_the_run(watching: Prometheus) -> None:
    wait_until(lambda: not watching.query('{run="doomed"}'), "the end of the series")
    assert watching.query('up{job="ouroscope-coordinator"} == 1'), "the coordinator itself is still there"
    assert watching.query('max_over_time(ouroscope_run_state{run="doomed", state="RUNNING"}[1h]) == 1')
