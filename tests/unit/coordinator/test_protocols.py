"""What the next model is trained on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.errors import InvalidRequest
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from services.coordinator.protocols import PROTOCOLS, Pools, Terms, training_set

from .fakes import made

unhurried = settings(max_examples=40, deadline=None)
"""A busy machine is no failure."""


def pools(rounds: int) -> Pools:
    """Return pools after `rounds` generations."""
    made_up = Pools()
    for j in range(rounds):
        made_up = made_up.with_round(made(ArtifactKind.CORPUS, "human", j), made(ArtifactKind.CORPUS, "synthetic", j))
    return made_up


TERMS = Terms(documents=20)


def corpora(protocol: str, rounds: int) -> tuple[ArtifactRef, ...]:
    """Return the corpora of the training set after `rounds` generations."""
    return tuple(corpus for portion in training_set(protocol, pools(rounds), TERMS) for corpus in portion.pool)


@unhurried
@given(rounds=st.integers(1, 12))
def test_replace_trains_on_nothing_but_the_newest_synthetic_corpus(rounds: int) -> None:
    assert corpora("replace", rounds) == (pools(rounds).synthetic[-1],)


@unhurried
@given(rounds=st.integers(1, 12))
def test_human_trains_on_nothing_synthetic_and_never_on_the_same_corpus_twice(rounds: int) -> None:
    chosen = [corpora("human", j) for j in range(1, rounds + 1)]
    assert all(set(one) <= set(pools(rounds).human) for one in chosen)
    assert len(set(chosen)) == rounds


@unhurried
@given(rounds=st.integers(1, 12))
def test_accumulate_keeps_everything_it_ever_trained_on(rounds: int) -> None:
    before, after = (corpora("accumulate", j) for j in (rounds, rounds + 1))
    assert set(before) < set(after)
    assert before[0] == after[0] == pools(1).human[0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@unhurried
@given(rounds=st.integers(1, 12))
def test_every_protocol_gives_something_to_train_on_and_nothing_twice(protocol: str, rounds: int) -> None:
    chosen = corpora(protocol, rounds)
    assert chosen
    assert len(set(chosen)) == len(chosen)


def test_every_protocol_names_its_source() -> None:
    assert all("Source:" in (protocol.choose.__doc__ or "") for protocol in PROTOCOLS.values())


def test_an_unknown_protocol_is_answered_with_the_nearest_known_one_and_the_list() -> None:
    with pytest.raises(InvalidRequest, match=r"did you mean replace.*known are replace, human, accumulate"):
        training_set("replase", pools(1), TERMS)
