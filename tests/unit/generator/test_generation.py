"""Corpora that a model writes: provenance, resuming, digests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import Cancelled, CapabilityMissing, InvalidRequest
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.records.generation import Capability, Generate, Generated, SamplingSpec
from ouroscope.store.artifacts import ArtifactStore
from services.generator.generation import generate
from services.generator.in_process.backend import HfBackend
from services.generator.plan import Plan

PLAN = Plan(batch_size=3, shard_documents=6)


@pytest.fixture
def request_(model_ref: ArtifactRef, prompts: ArtifactRef) -> Generate:
    sampling = SamplingSpec(min_new_tokens=1, max_new_tokens=12, seed=5, batch_size=3)
    return Generate(model=model_ref, prompts=prompts, sampling=sampling, generation=4)


@pytest.fixture
def generated(store: ArtifactStore, backend: HfBackend, noting_task: Callable[..., Any]) -> Callable[..., Generated]:
    def run(request: Generate, key: str = "a" * 64, task: Any = None, tokens: list[int] | None = None) -> Generated:
        heard = [] if tokens is None else tokens
        return generate(store, backend, request, PLAN, key, task or noting_task(), on_tokens=heard.append)

    return run


def test_every_document_is_its_real_prefix_and_what_the_model_wrote(
    store: ArtifactStore, request_: Generate, generated: Callable[..., Generated]
) -> None:
    answer = generated(request_)
    asked, written = list(read_corpus(store, request_.prompts)), list(read_corpus(store, answer.corpus))
    assert answer.documents == len(written) == len(asked)
    for prompt, document in zip(asked, written, strict=True):
        assert document.text.startswith(prompt.text[: prompt.prefix_length])
        assert document.prefix_length == prompt.prefix_length
        assert document.prompt_id == prompt.id
        assert document.id == f"{prompt.id}~4"
        assert (document.origin, document.generation) == (Origin.SYNTHETIC, 4)
        assert document.model_digest == request_.model.digest
        assert (document.group, document.domain) == (prompt.group, prompt.domain)


def test_the_same_request_gives_the_same_corpus(request_: Generate, generated: Callable[..., Generated]) -> None:
    assert generated(request_, "b" * 64) == generated(request_, "c" * 64)


@pytest.mark.parametrize("change", [{"seed": 6}, {"temperature": 0.3}, {"max_new_tokens": 11}, {"top_k": 2}])
def test_another_sampling_gives_another_corpus(
    request_: Generate, generated: Callable[..., Generated], change: dict[str, Any]
) -> None:
    other = replace(request_, sampling=replace(request_.sampling, **change))
    assert generated(other).corpus != generated(request_).corpus


def test_interrupted_work_goes_on_from_its_shards_and_ends_in_the_same_corpus(
    request_: Generate, generated: Callable[..., Generated], noting_task: Callable[..., Any]
) -> None:
    whole_tokens: list[int] = []
    whole = generated(request_, "d" * 64, tokens=whole_tokens)
    spent: list[int] = []
    for checks in (20, 60):
        with pytest.raises(Cancelled):
            generated(request_, "e" * 64, noting_task(checks), spent)
    last: list[int] = []
    assert generated(request_, "e" * 64, tokens=last) == whole
    assert 0 < sum(last) < sum(whole_tokens)


def test_work_interrupted_before_publishing_draws_nothing_again(
    store: ArtifactStore,
    request_: Generate,
    generated: Callable[..., Generated],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = generated(request_, "f" * 64)
    with monkeypatch.context() as broken:
        broken.setattr(type(store), "publish", _pulled)
        with pytest.raises(OSError, match="pulled"):
            generated(request_, "0" * 64)
    tokens: list[int] = []
    assert generated(request_, "0" * 64, tokens=tokens) == whole
    assert tokens == []


def _pulled(*_: object) -> None:
    raise OSError("the plug was pulled")


def test_progress_rises_to_the_number_of_documents(
    request_: Generate, generated: Callable[..., Generated], noting_task: Callable[..., Any]
) -> None:
    task = noting_task()
    answer = generated(request_, task=task)
    done = [progress.done for progress in task.told]
    assert done == sorted(done)
    assert done[-1] == answer.documents == task.told[-1].total
    assert task.told[-1].tokens_per_second > 0


def test_tokens_are_counted_for_the_service_metric(request_: Generate, generated: Callable[..., Generated]) -> None:
    tokens: list[int] = []
    assert generated(request_, "1" * 64, tokens=tokens).tokens == sum(tokens)


def test_a_prompt_that_leaves_no_room_fails_and_publishes_nothing(
    store: ArtifactStore, request_: Generate, generated: Callable[..., Generated]
) -> None:
    text = "The whole wide world " * 40
    long = write_corpus(store, [Document(id="long", text=text, prefix_length=len(text))])
    with pytest.raises(InvalidRequest, match="context"):
        generated(replace(request_, prompts=long))


def test_a_backend_that_cannot_generate_says_so_at_once(
    store: ArtifactStore, request_: Generate, noting_task: Callable[..., Any]
) -> None:
    class Scorer:
        name = "scorer"
        capabilities = frozenset({Capability.SCORE})

    with pytest.raises(CapabilityMissing, match="'scorer' cannot generate: it declares SCORE"):
        generate(store, Scorer(), request_, PLAN, "a" * 64, noting_task())  # type: ignore[arg-type]  # needs no more
