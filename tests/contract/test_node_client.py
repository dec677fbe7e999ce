"""A client in another language: examples/node, run on the raw protos against a real analyzer."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ouroscope.client import AnalyzerClient
from ouroscope.records.documents import Document
from services.analyzer.service import start
from services.analyzer.session import Limits
from tests.unit.analyzer.corpora import prose

FEW = ("types", "mattr", "cooccurrence_nodes")
Ask = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def ask(root: Path, tmp_path: Path, program: Callable[[str], str], node_modules: Path) -> Ask:
    """Run the example on lines of text; return its status and what it printed."""
    example, includes = tmp_path / "node", tmp_path / "includes"
    shutil.copytree(root / "examples/node", example, ignore=shutil.ignore_patterns("node_modules", "includes"))
    (example / "node_modules").symlink_to(node_modules)
    subprocess.run([sys.executable, root / "proto/generate.py", "--includes", includes], check=True)

    def run(address: str, lines: list[str], *metrics: str) -> tuple[int, dict[str, Any]]:
        command = [program("node"), example / "analyze.mjs", "--protos", root / "proto", "--includes", includes]
        chosen = [part for metric in metrics for part in ("--metric", metric)]
        text = "".join(f"{line}\n" for line in lines)
        done = subprocess.run(
            [*command, "--address", address, *chosen], input=text, capture_output=True, text=True, timeout=120
        )
        assert not done.stderr
        return done.returncode, json.loads(done.stdout)

    return run


@pytest.fixture
async def analyzer(store):
    server = await start(store, limits=Limits(documents=40_000))
    yield server.address
    await server.stop(grace=0.0)


async def test_node_gets_the_numbers_that_python_gets(ask: Ask, analyzer, connect):
    lines = prose(300, 50, 0, 2_000)
    status, told = await asyncio.to_thread(ask, analyzer, lines, *FEW)
    documents = [Document(id=f"line-{n}", text=line) for n, line in enumerate(lines)]
    report = await AnalyzerClient(connect(analyzer)).analyze(documents, metrics=FEW)
    assert status == 0
    assert told == {
        "documents": 300,
        "tokens": report.tokens,
        "budget": report.rungs[-1].budget,
        "metrics": {metric.id: metric.value for metric in report.metrics},
    }


async def test_what_is_undefined_arrives_with_its_reason(ask: Ask, analyzer):
    _, told = await asyncio.to_thread(ask, analyzer, ["one", ""], "mattr", "types")
    assert told["metrics"]["types"] == 1
    assert told["metrics"]["mattr"]["undefined_because"]


async def test_node_reads_why_it_was_refused(ask: Ask, analyzer):
    status, told = await asyncio.to_thread(ask, analyzer, ["a text"], "tipes")
    assert (status, told["code"], told["reason"]) == (1, "INVALID_ARGUMENT", "INVALID_REQUEST")
    assert told["fields"] == ["metrics"]


async def test_a_refusal_in_the_middle_of_a_stream_arrives_with_its_figures(ask: Ask, analyzer):
    status, told = await asyncio.to_thread(ask, analyzer, ["many words in a line"] * 50_000, "types")
    assert (status, told["code"], told["reason"]) == (1, "RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
    assert told["metadata"] == {"unit": "documents", "limit": "40000"}


def test_the_example_is_tested_with_the_versions_that_it_asks_for(root: Path):
    asked = json.loads((root / "examples/node/package.json").read_text())["dependencies"]
    installs = (root / ".ci/run").read_text()
    assert [name for name, version in asked.items() if f"{name}@{version}" not in installs] == []
