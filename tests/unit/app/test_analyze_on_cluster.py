"""`ouroscope analyze --executor ray`: what is told at once, and the way of the files to the workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ouroscope.corpora.readers import read_documents
from ouroscope.corpora.stored import write_corpus
from ouroscope.executor import InProcess
from ouroscope.store import ArtifactStore
from ouroscope_app.main import app
from services.analyzer.tools import open_tools

WORDS = ("-m", "types", "-m", "mattr", "--json")


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OUROSCOPE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(
            f"text number {number} tells of house {number % 7} and of road {number % 5}"
        )
    return str(folder)


def analyzed(*arguments: str) -> dict[str, object]:
    done = CliRunner().invoke(app, ["analyze", *arguments, *WORDS])
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_files_and_stored_corpora_read_by_workers_give_what_they_give_here(texts, tmp_path, monkeypatch):
    store = ArtifactStore(tmp_path / "home" / "store")
    corpus = str(write_corpus(store, read_documents(texts)))
    here = analyzed(texts)
    assert analyzed(corpus)["metrics"] == here["metrics"]
    # Work of a cluster, done in this process: what is sent there is the same.
    monkeypatch.setattr("services.analyzer.tools.open_executor", lambda kind, workers, address: InProcess())
    on_ray = ("--executor", "ray", "--ray-address", "head:6379")
    assert analyzed(texts, *on_ray) == here
    assert analyzed(corpus, *on_ray)["metrics"] == here["metrics"]


@pytest.mark.parametrize("way", ["exact", "sketch"])
def test_all_text_is_counted_by_workers_as_it_is_here(texts, monkeypatch, way):
    here = analyzed(texts, "--count", way)
    monkeypatch.setattr("services.analyzer.tools.open_executor", lambda kind, workers, address: InProcess())
    assert analyzed(texts, "--executor", "ray", "--ray-address", "head:6379", "--count", way) == here
    whole = here["whole_corpus"]
    assert isinstance(whole, dict)
    assert [count["approximate"] for count in whole["distinct"]] == [way == "sketch"] * 5
    shown = CliRunner().invoke(app, ["analyze", texts, "-m", "types", "--count", way])
    assert ("about" in shown.stdout, "exactly" in shown.stdout) == (way == "sketch", True)


@pytest.mark.parametrize(
    ("given", "told", "code"),
    [
        (("--executor", "ray"), "ray_address", 2),
        (("--ray-address", "head:6379"), "ray_address", 2),
        (("--executor", "spark"), "use local or ray", 2),
        (("--executor", "ray", "--ray-address", "127.0.0.1:1"), "no Ray cluster listens", 1),
    ],
)
def test_what_is_wrong_is_told_at_once_in_one_line(texts, given, told, code):
    done = CliRunner().invoke(app, ["analyze", texts, *given, *WORDS])
    assert done.exit_code == code, done.output
    assert told in " ".join(done.output.split())


def test_only_a_cluster_reads_for_the_analyzer():
    assert open_tools("none").readers is None
    assert open_tools("none", 2, executor="ray", ray_address="head:6379").readers is not None
