"""What a watcher of generations asks of the analyzer: one domain at a time, what moved, where a sequence turned."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from ouroscope.client import AnalyzerClient
from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import CorruptArtifact, InvalidRequest, LimitExceeded, NotFound
from ouroscope.predictions import write_predictions
from ouroscope.records.analysis import AnalyzeCorpus, Compare, Counting, CountingSpec, PastEffects, Report, Verdict
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.predictions import NextToken, ScoredText, TextRole
from services.analyzer.service import start
from services.analyzer.tokens import compose, words
from tests.unit.analyzer.corpora import prose

HEADLINES = ("types", "mattr", "cooccurrence_nodes", "cooccurrence_edges", "top1_probability", "next_token_entropy")


def documents(seed: int = 0, *, domain: str | None = None, loop: str = "") -> list[Document]:
    """Return documents; with `loop`, each ends with the same words."""
    texts = prose(300, 50, seed)
    return [
        Document(id=f"{domain}/{n}", text=f"{text} {loop * 3}", domain=domain, group=f"{domain}/{n}")
        for n, text in enumerate(texts)
    ]


def prompts(top: float = 0.3, *, entropy: float = 2.0, domain: str | None = None) -> list[NextToken]:
    return [
        NextToken(
            prompt_id=f"prompt {n}",
            cluster=str(n),
            top_probabilities=(top, *[(1 - top) / 99] * 99),
            entropy=entropy / (1 + n % 4),
            domain=domain,
        )
        for n in range(40)
    ]


def scored(domain: str) -> list[ScoredText]:
    return [
        ScoredText(
            document_id=str(n),
            cluster=str(n),
            role=TextRole.HELDOUT,
            tokens=10,
            text_bytes=40,
            log_probability=-30.0,
            greedy_tokens=3,
            last_tokens=5,
            last_greedy_tokens=1,
            domain=domain,
        )
        for n in range(40)
    ]


def of(report: Report) -> ArtifactRef:
    assert report.report is not None
    return report.report


@pytest.fixture
async def analyzer(store, connect) -> AsyncIterator[AnalyzerClient]:
    server = await start(store)
    yield AnalyzerClient(connect(server.address))
    await server.stop(grace=0.0)


# Domains


async def test_one_domain_of_a_corpus_is_measured_as_if_it_were_alone(analyzer, store):
    both = write_corpus(store, [*documents(0, domain="wiki"), *documents(1, domain="news")])
    predictions = write_predictions(
        store, [*prompts(0.3, domain="wiki"), *prompts(0.6, domain="news")], [*scored("wiki"), *scored("news")]
    )
    request = AnalyzeCorpus(corpus=both, predictions=predictions, metrics=HEADLINES, domain="news")
    alone = await analyzer.analyze(
        documents(1, domain="news"), prompts(0.6, domain="news"), scored("news"), metrics=HEADLINES
    )
    assert await analyzer.analyze_corpus(request) == alone
    whole = await analyzer.analyze_corpus(replace(request, domain=""))
    assert (alone.documents, alone.prompts, whole.documents, whole.prompts) == (300, 40, 600, 80)


async def test_a_domain_that_is_not_there_is_refused_with_those_that_are(analyzer, store):
    several = [Document(id=str(n), text="a few words", domain=f"domain {n}") for n in range(12)]
    corpus = write_corpus(store, [*several[:3], Document(id="none", text="no domain")])
    with pytest.raises(InvalidRequest, match=r"'mars'; there are 'domain 0', 'domain 1', 'domain 2'$") as refused:
        await analyzer.analyze_corpus(AnalyzeCorpus(corpus=corpus, domain="mars"))
    assert [problem.field for problem in refused.value.problems] == ["domain"]
    with pytest.raises(InvalidRequest, match=r"'domain 9' and more$"):
        await analyzer.analyze_corpus(AnalyzeCorpus(corpus=write_corpus(store, several), domain="mars"))
    with pytest.raises(InvalidRequest, match="no document and no record names a domain"):
        await analyzer.analyze_corpus(AnalyzeCorpus(corpus=write_corpus(store, documents()), domain="mars"))


# The whole corpus


@pytest.mark.parametrize("way", Counting)
async def test_the_whole_of_a_corpus_is_counted_beside_its_sample(analyzer, store, way):
    corpus = write_corpus(store, documents())
    plain = await analyzer.analyze_corpus(AnalyzeCorpus(corpus=corpus, metrics=HEADLINES))
    request = AnalyzeCorpus(corpus=corpus, metrics=HEADLINES, whole_corpus=CountingSpec(counting=way))
    report = await analyzer.analyze_corpus(request)
    whole = report.whole_corpus
    assert whole is not None
    assert replace(report, report=plain.report, whole_corpus=None) == plain
    true = len({word for document in documents() for word in words(compose(document.text))})
    types = whole.distinct[0]
    assert (types.id, types.approximate) == ("types", way is Counting.SKETCH)
    assert types.lower <= true <= types.upper


async def test_more_memory_than_the_server_gives_is_refused_at_once(analyzer, store):
    request = AnalyzeCorpus(corpus=write_corpus(store, documents()), whole_corpus=CountingSpec(memory=2**30))
    with pytest.raises(LimitExceeded, match="268,435,456 bytes here"):
        await analyzer.analyze_corpus(request)


# What moved


async def test_what_a_stream_and_a_store_repeat_is_the_same_and_shown_only_when_asked(analyzer, store):
    texts = documents(loop="round and round it goes ")
    plain = await analyzer.analyze(texts, metrics=HEADLINES)
    shown = await analyzer.analyze(texts, metrics=HEADLINES, repeated_texts=2)
    corpus = write_corpus(store, texts)
    stored = await analyzer.analyze_corpus(AnalyzeCorpus(corpus=corpus, metrics=HEADLINES, repeated_texts=2))
    assert plain.repeated_texts == ()
    assert shown == stored
    assert shown.repeated_texts[0].text == "round and round it goes round and round it goes round and round it goes"
    # Of 10,000 words, the rung, each document has 65; the last one of each of 20 groups may be cut.
    assert 10_000 / 65 - 20 <= shown.repeated_texts[0].clusters <= 162
    with pytest.raises(InvalidRequest, match="repeated_texts must be in"):
        await analyzer.analyze(texts, repeated_texts=51)


async def test_an_explanation_names_concepts_texts_and_prompts_and_leaves_the_verdict_alone(analyzer):
    before = await analyzer.analyze(documents(), prompts(), metrics=HEADLINES)
    after = await analyzer.analyze(
        documents(1, loop="round and round the quokka goes "),
        prompts(0.4, entropy=1.0),
        metrics=HEADLINES,
        drawn_concepts=20,
        repeated_texts=5,
    )
    request = Compare(baseline=of(before), candidate=of(after))
    plain = await analyzer.compare(request)
    told = await analyzer.compare(replace(request, explain=2))
    assert plain.explanation is None
    assert replace(told, explanation=None) == plain
    assert told.explanation is not None
    assert {concept.label for concept in told.explanation.concepts} <= {"round", "quokka", "goes"}
    assert [len(kind) for kind in (told.explanation.concepts, told.explanation.prompts)] == [2, 2]
    assert told.explanation.prompts[0].prompt_id == "prompt 0"
    assert told.explanation.prompts[0].baseline_entropy - told.explanation.prompts[0].candidate_entropy == 1.0
    assert told.explanation.repeated_texts == after.repeated_texts[:2]
    frozen = await analyzer.create_baseline("human", of(before))
    by_name = await analyzer.compare(replace(request, baseline=frozen.baseline, explain=2))
    assert by_name.explanation == told.explanation


async def test_a_mask_asks_for_the_explanation_alone(analyzer):
    report = of(await analyzer.analyze(documents(), prompts(), metrics=HEADLINES, repeated_texts=3))
    told = await analyzer.compare(Compare(baseline=report, candidate=report, explain=3), fields=["explanation"])
    assert told.explanation is not None
    assert told.explanation.concepts == ()
    assert (told.families, told.metrics) == ((), ())


# Sequences


async def test_a_sequence_says_where_it_left_the_human_band(analyzer):
    baseline = of(await analyzer.analyze_predictions(prompts()))
    history: tuple[PastEffects, ...] = ()
    found = []
    for generation, top in enumerate((0.3, 0.9, 0.3)):
        candidate = of(await analyzer.analyze_predictions(prompts(top)))
        told = await analyzer.compare(
            Compare(baseline=baseline, candidate=candidate, history=history, generation=generation)
        )
        history = (*history, PastEffects(generation=generation, families=told.families))
        found.append((told.verdict, told.first_beyond))
    assert found == [(Verdict.STABLE, None), (Verdict.COLLAPSE, 1), (Verdict.STABLE, 1)]
    with pytest.raises(InvalidRequest, match="must end before the candidate"):
        await analyzer.compare(Compare(baseline=baseline, candidate=baseline, history=history, generation=2))


# Sides that cannot be read


@pytest.mark.parametrize("missing", ["baseline", "candidate"])
async def test_who_compares_with_what_is_gone_hears_which_side_it_is(analyzer, store, missing):
    sides = {"baseline": documents(0), "candidate": documents(1)}
    refs = {name: of(await analyzer.analyze(one, metrics=("types",))) for name, one in sides.items()}
    store.delete(refs[missing])
    with pytest.raises(NotFound) as refused:
        await analyzer.compare(Compare(baseline=refs["baseline"], candidate=refs["candidate"]))
    assert refused.value.metadata["side"] == missing
    assert refused.value.metadata["artifact"] == str(refs[missing])


@pytest.mark.parametrize("damaged", ["baseline", "candidate"])
async def test_who_compares_with_what_is_damaged_hears_which_side_it_is(analyzer, store, damaged):
    broken = store.publish(ArtifactKind.REPORT, "0" * 64, {"report.json": b"{", "fingerprints.safetensors": b""})
    report = of(await analyzer.analyze(documents(), metrics=("types",)))
    refs = {"baseline": report, "candidate": report} | {damaged: broken}
    with pytest.raises(CorruptArtifact) as refused:
        await analyzer.compare(Compare(baseline=refs["baseline"], candidate=refs["candidate"]))
    assert refused.value.metadata["side"] == damaged
