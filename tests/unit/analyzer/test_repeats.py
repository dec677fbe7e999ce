"""What texts repeat: counted as anybody would count it, the same for any order, bounded whatever the text is."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.errors import Cancelled
from ouroscope.records.analysis import RepeatedText, Report
from ouroscope.records.documents import Document
from services.analyzer.analysis import analyze
from services.analyzer.repeats import LONGEST, SHORTEST
from services.analyzer.tokens import compose, words
from tests.unit.analyzer.corpora import prose


def report_of(documents: Sequence[Document], most: int = 50) -> Report:
    return analyze(documents, metrics=["types"], repeated_texts=most)[0]


def repeats(texts: Sequence[str], most: int = 50) -> tuple[RepeatedText, ...]:
    return report_of([Document(id=str(n), text=text) for n, text in enumerate(texts)], most).repeated_texts


def holders(run: str, documents: Sequence[Document]) -> list[Document]:
    """Return the documents in which a run stands, found in the plainest way."""
    return [one for one in documents if f" {run} " in f" {' '.join(words(compose(one.text)))} "]


some_words = st.lists(st.sampled_from("abcd"), min_size=1, max_size=24).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(some_words, min_size=1, max_size=8), sources=st.lists(st.sampled_from("xyz"), min_size=8))
def test_every_run_is_counted_as_anybody_would_count_it(texts: list[str], sources: list[str]) -> None:
    documents = [Document(id=str(n), text=t, group=sources[n]) for n, t in enumerate(texts)]
    for run in report_of(documents).repeated_texts:
        found = holders(run.text, documents)
        assert (run.documents, run.clusters) == (len(found), len({one.group for one in found}))
        assert run.documents >= 2
        assert SHORTEST <= len(run.text.split()) <= LONGEST


@settings(max_examples=60, deadline=None)
@given(st.lists(some_words, min_size=1, max_size=8, unique=True))
def test_the_first_run_stands_in_as_many_clusters_as_any_run_of_five_words(texts: list[str]) -> None:
    owners: defaultdict[tuple[str, ...], set[int]] = defaultdict(set)
    for number, text in enumerate(texts):
        split = text.split()
        for start in range(len(split) - SHORTEST + 1):
            owners[tuple(split[start : start + SHORTEST])].add(number)
    most = max(map(len, owners.values()), default=0)
    found = repeats(texts)
    assert [run.clusters for run in found[:1]] == ([most] if most > 1 else [])


@settings(max_examples=60, deadline=None)
@given(st.lists(some_words, min_size=1, max_size=8, unique=True))
def test_clusters_fall_and_no_run_stands_inside_a_longer_one_of_as_many(texts: list[str]) -> None:
    found = repeats(texts)
    counts = [run.clusters for run in found]
    assert counts == sorted(counts, reverse=True)
    for one in found:
        for other in found:
            inside = one is not other and f" {one.text} " in f" {other.text} "
            assert not (inside and one.clusters == other.clusters)


def test_the_order_of_documents_changes_nothing() -> None:
    texts = [f"{text} it was the best of times" for text in prose(300, 50, 0, 60)]
    documents = [Document(id=str(n), text=text) for n, text in enumerate(texts)]
    shuffled = random.Random(1).sample(documents, len(documents))
    assert report_of(documents, 20) == report_of(shuffled, 20)


def test_what_a_long_text_can_be_cut_into_is_told_once_and_whole() -> None:
    long = " ".join(f"word{number}" for number in range(30))
    found = repeats([f"begin{n} {long} end{n}" for n in range(40)])
    assert [(run.text, run.documents, run.clusters) for run in found] == [(long, 40, 40)]


def test_a_few_documents_that_end_early_do_not_hide_the_whole_run() -> None:
    whole = "the market will rise and then rise again"
    found = repeats([f"{whole} {n}" for n in range(40)] + [f"{whole.removesuffix(' again')} {n} x" for n in range(2)])
    assert [run.text for run in found] == [whole]


def test_a_longer_run_of_fewer_clusters_is_told_where_most_of_it_is_new() -> None:
    short, long = "one two three four five", "one two three four five six seven eight nine ten eleven twelve"
    found = repeats([f"{short} left{n}" for n in range(5)] + [f"{long} right{n}" for n in range(4)])
    assert [(run.text, run.clusters) for run in found] == [(short, 9), (long, 4)]


def test_copies_of_one_source_are_one_cluster_and_come_last() -> None:
    header = "all rights reserved by the publisher"
    of_one = [Document(id=f"a{n}", text=f"{header} a{n}", group="a") for n in range(30)]
    of_many = [Document(id=f"b{n}", text=f"once upon a time there b{n}", group=f"b{n}") for n in range(3)]
    found = report_of([*of_one, *of_many]).repeated_texts
    assert [(run.text, run.documents, run.clusters) for run in found] == [
        ("once upon a time there", 3, 3),
        (header, 30, 1),
    ]


def test_runs_never_cross_the_end_of_a_document() -> None:
    assert repeats(["one two three", "four five six", "one two three seven", "four five six seven"]) == ()


def test_nothing_is_told_unless_it_was_asked_for() -> None:
    texts = ["one two three four five six"] * 2 + ["one two three four five seven"]
    assert repeats(texts, 0) == ()
    assert len(repeats(texts, 1)) == 1


@pytest.mark.parametrize(
    "texts",
    [
        ["the " * 100_000],
        ["the " * 200 + str(n) for n in range(1_000)],
        ["to be or not " * 60 + str(n) for n in range(1_000)],
        ["the same words every time"] * 5_000,
        ["x" * 100_000 + f" {n}" for n in range(50)],
        ["", " ", "one"],
    ],
    ids=["one word", "one word in each", "a loop in each", "copies", "no space", "nothing"],
)
def test_hostile_text_gets_a_bounded_answer(texts: list[str]) -> None:
    for run in repeats(texts):
        assert len(run.text.split()) <= LONGEST


def test_a_stop_is_heard() -> None:
    def stop() -> None:
        raise Cancelled("stopped")

    documents = [Document(id=str(n), text=text) for n, text in enumerate(prose(300, 50, 0, 60))]
    with pytest.raises(Cancelled):
        analyze(documents, metrics=["types"], repeated_texts=5, check=stop)
