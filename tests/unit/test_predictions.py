from __future__ import annotations

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.errors import CorruptArtifact, InvalidRequest, NotFound
from ouroscope.predictions import (
    read_detections,
    read_next_tokens,
    read_scored_texts,
    write_detections,
    write_predictions,
)
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.predictions import Detection, NextToken, ScoredText, TextRole
from ouroscope.store import ArtifactStore
from ouroscope.store.tables import encode_table


@pytest.fixture
def store() -> ArtifactStore:
    return ArtifactStore(f"memory://{uuid.uuid4().hex}")


def next_token(index: int = 0, **changes: object) -> NextToken:
    given = {"top_probabilities": (0.5, 0.1), "entropy": 1.25, "true_rank": 2, "true_probability": 0.1, **changes}
    return NextToken(prompt_id=f"p{index}", cluster="c", **given)  # type: ignore[arg-type]  # as wanted by each test


def scored(index: int = 0, role: TextRole = TextRole.HELDOUT, log_probability: float = -3.5) -> ScoredText:
    return ScoredText(
        document_id=f"d{index}",
        cluster="c",
        role=role,
        tokens=4,
        text_bytes=20,
        log_probability=log_probability,
        greedy_tokens=2,
        last_tokens=2,
        last_greedy_tokens=1,
        domain="wiki",
    )


def test_both_sequences_come_back_as_they_went_in(store: ArtifactStore) -> None:
    tokens = [next_token(i, true_rank=None if i % 2 else i + 1) for i in range(1500)]
    texts = [scored(i, TextRole.DOCUMENT if i % 2 else TextRole.HELDOUT) for i in range(20)]
    ref = write_predictions(store, iter(tokens), iter(texts), {"model": "m"})
    assert list(read_next_tokens(store, ref)) == tokens
    assert list(read_scored_texts(store, ref)) == texts
    assert store.manifest(ref).summary == {"model": "m", "next_tokens": 1500, "texts": 20}


@given(
    probabilities=st.lists(st.floats(0, 0.01), min_size=1, max_size=100),
    entropy=st.floats(0, 20),
    log_probability=st.floats(-1e5, 0),
)
@settings(max_examples=30, deadline=None)
def test_no_bit_of_a_number_is_lost(probabilities: list[float], entropy: float, log_probability: float) -> None:
    store = ArtifactStore(f"memory://{uuid.uuid4().hex}")
    token = next_token(top_probabilities=tuple(sorted(probabilities, reverse=True)), entropy=entropy)
    text = scored(log_probability=log_probability)
    ref = write_predictions(store, [token], [text])
    assert [*read_next_tokens(store, ref), *read_scored_texts(store, ref)] == [token, text]


def test_either_sequence_may_be_empty_but_not_both(store: ArtifactStore) -> None:
    only_texts = write_predictions(store, [], [scored()])
    only_tokens = write_predictions(store, [next_token()], [])
    assert list(read_next_tokens(store, only_texts)) == list(read_scored_texts(store, only_tokens)) == []
    with pytest.raises(InvalidRequest, match="no predictions"):
        write_predictions(store, [], [])


def test_any_change_is_another_name_and_the_summary_is_not(store: ArtifactStore) -> None:
    tokens, texts = [next_token(0), next_token(1)], [scored(0), scored(1)]
    names = {
        write_predictions(store, tokens, texts),
        write_predictions(store, tokens, texts, {"model": "m"}),
        write_predictions(store, tokens[::-1], texts),
        write_predictions(store, tokens, texts[::-1]),
        write_predictions(store, tokens[:1], texts),
        write_predictions(store, tokens, []),
        write_predictions(store, [next_token(0, entropy=1.250001), next_token(1)], texts),
    }
    assert len(names) == 6


def test_a_number_that_is_not_finite_is_refused(store: ArtifactStore) -> None:
    with pytest.raises(InvalidRequest, match="not a finite number"):
        write_predictions(store, [], [scored(log_probability=float("-inf"))])
    assert list(store.list(ArtifactKind.PREDICTIONS)) == []


def test_only_predictions_are_read_as_predictions(store: ArtifactStore) -> None:
    with pytest.raises(InvalidRequest, match="must refer to a predictions"):
        read_next_tokens(store, ArtifactRef(ArtifactKind.CORPUS, "0" * 64))
    with pytest.raises(NotFound):
        list(read_scored_texts(store, ArtifactRef(ArtifactKind.PREDICTIONS, "0" * 64)))


def test_records_of_one_kind_are_not_read_as_the_other(store: ArtifactStore) -> None:
    data = encode_table(ScoredText, [scored()])
    ref = store.publish(ArtifactKind.PREDICTIONS, None, {"next-tokens-00000.parquet": data})
    with pytest.raises(CorruptArtifact, match="NextToken records have other columns"):
        list(read_next_tokens(store, ref))


def test_what_a_detector_says_comes_back_as_it_went_in(store: ArtifactStore) -> None:
    found = [Detection(document_id=f"d{i}", probability=i / 1499) for i in range(1500)]
    ref = write_detections(store, iter(found), {"label": "machine"})
    assert list(read_detections(store, ref)) == found
    assert list(read_next_tokens(store, ref)) == list(read_scored_texts(store, ref)) == []
    assert store.manifest(ref).summary == {"label": "machine", "detections": 1500}
    assert write_detections(store, reversed(found)) != ref


def test_a_detector_that_said_nothing_is_refused(store: ArtifactStore) -> None:
    with pytest.raises(InvalidRequest, match="no detections"):
        write_detections(store, [])


def test_scores_of_a_model_hold_no_detections(store: ArtifactStore) -> None:
    assert list(read_detections(store, write_predictions(store, [next_token()], []))) == []
