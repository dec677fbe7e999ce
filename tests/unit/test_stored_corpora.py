from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.canonical import canonical_json, digest_of
from ouroscope.corpora.stored import CorpusDraft, read_corpus, write_corpus
from ouroscope.errors import CorruptArtifact, InvalidRequest, NotFound, StorageFull, Unavailable
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.store import ArtifactStore
from ouroscope.store.tables import decode_table, encode_table

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store" if request.param == "file" else f"memory://{uuid.uuid4().hex}/store")


def some(count: int, start: int = 0) -> list[Document]:
    return [Document(id=f"d{i}", text=f"text {i}", origin=Origin.HUMAN, group=f"g{i % 3}") for i in range(start, count)]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(st.text(max_size=20))
    return Document(
        id=draw(st.text(min_size=1, max_size=5)),
        text=text,
        origin=draw(st.sampled_from(Origin)),
        generation=draw(st.none() | st.integers(0, 2**31 - 1)),
        model_digest=draw(st.none() | st.text(max_size=5)),
        prompt_id=draw(st.none() | st.text(max_size=5)),
        prefix_length=draw(st.integers(0, len(text))),
        group=draw(st.none() | st.text(max_size=5)),
        domain=draw(st.none() | st.text(max_size=5)),
    )


corpora = st.lists(documents(), min_size=1, max_size=8)
in_memory = settings(max_examples=30, deadline=None)


@given(corpus=corpora)
@in_memory
def test_documents_come_back_as_they_went_in(corpus: list[Document]) -> None:
    store = ArtifactStore(f"memory://{uuid.uuid4().hex}")
    assert list(read_corpus(store, write_corpus(store, corpus))) == corpus


@given(corpus=corpora, cuts=st.lists(st.integers(0, 8), max_size=4))
@in_memory
def test_how_a_corpus_was_cut_into_shards_is_not_part_of_its_name(corpus: list[Document], cuts: list[int]) -> None:
    store = ArtifactStore(f"memory://{uuid.uuid4().hex}")
    draft = CorpusDraft(store, "key")
    edges = [0, *sorted(min(cut, len(corpus)) for cut in cuts), len(corpus)]
    shards = [corpus[a:b] for a, b in pairwise(edges) if a < b]
    for index, shard in enumerate(shards):
        draft.add(index, shard)
    assert draft.done == len(shards)
    assert draft.publish() == write_corpus(store, corpus)


@given(corpus=corpora, data=st.data())
@in_memory
def test_another_order_is_another_corpus(corpus: list[Document], data: st.DataObject) -> None:
    store = ArtifactStore(f"memory://{uuid.uuid4().hex}")
    other = data.draw(st.permutations(corpus))
    assert (write_corpus(store, other) == write_corpus(store, corpus)) == (other == corpus)


def test_every_field_is_part_of_the_name(store: ArtifactStore) -> None:
    document = some(1)[0]
    changed = [
        replace(document, id="x"),
        replace(document, text="x"),
        replace(document, origin=Origin.SYNTHETIC),
        replace(document, generation=0),
        replace(document, model_digest="x"),
        replace(document, prompt_id="x"),
        replace(document, prefix_length=1),
        replace(document, group=None),
        replace(document, domain="x"),
    ]
    assert len({write_corpus(store, [d]) for d in [document, *changed]}) == 10


def test_the_name_is_the_digest_of_the_canonical_lines(store: ArtifactStore) -> None:
    lines = "".join(canonical_json(document) + "\n" for document in some(2))
    expected = digest_of("Document", 2, hashlib.sha256(lines.encode()).hexdigest())
    assert write_corpus(store, some(2)) == ArtifactRef(ArtifactKind.CORPUS, expected)


def test_a_corpus_is_kept_in_shards_of_a_thousand(store: ArtifactStore) -> None:
    ref = write_corpus(store, some(2001), summary={"tokens": 7})
    manifest = store.manifest(ref)
    assert sorted(manifest.files) == [f"documents-0000{i}.parquet" for i in range(3)]
    assert manifest.summary == {"documents": 2001, "tokens": 7}
    assert [d.id for d in read_corpus(store, ref)] == [d.id for d in some(2001)]


def test_long_documents_make_short_shards(store: ArtifactStore) -> None:
    ref = write_corpus(store, (Document(id=str(i), text="x" * 3_000_000) for i in range(5)))
    assert len(store.manifest(ref).files) == 2


def test_the_same_documents_are_the_same_bytes() -> None:
    assert encode_table(Document, some(50)) == encode_table(Document, some(50))


def test_an_empty_corpus_is_refused(store: ArtifactStore) -> None:
    for attempt in (lambda: write_corpus(store, []), CorpusDraft(store, "k").publish):
        with pytest.raises(InvalidRequest, match="at least one document"):
            attempt()
    with pytest.raises(InvalidRequest, match="at least one document"):
        CorpusDraft(store, "k").add(0, [])
    assert list(store.list(ArtifactKind.CORPUS)) == []


def test_documents_that_fail_on_the_way_publish_nothing(store: ArtifactStore) -> None:
    def broken() -> Iterator[Document]:
        yield from some(1500)
        raise FileNotFoundError("the source, not the store")

    with pytest.raises(FileNotFoundError, match="the source"):
        write_corpus(store, broken())
    assert list(store.list(ArtifactKind.CORPUS)) == []


def test_text_with_half_a_surrogate_pair_is_refused(store: ArtifactStore) -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        write_corpus(store, [Document(id="a", text="\ud83d")])


def test_only_a_corpus_is_read_as_one(store: ArtifactStore) -> None:
    ref = store.publish(ArtifactKind.MODEL, None, {"a": b"b"})
    with pytest.raises(InvalidRequest, match="must refer to a corpus"):
        read_corpus(store, ref)
    with pytest.raises(NotFound):
        list(read_corpus(store, ArtifactRef(ArtifactKind.CORPUS, "0" * 64)))


# Drafts.


def test_a_draft_goes_on_where_another_process_stopped(store: ArtifactStore) -> None:
    CorpusDraft(store, "key").add(0, some(10))
    draft = CorpusDraft(ArtifactStore(store.url), "key")
    assert (draft.done, draft.has(0), draft.has(1)) == (1, True, False)
    draft.add(draft.done, some(20, 10))
    ref = draft.publish({"tokens": 5})
    assert list(read_corpus(store, ref)) == some(20)
    assert store.manifest(ref).summary == {"documents": 20, "tokens": 5}
    assert CorpusDraft(store, "key").done == 0


def test_shards_may_come_in_any_order_but_count_up_to_the_first_gap(store: ArtifactStore) -> None:
    draft = CorpusDraft(store, "key")
    draft.add(1, some(20, 10))
    assert (draft.done, draft.has(1)) == (0, True)
    draft.add(0, some(10))
    assert draft.done == 2
    assert list(read_corpus(store, draft.publish())) == some(20)


def test_a_draft_that_another_worker_finished_is_never_published_in_part(store: ArtifactStore) -> None:
    mine, theirs = CorpusDraft(store, "key"), CorpusDraft(store, "key")
    mine.add(0, some(10))
    mine.add(1, some(20, 10))
    theirs.publish()
    with pytest.raises(Unavailable, match="repeat the request"):
        mine.publish()
    mine.add(1, some(20, 10))
    with pytest.raises(Unavailable):
        mine.publish()
    assert len(list(store.list(ArtifactKind.CORPUS))) == 1


def test_a_draft_that_does_not_fit_stays(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = CorpusDraft(store, "key")
    draft.add(0, some(10))

    def full(*_: object) -> None:
        raise StorageFull("no room")

    monkeypatch.setattr(store, "publish", full)
    with pytest.raises(StorageFull):
        draft.publish()
    assert CorpusDraft(store, "key").done == 1


# Damage.


def corpus_of_bytes(store: ArtifactStore, data: bytes) -> list[Document]:
    ref = store.publish(ArtifactKind.CORPUS, None, {"documents-00000.parquet": data})
    return list(read_corpus(store, ref))


def table_of(**columns: Any) -> bytes:
    table = pq.read_table(io.BytesIO(encode_table(Document, some(2))))
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        if values is None:
            table = table.remove_column(index)
        elif index < 0:
            table = table.append_column(name, pa.array(values))
        else:
            table = table.set_column(index, pa.field(name, table.schema.field(index).type, False), pa.array(values))
    sink = io.BytesIO()
    pq.write_table(table, sink, store_schema=False)
    return sink.getvalue()


@pytest.mark.parametrize(
    "columns",
    [{"text": None}, {"group": None}, {"strange": [1, 2]}, {"prefix_length": ["a", "b"]}],
    ids=["missing", "missing optional", "unknown", "of another type"],
)
def test_a_table_with_other_columns_is_corrupt(columns: dict[str, Any]) -> None:
    data = table_of(**columns) if "prefix_length" not in columns else _retyped()
    with pytest.raises(CorruptArtifact, match="other columns"):
        list(decode_table(Document, data))


def _retyped() -> bytes:
    table = pq.read_table(io.BytesIO(encode_table(Document, some(2))))
    index = table.schema.get_field_index("prefix_length")
    sink = io.BytesIO()
    pq.write_table(table.set_column(index, "prefix_length", pa.array(["a", "b"])), sink)
    return sink.getvalue()


@pytest.mark.parametrize("columns", [{"origin": ["HUMAN", "ALIEN"]}, {"id": ["a", ""]}, {"prefix_length": [0, 99]}])
def test_an_impossible_document_is_corrupt(store: ArtifactStore, columns: dict[str, Any]) -> None:
    with pytest.raises(CorruptArtifact, match="impossible"):
        corpus_of_bytes(store, table_of(**columns))


@pytest.mark.parametrize("data", [b"", b"not parquet", b"PAR1" * 10])
def test_bytes_that_are_no_table_are_corrupt(store: ArtifactStore, data: bytes) -> None:
    with pytest.raises(CorruptArtifact, match="damaged"):
        corpus_of_bytes(store, data)


# Memory.


def test_ten_times_the_documents_do_not_raise_the_peak(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from ouroscope.corpora.stored import read_corpus, write_corpus
        from ouroscope.records.documents import Document
        from ouroscope.store import ArtifactStore
        store = ArtifactStore(sys.argv[1])
        for count in (3_000, 30_000):
            ref = write_corpus(store, (Document(id=str(i), text=f"{i} " * 400) for i in range(count)))
            assert sum(1 for _ in read_corpus(store, ref)) == count
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    small, large = map(int, done.stdout.split())
    assert large - small < 20 << 10  # KiB; the texts of the larger corpus are over 60 MiB
