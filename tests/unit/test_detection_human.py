"""How human sequences are drawn: nothing leaks between halves, decks and sides, rungs are full. No corpus is needed."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.detection.human import Bench, fills, sequences
from benchmarks.detection.kinds import KINDS, LARGE, SMALL, Kind, Plan, can, plans
from benchmarks.detection.topics import split_by_topic
from benchmarks.detection.worlds import (
    FEW,
    PASSAGE,
    Deck,
    Half,
    Source,
    blended,
    count_words,
    half_of,
    passages,
    sources_of,
    thirds,
)
from ouroscope.canonical import canonical_json
from ouroscope.records.analysis import Verdict
from ouroscope.records.documents import Document, View
from services.analyzer.keys import cluster_key
from services.analyzer.rungs import ladder
from services.analyzer.sample import LADDER, Accumulator
from services.analyzer.tools import Tools

METRICS = ("types", "mattr", "token_entropy", "distinct_1")


def prose(rng: random.Random, words: int) -> str:
    """Return words of which few are common and many are rare, as in any language."""
    return " ".join(f"w{int(rng.paretovariate(0.9))}" for _ in range(words))


def world(count: int, words: int, seed: str = "", topics: int = 0) -> tuple[Source, ...]:
    """Return sources of about so many words in several texts each."""
    rng = random.Random(f"{count}/{words}/{seed}")
    return tuple(
        Source(
            name=f"{seed}{number}",
            topic=f"t{number % topics}" if topics else "",
            texts=tuple(prose(rng, words // 4) for _ in range(4)),
        )
        for number in range(count)
    )


def bench(**worlds: tuple[Source, ...]) -> Bench:
    """Return a bench without a parser."""
    both = {(name, half): sources for name, sources in worlds.items() for half in Half}
    return Bench(worlds=both, tools=Tools(), metrics=METRICS)


def kind(name: str) -> Kind:
    """Return a kind by its name."""
    return next(one for one in KINDS if one.name == name)


def words_of(sources: Iterator[Source], until: int) -> Counter[str]:
    """Count the words dealt until there are so many, by the first letter of the source."""
    counts = Counter[str]()
    for source in sources:
        counts[source.name[0]] += source.words
        if counts.total() >= until:
            break
    return counts


def test_every_source_is_of_one_half_whatever_else_there_is() -> None:
    sources = world(400, 40)
    halves = [half_of(source) for source in sources]
    assert halves == [half_of(replace(source, texts=("other",))) for source in sources]
    assert 150 < halves.count(Half.REPORTING) < 250


def test_documents_of_a_group_are_one_source_and_others_are_their_own() -> None:
    grouped = [Document(id=f"g{i}", text="one two", group=f"m{i % 120}", domain="lib") for i in range(240)]
    alone = [Document(id=f"a{i}", text="three four") for i in range(20)]
    found = sources_of([*grouped, *alone])
    assert [len(one.texts) for one in found] == [2] * 120 + [1] * 20
    assert {one.topic for one in found} == {"lib", ""}


def test_where_sources_are_few_those_that_cannot_fill_a_group_are_left_out() -> None:
    short, long = Document(id="short", text="a few words"), Document(id="long", text="word " * 2 * PASSAGE)
    assert [one.name for one in sources_of([short, long])] == ["long"]
    many = [replace(short, id=f"{i}") for i in range(FEW)]
    assert len(sources_of(many)) == FEW


@pytest.mark.parametrize("words", [1, PASSAGE - 1, 2 * PASSAGE, 7 * PASSAGE + 13])
def test_passages_keep_all_words_in_order_and_each_fills_a_group(words: int) -> None:
    text = " ".join(f"w{i}" for i in range(words))
    found = passages(text)
    assert " ".join(found) == text
    assert len(found) == 1 or min(map(count_words, found)) >= PASSAGE


def test_thirds_keep_all_words_in_three_times_as_many_texts() -> None:
    (source,) = world(1, 120)
    cut = thirds(source)
    assert " ".join(cut.texts) == " ".join(source.texts)
    assert len(cut.texts) == 3 * len(source.texts)


def test_some_of_a_source_are_whole_texts_of_it_and_no_more_than_are_needed() -> None:
    (source,) = world(1, 400)
    some = source.some(random.Random(0), 150)
    assert set(some.texts) <= set(source.texts)
    assert 150 <= some.words < 150 + 100


def test_a_deck_deals_every_source_once_before_any_again() -> None:
    deck = Deck(world(30, 8), random.Random(0))
    dealt = [source.name for _ in range(3) for source in itertools.islice(deck.deal(10), 10)]
    assert len(set(dealt)) == 30


def test_a_deal_has_no_source_twice_even_when_the_deck_is_shuffled_in_it() -> None:
    deck = Deck(world(30, 8), random.Random(0))
    for _ in range(20):
        dealt = [source.name for source in itertools.islice(deck.deal(10), 22)]
        assert len(set(dealt)) == 22
    assert len(list(deck.deal(10))) == 30


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_a_blend_has_the_share_of_words_whatever_the_sizes_of_the_sources(share: float) -> None:
    ours, theirs = Deck(world(500, 40, "a"), random.Random(0)), Deck(world(500, 200, "b"), random.Random(0))
    counts = words_of(blended(ours.deal(200), theirs.deal(200), share), 12_000)
    assert counts["b"] / counts.total() == pytest.approx(share, abs=0.02)


def test_topics_of_libraries_are_whole_libraries() -> None:
    sources = world(300, 400, topics=3)
    rest, topic = split_by_topic(sources, random.Random(0))
    assert len({one.topic for one in topic}) == 1
    assert not {one.topic for one in topic} & {one.topic for one in rest}
    assert len(rest) + len(topic) == len(sources)


def test_topics_without_names_follow_the_words() -> None:
    rng = random.Random(0)
    kinds = [("wing", "flow", "lift", "drag"), ("bank", "rate", "loan", "bond")]
    sources = tuple(
        Source(name=f"{i}", topic="", texts=(" ".join(rng.choices(kinds[i % 10 < 3], k=30)) + " the of",))
        for i in range(200)
    )
    directions = [split_by_topic(sources, random.Random(seed))[1] for seed in range(12)]
    purest = max(sum("bank" in one.texts[0] for one in topic) / len(topic) for topic in directions)
    assert purest > 0.95


@pytest.mark.parametrize("count", [19, 25, 40, 60, 100])
def test_groups_are_full_exactly_when_the_analyzer_reaches_the_rung(count: int) -> None:
    sources = world(count, 480, seed="s")
    drawn, sizes = Accumulator(View.WHOLE, (LADDER[0], LADDER[-1])), {}
    for source in sources:
        documents = source.documents("x")
        before = drawn.tokens
        drawn.fold_all(documents)
        sizes[cluster_key(documents[0].cluster)] = drawn.tokens - before
    assert fills(sizes, LADDER[0]) == (ladder(drawn.finalise())[-1].budget == LADDER[0])


def test_plans_differ_in_name_and_any_beginning_of_them_is_balanced() -> None:
    domains = {(name, half): world(FEW, 400, name) for name in "ab" for half in Half}
    found = plans(["a", "b"], domains)
    assert len({plan.name for plan in found}) == len(found)
    begun = Counter(plan.kind.name for plan in found[: len(found) // 2])
    whole = Counter(plan.kind.name for plan in found)
    assert all(abs(begun[name] - whole[name] / 2) <= 2 for name in whole)


def test_few_sources_have_no_topics_and_are_not_mixed() -> None:
    few = world(FEW - 1, 400)
    able = {one.name for one in KINDS if can(one, few)}
    assert able >= {"plain", "domain-changes", "shorter-documents", "half-the-words"}
    assert not able & {"topic-enters", "topic-changes", "domain-enters"}


def test_the_same_plan_gives_the_same_sequence_beside_both_baselines() -> None:
    sources = bench(a=world(300, 400))
    plan = Plan(kind=kind("plain"), half=Half.REPORTING, domain="a", number=0)
    first, again = list(sequences(sources, plan)), list(sequences(sources, plan))
    assert canonical_json(first) == canonical_json(again)
    assert [one.baseline for one in first] == [SMALL, LARGE]
    assert first[0].words == first[1].words
    assert all(step.budget == LADDER[0] for one in first for step in one.steps)


def test_text_from_one_source_of_words_is_never_called_collapse_and_half_of_it_is_too_little() -> None:
    sources = bench(a=world(300, 400))
    for name, allowed in (
        ("plain", {Verdict.STABLE, Verdict.INSUFFICIENT_DATA}),
        ("half-the-words", {Verdict.INSUFFICIENT_DATA}),
    ):
        plan = Plan(kind=kind(name), half=Half.REPORTING, domain="a", number=0)
        said = {step.verdict for one in sequences(sources, plan) for step in one.steps}
        assert said <= allowed
