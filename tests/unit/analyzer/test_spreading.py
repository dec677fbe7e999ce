"""A corpus read shard by shard gives the bits of one that is read at once, and finished shards are not read again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest
from hypothesis import given, settings

from ouroscope.corpora.readers import read_documents
from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import Cancelled, CorruptArtifact, InvalidRequest, NotFound, PreconditionFailed, Unavailable
from ouroscope.executor import InProcess
from ouroscope.records.analysis import Counting as Way
from ouroscope.records.analysis import CountingSpec
from ouroscope.records.documents import Document, View
from ouroscope.store import ArtifactStore
from services.analyzer.analysis import Options, analyze_side
from services.analyzer.distinct import EXACT_LIMIT
from services.analyzer.folded import Folded
from services.analyzer.reading import Chosen
from services.analyzer.sample import Accumulator
from services.analyzer.spreading import corpus as spreading
from services.analyzer.spreading.corpus import MERGED_AT_ONCE, SpreadCorpus
from services.analyzer.spreading.parts import Part, decode, encode
from services.analyzer.spreading.shards import StoredShard, file_shards, stored_shards
from services.analyzer.watch import Watch
from tests.unit.analyzer.corpora import corpora, prose

WORDS = ("types", "mattr", "token_entropy")


class Counting(InProcess):
    """Does the work here, counts how often each function was asked for, and may fail before an item."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.done: dict[str, int] = {}
        self.fail_at = fail_at

    def map(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Generator[Any]:
        for number, answer in enumerate(super().map(work, items)):
            if number == self.fail_at:
                raise Unavailable("the cluster was lost")
            self.done[work.func.__name__] = self.done.get(work.func.__name__, 0) + 1
            yield answer


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def few_records(monkeypatch):
    """Shards of ten documents."""
    monkeypatch.setattr("ouroscope.store.sequences.SHARD_RECORDS", 10)


def documents(count: int = 200, domains: tuple[str | None, ...] = (None,)) -> list[Document]:
    named = itertools.cycle(domains)
    return [
        Document(id=f"d{number}", text=text, domain=next(named), group=f"g{number // 2}", prefix_length=3)
        for number, text in enumerate(prose(count, 30, seed=5))
    ]


def spread(store: ArtifactStore, found: list[Document], executor: Any = None) -> SpreadCorpus:
    ref = write_corpus(store, found)
    return SpreadCorpus(store, stored_shards(store, ref), executor or InProcess(), "request")


def part(text: Accumulator, others: tuple[str, ...] = ()) -> Part:
    return Part(Folded(text), True, others)


def again(text: Accumulator) -> Accumulator:
    """Return what is read of what was written."""
    return decode(encode(part(text))).folded.text


def same(one: Accumulator, other: Accumulator) -> bool:
    return encode(part(one)) == encode(part(other))


@settings(max_examples=25)
@given(corpora())
def test_a_part_that_was_written_and_read_is_the_same_part(found):
    text = Accumulator().fold_all(found)
    read = decode(encode(part(text, ("news",))))
    assert same(read.folded.text, text)
    assert (read.found, read.others) == (True, ("news",))
    one, other = read.folded.text.finalise(), text.finalise()
    assert (one.texts, one.words_N.tolist(), one.clusters) == (other.texts, other.words_N.tolist(), other.clusters)


@settings(max_examples=25)
@given(corpora(), corpora())
def test_merging_parts_that_were_written_is_folding_all(first, second):
    one, other = (again(Accumulator().fold_all(each)) for each in (first, second))
    assert same(one.merge(other), Accumulator().fold_all([*second, *first]))


def test_more_clusters_than_are_counted_exactly_are_estimated_alike():
    one, other = Accumulator(), Accumulator()
    for number in range(EXACT_LIMIT + 500):
        (one if number % 2 else other).fold(Document(id=f"d{number}", text="", group=f"g{number}"))
    whole = again(one).merge(again(other)).finalise()
    assert whole.clusters == one.merge(other).finalise().clusters > EXACT_LIMIT


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no parquet at all, but long enough to look like something"])
def test_bytes_that_are_no_part_are_damage(data):
    with pytest.raises(CorruptArtifact):
        decode(data)


@pytest.mark.parametrize("view", View)
def test_a_corpus_read_shard_by_shard_gives_the_same_report(store, few_records, view):
    found = documents()
    options = Options(metrics=WORDS, view=view)
    corpus = spread(store, found, executor := Counting())
    assert len(corpus.shards) == 20
    assert analyze_side(corpus, options=options).report == analyze_side(found, options=options).report
    # Twenty leaves become three parts, and these one.
    assert executor.done == {"fold_shard": 20, "merge_parts": 4}
    assert len(corpus.shards) > MERGED_AT_ONCE


@pytest.mark.parametrize("way", Way)
def test_a_corpus_counted_shard_by_shard_has_the_counts_of_one_that_is_read_at_once(store, few_records, way):
    found = documents()
    options = Options(metrics=WORDS, whole_corpus=CountingSpec(counting=way))
    here = analyze_side(found, options=options).report
    assert here.whole_corpus is not None
    assert here.whole_corpus.counting is way
    # As long as no table of frequent words is full, sketches have equal bits too.
    assert analyze_side(spread(store, found), options=options).report == here


@pytest.mark.parametrize("way", Way)
def test_damaged_counts_of_a_part_are_damage(way):
    counted = Folded.empty(View.WHOLE, CountingSpec(counting=way)).fold_all(documents(5))
    assert counted.whole is not None
    state = {name: data[: len(data) // 2] for name, data in counted.whole.state().items()}
    counted.whole.state = lambda: state  # type: ignore[method-assign]
    with pytest.raises(CorruptArtifact):
        decode(encode(Part(counted, True, ())))


def test_one_domain_of_all_shards_is_measured_and_the_others_are_told(store, few_records):
    found = documents(40, domains=("news", "wiki", None))
    options = Options(metrics=WORDS)
    corpus = spread(store, found)
    here = analyze_side(found, options=options, domain="wiki").report
    assert analyze_side(corpus, options=options, domain="wiki").report == here
    with pytest.raises(InvalidRequest) as told:
        analyze_side(corpus, options=options, domain="blogs")
    with pytest.raises(InvalidRequest) as told_here:
        analyze_side(found, options=options, domain="blogs")
    assert str(told.value) == str(told_here.value)


@pytest.mark.parametrize("fail_at", [0, 7, 19])
def test_work_that_is_asked_for_again_reads_only_what_was_not_finished(store, few_records, monkeypatch, fail_at):
    found = documents()
    read: list[str] = []
    reads = StoredShard.documents
    monkeypatch.setattr(StoredShard, "documents", lambda shard, at: read.append(shard.name) or reads(shard, at))
    with pytest.raises(Unavailable):
        analyze_side(spread(store, found, Counting(fail_at)), options=Options(metrics=WORDS))
    finished = len(read)
    corpus = spread(store, found)
    report = analyze_side(corpus, options=Options(metrics=WORDS)).report
    assert report == analyze_side(found, options=Options(metrics=WORDS)).report
    assert (corpus.done, len(read)) == (finished, 20)
    assert len(set(read)) == 20


def test_nothing_is_left_in_the_store_but_the_corpus(store, few_records, tmp_path):
    analyze_side(spread(store, documents()), options=Options(metrics=WORDS))
    assert not list((tmp_path / "store" / "drafts").glob("*/*"))


def test_who_stops_the_work_stops_it_between_two_shards(store, few_records):
    executor, calls = Counting(), itertools.count()

    def check() -> None:
        if next(calls) == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        spread(store, documents(), executor).fold(View.WHOLE, Chosen(""), Watch(check=check))
    assert executor.done == {"fold_shard": 4}


def test_a_draft_that_another_has_discarded_is_asked_for_again(store, few_records, monkeypatch):
    corpus = spread(store, documents())
    merge = spreading.merge_parts

    def discarded(place: spreading.Place, names: Any) -> str:
        store.draft(place.draft).discard()
        return merge(place, names)

    monkeypatch.setattr(spreading, "merge_parts", discarded)
    with pytest.raises(Unavailable, match="repeat the request"):
        corpus.fold(View.WHOLE, Chosen(""), Watch())


def test_files_of_a_directory_are_shards_and_read_as_the_directory_is(store, tmp_path):
    folder = tmp_path / "texts"
    (folder / "below").mkdir(parents=True)
    for number, text in enumerate(prose(30, 40, seed=2)):
        (folder / "below" / f"{number}.txt").write_text(f"{text}\n{text[:50]}")
    (folder / "empty.txt").write_text("")
    (folder / "rows.jsonl").write_text('{"text": "a few words"}\n{"text": "and some more"}\n')
    shards = file_shards(str(folder), "text")
    assert len(shards) == 32
    found = SpreadCorpus(store, shards, InProcess(), "request").fold(View.WHOLE, Chosen(""), Watch())
    assert same(found.text, Accumulator().fold_all(read_documents(folder)))


def test_a_file_that_changed_is_read_again(store, tmp_path):
    file = tmp_path / "rows.txt"
    file.write_text("one line\n")
    before = file_shards(str(file), "text")[0].digest()
    file.write_text("another line\n")
    assert file_shards(str(file), "text")[0].digest() != before


def test_what_workers_cannot_see_is_told_before_and_while_they_work(store, tmp_path):
    with pytest.raises(InvalidRequest, match="standard input"):
        file_shards("-", "text")
    with pytest.raises(NotFound):
        file_shards(str(tmp_path / "nowhere.txt"), "text")
    with pytest.raises(PreconditionFailed, match="memory"):
        spread(ArtifactStore("memory://spread"), documents()).fold(View.WHOLE, Chosen(""), Watch())
    elsewhere = spread(store, documents())
    lost = SpreadCorpus(ArtifactStore(tmp_path / "other"), elsewhere.shards, InProcess(), "request")
    with pytest.raises(PreconditionFailed, match="same one"):
        lost.fold(View.WHOLE, Chosen(""), Watch())
    gone = tmp_path / "gone.txt"
    gone.write_text("words")
    shards = file_shards(str(gone), "text")
    gone.unlink()
    with pytest.raises(PreconditionFailed, match=r"gone\.txt"):
        SpreadCorpus(store, shards, InProcess(), "request").fold(View.WHOLE, Chosen(""), Watch())
