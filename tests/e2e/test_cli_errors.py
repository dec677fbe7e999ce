"""Bad input gets one clear line that says what to do, a non-zero exit, and leaves nothing half-written."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Ouroscope
from tests.e2e.specs import write_small_spec

pytestmark = pytest.mark.e2e


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of error, after checking that it is one and that no traceback leaks."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_missing_file(ouroscope: Ouroscope) -> None:
    done = ouroscope("analyze", "nowhere.jsonl")
    assert done.returncode == 2
    assert "nowhere.jsonl" in told(done)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.jsonl", b"", "empty"),
        ("binary.txt", bytes(range(256)) * 20, "binary"),
        ("latin.txt", "une phrase d\xe9j\xe0 vue\n".encode("latin-1") * 50, "UTF-8"),
        ("other.jsonl", b'{"body": "no text field here"}\n', "body"),
        ("broken.jsonl", b'{"text": "good"}\n{"text": \n', "2"),
    ],
    ids=["empty", "binary", "invalid UTF-8", "another field", "broken JSON"],
)
def test_a_file_that_cannot_be_read_as_text(
    inside: Ouroscope, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert says in told(inside("analyze", name))


def test_a_single_line_of_50_megabytes(inside: Ouroscope, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_bytes(b"word " * 10_000_000)
    assert "long.txt" in told(inside("analyze", "long.txt"))


def test_a_corpus_of_one_document_has_values_and_no_verdict(inside: Ouroscope, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": "only one document here, with a few words"}) + "\n")
    measured = json.loads(inside("analyze", "one.jsonl", "--json").stdout)
    assert measured["metrics"]["types"]["value"] == 8
    assert measured["metrics"]["types"]["lower"] is None
    compared = json.loads(inside("compare", "one.jsonl", "one.jsonl", "--json").stdout)
    assert compared["verdict"] == "INSUFFICIENT_DATA"


def test_an_unknown_metric_is_answered_with_the_one_that_was_meant(inside: Ouroscope, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a few words\n")
    assert "type_token_ratio" in told(inside("analyze", "a.txt", "--metric", "type_token_ration"))


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "a.txt").write_text("a few words\n")
    return "a.txt"


@pytest.mark.parametrize(
    "wanted", [("vendi_score",), ("heldout_perplexity", "--json"), ("syntactic_nodes", "--parser", "none")]
)
def test_a_metric_that_cannot_be_measured_here_is_a_fault_with_its_reason(
    inside: Ouroscope, text: str, wanted: tuple[str, ...]
) -> None:
    done = inside("analyze", text, "--metric", *wanted)
    assert (done.returncode, done.stdout) == (1, "")
    assert wanted[0] in told(done)


def test_what_can_be_measured_is_and_the_rest_gets_a_note(inside: Ouroscope, text: str) -> None:
    done = inside("analyze", text, "-m", "types", "-m", "vendi_score")
    assert done.returncode == 0
    assert "types" in done.stdout
    assert "vendi_score" in done.stderr


@pytest.mark.parametrize("option", [("--parser", "no_such"), ("--encoder", "./no_such"), ("--metric", "no_such")])
def test_a_wrong_value_of_an_option_is_2(inside: Ouroscope, text: str, option: tuple[str, str]) -> None:
    done = inside("analyze", text, *option)
    assert done.returncode == 2
    assert "no_such" in told(done)


def test_a_taken_name_is_told_before_anything_is_read(inside: Ouroscope, text: str) -> None:
    plain = ("--parser", "none", "-m", "types")
    assert inside("analyze", text, *plain, "--save", "mine").returncode == 0
    done = inside("analyze", "nowhere.jsonl", *plain, "--save", "mine")
    assert done.returncode == 2
    assert "baselines delete mine" in told(done)
    assert "baselines/mine" in inside("baselines", "list").stdout
    assert inside("baselines", "delete", "mine").returncode == 0
    assert json.loads(inside("baselines", "list", "--json").stdout) == {"baselines": []}


def test_an_unknown_baseline_is_told_in_words_of_the_command_line(inside: Ouroscope, text: str) -> None:
    for arguments in (("compare", "baselines/no-such", text), ("baselines", "delete", "no-such")):
        done = inside(*arguments)
        assert done.returncode == 2
        assert "ouroscope baselines list" in told(done)


def test_a_pipe_gets_no_rest_of_a_progress_line(ouroscope: Ouroscope, text: str) -> None:
    done = ouroscope("analyze", text, "--parser", "none", "-m", "types", COLUMNS="20")
    assert done.stderr == ""
    assert "under collapse" in done.stdout


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("arms.replace.protocol=repalce", "replace"),
        ("documents=-3", "documents"),
        ("documents=many", "documents"),
        ("documets=100", "documents"),
        ("sampling.temperature=99", "temperature"),
        ("no-equals-sign", "key=value"),
    ],
)
def test_a_wrong_specification(inside: Ouroscope, home: Path, override: str, says: str) -> None:
    done = inside("run", "--set", override)
    assert done.returncode == 2
    assert says in told(done)
    assert not (home / "store").exists()


def test_several_wrong_values_are_told_at_once(inside: Ouroscope) -> None:
    done = inside("run", "--set", "documents=1", "--set", "generations=0", "--set", "sampling.top_p=7")
    assert "not valid, 3 problems" in told(done)
    assert all(f"--set {field}: " in done.stderr for field in ("documents", "generations", "sampling.top_p"))


def test_an_unknown_model(inside: Ouroscope, tmp_path: Path) -> None:
    done = inside("run", str(write_small_spec(tmp_path)), "--set", "model=ouro-huge")
    assert done.returncode != 0
    assert "ouro-huge" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_run(inside: Ouroscope) -> None:
    assert "no-such-run" in told(inside("runs", "show", "no-such-run")) or "ouroscope run" in told(
        inside("runs", "show", "no-such-run")
    )


def test_a_home_that_cannot_be_written(inside: Ouroscope, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert "OUROSCOPE_HOME" in told(inside("run", OUROSCOPE_HOME=str(tmp_path / "file" / "home")))


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use(ouroscope: Ouroscope, inside: Ouroscope, taken_port: int) -> None:
    assert str(taken_port) in told(inside("run", "--metrics-port", str(taken_port)))
    served = ouroscope("serve", "analyzer", OURO_ANALYZER_ADDRESS=f"127.0.0.1:{taken_port}")
    assert served.returncode != 0
    assert str(taken_port) in served.stderr
    assert "Traceback" not in served.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where this machine lets us mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(inside: Ouroscope, small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "fill").write_bytes(b"0" * 900_000)
    # Words that no compression makes smaller than what is left of the disk.
    words = random.Random(0)
    lines = [json.dumps({"text": " ".join(words.randbytes(8).hex() for _ in range(100))}) for _ in range(500)]
    (tmp_path / "large.jsonl").write_text("\n".join(lines) + "\n")
    done = inside("corpus", "build", "large.jsonl", OUROSCOPE_HOME=str(small_disk / "home"))
    assert "space" in told(done) or "full" in told(done)
    manifests = list((small_disk / "home").rglob("manifest.json"))
    assert manifests == []


def test_help_of_every_command_answers_and_teaches(inside: Ouroscope) -> None:
    for command in (
        "run",
        "analyze",
        "compare",
        "gate",
        "report",
        "serve",
        "runs",
        "monitors",
        "corpus",
        "baselines",
        "models",
    ):
        done = inside(command, "--help")
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) > 5


@pytest.mark.parametrize("command", ["analyze", "compare"])
def test_help_says_what_a_document_is_in_plain_text(inside: Ouroscope, command: str) -> None:
    said = " ".join(inside(command, "--help").stdout.replace("│", " ").split())
    assert "A line of .txt or of piped text is a document" in said


def test_the_embedded_models_are_listed_with_their_cards(inside: Ouroscope) -> None:
    said = inside("models", "list").stdout
    assert all(word in said for word in ("ouro-tiny", "en_ouro_sm", "README.md"))
