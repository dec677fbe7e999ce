"""Texts longer than the context: every token once, with context, whatever the batch; against one token at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import InvalidRequest
from ouroscope.predictions import read_next_tokens, read_scored_texts
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.generation import Score
from ouroscope.records.predictions import ScoredText, TextRole
from ouroscope.store.artifacts import ArtifactStore
from services.generator.backend import Examined, Expectation, LanguageModel, TokenScores
from services.generator.in_process.backend import HfBackend
from services.generator.in_process.model import HfModel
from services.generator.scoring import score
from services.generator.sliding import judge_sliding, stride_of, windows

ROOM = 95
"""The tiny model sees 96 tokens, the start token included."""


@given(
    tokens=st.integers(1, 60),
    first=st.integers(0, 59),
    room=st.integers(2, 20),
    stride=st.integers(1, 20),
)
def test_every_token_is_scored_once_with_at_least_what_the_stride_leaves(
    tokens: int, first: int, room: int, stride: int
) -> None:
    first, stride = min(first, tokens - 1), min(stride, room)
    found = list(windows(tokens, first, room, stride))
    scored = [place for window in found for place in range(window.scored_from, window.end)]
    assert scored == list(range(first, tokens))
    assert all(window.end - window.begin <= room for window in found)
    for window in found[1:]:
        assert window.scored_from - window.begin >= room - stride
    assert found[-1].end == tokens


@given(tokens=st.integers(1, 20), first=st.integers(0, 19))
def test_a_text_that_fits_is_one_window(tokens: int, first: int) -> None:
    first = min(first, tokens - 1)
    (window,) = windows(tokens, first, 20, 3)
    assert (window.begin, window.end, window.scored_from) == (0, tokens, first)


@pytest.fixture(scope="module")
def long(store: ArtifactStore, human: ArtifactRef) -> ArtifactRef:
    """Documents of several times the context, of about the context, and short ones; some with a long real prefix."""
    whole = " ".join(document.text for document in read_corpus(store, human))
    lengths = (1200, 290, 40, 600, 400, 20)
    return write_corpus(
        store,
        [
            Document(id=f"l{i}", text=whole[i : i + length], prefix_length=length // (2 + 3 * (i % 2)))
            for i, length in enumerate(lengths)
        ],
    )


@pytest.fixture(scope="module")
def exact(store: ArtifactStore, model_ref: ArtifactRef) -> Any:
    """The same model in float64."""
    return AutoModelForCausalLM.from_pretrained(store.directory(model_ref), dtype=torch.float64).eval()


@torch.inference_mode()
def naive(exact: Any, ids: Sequence[int], first: int, stride: int) -> tuple[list[float], list[bool]]:
    """Score one token after the other, each with a forward pass of its own."""
    log_probabilities, greedy = [], []
    for place in range(first, len(ids)):
        ends = (end for end in range(ROOM, len(ids) + ROOM, stride) if end > place)
        begin = max(0, min(len(ids), next(ends)) - ROOM)
        log = torch.log_softmax(exact(torch.tensor([[0, *ids[begin:place]]])).logits[0, -1], -1)
        log_probabilities.append(float(log[ids[place]]))
        greedy.append(int(log.argmax()) == ids[place])
    return log_probabilities, greedy


@pytest.fixture
def ask(
    store: ArtifactStore, backend: HfBackend, model_ref: ArtifactRef, long: ArtifactRef, noting_task: Callable[..., Any]
) -> Callable[..., list[ScoredText]]:
    whole = Score(model=model_ref, heldout=long, documents=long, max_tokens=10**6, batch_size=3, last_n=7)

    def run(**changes: Any) -> list[ScoredText]:
        answer = score(store, backend, replace(whole, **changes), noting_task())
        return list(read_scored_texts(store, answer.predictions))

    return run


@pytest.mark.parametrize("stride", [0, 20, ROOM])
def test_long_texts_are_scored_as_one_token_after_the_other_in_float64(
    ask: Callable[..., list[ScoredText]],
    store: ArtifactStore,
    long: ArtifactRef,
    exact: Any,
    model: HfModel,
    stride: int,
) -> None:
    found = ask(stride=stride, documents=None)
    for document, text in zip(read_corpus(store, long), found, strict=True):
        wanted, greedy = naive(exact, model.tokens.encode(document.text), 0, stride or ROOM // 2)
        assert text.tokens == len(wanted)
        assert text.log_probability == pytest.approx(sum(wanted), abs=1e-4 * len(wanted))
        assert text.greedy_tokens == sum(greedy)
        assert text.last_greedy_tokens == sum(greedy[-7:])


def test_single_tokens_are_those_of_float64(
    model: HfModel, exact: Any, store: ArtifactStore, long: ArtifactRef
) -> None:
    document = next(iter(read_corpus(store, long)))
    ids = model.tokens.encode(document.text)[:400]
    (found,) = judge_sliding(model, [ids], [130], 30, 4, lambda _: None)
    wanted, _ = naive(exact, ids, 130, 30)
    assert found.log_probabilities == pytest.approx(wanted, abs=1e-4)


def test_the_size_of_the_batch_changes_no_value(ask: Callable[..., list[ScoredText]]) -> None:
    one, *others = (ask(batch_size=size) for size in (1, 3, 16))
    for other in others:
        for mine, theirs in zip(one, other, strict=True):
            assert (mine.document_id, mine.role, mine.tokens) == (theirs.document_id, theirs.role, theirs.tokens)
            assert mine.log_probability / mine.tokens == pytest.approx(theirs.log_probability / theirs.tokens, abs=1e-5)
            assert mine.log_probability == pytest.approx(theirs.log_probability, abs=1e-4)
            assert mine.greedy_tokens == theirs.greedy_tokens


def test_every_byte_of_a_long_text_counts(
    ask: Callable[..., list[ScoredText]], store: ArtifactStore, long: ArtifactRef
) -> None:
    found = ask()
    for document, text in zip(read_corpus(store, long), (t for t in found if t.role is TextRole.HELDOUT), strict=True):
        assert text.text_bytes == len(document.text.encode())
    for document, text in zip(read_corpus(store, long), (t for t in found if t.role is TextRole.DOCUMENT), strict=True):
        assert text.text_bytes == len(document.text[document.prefix_length :].encode())


def test_a_stride_that_would_leave_tokens_out_is_refused(ask: Callable[..., list[ScoredText]], model: HfModel) -> None:
    with pytest.raises(InvalidRequest, match=r"stride is 96 .* sees 95"):
        ask(stride=96)
    assert stride_of(model, 0) == 47


def test_a_text_that_is_longer_than_the_model_sees_is_never_given_to_it(model: HfModel) -> None:
    with pytest.raises(InvalidRequest, match="sees 96 at once"):
        model.judge([[5] * 96], [0], 1, lambda _: None)
    with pytest.raises(InvalidRequest, match="sees 96 at once"):
        model.expect([[5] * 96], [None], 3, 1, lambda _: None)


class Reticent:
    """A model behind a server that tells log-probabilities and keeps the rest to itself."""

    def __init__(self, model: HfModel) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def examine(self, *arguments: Any) -> list[Examined]:
        return [self._told(each) for each in self._model.examine(*arguments)]

    def expect(self, *arguments: Any) -> list[Expectation]:
        return [replace(each, entropy=None) for each in self._model.expect(*arguments)]

    def _told(self, whole: Examined) -> Examined:
        expected = whole.expectation and replace(whole.expectation, entropy=None)
        return Examined(TokenScores(whole.scores.log_probabilities, None), expected)


class ReticentBackend(HfBackend):
    """Opens models that keep something to themselves."""

    def open(self, model: ArtifactRef) -> LanguageModel:  # type: ignore[override]  # it opens no HfModel
        return Reticent(super().open(model))


def test_what_a_model_does_not_tell_is_none_and_not_zero(
    store: ArtifactStore, model_ref: ArtifactRef, long: ArtifactRef, noting_task: Callable[..., Any]
) -> None:
    backend = ReticentBackend(store, device="cpu", threads=1)
    request = Score(model=model_ref, prompts=long, prompt_length=4, heldout=long, max_tokens=400, batch_size=4)
    answer = score(store, backend, request, noting_task())
    assert {each.entropy for each in read_next_tokens(store, answer.predictions)} == {None}
    texts = list(read_scored_texts(store, answer.predictions))
    assert {(each.greedy_tokens, each.last_greedy_tokens) for each in texts} == {(None, None)}
    assert all(each.log_probability < 0 and each.last_tokens > 0 for each in texts)


def test_parts_that_are_known_in_part_are_not_known(model: HfModel) -> None:
    class Forgetful(Reticent):
        def examine(self, *arguments: Any) -> list[Examined]:
            first, *rest = self._model.examine(*arguments)
            return [self._told(first), *rest]

    (found,) = judge_sliding(Forgetful(model), [[5] * 150], [0], 50, 2, lambda _: None)  # type: ignore[arg-type]
    assert found.greedy is None
    assert len(found.log_probabilities) == 150
    assert np.isfinite(found.log_probabilities).all()
