"""text-generation-inference as a backend, against a stand-in that checks every request by TGI's published forms."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.responses import RedirectResponse, Response
from structlog.testing import capture_logs
from tokenizers.processors import TemplateProcessing

from ouroscope.errors import CapabilityMissing, InvalidRequest, PreconditionFailed, Unavailable
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Capability, ChatFormat, SamplingSpec, Verification
from ouroscope.seeds import derive_seed
from ouroscope.store.artifacts import ArtifactStore
from services.generator.backend import Prompt
from services.generator.declared import DeclaredBackend, ServerKind, Weights
from services.generator.in_process.backend import HfModel
from services.generator.opening import open_backend
from services.generator.servers.backend import ServerBackend
from services.generator.servers.model import ServerModel
from services.generator.servers.tgi import TgiDialect
from tests.servers import tgi_api
from tests.servers.language import Language
from tests.servers.running import running
from tests.servers.tgi import TgiStandIn, error

GREEDY = SamplingSpec(temperature=0, max_new_tokens=12, min_new_tokens=0)
PROMPTS = [
    Prompt("a", "The serpent swallows"),
    Prompt("b", "The café swallows its own tail for the"),
    Prompt("c", "and calls"),
]


def quiet(_: int) -> None:
    """Nobody listens."""


@pytest.fixture(scope="session")
def language(model_directory: Path) -> Language:
    return Language(model_directory)


@pytest.fixture
def stand_in(language: Language) -> Iterator[TgiStandIn]:
    made = TgiStandIn(language, model_id="serpent")
    yield made
    assert made.wrong == [], "a request or an answer is not of TGI's published form"


@pytest.fixture
def open_tgi(stand_in: TgiStandIn, store: ArtifactStore, model_ref: ArtifactRef) -> Iterator[Callable[..., Any]]:
    """Declare the stand-in as a backend."""
    opened: list[ServerBackend] = []
    with running(stand_in.app) as url:

        def make(environ: dict[str, str] | None = None, **options: Any) -> ServerBackend:
            declared = DeclaredBackend(
                name="pool",
                kind=ServerKind.TGI,
                urls=(url,),
                weights=Weights.FIXED,
                base=model_ref,
                served_name="serpent",
                **{"attempts": 3, **options},
            )
            opened.append(open_backend(declared, store, environ or {}))
            return opened[-1]

        yield make
        for backend in opened:
            backend.close()


@pytest.fixture
def tgi(open_tgi: Callable[..., ServerBackend], model_ref: ArtifactRef) -> ServerModel:
    return open_tgi().open(model_ref)


def test_the_server_is_declared_and_named_in_what_is_recorded(tgi: ServerModel) -> None:
    assert (tgi.served.backend, tgi.served.kind, tgi.served.model) == ("pool", "tgi", "serpent")
    assert tgi.served.verification is Verification.DECLARED
    assert not tgi.served.reproducible


def test_greedy_text_is_that_of_the_model_in_process(tgi: ServerModel, model: HfModel) -> None:
    there, here = (each.write(PROMPTS, GREEDY, 2, quiet).continuations for each in (tgi, model))
    assert there == here


def test_the_end_marker_is_neither_text_nor_counted(
    tgi: ServerModel, language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    (swallows,) = tgi.tokens.encode(" swallows")
    monkeypatch.setattr(language, "draw", lambda ids, settings: [swallows, *tgi.tokens.ends])
    (found,) = tgi.write(PROMPTS[:1], GREEDY, 1, quiet).continuations
    assert (found.text, found.tokens) == (" swallows", 1)


def test_a_document_that_ends_at_once_has_no_tokens(
    tgi: ServerModel, language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language, "draw", lambda ids, settings: [*tgi.tokens.ends])
    (found,) = tgi.write(PROMPTS[:1], SamplingSpec(), 1, quiet).continuations
    assert (found.text, found.tokens) == ("", 0)


def test_every_document_has_its_own_seed_which_TGI_accepts(tgi: ServerModel, stand_in: TgiStandIn) -> None:
    sampling = SamplingSpec(seed=7, max_new_tokens=4, min_new_tokens=0)
    tgi.write(PROMPTS, sampling, 2, quiet)
    seeds = {body["parameters"]["seed"] for body in stand_in.requests}
    assert seeds == {derive_seed(7, prompt.id) for prompt in PROMPTS}
    assert min(seeds) >= 1


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (SamplingSpec(temperature=0, top_k=50, top_p=0.5), {"do_sample": False}),
        (SamplingSpec(temperature=1, top_k=50, top_p=1), {"do_sample": True, "temperature": 1, "top_k": 50}),
        (SamplingSpec(temperature=0.5, top_k=0, top_p=0.9), {"do_sample": True, "temperature": 0.5, "top_p": 0.9}),
    ],
)
def test_settings_that_keep_everything_are_not_sent(
    tgi: ServerModel, stand_in: TgiStandIn, sampling: SamplingSpec, expected: dict[str, Any]
) -> None:
    tgi.write(PROMPTS[:1], sampling, 1, quiet)
    sent = stand_in.requests[-1]["parameters"]
    drawing = {key: sent[key] for key in ("do_sample", "temperature", "top_k", "top_p") if key in sent}
    assert drawing == expected
    assert not {"best_of", "truncate"} & set(sent)


@pytest.mark.parametrize("sampling", [SamplingSpec(min_new_tokens=2), SamplingSpec(chat=ChatFormat())])
def test_what_TGI_cannot_do_is_refused_before_anything_is_asked(
    tgi: ServerModel, stand_in: TgiStandIn, sampling: SamplingSpec
) -> None:
    with pytest.raises(CapabilityMissing):
        tgi.write(PROMPTS, sampling, 2, quiet)
    assert stand_in.requests == []


def test_a_text_that_the_server_has_no_room_for_is_refused_here(tgi: ServerModel) -> None:
    with pytest.raises(InvalidRequest, match="does not fit"):
        tgi.write(PROMPTS, SamplingSpec(max_new_tokens=90), 2, quiet)


def test_log_probabilities_are_those_of_the_model_in_process(tgi: ServerModel, model: HfModel) -> None:
    texts = tgi.tokens.encode_many([prompt.text for prompt in PROMPTS])
    there, here = (each.judge(texts, [0, 3, 1], 2, quiet) for each in (tgi, model))
    for told, known in zip(there, here, strict=True):
        np.testing.assert_allclose(told.log_probabilities, known.log_probabilities, atol=1e-4)
        assert told.greedy is None, "TGI does not tell the first choices of a prompt"


def test_expectations_are_those_of_the_model_in_process(tgi: ServerModel, model: HfModel) -> None:
    prompts = tgi.tokens.encode_many(["The serpent", "The mirror"])
    following = [tgi.tokens.encode(" swallows")[0], None]
    there, here = (each.expect(prompts, following, 5, 2, quiet) for each in (tgi, model))
    for told, known in zip(there, here, strict=True):
        np.testing.assert_allclose(told.top_probabilities, known.top_probabilities, atol=1e-4)
        assert told.entropy is None, "five choices are no distribution"
        # Beyond the list only the probability is known.
        assert told.true_rank == (known.true_rank if known.true_rank and known.true_rank <= 5 else None)
        assert (told.true_probability is None) == (known.true_probability is None)
        assert math.isclose(told.true_probability or 0, known.true_probability or 0, abs_tol=1e-4)


def test_more_choices_than_the_server_tells_are_a_typed_error_that_names_the_setting(tgi: ServerModel) -> None:
    with pytest.raises(CapabilityMissing, match="--max-top-n-tokens 6"):
        tgi.expect([tgi.tokens.encode("The serpent")], [None], 6, 1, quiet)


def test_an_empty_prefill_list_is_a_typed_error_that_names_the_setting(
    open_tgi: Callable[..., ServerBackend], stand_in: TgiStandIn, model_ref: ArtifactRef
) -> None:
    stand_in.prefill_log_probabilities = False
    backend = open_tgi()
    assert {Capability.GENERATE, Capability.SCORE} & backend.capabilities == {Capability.GENERATE}
    assert "--enable-prefill-logprobs" in backend.problem
    model = backend.open(model_ref)
    with pytest.raises(CapabilityMissing, match="--enable-prefill-logprobs"):
        model.judge([model.tokens.encode("The serpent")], [0], 1, quiet)
    stand_in.prefill_log_probabilities = True
    assert Capability.SCORE in backend.capabilities, "a no is not for ever"


def test_a_text_that_is_cut_anew_is_scored_as_the_server_reads_it(tgi: ServerModel, model: HfModel) -> None:
    before, after = tgi.tokens.encode("The serpent swal"), tgi.tokens.encode("lows its own tail")
    whole = tgi.tokens.encode("The serpent swallows its own tail")
    assert [*before, *after] != whole, "the seam should be inside a word"
    with capture_logs() as logs:
        told, *_ = tgi.judge([[*before, *after]] * 3, [len(before)] * 3, 1, quiet)
    # Said, but not once for every text.
    assert [each["texts"] for each in logs if each["event"] == "server.read_differently"] == [1, 2]
    # The first token that reaches beyond the seam counts, with all that follow.
    (known,) = model.judge([whole], [len(tgi.tokens.encode("The serpent"))], 1, quiet)
    np.testing.assert_allclose(told.log_probabilities, known.log_probabilities, atol=1e-4)


def test_a_text_that_is_cut_inside_a_character_is_refused(tgi: ServerModel) -> None:
    ids = tgi.tokens.encode("café 🦎")
    assert tgi.tokens.decode_many([ids[:-1]])[0].endswith("\ufffd")
    with pytest.raises(InvalidRequest, match="inside a character"):
        tgi.judge([ids[:-1]], [0], 1, quiet)


def test_a_prompt_that_is_cut_inside_a_word_is_refused(tgi: ServerModel) -> None:
    parts = [*tgi.tokens.encode("The swal"), *tgi.tokens.encode("lows")]
    with pytest.raises(InvalidRequest, match="WORDS"):
        tgi.expect([parts], [None], 5, 1, quiet)


def test_a_following_token_that_the_server_reads_otherwise_is_undefined(tgi: ServerModel) -> None:
    (letter,) = tgi.tokens.encode("r")
    alike, otherwise = tgi.tokens.encode("The se"), tgi.tokens.encode("The fi")
    assert [*alike, letter] == tgi.tokens.encode("The ser")
    assert [*otherwise, letter] != tgi.tokens.encode("The fir")
    known, unknown = tgi.expect([alike, otherwise], [letter, letter], 1, 1, quiet)
    assert known.true_probability is not None
    assert (unknown.true_rank, unknown.true_probability) == (None, None)


def test_a_server_with_another_tokenizer_is_refused(
    tgi: ServerModel, stand_in: TgiStandIn, language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        language.tokenizer._tokenizer,
        "post_processor",
        TemplateProcessing("<|end|> $A", special_tokens=[("<|end|>", 0)]),
    )
    with pytest.raises(PreconditionFailed, match="otherwise than the model's tokenizer"):
        tgi.write(PROMPTS, GREEDY, 2, quiet)


def test_what_may_pass_is_asked_again(tgi: ServerModel, stand_in: TgiStandIn) -> None:
    stand_in.faults.extend(partial(error, status) for status in (424, 429, 500))
    with capture_logs() as logs:
        found = tgi.write(PROMPTS, GREEDY, 3, quiet)
    assert all(each.text for each in found.continuations)
    assert len(stand_in.requests) == 6
    assert "secret" not in repr(logs)


def test_what_may_pass_but_does_not_is_said(tgi: ServerModel, stand_in: TgiStandIn) -> None:
    stand_in.faults.extend([partial(error, 429)] * 3)
    with pytest.raises(Unavailable, match="429") as caught:
        tgi.write(PROMPTS[:1], GREEDY, 1, quiet)
    assert "secret" not in caught.value.message


def test_a_request_that_TGI_finds_wrong_is_not_repeated_and_its_words_are_not_passed_on(
    tgi: ServerModel, stand_in: TgiStandIn
) -> None:
    stand_in.faults.append(partial(error, 422))
    with pytest.raises(InvalidRequest) as caught:
        tgi.write(PROMPTS[:1], GREEDY, 1, quiet)
    assert len(stand_in.requests) == 1
    assert "secret" not in caught.value.message


BROKEN = [
    b'{"generated_text": "half of',
    b"[]",
    b"null",
    b"7",
    b'{"generated_text": "no details"}',
    json.dumps({"generated_text": "", "details": []}).encode(),
    json.dumps({"generated_text": "", "details": {"tokens": [{"id": "0"}], "prefill": []}}).encode(),
    json.dumps({"generated_text": "", "details": {"tokens": [{"id": 10**9}], "generated_tokens": 1}}).encode(),
    json.dumps({"generated_text": "", "details": {"tokens": [{"id": 1}] * 99, "generated_tokens": 99}}).encode(),
    json.dumps({"generated_text": "", "details": {"tokens": [{"id": 1}], "generated_tokens": 2}}).encode(),
    json.dumps({"generated_text": "", "details": {"tokens": 3, "update": 1, "__class__": 2, "get": 4}}).encode(),
    b"\xff\xfe\x00",
    b"[" * 100_000,
]


def test_an_answer_that_is_none_is_asked_for_again_and_never_believed(
    tgi: ServerModel, stand_in: TgiStandIn, model: HfModel
) -> None:
    stand_in.faults.extend(partial(Response, content, media_type="application/json") for content in BROKEN)
    prompts = [Prompt(str(number), f"The serpent {number}") for number in range(len(BROKEN))]
    found = tgi.write(prompts, GREEDY, 1, quiet)
    assert len(stand_in.requests) == 2 * len(BROKEN)
    assert found.continuations == model.write(prompts, GREEDY, 1, quiet).continuations


def test_probabilities_that_are_not_numbers_are_the_models_fault(tgi: ServerModel, stand_in: TgiStandIn) -> None:
    ids = [*tgi.tokens.start, *tgi.tokens.encode("The serpent")]
    prefill = ", ".join(f'{{"id": {token}, "text": "", "logprob": null}}' for token in ids)
    answer = f'{{"generated_text": "", "details": {{"prefill": [{prefill}], "tokens": [], "generated_tokens": 0}}}}'
    stand_in.faults.append(lambda: Response(answer, media_type="application/json"))
    with pytest.raises(PreconditionFailed, match="not numbers"):
        tgi.judge([tgi.tokens.encode("The serpent")], [0], 1, quiet)


def test_no_redirect_is_followed_and_no_foreign_token_is_sent(
    open_tgi: Callable[..., ServerBackend],
    stand_in: TgiStandIn,
    model_ref: ArtifactRef,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_user")
    stand_in.faults.append(lambda: RedirectResponse("/tokenize", 307))
    model = open_tgi({"TGI_TOKEN": "ours"}, token_variable="TGI_TOKEN").open(model_ref)
    with pytest.raises(InvalidRequest):
        model.write(PROMPTS[:1], GREEDY, 1, quiet)
    model.write(PROMPTS[:1], GREEDY, 1, quiet)
    assert stand_in.authorizations == {"Bearer ours"}


def test_weights_that_change_meanwhile_are_found_out(tgi: ServerModel, stand_in: TgiStandIn) -> None:
    def change(number: int) -> None:
        stand_in.model_id = "mirror"

    stand_in.before = change
    with pytest.raises(PreconditionFailed, match=r"'mirror' and not 'serpent'"):
        tgi.write(PROMPTS, GREEDY, 2, quiet)


def test_nothing_is_remembered_of_the_library(tgi: ServerModel) -> None:
    """Whoever updates huggingface_hub learns here that what is overridden is still there."""
    assert isinstance(tgi._dialect, TgiDialect)
    from huggingface_hub import AsyncInferenceClient

    assert "_inner_post" in vars(AsyncInferenceClient)


def test_the_table_finds_what_is_not_of_the_published_form() -> None:
    good = {"inputs": "x", "parameters": {"seed": 1, "top_p": 0.5}}
    assert list(tgi_api.problems(good, "GenerateRequest")) == []
    for wrong in (
        {},
        {"inputs": 1},
        {"inputs": "x", "stream": True},
        {"inputs": "x", "parameters": {"seed": 0}},
        {"inputs": "x", "parameters": {"top_p": 1.5}},
        {"inputs": "x", "parameters": {"do_sample": None}},
        {"inputs": "x", "parameters": {"max_new_tokens": True}},
    ):
        assert list(tgi_api.problems(wrong, "GenerateRequest")), wrong


@pytest.mark.skipif("OURO_TGI_OPENAPI" not in os.environ, reason="OURO_TGI_OPENAPI names no copy of TGI's openapi.json")
def test_the_table_is_that_of_the_published_document() -> None:
    document = json.loads(Path(os.environ["OURO_TGI_OPENAPI"]).read_bytes())
    assert document["info"]["version"] == tgi_api.VERSION
    assert list(tgi_api.differences(document)) == []
    document["components"]["schemas"]["Token"]["properties"]["logprob"]["nullable"] = False
    del document["paths"]["/info"]
    assert len(list(tgi_api.differences(document))) == 2
