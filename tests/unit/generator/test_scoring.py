"""Probabilities of texts, against a naive reference in float64 that looks at one text at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

from ouroscope.corpora.openings import end_of_words
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import Cancelled, CapabilityMissing, InvalidRequest
from ouroscope.predictions import read_next_tokens, read_scored_texts
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.generation import Capability, PromptUnit, Score, Scored
from ouroscope.records.predictions import NextToken, ScoredText, TextRole
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.tokens import Tokens
from services.generator.in_process import model as in_process_model
from services.generator.in_process import scoring as in_process_scoring
from services.generator.in_process.backend import HfBackend
from services.generator.in_process.model import HfModel
from services.generator.in_process.scoring import Head
from services.generator.scoring import cut_texts, score, unigram_perplexity

Ask = Callable[..., tuple[Scored, list[NextToken], list[ScoredText]]]


@pytest.fixture(scope="session")
def exact(store: ArtifactStore, model_ref: ArtifactRef) -> Any:
    """The same model in float64."""
    return AutoModelForCausalLM.from_pretrained(store.directory(model_ref), dtype=torch.float64).eval()


@torch.inference_mode()
def distributions(exact: Any, ids: list[int]) -> torch.Tensor:
    """Return log-probabilities [T, V] of what comes after the start token and after each of `ids`."""
    return torch.log_softmax(exact(torch.tensor([[0, *ids]])).logits[0].double(), -1)


@pytest.fixture
def ask(
    store: ArtifactStore,
    backend: HfBackend,
    model_ref: ArtifactRef,
    prompts: ArtifactRef,
    noting_task: Callable[..., Any],
) -> Ask:
    everything = Score(
        model=model_ref, prompts=prompts, heldout=prompts, documents=prompts, prompt_length=4, batch_size=5, last_n=6
    )

    def run(task: Any = None, **changes: Any) -> tuple[Scored, list[NextToken], list[ScoredText]]:
        answer = score(store, backend, replace(everything, **changes), task or noting_task())
        return (
            answer,
            list(read_next_tokens(store, answer.predictions)),
            list(read_scored_texts(store, answer.predictions)),
        )

    return run


def test_next_token_records_are_those_of_the_reference(
    ask: Ask, store: ArtifactStore, prompts: ArtifactRef, exact: Any, model: HfModel
) -> None:
    answer, records, _ = ask(heldout=None, documents=None)
    documents = list(read_corpus(store, prompts))
    assert answer.prompts == len(records) == len(documents)
    for document, record in zip(documents, records, strict=True):
        ids = model.tokens.encode(document.text)
        log = distributions(exact, ids[:4])[-1]
        shares = log.exp()
        assert record.prompt_id == document.id
        assert record.cluster == document.cluster
        assert record.top_probabilities == pytest.approx(shares.topk(100).values.tolist(), abs=1e-6)
        assert record.entropy == pytest.approx(float(-(shares * log).sum()), abs=1e-5)
        assert record.true_probability == pytest.approx(float(shares[ids[4]]), rel=1e-4)
        assert record.true_rank == int((shares > shares[ids[4]]).sum()) + 1


PARTS = {
    "the same": list(range(20)),
    "some, in order": [0, 3, 4, 11, 19],
    "in another order": [4, 3, 19, 0],
    "others between": [0, 100, 3, 101, 19],
}


@pytest.mark.parametrize("unit", PromptUnit)
@pytest.mark.parametrize("part", PARTS)
def test_prompts_that_held_out_texts_begin_with_are_answered_as_if_they_were_asked_alone(
    ask: Ask, store: ArtifactStore, prompts: ArtifactRef, part: str, unit: PromptUnit
) -> None:
    known = list(read_corpus(store, prompts))
    picked = [known[n] if n < 100 else Document(id=f"x{n}", text=f"{n} {known[n % 7].text}") for n in PARTS[part]]
    questions = write_corpus(store, picked)
    asked = {"prompts": questions, "prompt_unit": unit, "documents": None}
    (answer, together, texts), (_, alone, _) = ask(**asked), ask(**asked, heldout=None)
    assert [record.prompt_id for record in together] == [document.id for document in picked]
    assert (answer.prompts, answer.texts, len(texts)) == (len(picked), len(known), len(known))
    for one, other in zip(together, alone, strict=True):
        assert (one.prompt_id, one.cluster, one.domain) == (other.prompt_id, other.cluster, other.domain)
        assert one.true_rank == other.true_rank
        assert one.top_probabilities == pytest.approx(other.top_probabilities, abs=1e-6)
        assert one.entropy == pytest.approx(other.entropy, abs=1e-5)
        assert one.true_probability == pytest.approx(other.true_probability, abs=1e-6)


def test_a_text_that_is_looked_at_anyway_is_looked_at_once(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, prompts: ArtifactRef, store: ArtifactStore
) -> None:
    asked: list[int] = []
    expect = HfModel.expect

    def noting(self: HfModel, prompts: list[list[int]], *rest: Any) -> Any:
        asked.append(len(prompts))
        return expect(self, prompts, *rest)

    monkeypatch.setattr(HfModel, "expect", noting)
    assert len(ask()[1]) == 20
    assert asked == []
    # A beginning that is not looked at is asked alone: it is longer than what is scored, or all that there is.
    assert len(ask(max_tokens=4)[1]) == 20
    short = write_corpus(store, [Document(id="a", text=next(iter(read_corpus(store, prompts))).text[:11])])
    ask(prompts=short, heldout=short, documents=None, prompt_length=3, prompt_unit=PromptUnit.TOKENS)
    assert sum(asked) >= 20


def test_batches_side_by_side_do_not_change_the_numbers(
    ask: Ask, store: ArtifactStore, model: HfModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, records, texts = ask()
    monkeypatch.setattr(model.loaded, "lanes", 3)
    _, other_records, other_texts = ask()
    for one, other in zip(records, other_records, strict=True):
        assert one.top_probabilities == pytest.approx(other.top_probabilities, abs=1e-6)
    for mine, theirs in zip(texts, other_texts, strict=True):
        assert mine.log_probability == pytest.approx(theirs.log_probability, abs=1e-4)
        assert replace(mine, log_probability=0.0) == replace(theirs, log_probability=0.0)


def test_batches_side_by_side_are_halved_where_the_memory_runs_out(
    ask: Ask, model: HfModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, texts = ask(prompts=None)
    examine = in_process_scoring.examine_texts

    def tight(head: Head, texts: list[list[int]], *rest: Any) -> Any:
        if len(texts) > 1:
            raise MemoryError
        return examine(head, texts, *rest)

    monkeypatch.setattr(in_process_model, "examine_texts", tight)
    monkeypatch.setattr(model.loaded, "lanes", 2)
    found = ask(prompts=None)[2]
    assert [text.document_id for text in found] == [text.document_id for text in texts]
    assert [text.log_probability for text in found] == pytest.approx([text.log_probability for text in texts], abs=1e-4)


def test_held_out_text_is_scored_whole_and_documents_from_their_prefix(
    ask: Ask, store: ArtifactStore, prompts: ArtifactRef, exact: Any, model: HfModel
) -> None:
    _, _, texts = ask(prompts=None)
    by_role = {role: [text for text in texts if text.role is role] for role in TextRole}
    for document, held, judged in zip(
        read_corpus(store, prompts), by_role[TextRole.HELDOUT], by_role[TextRole.DOCUMENT], strict=True
    ):
        for found, prefix in ((held, 0), (judged, document.prefix_length)):
            before, rest = model.tokens.split(document.text, prefix)
            log = distributions(exact, [*before, *rest])[:-1]
            wanted = log.gather(-1, torch.tensor([*before, *rest])[:, None])[len(before) :, 0]
            greedy = (log.argmax(-1) == torch.tensor([*before, *rest]))[len(before) :]
            assert found.document_id == document.id
            assert found.tokens == len(rest)
            assert found.log_probability == pytest.approx(float(wanted.sum()), abs=1e-4)
            assert found.greedy_tokens == int(greedy.sum())
            assert found.text_bytes == len(document.text[prefix:].encode())
            last = 6 if found is held else 0
            assert found.last_tokens == last
            assert found.last_greedy_tokens == int(greedy[len(greedy) - last :].sum())


def test_batches_and_chunks_do_not_change_the_numbers(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    _, records, texts = ask()
    for batch_size, logit_bytes in ((1, 1 << 25), (7, 1), (64, 5000)):
        monkeypatch.setitem(in_process_scoring._LOGIT_BYTES, "cpu", logit_bytes)
        _, other_records, other_texts = ask(batch_size=batch_size)
        for one, other in zip(records, other_records, strict=True):
            assert one.top_probabilities == pytest.approx(other.top_probabilities, abs=1e-5)
            assert one.entropy == pytest.approx(other.entropy, abs=1e-4)
        for mine, theirs in zip(texts, other_texts, strict=True):
            assert (mine.document_id, mine.role, mine.tokens) == (theirs.document_id, theirs.role, theirs.tokens)
            assert mine.log_probability == pytest.approx(theirs.log_probability, abs=1e-4)


def test_full_logits_exist_for_a_bounded_number_of_positions(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    whole = Head.logits

    def noting(self: Head, states: torch.Tensor) -> torch.Tensor:
        seen.append(len(states))
        return whole(self, states)

    monkeypatch.setattr(Head, "logits", noting)
    monkeypatch.setitem(in_process_scoring._LOGIT_BYTES, "cpu", 4 * 320 * 10)
    ask()
    assert max(seen) <= 10


def test_a_model_that_caps_its_logits_is_asked_for_them_whole() -> None:
    torch.manual_seed(1)
    config = Gemma2Config(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=0.5,
        initializer_range=1.0,
    )
    model = Gemma2ForCausalLM(config).eval()
    head = Head.of(model)
    assert not head.apart
    assert head.texts_at_once(1 << 20) == 1
    ids = [3, 4, 5, 6]
    scores = in_process_scoring.examine_texts(head, [ids], [1], [None], 1)[0].scores
    with torch.inference_mode():
        log = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
    assert scores.log_probabilities == pytest.approx([float(log[i, ids[i + 1]]) for i in range(3)], abs=1e-5)


def test_long_texts_are_cut_at_the_limit_and_only_their_scored_bytes_count(
    ask: Ask, store: ArtifactStore, prompts: ArtifactRef, exact: Any, model: HfModel
) -> None:
    _, _, texts = ask(prompts=None, documents=None, max_tokens=5)
    for document, found in zip(read_corpus(store, prompts), texts, strict=True):
        ids = model.tokens.encode(document.text)[:5]
        wanted = distributions(exact, ids)[:-1].gather(-1, torch.tensor(ids)[:, None]).sum()
        assert found.tokens == 5
        assert found.log_probability == pytest.approx(float(wanted), abs=1e-4)
        # The rest of the text tells how many bytes are gone, also where the cut is inside a character.
        start = model.tokens.decode_many([ids])[0].rstrip("\ufffd")
        assert document.text.startswith(start)
        assert 0 <= found.text_bytes - len(start.encode()) <= 3
        rest = model.tokens.bytes_of(model.tokens.encode(document.text)[5:])
        assert found.text_bytes + rest == len(document.text.encode())


def test_without_a_start_token_the_first_token_is_context_only(model: HfModel) -> None:
    bare = Tokens(model.tokens._tokenizer, start=(), ends=())
    document = Document(id="a", text="The mirror of the world")
    (whole,) = cut_texts(model.tokens, [document], TextRole.HELDOUT, 50)
    (cut,) = cut_texts(bare, [document], TextRole.HELDOUT, 50)
    assert (whole.scored_from, cut.scored_from) == (0, 1)
    first = model.tokens.decode_many([whole.tokens[:1]])[0]
    assert cut.scored_bytes == whole.scored_bytes - len(first.encode())


def test_of_the_documents_only_the_first_ones_are_scored_if_that_is_asked(
    ask: Ask, store: ArtifactStore, prompts: ArtifactRef
) -> None:
    answer, _, texts = ask(prompts=None, max_documents=3)
    wanted = [document.id for document in read_corpus(store, prompts)]
    assert [text.document_id for text in texts if text.role is TextRole.HELDOUT] == wanted
    assert [text.document_id for text in texts if text.role is TextRole.DOCUMENT] == wanted[:3]
    assert answer.texts == len(wanted) + 3


def test_documents_that_are_too_short_are_left_out(ask: Ask, store: ArtifactStore) -> None:
    ref = write_corpus(
        store,
        [
            Document(id="empty", text=""),
            Document(id="one", text="T"),
            Document(id="all prefix", text="The serpent swallows its own tail", prefix_length=33),
            Document(id="long", text="The serpent swallows its own tail for the first time", prefix_length=3),
        ],
    )
    answer, records, texts = ask(prompts=ref, heldout=ref, documents=ref)
    assert "one" not in [record.prompt_id for record in records]
    assert [text.document_id for text in texts if text.role is TextRole.HELDOUT] == ["one", "all prefix", "long"]
    assert [text.document_id for text in texts if text.role is TextRole.DOCUMENT] == ["one", "long"]
    assert answer.texts == 5


def test_a_prompt_that_is_all_there_is_has_no_true_token(ask: Ask, store: ArtifactStore, model: HfModel) -> None:
    text = model.tokens.decode_many([model.tokens.encode("The serpent swallows")[:4]])[0]
    ref = write_corpus(store, [Document(id="a", text=text)])
    _, (record,), _ = ask(prompts=ref, heldout=None, documents=None)
    assert record.true_rank is record.true_probability is None


def test_prompts_can_be_counted_in_words(
    ask: Ask, store: ArtifactStore, exact: Any, model: HfModel, prompts: ArtifactRef
) -> None:
    _, records, _ = ask(prompt_unit=PromptUnit.WORDS, prompt_length=3, heldout=None, documents=None)
    document = next(iter(read_corpus(store, prompts)))
    ids, following = (model.tokens.encode(part) for part in ("The serpent swallows", " its own tail"))
    log = distributions(exact, ids)[-1]
    assert document.text.startswith("The serpent swallows its")
    assert records[0].true_probability == pytest.approx(float(log[following[0]].exp()), rel=1e-4)


@pytest.mark.parametrize(("text", "end"), [("a b c", 3), ("  aa\n a  a", 7), ("a", None), ("", None), ("a b", 3)])
def test_words_end_where_white_space_begins(text: str, end: int | None) -> None:
    assert end_of_words(text, 2) == end


def test_unigram_perplexity_is_that_of_the_definition(
    ask: Ask, store: ArtifactStore, model: HfModel, prompts: ArtifactRef
) -> None:
    corpus = write_corpus(store, [Document(id="a", text="the the tail")])
    answer, _, _ = ask(unigram_corpus=corpus, prompts=None, documents=None)
    fitted = model.tokens.encode("the the tail")
    counts = {token: fitted.count(token) for token in fitted}
    scored = [token for document in read_corpus(store, prompts) for token in model.tokens.encode(document.text)]
    logs = [math.log((counts.get(token, 0) + 1) / (len(fitted) + 320)) for token in scored]
    assert answer.unigram_perplexity == pytest.approx(math.exp(-sum(logs) / len(logs)), rel=1e-9)
    assert answer.uniform_perplexity == 320


def test_unigram_perplexity_by_hand() -> None:
    # q = (2/4, 1/4, 1/4); scored once each of the last two: exp(-(ln 1/4 + ln 1/4) / 2) = 4
    assert unigram_perplexity(np.array([1, 0, 0]), np.array([0, 1, 1])) == pytest.approx(4)
    assert unigram_perplexity(np.array([1, 0]), np.array([0, 0])) is None


def test_without_a_corpus_to_fit_there_is_no_unigram_model(ask: Ask) -> None:
    assert ask(prompts=None)[0].unigram_perplexity is None


def test_counts_add_up(ask: Ask) -> None:
    answer, records, texts = ask()
    assert (answer.prompts, answer.texts) == (len(records), len(texts))
    assert answer.tokens == sum(text.tokens for text in texts)


def test_the_same_question_gives_the_same_predictions(ask: Ask) -> None:
    assert ask()[0] == ask()[0]


def test_prompts_longer_than_the_context_are_refused(ask: Ask, store: ArtifactStore) -> None:
    long = write_corpus(store, [Document(id="long", text="The whole wide world of the mirror " * 50)])
    with pytest.raises(InvalidRequest, match="lower prompt_length"):
        ask(prompts=long, prompt_length=96)


def test_nothing_to_score_is_refused(ask: Ask, store: ArtifactStore) -> None:
    ref = write_corpus(store, [Document(id="empty", text="")])
    with pytest.raises(InvalidRequest, match="no predictions"):
        ask(prompts=None, heldout=ref, documents=None)


def test_scoring_stops_when_asked_and_tells_its_stages(ask: Ask, noting_task: Callable[..., Any]) -> None:
    with pytest.raises(Cancelled):
        ask(task=noting_task(2))
    task = noting_task()
    ask(task=task)
    assert [*dict.fromkeys(progress.stage for progress in task.told)] == ["heldout", "next tokens", "document"]
    ends = {progress.stage: (progress.done, progress.total) for progress in task.told}
    assert set(ends.values()) == {(20, 20)}


def test_a_backend_without_probabilities_says_so(
    store: ArtifactStore, model_ref: ArtifactRef, prompts: ArtifactRef, noting_task: Callable[..., Any]
) -> None:
    class Writer:
        name = "writer"
        capabilities = frozenset({Capability.GENERATE})

    with pytest.raises(CapabilityMissing, match="'writer' cannot score"):
        score(store, Writer(), Score(model=model_ref, heldout=prompts), noting_task())  # type: ignore[arg-type]  # enough


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
