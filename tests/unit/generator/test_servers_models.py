"""Models that a server serves, beside the same model in this process: equal texts, equal numbers, or a typed error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ouroscope.errors import CapabilityMissing, InvalidRequest, PreconditionFailed, Unavailable
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import Capability, ChatFormat, SamplingSpec, Verification
from ouroscope.store.artifacts import ArtifactStore
from services.generator.backend import Prompt
from services.generator.declared import ServerKind
from services.generator.in_process.backend import HfBackend
from services.generator.in_process.model import HfModel
from services.generator.servers.backend import ServerBackend
from services.generator.servers.model import ServerModel
from tests.servers.language import Language
from tests.servers.stand_in import Fault, StandIn
from tests.unit.generator.conftest import TEXTS
from tests.unit.generator.servers_setup import NAME, backend_of

GREEDY = SamplingSpec(temperature=0, top_k=0, max_new_tokens=12)
DRAWN = SamplingSpec(temperature=0.9, top_k=0, max_new_tokens=12, min_new_tokens=0, seed=5)
PROMPTS = [Prompt(f"p{number}", text[: 9 + number]) for number, text in enumerate(TEXTS[:6])]


@pytest.fixture(params=[ServerKind.VLLM, ServerKind.OPENAI], ids=lambda kind: kind.value)
def server(
    request: pytest.FixtureRequest, url: str, store: ArtifactStore, model_ref: ArtifactRef
) -> Iterator[ServerBackend]:
    with backend_of(store, model_ref, url, kind=request.param) as opened:
        yield opened


@pytest.fixture
def vllm(url: str, store: ArtifactStore, model_ref: ArtifactRef) -> Iterator[ServerBackend]:
    with backend_of(store, model_ref, url) as opened:
        yield opened


@pytest.fixture
def openai(url: str, store: ArtifactStore, model_ref: ArtifactRef) -> Iterator[ServerBackend]:
    with backend_of(store, model_ref, url, kind=ServerKind.OPENAI) as opened:
        yield opened


def _quiet(tokens: int) -> None: ...


def _ids(model: HfModel | ServerModel) -> list[list[int]]:
    return model.tokens.encode_many(TEXTS[:5])


def test_the_likeliest_text_is_that_of_the_model_in_this_process(
    server: ServerBackend, model: HfModel, model_ref: ArtifactRef
) -> None:
    theirs = server.open(model_ref).write(PROMPTS, GREEDY, 8, _quiet)
    ours = model.write(PROMPTS, GREEDY, 8, _quiet)
    assert [each.text for each in theirs.continuations] == [each.text for each in ours.continuations]


def test_a_server_that_cuts_texts_itself_reads_the_same_tokens(language: Language, model: HfModel) -> None:
    for text in TEXTS:
        assert language.encode(model.tokens.start_in_text + text) == [*model.tokens.start, *model.tokens.encode(text)]
    both = [*model.tokens.start, *model.tokens.encode("tail"), *model.tokens.start]
    assert language.encode(model.tokens.in_text(both)) == both


def test_tokens_are_counted_without_the_end_marker(vllm: ServerBackend, model: HfModel, model_ref: ArtifactRef) -> None:
    theirs = vllm.open(model_ref).write(PROMPTS, GREEDY, 8, _quiet)
    assert theirs.continuations == model.write(PROMPTS, GREEDY, 8, _quiet).continuations


def test_scores_are_those_of_the_model_in_this_process(
    server: ServerBackend, model: HfModel, model_ref: ArtifactRef
) -> None:
    scored_from = [0, 3, 0, 7, 1]
    theirs = server.open(model_ref).judge(_ids(model), scored_from, 4, _quiet)
    ours = model.judge(_ids(model), scored_from, 4, _quiet)
    for their, our in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(their.log_probabilities, our.log_probabilities, atol=1e-4)
        assert their.greedy is not None
        assert our.greedy is not None
        assert their.greedy.tolist() == our.greedy.tolist()


@pytest.mark.parametrize("top_n", [2, 40, 1000])
def test_what_is_expected_is_what_the_model_in_this_process_expects(
    vllm: ServerBackend, model: HfModel, model_ref: ArtifactRef, top_n: int
) -> None:
    ids = _ids(model)
    prompts, following = [each[:9] for each in ids], [None, *(each[9] for each in ids[1:])]
    theirs = vllm.open(model_ref).expect(prompts, following, top_n, 4, _quiet)
    ours = model.expect(prompts, following, top_n, 4, _quiet)
    for their, our in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(their.top_probabilities, our.top_probabilities, atol=1e-5)
        assert (their.true_probability, their.true_rank) == (
            pytest.approx(our.true_probability, abs=1e-5),
            our.true_rank,
        )
        assert their.entropy is None


def test_log_probabilities_of_a_prompt_are_asked_for_as_seldom_as_can_be(
    vllm: ServerBackend, stand_in: StandIn, model: HfModel, model_ref: ArtifactRef
) -> None:
    ids = _ids(model)
    prompts, following = [each[:9] for each in ids], [each[9] for each in ids]
    ranks = [each.true_rank for each in model.expect(prompts, following, 40, 4, _quiet)]
    vllm.open(model_ref).expect(prompts, following, 40, 4, _quiet)
    scored = [body for body in stand_in.asked if "prompt_logprobs" in body]
    assert len(scored) == sum(rank is not None and rank > 40 for rank in ranks)
    assert all(body["prompt_logprobs"] == 0 for body in scored)


def test_a_server_of_openais_kind_tells_no_rank_beyond_its_first_choices(
    openai: ServerBackend,
    model: HfModel,
    model_ref: ArtifactRef,
    language: Language,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(language, "name", lambda token: f"<{token}>")
    prompts, following = [ids[:9] for ids in _ids(model)], [ids[9] for ids in _ids(model)]
    theirs = openai.open(model_ref).expect(prompts, following, 3, 4, _quiet)
    ours = model.expect(prompts, following, 3, 4, _quiet)
    for their, our in zip(theirs, ours, strict=True):
        assert their.true_probability == pytest.approx(our.true_probability, abs=1e-5)
        assert their.true_rank == (our.true_rank if our.true_rank and our.true_rank <= 3 else None)


def test_first_choices_that_share_a_text_are_too_few_and_said_to_be(
    openai: ServerBackend, model_ref: ArtifactRef, language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language, "name", lambda token: "\ufffd")
    with pytest.raises(CapabilityMissing, match="share"):
        openai.open(model_ref).expect([[5, 6]], [None], 3, 1, _quiet)


def test_seeds_are_passed_on_and_differ_between_documents(
    server: ServerBackend, stand_in: StandIn, model_ref: ArtifactRef
) -> None:
    opened = server.open(model_ref)
    first, again = (opened.write(PROMPTS, DRAWN, 8, _quiet) for _ in range(2))
    seeds = [body["seed"] for body in stand_in.asked]
    assert len(set(seeds)) == len(PROMPTS)
    assert sorted(seeds[: len(PROMPTS)]) == sorted(seeds[len(PROMPTS) :])
    # The stand-in keeps to seeds, so the same request has the same answer; a real server need not.
    assert first == again
    assert Capability.REPRODUCIBLE not in server.capabilities


def test_nothing_is_left_to_what_the_server_takes_from_the_model(
    vllm: ServerBackend, stand_in: StandIn, model: HfModel, model_ref: ArtifactRef
) -> None:
    vllm.open(model_ref).write(PROMPTS[:1], SamplingSpec(temperature=0.5, top_k=7, top_p=0.9), 1, _quiet)
    (body,) = stand_in.asked
    said = {"temperature": 0.5, "top_k": 7, "top_p": 0.9, "min_tokens": 1, "max_tokens": 48, "min_p": 0.0}
    assert (
        body.items() >= {**said, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}.items()
    )
    assert body["prompt"] == [*model.tokens.start, *model.tokens.encode(PROMPTS[0].text)]


@pytest.mark.parametrize(
    ("sampling", "field"),
    [(SamplingSpec(top_k=50), "top_k"), (SamplingSpec(top_k=0, min_new_tokens=2), "min_new_tokens")],
)
def test_what_openais_protocol_cannot_say_is_refused(
    openai: ServerBackend, stand_in: StandIn, model_ref: ArtifactRef, sampling: SamplingSpec, field: str
) -> None:
    with pytest.raises(CapabilityMissing, match=field):
        openai.open(model_ref).write(PROMPTS, sampling, 8, _quiet)
    assert not stand_in.asked


def test_a_chat_is_asked_as_in_this_process(
    url: str, stand_in: StandIn, store: ArtifactStore, model_directory: Path
) -> None:
    files: dict[str, Path | bytes] = {path.name: path for path in model_directory.iterdir()}
    template = "{% for turn in messages %}{{ turn['role'] }}: {{ turn['content'] }}<|end|>{% endfor %}"
    talking = store.publish(ArtifactKind.MODEL, None, files | {"chat_template.jinja": template.encode()}, {})
    chat = replace(GREEDY, chat=ChatFormat(instruction="The tail, please.", system="The model swallows."))
    ours = HfBackend(store, device="cpu", threads=1).open(talking).write(PROMPTS, chat, 8, _quiet)
    for kind in (ServerKind.VLLM, ServerKind.OPENAI):
        with backend_of(store, talking, url, kind=kind) as opened:
            theirs = opened.open(talking).write(PROMPTS, chat, 8, _quiet)
            assert [each.text for each in theirs.continuations] == [each.text for each in ours.continuations]
    assert "system: The model swallows.<|end|>user: The tail, please.<|end|>" in str(stand_in.asked[-1]["prompt"])


def test_what_has_no_room_is_refused_before_anything_is_asked(
    server: ServerBackend, stand_in: StandIn, model_ref: ArtifactRef
) -> None:
    opened = server.open(model_ref)
    with pytest.raises(InvalidRequest, match="max_new_tokens"):
        opened.write(PROMPTS, SamplingSpec(temperature=0, max_new_tokens=96), 8, _quiet)
    with pytest.raises(InvalidRequest, match="max_scored_tokens"):
        opened.judge([[5] * 95], [0], 1, _quiet)
    assert not stand_in.asked


def test_a_server_that_was_started_with_less_room_is_asked_for_less(
    server: ServerBackend, language: Language, model_ref: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language, "context", 40)
    opened = server.open(model_ref)
    assert opened.context_tokens == 38
    with pytest.raises(InvalidRequest, match="40 that the server has room for"):
        opened.write(PROMPTS, SamplingSpec(temperature=0, max_new_tokens=36), 8, _quiet)


def test_the_longest_text_that_a_model_says_it_takes_is_scored(server: ServerBackend, model_ref: ArtifactRef) -> None:
    opened = server.open(model_ref)
    (scores,) = opened.judge([[5] * (opened.context_tokens - 1)], [0], 1, _quiet)
    assert len(scores.log_probabilities) == opened.context_tokens - 1
    assert opened.expect([[5] * (opened.context_tokens - 1)], [7], 1, 1, _quiet)


def test_the_operator_bounds_the_texts_that_are_scored(url: str, store: ArtifactStore, model_ref: ArtifactRef) -> None:
    with backend_of(store, model_ref, url, max_scored_tokens=16) as opened:
        assert opened.open(model_ref).context_tokens == 16


def test_a_server_without_log_probabilities_cannot_score_and_says_what_it_needs(
    server: ServerBackend, stand_in: StandIn, model_ref: ArtifactRef
) -> None:
    stand_in.without_logprobs = True
    assert {Capability.GENERATE, Capability.SCORE} & server.capabilities == {Capability.GENERATE}
    assert "log" in server.problem
    with pytest.raises(CapabilityMissing, match=r"kind: vllm|prompt_logprobs"):
        server.open(model_ref).judge([[5, 6, 7]], [0], 1, _quiet)


def test_a_server_that_is_started_anew_with_log_probabilities_can_score(
    server: ServerBackend, stand_in: StandIn
) -> None:
    stand_in.without_logprobs = True
    assert Capability.SCORE not in server.capabilities
    stand_in.without_logprobs = False
    assert Capability.SCORE in server.capabilities
    assert not server.problem
    asked = len(stand_in.asked)
    assert Capability.SCORE in server.capabilities
    assert len(stand_in.asked) == asked


def test_a_server_that_takes_texts_only_cannot_score_tokens(openai: ServerBackend, stand_in: StandIn) -> None:
    stand_in.takes_tokens = False
    assert Capability.SCORE not in openai.capabilities


def test_too_few_first_choices_name_the_setting(vllm: ServerBackend, stand_in: StandIn, model_ref: ArtifactRef) -> None:
    stand_in.max_logprobs = 20
    with pytest.raises(CapabilityMissing, match="--max-logprobs"):
        vllm.open(model_ref).expect([[5, 6]], [None], 100, 1, _quiet)


def test_what_answered_is_told(server: ServerBackend, model_ref: ArtifactRef) -> None:
    served = server.open(model_ref).served
    assert (served.backend, served.kind, served.model) == ("pool", server.kind, NAME)
    assert served.verification is Verification.DECLARED
    assert not served.reproducible


def test_another_model_than_the_one_that_is_served_is_refused(
    server: ServerBackend, store: ArtifactStore, model_directory: Path
) -> None:
    files = {path.name: path for path in model_directory.iterdir() if path.name != "generation_config.json"}
    other = store.publish(ArtifactKind.MODEL, None, files, {"source": "another"})
    with pytest.raises(PreconditionFailed, match="weights: fixed"):
        server.open(other)


def test_weights_that_change_before_the_work_stop_it(
    server: ServerBackend, stand_in: StandIn, language: Language, model_ref: ArtifactRef
) -> None:
    opened = server.open(model_ref)
    stand_in.models = {"other": language}
    with pytest.raises(PreconditionFailed, match="'other'"):
        opened.write(PROMPTS, GREEDY, 8, _quiet)
    assert not stand_in.asked


def test_weights_that_change_during_the_work_spoil_it(
    server: ServerBackend, stand_in: StandIn, language: Language, model_ref: ArtifactRef
) -> None:
    opened = server.open(model_ref)

    def swap(number: int) -> None:
        if number == len(PROMPTS) - 1:
            stand_in.models = {NAME: language, "other": language}
            stand_in.models.pop(NAME)

    stand_in.before = swap
    with pytest.raises(PreconditionFailed):
        opened.write(PROMPTS, GREEDY, 8, _quiet)


def test_an_answer_of_another_model_is_not_kept(vllm: ServerBackend, stand_in: StandIn, model_ref: ArtifactRef) -> None:
    opened = vllm.open(model_ref)
    stand_in.forge = lambda answer: answer | {"model": "other"}
    with pytest.raises(PreconditionFailed, match="another model"):
        opened.write(PROMPTS[:1], GREEDY, 1, _quiet)


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param({"choices": []}, id="no choice"),
        pytest.param({"choices": "a"}, id="no list"),
        pytest.param({"choices": [{"text": 7, "token_ids": None}]}, id="no text"),
        pytest.param({"choices": [{"text": "a", "token_ids": [5] * 99}]}, id="too many tokens"),
        pytest.param({"choices": [{"text": "a", "token_ids": ["5"]}]}, id="tokens that are no numbers"),
        pytest.param({"choices": [{"text": "a", "token_ids": [1 << 40]}]}, id="a token of no vocabulary"),
        pytest.param({"choices": [{"text": "the tail " * 99}]}, id="too long a text"),
    ],
)
def test_an_answer_of_another_form_is_not_believed(
    url: str,
    store: ArtifactStore,
    stand_in: StandIn,
    model_ref: ArtifactRef,
    forged: dict[str, object],
) -> None:
    stand_in.forge = lambda answer: answer | forged
    with backend_of(store, model_ref, url, attempts=2) as opened, pytest.raises(Unavailable, match="no whole answer"):
        opened.open(model_ref).write(PROMPTS[:1], GREEDY, 1, _quiet)


def test_numbers_that_are_none_are_told_as_a_diverged_model(
    vllm: ServerBackend, stand_in: StandIn, model_ref: ArtifactRef
) -> None:
    def spoil(answer: dict[str, Any]) -> dict[str, Any]:
        for entry in answer["choices"][0]["prompt_logprobs"][1:]:
            next(iter(entry.values()))["logprob"] = math.nan
        return answer

    stand_in.forge = spoil
    with pytest.raises(PreconditionFailed, match="not numbers"):
        vllm.open(model_ref).judge([[5, 6, 7]], [0], 1, _quiet)


def test_a_missing_server_is_told_as_such(store: ArtifactStore, model_ref: ArtifactRef) -> None:
    with backend_of(store, model_ref, "http://127.0.0.1:9", attempts=1) as opened:
        with pytest.raises(Unavailable):
            opened.open(model_ref)
        with pytest.raises(Unavailable):
            _ = opened.capabilities


def test_a_fault_in_the_middle_changes_no_number(
    vllm: ServerBackend, stand_in: StandIn, model: HfModel, model_ref: ArtifactRef
) -> None:
    opened = vllm.open(model_ref)
    whole = opened.judge(_ids(model), [0] * 5, 4, _quiet)
    stand_in.faults.extend([Fault.TRUNCATED, Fault.BUSY, Fault.NONE, Fault.DROPPED, Fault.FAILED])
    again = opened.judge(_ids(model), [0] * 5, 4, _quiet)
    assert [scores.log_probabilities.tolist() for scores in again] == [
        scores.log_probabilities.tolist() for scores in whole
    ]
