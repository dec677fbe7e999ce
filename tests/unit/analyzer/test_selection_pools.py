"""Selection over stored corpora: what each rule looks at in a document, what is written, what is refused."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ouroscope.canonical import canonical_json
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import Cancelled, InvalidRequest, LimitExceeded, NotFound, PreconditionFailed
from ouroscope.predictions import write_detections, write_predictions
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.records.predictions import Detection, ScoredText, TextRole
from ouroscope.records.selection import (
    SelectDocuments,
    Selected,
    SelectionOrder,
    SelectionRule,
    SelectionSource,
    SelectionSpec,
)
from ouroscope.store import ArtifactStore
from services.analyzer import tokens
from services.analyzer.selection import copies, known
from services.analyzer.selection.selecting import check_known, select_documents
from services.analyzer.watch import Watch


def human(number: int, text: str = "", **changes: Any) -> Document:
    return Document(id=f"h{number}", text=text or f"people wrote text {number}", origin=Origin.HUMAN, **changes)


def synthetic(number: int, text: str = "", **changes: Any) -> Document:
    given = {"generation": 1, "prompt_id": f"h{number}", **changes}
    return Document(id=f"h{number}~1", text=text or f"machines wrote {number}", origin=Origin.SYNTHETIC, **given)


def scored(id: str, *log_probabilities: float, role: TextRole = TextRole.DOCUMENT) -> ScoredText:
    total = sum(log_probabilities)
    return ScoredText(
        document_id=id, cluster=id, role=role, tokens=len(log_probabilities), text_bytes=9, log_probability=total
    )


@pytest.fixture
def store() -> ArtifactStore:
    return ArtifactStore(f"memory://{uuid.uuid4().hex}")


Select = Callable[..., Selected]


@pytest.fixture
def select(store: ArtifactStore) -> Select:
    """Select from corpora, given as documents or with what is known of them."""

    def run(*pools: Sequence[Document] | SelectionSource, documents: int = 0, seed: int = 0, **spec: Any) -> Selected:
        sources = tuple(
            one if isinstance(one, SelectionSource) else SelectionSource(corpus=write_corpus(store, one))
            for one in pools
        )
        asked = SelectDocuments(sources=sources, selection=SelectionSpec(**spec), documents=documents, seed=seed)
        return select_documents(store, asked, Watch())

    return run


@pytest.fixture
def ids(store: ArtifactStore) -> Callable[[Selected], list[str]]:
    return lambda selected: [document.id for document in read_corpus(store, selected.corpus)]


def test_neither_the_order_of_corpora_nor_their_cut_changes_a_draw(store, select):
    pool = [*map(human, range(30)), *map(synthetic, range(30))]
    whole = select(pool, documents=20, seed=7)
    sharded = select(pool[40:], pool[:25], pool[25:40], documents=20, seed=7)
    as_set = [{canonical_json(one) for one in read_corpus(store, got.corpus)} for got in (whole, sharded)]
    assert as_set[0] == as_set[1]
    assert (whole.pool, whole.chosen) == (sharded.pool, sharded.chosen)
    assert len(as_set[0]) == 20


def test_another_seed_is_another_draw(select, ids):
    pool = list(map(human, range(40)))
    assert ids(select(pool, documents=20, seed=1)) != ids(select(pool, documents=20, seed=2))


def test_the_same_request_gives_the_same_corpus(select):
    pool = list(map(human, range(40)))
    assert select(pool, documents=20) == select(pool, documents=20)


def test_equal_documents_of_several_corpora_count_each_and_get_names_of_their_own(select, ids):
    pool = list(map(human, range(3)))
    assert ids(select(pool, pool)) == ["h0", "h1", "h2", "h0#2", "h1#2", "h2#2"]
    assert ids(select([human(0)], [replace(human(1), id="h0#2")], [human(0)])) == ["h0", "h0#2", "h0#3"]


def test_documents_of_one_id_and_different_text_are_different_documents(store, select):
    one, other = human(1, "first text"), human(1, "second text")
    texts = {
        next(read_corpus(store, select([a], [b], documents=1, seed=3).corpus)).text
        for a, b in ((one, other), (other, one))
    }
    assert len(texts) == 1


def test_what_is_written_keeps_its_provenance_and_the_order_of_the_sources(store, select):
    pool = [*map(synthetic, range(20)), *map(human, range(20))]
    written = list(read_corpus(store, select(pool, documents=25).corpus))
    assert written == [one for one in pool if one in written]
    assert len(written) == 25


def test_a_pool_that_has_fewer_gives_all(select):
    got = select(list(map(human, range(3))), documents=10)
    assert got.chosen == got.pool
    assert got.chosen.documents == 3


def test_human_free_leaves_no_human_document_in_the_pool(store, select):
    got = select(list(map(human, range(20))), list(map(synthetic, range(5))), human_free=True, documents=4)
    assert all(one.origin is Origin.SYNTHETIC for one in read_corpus(store, got.corpus))
    assert (got.pool.documents, got.pool.human_share, got.chosen.documents) == (5, 0.0, 4)


def test_a_pool_that_human_free_empties_is_told(select):
    with pytest.raises(PreconditionFailed, match="human_free left no document"):
        select([human(0)], human_free=True)


def test_human_free_is_not_guessed(select):
    with pytest.raises(PreconditionFailed, match="who wrote"):
        select([Document(id="a", text="whoever")], human_free=True)


def test_surplexity_is_the_perplexity_of_the_written_part(store, select, ids):
    pool = [synthetic(n) for n in range(4)]
    # Probabilities 1/2, 1/4, 1/8 have the perplexity 4; 1/2, 1/2 have 2; 1/10 has 10; 1 has 1.
    texts = [
        scored("h0~1", -0.6931471805599453, -1.3862943611198906, -2.0794415416798357),
        scored("h1~1", -0.6931471805599453, -0.6931471805599453),
        scored("h2~1", -2.302585092994046),
        scored("h3~1", 0.0),
        scored("h3~1", -9.0, role=TextRole.HELDOUT),
    ]
    source = SelectionSource(corpus=write_corpus(store, pool), predictions=write_predictions(store, (), texts))
    high = select(source, rule=SelectionRule.SURPLEXITY, documents=2)
    low = select(source, rule=SelectionRule.SURPLEXITY, order=SelectionOrder.LOWEST, documents=2)
    assert (ids(high), ids(low)) == (["h0~1", "h2~1"], ["h1~1", "h3~1"])
    assert high.pool.surplexity == pytest.approx((1.15, 1.75, 3.0, 5.5, 9.1))
    assert high.chosen.surplexity[2] == pytest.approx(7.0)
    # Where it is known it is told, whatever the rule.
    assert select(source).pool == high.pool


def test_surplexity_of_a_document_that_was_not_scored_is_an_error_unless_nothing_was_written(store, select, ids):
    predictions = write_predictions(store, (), [scored("h0~1", -1.0)])
    empty = synthetic(1, "only the real beginning", prefix_length=23)
    fine = SelectionSource(corpus=write_corpus(store, [synthetic(0), empty]), predictions=predictions)
    lacking = SelectionSource(corpus=write_corpus(store, [synthetic(0), synthetic(1)]), predictions=predictions)
    assert ids(select(fine, rule=SelectionRule.SURPLEXITY)) == ["h0~1"]
    with pytest.raises(PreconditionFailed, match="one has none"):
        select(lacking, rule=SelectionRule.SURPLEXITY)


def test_a_text_that_the_model_holds_impossible_has_a_finite_surplexity():
    assert known.surplexity(scored("a", -1e9)) == pytest.approx(1.0142320547350045e304)


def test_text_entropy_looks_at_the_written_part_and_sees_loops(select, ids):
    rich, poor = "one two three four five six seven eight", "a a b a c a b d"
    loop = "the church is a " * 20
    # 1, .5833 and .316; the prefix would turn them round.
    pool = [
        synthetic(0, loop),
        synthetic(1, poor),
        synthetic(2, loop + rich, prefix_length=len(loop)),
        synthetic(3, "x"),
    ]
    ranked = [ids(select(pool, rule=SelectionRule.TEXT_ENTROPY, documents=n)) for n in (1, 2, 3, 4)]
    assert ranked == [["h2~1"], ["h1~1", "h2~1"], ["h0~1", "h1~1", "h2~1"], ["h0~1", "h1~1", "h2~1"]]


def test_the_entropy_rate_sees_what_repeats(select, ids):
    # "a b a b": .6945 nats by hand; all words different: ln 2 to ln 5 in the mean, so higher.
    pool = [synthetic(0, "a b a b"), synthetic(1, "a b c d"), synthetic(2, "a a a a"), synthetic(3, "!!!")]
    assert ids(select(pool, rule=SelectionRule.ENTROPY_RATE, documents=1)) == ["h1~1"]
    assert ids(select(pool, rule=SelectionRule.ENTROPY_RATE, documents=2)) == ["h0~1", "h1~1"]
    assert ids(select(pool, rule=SelectionRule.ENTROPY_RATE)) == ["h0~1", "h1~1", "h2~1"]


def runs_of(text: str) -> set[tuple[str, ...]]:
    words = tokens.words(text)
    return {tuple(words[n : n + 5]) for n in range(max(1, len(words) - 4))}


def firsts_of(texts: Sequence[str], threshold: float) -> list[int]:
    """Return the first text of each cluster, by comparing all with all."""
    sets = [runs_of(text) for text in texts]
    home = list(range(len(texts)))
    for a in range(len(texts)):
        for b in range(a):
            if home[a] != home[b] and len(sets[a] & sets[b]) >= threshold * len(sets[a] | sets[b]):
                home = [min(home[a], home[b]) if one in (home[a], home[b]) else one for one in home]
    return sorted(set(home))


@pytest.mark.parametrize("threshold", [0.4, 0.6, 0.8, 0.95, 1.0])
def test_of_each_cluster_of_near_copies_the_first_stays(select, ids, threshold):
    rng = random.Random(4)
    bases = [[f"w{rng.randrange(200)}" for _ in range(60)] for _ in range(8)]
    texts = []
    for _ in range(120):
        words = list(rng.choice(bases))
        for _ in range(rng.randrange(8)):
            words[rng.randrange(60)] = f"w{rng.randrange(200)}"
        texts.append(" ".join(words))
    expected = [f"h{n}~1" for n in firsts_of(texts, threshold)]
    pool = [synthetic(n, text) for n, text in enumerate(texts)]
    assert ids(select(pool, rule=SelectionRule.NEAR_DUPLICATES, threshold=threshold)) == expected
    assert 8 <= len(expected) <= 120


def test_copies_are_told_by_what_was_written_not_by_the_prompt(select, ids):
    start = "the same real beginning of every document here "
    same, other = "and the same end of it all", "but quite another end is this"
    pool = [synthetic(n, start + end, prefix_length=len(start)) for n, end in enumerate((same, other, same))]
    assert ids(select(pool, rule=SelectionRule.NEAR_DUPLICATES)) == ["h0~1", "h1~1"]


def test_documents_without_words_are_copies_of_each_other(select, ids):
    pool = [synthetic(0, "..."), synthetic(1, "a word or two"), synthetic(2, "???")]
    assert ids(select(pool, rule=SelectionRule.NEAR_DUPLICATES)) == ["h0~1", "h1~1"]
    assert ids(select(pool[:1], rule=SelectionRule.NEAR_DUPLICATES)) == ["h0~1"]


def test_a_detector_resamples_more_documents_than_there_are(store, select, ids):
    pool = [synthetic(n) for n in range(40)]
    says = write_detections(store, [Detection(document_id=one.id, probability=0.3) for one in pool])
    source = SelectionSource(corpus=write_corpus(store, pool), detections=says)
    got = select(source, rule=SelectionRule.DETECTOR, scorer="some/detector", documents=60)
    names = ids(got)
    assert (len(names), len(set(names)), got.chosen.documents) == (60, 60, 60)
    assert {name.partition("#")[0] for name in names} < {one.id for one in pool}
    assert not any(name.endswith("#4") for name in names)


def test_a_detector_without_a_number_draws_as_many_as_there_are(select, ids):
    pool = [*map(human, range(5)), *map(synthetic, range(5))]
    got = select(pool, rule=SelectionRule.DETECTOR)
    assert got.chosen.documents == 10
    assert got.chosen.human_share == 1.0


def test_a_detector_has_to_have_seen_every_text(store, select):
    says = write_detections(store, [Detection(document_id="h0~1", probability=0.3)])
    source = SelectionSource(corpus=write_corpus(store, [synthetic(0), synthetic(1)]), detections=says)
    with pytest.raises(PreconditionFailed, match="one has none"):
        select(source, rule=SelectionRule.DETECTOR, scorer="some/detector")
    with pytest.raises(InvalidRequest, match=r"sources\[0\].detections"):
        check_known(
            SelectDocuments(
                sources=(SelectionSource(corpus=source.corpus),),
                selection=SelectionSpec(rule=SelectionRule.DETECTOR, scorer="some/detector"),
            )
        )


def test_a_detector_that_rejects_everything_is_told(select):
    with pytest.raises(PreconditionFailed, match="DETECTOR left none of the 2 documents"):
        select([synthetic(0), synthetic(1)], rule=SelectionRule.DETECTOR)
    with pytest.raises(PreconditionFailed, match="who wrote"):
        select([Document(id="a", text="whoever")], rule=SelectionRule.DETECTOR)


def test_a_verifier_keeps_what_is_nearest_to_the_real_continuation(store, select, ids):
    start = "once upon a time "
    windows = [
        human(n, f"{start}the cat sat on mat {n}", prefix_length=len(start), prompt_id=f"h{n}") for n in range(4)
    ]
    # Unigram F1 against 6 real words: 1, 8/11, 4/11 and 0.
    ends = ("The CAT sat on mat 0", "the cat sat on it", "on a sunny mat day", "nothing is alike here")
    pool = [synthetic(n, start + end, prefix_length=len(start)) for n, end in enumerate(ends)]
    source = SelectionSource(corpus=write_corpus(store, pool), reference=write_corpus(store, windows))
    for share, kept in ((0.25, 1), (0.5, 2), (0.75, 3)):
        got = select(source, [human(9)], rule=SelectionRule.VERIFIER, right_share=share)
        assert ids(got) == [*(f"h{n}~1" for n in range(kept)), "h9"]
    wrong = select(source, rule=SelectionRule.VERIFIER, right_share=0.5, keep_right=0.0, keep_wrong=1.0)
    assert ids(wrong) == ["h2~1", "h3~1"]


def test_a_verifier_has_to_know_the_real_continuation(store, select):
    corpus = write_corpus(store, [synthetic(0)])
    other = write_corpus(store, [human(5)])
    for source in (SelectionSource(corpus=corpus), SelectionSource(corpus=corpus, reference=other)):
        with pytest.raises(PreconditionFailed, match="real continuation"):
            select(source, rule=SelectionRule.VERIFIER)


def test_a_verifier_that_happens_to_keep_nothing_is_told(select):
    with pytest.raises(PreconditionFailed, match="VERIFIER left none"):
        select([human(0)], rule=SelectionRule.VERIFIER, keep_right=0.0, keep_wrong=1.0)


@pytest.mark.parametrize(
    "rule",
    [SelectionRule.RANDOM, SelectionRule.TEXT_ENTROPY, SelectionRule.ENTROPY_RATE, SelectionRule.NEAR_DUPLICATES],
)
def test_hostile_text_is_text(select, rule):
    odd = ["\x00\x00", "\u202e\u0301" * 50, "=1+1|{{x}}" * 500, "👩‍👩‍👧‍👦" * 99, "x" * 200_000, "a " * 20_000, "\n"]
    pool = [synthetic(n, text) for n, text in enumerate([*odd, "plain text is here as well"])]
    assert select(pool, rule=rule, documents=4).chosen.documents >= 1


def test_what_is_too_large_is_refused_before_it_is_held(store, select, monkeypatch):
    corpus = SelectionSource(corpus=write_corpus(store, list(map(human, range(5)))))
    monkeypatch.setattr(known, "MOST_DOCUMENTS", 4)
    with pytest.raises(LimitExceeded, match="4 documents at most"):
        select(corpus)
    monkeypatch.setattr(known, "MOST_DOCUMENTS", 5)
    monkeypatch.setattr(copies, "MOST_WORDS", 10)
    with pytest.raises(LimitExceeded, match="10 words at most"):
        select(corpus, rule=SelectionRule.NEAR_DUPLICATES)
    monkeypatch.setattr(known, "MOST_REFERENCE_WORDS", 10)
    with pytest.raises(LimitExceeded, match="10 words at most"):
        select(replace(corpus, reference=corpus.corpus), rule=SelectionRule.VERIFIER)


@pytest.mark.parametrize("stage", ["reading", "writing"])
def test_work_that_is_stopped_publishes_nothing(store, stage):
    corpus = write_corpus(store, list(map(human, range(600))))
    stages: list[str] = []

    def check() -> None:
        if stages.count(stage) == 2:
            raise Cancelled("stopped")

    asked = SelectDocuments(sources=(SelectionSource(corpus=corpus),), selection=SelectionSpec(), documents=100)
    with pytest.raises(Cancelled):
        select_documents(store, asked, Watch(lambda progress: stages.append(progress.stage), check))
    assert set(store.list(ArtifactKind.CORPUS)) == {corpus}


def test_a_corpus_that_is_not_there_is_told(select):
    with pytest.raises(NotFound):
        select(SelectionSource(corpus=ArtifactRef(ArtifactKind.CORPUS, "0" * 64)))
