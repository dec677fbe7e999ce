"""What a candidate and a generation are named by: files, references, and what their model expects."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from ouroscope.canonical import to_plain
from ouroscope.errors import InvalidRequest, NotFound
from ouroscope.predictions import write_predictions
from ouroscope.records.predictions import NextToken, ScoredText, TextRole
from ouroscope.store import ArtifactStore
from ouroscope_app.expectations import expectations_in, expectations_named
from ouroscope_app.gating.question import Question
from ouroscope_app.gating.there import decide_there
from ouroscope_app.home import Home, is_reference
from ouroscope_app.inputs import inputs_named
from ouroscope_app.monitoring import baseline_named
from ouroscope_app.printable import printable

CORPUS = f"corpus/{'a' * 64}"
NEXT = NextToken(prompt_id="p", cluster="c", top_probabilities=(0.5, 0.25), entropy=1.5)
SCORED = ScoredText(
    document_id="d",
    cluster="c",
    role=TextRole.HELDOUT,
    tokens=4,
    text_bytes=20,
    log_probability=-9.5,
    greedy_tokens=1,
    last_tokens=2,
    last_greedy_tokens=0,
)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "expected.jsonl"
    path.write_text("".join(json.dumps(to_plain(one)) + "\n" for one in (SCORED, NEXT, SCORED)))
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "some words"}\n')
    return path


def test_both_kinds_of_records_are_read_from_one_file_in_their_order(mixed: Path) -> None:
    found = expectations_in(str(mixed))
    assert (list(found.next_tokens), list(found.texts)) == ([NEXT], [SCORED, SCORED])


def test_a_compressed_file_says_the_same(mixed: Path, tmp_path: Path) -> None:
    packed = tmp_path / "expected.jsonl.gz"
    packed.write_bytes(gzip.compress(mixed.read_bytes()))
    assert list(expectations_in(str(packed)).next_tokens) == [NEXT]


def test_stored_predictions_say_the_same(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    found = expectations_named(store, str(write_predictions(store, [NEXT], [SCORED])))
    assert (list(found.next_tokens), list(found.texts)) == ([NEXT], [SCORED])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"text": "no record"}', "neither top_probabilities nor log_probability"),
        ('{"top_probabilities": [0.5], "entropy": -3, "prompt_id": "p", "cluster": "c"}', "entropy"),
        ('{"top_probabilities": [0.5], "entrpy": 3, "prompt_id": "p", "cluster": "c"}', "did you mean entropy"),
        ("not json", "not JSON"),
        ("[1]", "not a JSON object"),
    ],
)
def test_a_wrong_line_is_told_with_its_place(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text(f"{json.dumps(to_plain(NEXT))}\n{line}\n")
    with pytest.raises(InvalidRequest, match=rf"line 2 of .*{says}"):
        list(expectations_in(str(path)).next_tokens)


def test_a_file_that_is_nowhere_is_told_before_anything_is_read() -> None:
    with pytest.raises(NotFound):
        expectations_in("nowhere.jsonl")


def test_files_are_streamed_and_references_are_named(texts: Path, mixed: Path) -> None:
    streamed = inputs_named([str(texts)], str(mixed), "text")
    assert [one.text for one in streamed["documents"]] == ["some words"]
    assert (list(streamed["next_tokens"]), streamed["artifacts"]) == ([NEXT], ())
    named = inputs_named([CORPUS], "", "text")
    assert (list(named["documents"]), [str(one) for one in named["artifacts"]]) == ([], [CORPUS])


def test_files_and_references_are_not_mixed(texts: Path) -> None:
    with pytest.raises(InvalidRequest, match="only one kind"):
        inputs_named([str(texts), CORPUS], "", "text")


def test_a_file_that_has_the_name_of_a_reference_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_reference("corpus/mine.txt")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "mine.txt").write_text("words\n")
    assert not is_reference("corpus/mine.txt")


def test_a_coordinator_is_not_asked_about_a_file_as_baseline(texts: Path) -> None:
    question = Question(baseline=str(texts), candidate=str(texts))
    with pytest.raises(InvalidRequest, match="without --coordinator it is measured here"):
        decide_there(question, "127.0.0.1:1")


def test_an_address_that_is_none_is_refused_before_it_is_tried(texts: Path) -> None:
    with pytest.raises(InvalidRequest, match="host:port"):
        decide_there(Question(baseline="baselines/b", candidate=str(texts)), "nonsense")


def test_a_file_becomes_the_baseline_of_a_monitor_only_in_the_store_of_this_home(texts: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert str(baseline_named(home, "", str(texts), "text").baseline).startswith("corpus/")
    assert baseline_named(home, "", "baselines/mine", "text").name == "baselines/mine"
    assert str(baseline_named(home, "host:1", CORPUS, "text").baseline) == CORPUS
    with pytest.raises(InvalidRequest, match="first generation"):
        baseline_named(home, "host:1", str(texts), "text")


def test_text_of_strangers_is_one_line_that_a_terminal_cannot_obey() -> None:
    said = printable("one\r\ntwo\x1b]0;title\x07 \x9b31m \u202eabc\ud800 \N{WAVING HAND SIGN}")
    assert said.isprintable()
    assert "\N{WAVING HAND SIGN}" in said
    said.encode()


def test_long_text_is_cut_and_the_cut_is_shown() -> None:
    assert printable("x" * 300) == "x" * 200 + "…"
