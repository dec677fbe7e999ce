"""The gate and the monitors as a person or a pipeline meets them: every command that is documented, on real text."""

from __future__ import annotations

import ast
import json
import os
import random
import re
import shlex
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from ouroscope.canonical import from_plain
from ouroscope.records.analysis import Verdict
from ouroscope.records.monitors import GateDecision
from ouroscope_app.main import app
from tests.e2e.served import served
from tests.e2e.specs import docstrings

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

DOCUMENTS, WORDS = 320, 40
"""Texts of equal length fill a budget of 10,000 words soonest."""
WITHOUT_PARSER = ("--parser", "none")
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Human text, text of the same kind, and text of a model that collapsed."""
    folder = tmp_path_factory.mktemp("gate")
    human, sound = parts_of_library()
    rng = random.Random(1)
    frequent = [word for word in " ".join(human).split() if len(word) > 2][:3000:12]
    collapsed = ["the model returns the value of the given key " + " ".join(rng.choices(frequent, k=30)) for _ in human]
    (folder / "data").mkdir()
    for place in (folder, folder / "data"):
        write_texts(place / "human.jsonl", human)
        write_texts(place / "next.jsonl", sound)
        write_texts(place / "collapsed.jsonl", collapsed)
    write_texts(folder / "data/written.jsonl", sound)
    calls = [{"request": {"prompt": f"p{n}"}, "response": {"choices": [{"text": t}]}} for n, t in enumerate(sound)]
    write_lines(folder / "gateway.jsonl", [*calls, {"nothing": 1}])
    for place in (folder / "gate.yaml", folder / "data/gate.yaml"):
        place.write_text(documented_policy(root / "docs/gate.md"))
    return folder


def parts_of_library() -> tuple[list[str], list[str]]:
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    words = [word for path in paths for text in docstrings(path) for word in text.split()]
    texts = [" ".join(words[start : start + WORDS]) for start in range(0, len(words) - WORDS, WORDS)]
    random.Random(1).shuffle(texts)
    return texts[:DOCUMENTS], texts[DOCUMENTS : 2 * DOCUMENTS]


def write_texts(path: Path, texts: list[str]) -> None:
    write_lines(path, [{"text": text} for text in texts])


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def documented_policy(page: Path) -> str:
    (found,) = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def coordinator(home: Path) -> Iterator[str]:
    with served(home) as address:
        yield address


@pytest.fixture
def run(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OUROSCOPE_HOME", str(home))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "step-summary.md"))
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, list(arguments))


@pytest.fixture(scope="module")
def kept(folder: Path, home: Path) -> str:
    """A baseline under a name, so that each test measures its candidate only."""
    environ = {"OUROSCOPE_HOME": str(home)}
    done = CliRunner().invoke(
        app, ["analyze", str(folder / "human.jsonl"), *WITHOUT_PARSER, "--save", "kept"], env=environ
    )
    assert done.exit_code == 0, done.output
    return "baselines/kept"


def gate(run: Run, baseline: str, candidate: str, *options: str) -> Result:
    return run("gate", "--baseline", baseline, "--candidate", candidate, *WITHOUT_PARSER, *options)


def test_a_sound_corpus_passes_in_every_form(run: Run, kept: str, folder: Path) -> None:
    done = gate(run, kept, "next.jsonl", "--junit", "a.xml", "--markdown", "a.md", "--json")
    assert done.exit_code == 0, done.output
    decision = from_plain(GateDecision, json.loads(done.stdout))
    assert decision.passed
    assert "PASSED" in done.stderr
    assert ElementTree.parse(folder / "a.xml").getroot().attrib["failures"] == "0"
    assert (folder / "a.md").read_text().startswith("### Collapse gate: passed")


def test_a_collapsed_corpus_is_refused_with_3_and_shows_what_it_repeats(run: Run, kept: str, folder: Path) -> None:
    done = gate(run, kept, "collapsed.jsonl", "--policy", "collapse", "--junit", "b.xml")
    assert done.exit_code == 3, done.output
    assert "REFUSED" in done.stdout
    assert "the model returns the value of the given key" in done.stdout
    assert int(ElementTree.parse(folder / "b.xml").getroot().attrib["failures"]) >= 2


def test_a_candidate_of_ten_documents_is_refused_unless_that_is_allowed(run: Run, kept: str, folder: Path) -> None:
    write_texts(folder / "ten.jsonl", [f"only a few words, number {n}" for n in range(10)])
    refused = gate(run, kept, "ten.jsonl")
    assert refused.exit_code == 3
    assert "Too few independent texts" in refused.stdout
    assert gate(run, kept, "ten.jsonl", "--allow-insufficient-data").exit_code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--candidate", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--candidate", "ten.jsonl", "--policy", "no.yaml"), "no.yaml"),
        (("--candidate", "next.jsonl", "--baseline", "baselines/no-such"), "no-such"),
        (("--candidate", "next.jsonl", "--baseline", "monitors/news"), "--coordinator"),
        (("--candidate", "next.jsonl", "--baseline", "human.jsonl", "--coordinator", "127.0.0.1:1"), "measured here"),
        (("--candidate", "next.jsonl", "--junit", "no/such/folder.xml"), "folder.xml"),
        (("--candidate", "next.jsonl", "--junit", "a", "--markdown", "a"), "two forms"),
        (("--candidate", "next.jsonl", "--predictions", "no.jsonl"), "no.jsonl"),
        (("--no-such-option",), "no-such-option"),
    ],
)
def test_a_wrong_call_is_2_and_says_why(run: Run, kept: str, options: tuple[str, ...], says: str) -> None:
    done = run("gate", "--baseline", kept, *options)
    assert done.exit_code == 2
    assert says in done.stderr


def test_a_coordinator_that_is_not_there_is_a_fault(run: Run) -> None:
    done = gate(run, "monitors/news", "next.jsonl", "--coordinator", "127.0.0.1:1")
    assert done.exit_code == 1
    assert "Traceback" not in done.output


def test_a_monitor_from_its_making_to_its_end(run: Run, coordinator: str, kept: str) -> None:
    assert run("monitors", "create", "life", "--baseline", kept).exit_code == 0
    assert run("monitors", "record", "life", "1", "next.jsonl").exit_code == 0
    assert run("monitors", "record", "life", "2", "collapsed.jsonl", "--fail-on", "collapse").exit_code == 3
    assert run("monitors", "record", "life", "2", "collapsed.jsonl").exit_code == 0
    assert run("monitors", "record", "life", "2", "next.jsonl").exit_code == 2
    shown = json.loads(run("monitors", "show", "life", "--json").stdout)
    assert [one["verdict"] for one in shown["generations"]] == [Verdict.STABLE.value, Verdict.COLLAPSE.value]
    history = run("monitors", "show", "monitors/life").stdout
    assert "COLLAPSE" in history
    assert "first generation beyond the margin: 2" in history
    assert "still here" in run("monitors", "update", "life", "--description", "still here").stdout
    assert run("monitors", "update", "life").exit_code == 2
    assert run("monitors", "update", "life", "--baseline", "some.jsonl").exit_code == 2
    assert run("monitors", "pause", "life").exit_code == 0
    assert "paused" in run("monitors", "list").stdout
    assert run("monitors", "record", "life", "3", "next.jsonl").exit_code == 1
    assert run("monitors", "resume", "life").exit_code == 0
    assert run("monitors", "delete", "life").exit_code == 0
    assert run("monitors", "show", "life").exit_code == 2


def test_the_gate_of_a_coordinator_says_what_the_gate_here_says(run: Run, coordinator: str, kept: str) -> None:
    here = json.loads(gate(run, kept, "collapsed.jsonl", "--json").stdout)
    there = gate(run, kept, "collapsed.jsonl", "--coordinator", coordinator, "--json")
    assert there.exit_code == 3
    told = json.loads(there.stdout)
    for field in ("verdict", "reason", "sentence", "families", "metrics", "budget"):
        assert told["comparison"][field] == here["comparison"][field]


def test_nothing_to_record_is_a_wrong_call(run: Run) -> None:
    assert run("monitors", "record", "news", "1").exit_code == 2


def tuple_of(*parts: object) -> tuple[object, ...]:
    return parts


def commands_of(page: Path) -> list[list[str]]:
    """The commands in the shell blocks of a page, or in the strings of a workflow, or in the lists of a DAG."""
    text = page.read_text()
    if page.suffix == ".md":
        lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
        return [shlex.split(line) for line in lines if line.startswith("ouroscope ")]
    if page.suffix == ".py":
        values = (node.value for node in ast.parse(text).body if isinstance(node, ast.Assign))
        lists = [value for value in values if isinstance(value, ast.List)]
        return [[constant_of(element) for element in value.elts] for value in lists]
    return [shlex.split(found) for found in strings_of(yaml.safe_load(text)) if found.startswith("ouroscope ")]


def constant_of(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else "127.0.0.1:50054"


def strings_of(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings_of(item)


def arguments_of(words: list[str], coordinator: str) -> list[str]:
    """What a shell, a workflow or a DAG would hand to the program."""
    if ">" in words:
        words = words[: words.index(">")]
    placed = {
        "{{workflow.parameters.candidate}}": "data/next.jsonl",
        "{{workflow.parameters.coordinator}}": coordinator,
        "127.0.0.1:50054": coordinator,
        "{number}": "7",
    }
    return [os.path.expandvars(placed.get(word, word)) for word in words[1:]]


PAGES = (
    "docs/gate.md",
    "docs/monitoring.md",
    "examples/ci/github-actions.yml",
    "examples/argo/gate-workflow.yaml",
    "examples/airflow/gate_dag.py",
)


@pytest.mark.parametrize("page", PAGES)
def test_every_documented_command_runs(run: Run, root: Path, coordinator: str, page: str) -> None:
    made = run("monitors", "create", "news", "--baseline", "human.jsonl") if page != "docs/monitoring.md" else None
    assert made is None or made.exit_code == 0, made.output
    commands = [words for words in commands_of(root / page) if words[1] != "serve"]
    assert commands
    for words in commands:
        done = run(*arguments_of(words, coordinator))
        assert done.exit_code == 0, f"{' '.join(words)}\n{done.output}"
    run("monitors", "delete", "news")


def test_the_documented_function_records_a_generation(run: Run, root: Path, coordinator: str, folder: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (root / "docs/monitoring.md").read_text(), re.DOTALL)
    (code,) = (block for block in blocks if "record_generation" in block)
    texts = [json.loads(line)["text"] for line in (folder / "next.jsonl").read_text().splitlines()]
    names: dict[str, Any] = {"texts": texts, "prompts": [f"prompt {n}" for n in range(len(texts))], "print": tuple_of}
    exec(code.replace("ensure=True", f"ensure=True, coordinator={coordinator!r}"), names)
    assert names["generation"].number == 3
    run("monitors", "delete", "news")


def test_every_example_is_whole(root: Path) -> None:
    for page in PAGES:
        assert commands_of(root / page)
    template = yaml.safe_load((root / "examples/argo/gate-workflow.yaml").read_text())["spec"]
    assert template["entrypoint"] in {one["name"] for one in template["templates"]}
    tasks = {task["name"]: task for task in template["templates"][0]["dag"]["tasks"]}
    assert tasks["train"]["depends"] == "gate.Succeeded"
