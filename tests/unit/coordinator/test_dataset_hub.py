"""Data sets of the Hugging Face Hub, read by the real library from a stand-in that serves hostile ones as well."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ouroscope.corpora import hub
from ouroscope.corpora.hub import HubText, check_hub, hub_documents
from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import CapabilityMissing, InvalidRequest, LimitExceeded, Unavailable
from ouroscope.records.documents import Document
from ouroscope.records.runs import DomainSpec
from ouroscope.store import ArtifactStore
from services.coordinator.dataset import dealing
from tests.servers.hub import DataSets
from tests.servers.running import running

from .domains import quiet, texts_of

pytest.importorskip("datasets", reason="the extra `datasets` is not installed")

COMMIT, OTHER = "a" * 40, "b" * 40
ROWS = [*({"text": f"text number {n}", "label": n} for n in range(30)), {"text": None, "label": 1}, {"text": " "}]


def lines(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as a file of JSON lines."""
    return "\n".join(json.dumps(row) for row in rows).encode()


def table(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as a Parquet file, with a column of bytes that nobody should look at."""
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": [row["text"] for row in rows], "image": [b"\x89PNG"] * len(rows)}), stream)
    return stream.getvalue()


def card(**files: str) -> bytes:
    """Return the card of a data set whose configurations have these files."""
    told = "".join(f"- config_name: {name}\n  data_files: {path}\n" for name, path in files.items())
    return f"---\nconfigs:\n{told}---\n# A data set\n".encode()


def swelling(name: str) -> bytes:
    """Return a card that makes ten million entries of a hundred, by references in YAML."""
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 8))
    return f"---\nl0: &l0 [x]\n{levels}{name}: *l7\n---\n# A data set\n".encode()


HUB = DataSets(
    {
        "good/lines": {
            COMMIT: {"train.jsonl": lines(ROWS), "test.jsonl": lines(ROWS[:5])},
            OTHER: {"train.jsonl": lines([{"text": "of another commit"}])},
        },
        "good/two": {
            COMMIT: {"README.md": card(one="a/*.jsonl", two="b/*.jsonl"), "a/1.jsonl": lines(ROWS), "b/1.jsonl": b"{}"}
        },
        "good/told": {COMMIT: {"train.jsonl": lines([{"text": "a", "gist": "of a"}, {"text": " ", "gist": None}])}},
        "bad/untold": {COMMIT: {"train.jsonl": lines([{"text": "a", "gist": "of a"}, {"text": "b", "gist": " "}])}},
        "good/table": {COMMIT: {"data/train-00000.parquet": table(ROWS[:30])}},
        "bad/program": {COMMIT: {"program.py": b"raise SystemExit", "train.jsonl": lines(ROWS)}},
        "bad/archive": {COMMIT: {"train.tar": b"\0" * 1024}},
        "bad/pickle": {COMMIT: {"train.pkl": b"cos\nsystem\n(S'true'\ntR."}},
        "bad/folder": {COMMIT: {"README.md": card(one="/etc/*.txt"), "train.jsonl": lines(ROWS)}},
        "bad/climbing": {COMMIT: {"README.md": card(one="../../../etc/*.txt"), "train.jsonl": lines(ROWS)}},
        "bad/address": {COMMIT: {"README.md": card(one="{address}/secret.txt"), "train.jsonl": lines(ROWS)}},
        "bad/neighbour": {
            COMMIT: {
                "README.md": card(one=f"hf://datasets/good/lines@{COMMIT}/train.jsonl"),
                "train.jsonl": lines(ROWS),
            }
        },
        "bad/swelling": {COMMIT: {"README.md": swelling("configs"), "train.jsonl": lines(ROWS)}},
        "bad/elsewhere": {COMMIT: {"README.md": swelling("dataset_info"), "train.jsonl": lines(ROWS)}},
        "bad/endless": {COMMIT: {"README.md": b"---\nconfigs: &a [*a]\n---\n", "train.jsonl": lines(ROWS)}},
        "bad/huge": {COMMIT: {"README.md": b"---\n#" + b"x" * (10 << 20), "train.jsonl": lines(ROWS)}},
        "bad/broken": {COMMIT: {"train.jsonl": b"\xff\xfe\x00 not JSON"}},
        "kept/gated": {COMMIT: {"train.jsonl": lines(ROWS)}},
    },
    gated=frozenset({"kept/gated"}),
)

Answers = dict[str, dict[str, Any]]
CASES: Answers = {
    "lines": {"text": {"source": "hf://good/lines"}},
    "first three": {"text": {"source": "hf://good/lines"}, "documents": 3},
    "another split": {"text": {"source": "hf://good/lines", "split": "test"}},
    "another commit": {"text": {"source": "hf://good/lines", "revision": OTHER}},
    "a configuration": {"text": {"source": "hf://good/two", "configuration": "one"}},
    "table": {"text": {"source": "hf://good/table"}},
    "no such split": {"text": {"source": "hf://good/lines", "split": "dev"}},
    "no such configuration": {"text": {"source": "hf://good/two", "configuration": "three"}},
    "no configuration named": {"text": {"source": "hf://good/two"}},
    "no such field": {"text": {"source": "hf://good/lines"}, "text_field": "body"},
    "no such column": {"text": {"source": "hf://good/table"}, "text_field": "body"},
    "told": {"text": {"source": "hf://good/told"}, "summary_field": "gist"},
    "no such summary": {"text": {"source": "hf://good/told"}, "summary_field": "summary"},
    "no summary in a row": {"text": {"source": "hf://bad/untold"}, "summary_field": "gist"},
    "not text": {"text": {"source": "hf://good/lines"}, "text_field": "label"},
    "no such data set": {"text": {"source": "hf://good/nothing"}},
    "no such commit": {"text": {"source": "hf://good/lines", "revision": "c" * 40}},
    "gated": {"text": {"source": "hf://kept/gated"}},
    **{name: {"text": {"source": f"hf://bad/{name}"}} for name in ("program", "archive", "pickle", "broken")},
    **{name: {"text": {"source": f"hf://bad/{name}"}} for name in ("folder", "climbing", "address", "neighbour")},
    **{name: {"text": {"source": f"hf://bad/{name}"}} for name in ("swelling", "elsewhere", "endless", "huge")},
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Read every case, in one process of its own."""
    home = tmp_path_factory.mktemp("hub")
    cases = {name: {**case, "text": {"revision": COMMIT, **case["text"]}} for name, case in CASES.items()}
    with running(HUB.app) as address:
        files = HUB.commits["bad/address"][COMMIT]
        files["README.md"] = files["README.md"].replace(b"{address}", address.encode())  # type: ignore[index]
        settings = {
            "HF_ENDPOINT": address,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        done = subprocess.run(
            [sys.executable, "-m", "tests.unit.coordinator.hub_reader"],
            input=json.dumps(cases),
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    found: Answers = json.loads(done.stdout.rpartition("\n")[2])
    return found


def texts(answers: Answers, case: str) -> list[str]:
    """Return the texts that were read."""
    return [text for _, text in answers[case]["documents"]]


def test_rows_with_text_are_read_in_their_order_and_named_by_their_place(answers: Answers) -> None:
    assert answers["lines"]["documents"] == [[f"good/lines:{n}", f"text number {n}"] for n in range(30)]
    assert texts(answers, "a configuration") == texts(answers, "table") == texts(answers, "lines")


def test_a_summary_is_read_from_the_field_that_is_named_of_rows_with_text(answers: Answers) -> None:
    assert answers["told"]["documents"] == [["good/told:0", "a", "of a"]]


def test_a_split_a_commit_and_a_number_choose_what_is_read(answers: Answers) -> None:
    assert texts(answers, "first three") == texts(answers, "lines")[:3]
    assert texts(answers, "another split") == texts(answers, "lines")[:5]
    assert texts(answers, "another commit") == ["of another commit"]


@pytest.mark.parametrize(
    ("case", "error", "told"),
    [
        ("no such split", "InvalidRequest", "no split 'dev'; it has test, train"),
        ("no such configuration", "InvalidRequest", "no configuration 'three'; name one of one, two"),
        ("no configuration named", "InvalidRequest", "several configurations; name one of one, two"),
        ("no such field", "InvalidRequest", "no field 'body'; its fields are label, text"),
        ("no such column", "InvalidRequest", "no field 'body'; its fields are image, text"),
        ("not text", "InvalidRequest", "the field 'label' of hf://good/lines does not hold text"),
        ("no such summary", "InvalidRequest", "no field 'summary'; its fields are gist, text"),
        ("no summary in a row", "InvalidRequest", "the field 'gist' in row 1 of hf://bad/untold is empty"),
        ("no such data set", "NotFound", "has no data set hf://good/nothing"),
        ("no such commit", "NotFound", f"with the commit {'c' * 40}"),
        ("gated", "PreconditionFailed", "set HF_TOKEN for the coordinator"),
        ("broken", "InvalidRequest", "cannot be read as a table of texts"),
        ("program", "InvalidRequest", "cannot be read as a table of texts"),
        ("pickle", "InvalidRequest", "cannot be read as a table of texts"),
        ("archive", "UntrustedArtifact", "files of the kind 'webdataset'"),
        ("folder", "UntrustedArtifact", "files that are not its own"),
        ("climbing", "UntrustedArtifact", "files that are not its own"),
        ("address", "UntrustedArtifact", "files that are not its own"),
        ("neighbour", "UntrustedArtifact", "files that are not its own"),
        ("swelling", "UntrustedArtifact", "a card of over 200,000 entries"),
        ("elsewhere", "UntrustedArtifact", "a card of over 200,000 entries"),
        ("endless", "UntrustedArtifact", "a card of over 200,000 entries"),
        ("huge", "UntrustedArtifact", "a card of over 10 MiB"),
    ],
)
def test_what_cannot_or_must_not_be_read_is_told(case: str, error: str, told: str, answers: Answers) -> None:
    assert answers[case].get("error") == error
    assert told in answers[case]["message"]


def test_no_card_makes_the_coordinator_ask_for_an_address_of_its_choice(answers: Answers) -> None:
    assert "address" in answers
    assert "/secret.txt" not in HUB.elsewhere


@pytest.mark.parametrize("revision", ["", "main", "v1.0", "A" * 40, "a" * 39, "refs/convert/parquet"])
def test_what_is_no_commit_is_refused_and_where_to_find_one_is_told(revision: str) -> None:
    with pytest.raises(InvalidRequest, match=r"HfApi\(\).dataset_info\('good/lines'\).sha"):
        check_hub(HubText(source="hf://good/lines", revision=revision))


@pytest.mark.parametrize(
    "source", ["hf://", "hf://name", "hf://a/b/c", "hf://../b", "hf://a/..", "hf://a/b@main", "hf://a/b?x=1"]
)
def test_what_is_no_name_of_a_data_set_is_refused(source: str) -> None:
    with pytest.raises(InvalidRequest, match="write hf://OWNER/NAME"):
        check_hub(HubText(source=source, revision=COMMIT))


def test_a_request_is_checked_without_loading_the_library() -> None:
    """It takes seconds, and a coordinator answers others meanwhile."""
    code = (
        "import sys; from ouroscope.corpora.hub import HubText, check_hub;"
        f"check_hub(HubText(source='hf://a/b', revision={COMMIT!r})); sys.exit('datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_library_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(hub, "version", absent)
    with pytest.raises(CapabilityMissing, match=r"pip install 'ouroscope\[datasets\]'"):
        check_hub(HubText(source="hf://good/lines", revision=COMMIT))


def test_a_library_that_would_run_programs_of_a_data_set_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "version", lambda _: "3.6.0")
    with pytest.raises(CapabilityMissing, match="runs programs"):
        check_hub(HubText(source="hf://good/lines", revision=COMMIT))


def test_a_hub_that_cannot_be_reached_is_told_as_such() -> None:
    """Tests have no network, as the library is told."""
    with pytest.raises(Unavailable, match="cannot be reached"):
        next(hub_documents(HubText(source="hf://good/lines", revision=COMMIT)))


def given(monkeypatch: pytest.MonkeyPatch, found: list[str]) -> HubText:
    """Let a data set have these texts, without a Hub."""
    monkeypatch.setattr(hub, "_rows", lambda text, fields: iter([{fields[0]: one} for one in found]))
    return HubText(source="hf://good/lines", revision=COMMIT)


def test_a_data_set_of_unknown_size_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MOST_DOCUMENTS", 5)
    text = given(monkeypatch, ["a text"] * 9)
    assert [len(list(hub_documents(text, documents=count))) for count in (0, 3, 8)] == [5, 3, 8]


def test_more_text_than_fits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MOST_BYTES", 100)
    assert len(list(hub_documents(given(monkeypatch, ["x" * 50] * 2)))) == 2
    with pytest.raises(LimitExceeded, match="lower documents"):
        list(hub_documents(given(monkeypatch, ["x" * 50] * 3)))


def test_what_a_commit_pins_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[DomainSpec] = []

    def documents_of(domain: DomainSpec, _: object) -> list[Document]:
        read.append(domain)
        return [Document(id=str(n), text=text) for n, text in enumerate(texts_of(1, 100))]

    monkeypatch.setattr(dealing, "documents_of", documents_of)
    store = ArtifactStore(str(tmp_path))
    domain = DomainSpec(name="a", source="hf://good/lines", revision=COMMIT)
    first, again = dealing.parts_of(store, domain, quiet), dealing.parts_of(store, domain, quiet)
    assert first == again
    assert len(read) == 1
    other = DomainSpec(name="a", source="hf://good/lines", revision=OTHER)
    dealing.parts_of(store, other, quiet)
    assert len(read) == 2
    assert {one.domain for one in read_corpus(store, first.prompts)} == {"a"}
