"""The first loop, as a person runs it: from text to verdict, the same twice, and through any kill."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from ouroscope.canonical import to_plain
from ouroscope_app.embedded import coordinator_client, threads_each
from ouroscope_app.specs import load_spec
from tests.e2e.conftest import Ouroscope, here
from tests.e2e.specs import write_small_spec

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TIMES = ("stages", "create_time", "update_time")
"""What differs between two runs of the same specification."""


def wait_until(condition: Callable[[], bool], timeout: float = 300.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def results(ouroscope: Ouroscope, name: str) -> list[dict[str, Any]]:
    """Everything that the generations of a run came to, without names and times."""
    shown = json.loads(ouroscope("runs", "show", name, "--json").stdout)
    return [{k: v for k, v in one.items() if k not in (*TIMES, "name")} for one in shown["generations"]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]], dict[str, Any]]:
    """One run from beginning to end: its folder, its generations, what the command printed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    environment = {**os.environ, "OUROSCOPE_HOME": str(folder / "home"), "NO_COLOR": "1"}
    spec = write_small_spec(folder)

    command = [sys.executable, "-m", "ouroscope_app", "run", str(spec), "--name", "first", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return folder, results(partial(here, environment, folder), "first"), json.loads(done.stdout)


def test_a_run_goes_from_text_to_verdict(undisturbed: tuple[Path, list[dict[str, Any]], dict[str, Any]]) -> None:
    _, generations, run = undisturbed
    assert run["state"] == "SUCCEEDED"
    assert [one["number"] for one in generations] == [0, 1, 2, 0, 1, 2]
    assert {verdict["arm"] for verdict in run["verdicts"]} == {"human", "replace"}
    assert all(one["state"] == "SUCCEEDED" and one["report"] for one in generations)
    html = Path(run["page"]).read_text()
    assert "replace" in html
    assert "<svg" in html


def test_a_run_says_how_good_its_base_model_is(undisturbed: tuple[Path, list[dict[str, Any]], dict[str, Any]]) -> None:
    run = undisturbed[2]
    assert 1 < run["base_perplexity"] < run["unigram_perplexity"] < run["uniform_perplexity"]


def test_both_arms_share_generation_0_and_differ_afterwards(
    undisturbed: tuple[Path, list[dict[str, Any]], dict[str, Any]],
) -> None:
    human, replace = undisturbed[1][:3], undisturbed[1][3:]
    assert human[0]["corpus"] == replace[0]["corpus"]
    assert human[1]["model"] != replace[1]["model"]
    assert human[1]["human"] == replace[1]["human"], "the same prompts in the same round"


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def nobody_left() -> Iterator[None]:
    """A test that fails leaves no process behind either."""
    yield
    while STARTED:
        kill(STARTED.pop())


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ouroscope_app", *arguments]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    STARTED.append(process)
    return process


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, then see that nobody is left of its session."""
    group = process.pid
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    wait_until(lambda: not [p for p in psutil.process_iter() if os.getsid(p.pid) == group and p.status() != "zombie"])


KILLS = int(os.environ.get("OUROSCOPE_TEST_KILLS", "2"))


@pytest.mark.timeout(600)
def test_a_run_that_is_killed_and_resumed_ends_with_the_same_results(
    undisturbed: tuple[Path, list[dict[str, Any]], dict[str, Any]],
    inside: Ouroscope,
    environment: dict[str, str],
    home: Path,
) -> None:
    folder, expected, _ = undisturbed
    rng = random.Random(20241)
    process = start(environment, "run", str(folder / "small.yaml"), "--name", "killed", "--json")
    wait_until(lambda: (home / "state" / "live.json").exists())
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.2, 8.0))
        listed = inside("runs", "list", "--json")  # reading while it is driven disturbs nothing
        assert listed.returncode == 0, listed.stderr
        kill(process)
        process = start(environment, "runs", "resume", "killed", "--json")
        wait_until(lambda: (home / "state" / "live.json").exists())
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0
    assert json.loads(output)["state"] == "SUCCEEDED"
    assert results(inside, "killed") == expected


SERVICES = ("generator", "trainer", "analyzer", "coordinator")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def four_processes(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Every service as its own process, as `ouroscope serve` starts it; yields their addresses."""
    at = {name: f"127.0.0.1:{free_port()}" for name in (*SERVICES, "metrics")}
    told = {f"OURO_{name.upper()}_ADDRESS": at[name] for name in SERVICES}
    told |= {f"OURO_COORDINATOR_{name.upper()}": at[name] for name in SERVICES[:3]}
    told |= {f"OURO_{name.upper()}_METRICS_PORT": "0" for name in SERVICES[:3]}
    told |= {"OURO_COORDINATOR_METRICS_ADDRESS": at["metrics"], "OURO_COORDINATOR_METRICS_GRACE": "2"}
    told |= {"OURO_COORDINATOR_PAGE_ADDRESS": "127.0.0.1:0"}
    # The number of threads moves the last bits of a sum, so it is part of what makes two runs the same.
    told |= {f"OURO_{name.upper()}_THREADS": str(threads_each()) for name in ("generator", "trainer")}
    served = [start({**environment, **told}, "serve", name) for name in SERVICES]
    wait_until(lambda: all(answers(address) for address in at.values()))
    yield at
    for process in served:
        process.terminate()
    for process in served:
        process.communicate(timeout=120)
    assert [process.returncode for process in served] == [0, 0, 0, 0], "drains on SIGTERM and exits with 0"


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def scrape(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


@pytest.mark.timeout(600)
async def test_the_loop_runs_across_four_processes_and_shows_itself_to_prometheus(
    undisturbed: tuple[Path, list[dict[str, Any]], dict[str, Any]],
    four_processes: dict[str, str],
    program: Callable[[str], str],
) -> None:
    folder, expected, _ = undisturbed
    async with coordinator_client(four_processes["coordinator"]) as client:
        run = await client.create_run(load_spec(str(folder / "small.yaml")), "apart")
        seen = ""
        async for event in client.watch_run(run.name):
            if event.finished_generation is not None and not seen:
                seen = scrape(four_processes["metrics"])
        generations = [to_plain(one) async for one in client.list_generations(run.name)]
    assert [{k: v for k, v in one.items() if k not in (*TIMES, "name")} for one in generations] == expected
    assert 'ouroscope_run_state{run="apart",state="RUNNING"} 1.0' in seen
    check = subprocess.run([program("promtool"), "check", "metrics"], input=seen, capture_output=True, text=True)
    assert (check.returncode, check.stdout + check.stderr) == (0, "")
    wait_until(lambda: 'run="apart"' not in scrape(four_processes["metrics"]))
