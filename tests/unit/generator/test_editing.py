"""Text whose easiest tokens a model draws anew, against a reference in float64 that looks at one text at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM

from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import Cancelled, CapabilityMissing, InvalidRequest
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.records.generation import Capability, Edit, Generated
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.tokens import Tokens
from services.generator.backend import STAYS, Backend
from services.generator.editing import edit
from services.generator.in_process import scoring
from services.generator.in_process.backend import HfBackend
from services.generator.in_process.model import HfModel
from services.generator.plan import Plan
from services.generator.sampling import noise
from tests.unit.generator.handover_setup import publish_adapter, write_adapter

PLAN = Plan(batch_size=3, shard_documents=6)
THRESHOLDS = (0.05, 0.01, 0.002, 0.0003)
"""The model has learnt nothing: it gives most tokens a probability below a hundredth."""
ABLE = frozenset(Capability)
Run = Callable[..., tuple[Generated, list[Document]]]


@pytest.fixture(scope="session")
def asked(model_ref: ArtifactRef, prompts: ArtifactRef) -> Edit:
    return Edit(model=model_ref, corpus=prompts, threshold=0.002, top_k=5, generation=3, seed=7, batch_size=3)


@pytest.fixture
def run(store: ArtifactStore, backend: HfBackend, asked: Edit, noting_task: Callable[..., Any]) -> Run:
    def edited(task: Any = None, plan: Plan = PLAN, key: str = "e" * 64, **changes: Any) -> Any:
        answer = edit(store, backend, replace(asked, **changes), plan, key, task or noting_task())
        return answer, list(read_corpus(store, answer.corpus))

    return edited


@pytest.fixture(scope="session")
def exact(store: ArtifactStore, model_ref: ArtifactRef) -> Any:
    """The same model in float64."""
    return AutoModelForCausalLM.from_pretrained(store.directory(model_ref), dtype=torch.float64).eval()


@torch.inference_mode()
def distributions(exact: Any, ids: list[int]) -> torch.Tensor:
    """Return the probabilities [T, V] of each of `ids`, given the start token and those before it."""
    return torch.softmax(exact(torch.tensor([[0, *ids[:-1]]])).logits[0].double(), -1)


def drawn(shares: torch.Tensor, top_k: int, uniform: int, never: set[int]) -> int:
    """Return what one draw gives: the law of `sampling`, by hand."""
    allowed = [(float(share), token) for token, share in enumerate(shares) if token not in never]
    kept = sorted(allowed, key=lambda pair: -pair[0])[:top_k]
    total = sum(share for share, _ in kept)
    reached = 0.0
    for share, token in kept:
        reached += share / total
        if reached > uniform / 2**32:
            return token
    return kept[-1][1]


def expected(model: HfModel, exact: Any, document: Document, asked: Edit) -> tuple[str, int, int]:
    """Return the edited text, how many tokens are drawn and how many replaced, one token after the other.

    Only for texts whose tokens are whole characters.
    """
    before, rest = model.tokens.split(document.text, document.prefix_length)
    shares = distributions(exact, [*before, *rest])[len(before) :]
    uniforms = noise(asked.seed, document.id, len(rest)).tolist()
    new = list(rest)
    for place, token in enumerate(rest):
        if float(shares[place, token]) > asked.threshold:
            other = drawn(shares[place], asked.top_k, uniforms[place], {0})
            new[place] = token if "\ufffd" in model.tokens.decode_many([[other]])[0] else other
    easy = sum(float(shares[place, token]) > asked.threshold for place, token in enumerate(rest))
    text = document.text[: document.prefix_length] + model.tokens.decode_many([new])[0]
    return text, easy, sum(a != b for a, b in zip(new, rest, strict=True))


def test_every_text_is_that_of_the_reference(
    run: Run, store: ArtifactStore, prompts: ArtifactRef, model: HfModel, exact: Any, asked: Edit
) -> None:
    answer, edited = run()
    given = list(read_corpus(store, prompts))
    plain = [(old, new) for old, new in zip(given, edited, strict=True) if old.text.isascii()]
    assert len(plain) >= 12
    found = [expected(model, exact, old, asked) for old, _ in plain]
    assert [new.text for _, new in plain] == [text for text, _, _ in found]
    assert sum(replaced for _, _, replaced in found) > 20, "otherwise this test would show nothing"
    assert answer.tokens >= sum(easy for _, easy, _ in found)
    assert answer.documents == len(given)


def test_a_threshold_of_one_changes_nothing(run: Run, prompts: ArtifactRef) -> None:
    answer, _ = run(threshold=1.0)
    assert answer.corpus == prompts
    assert answer.tokens == 0


def test_a_document_that_was_changed_is_synthetic_and_the_others_are_as_they_were(
    run: Run, store: ArtifactStore, prompts: ArtifactRef, asked: Edit
) -> None:
    _, edited = run(threshold=0.03)
    given = list(read_corpus(store, prompts))
    changed = [(old, new) for old, new in zip(given, edited, strict=True) if old.text != new.text]
    assert 0 < len(changed) < len(given)
    for old, new in changed:
        credit = {"origin": Origin.SYNTHETIC, "generation": 3, "model_digest": asked.model.digest}
        assert new == replace(old, text=new.text, **credit)
    assert {new.id for _, new in changed} | {new.id for new in edited if new in given} == {old.id for old in given}


def test_a_lower_threshold_draws_a_superset_of_positions(
    store: ArtifactStore, prompts: ArtifactRef, model: HfModel, asked: Edit
) -> None:
    texts = [model.tokens.split(d.text, d.prefix_length) for d in read_corpus(store, prompts)]
    tokens, firsts = [[*a, *b] for a, b in texts], [len(a) for a, _ in texts]
    noises = [noise(7, str(i), len(b)) for i, (_, b) in enumerate(texts)]
    found = [model.redraw(tokens, firsts, noises, each, 5, 4, lambda _: None) for each in THRESHOLDS]
    for higher, lower in pairwise(found):
        for one, other in zip(higher, lower, strict=True):
            assert (other[one >= 0] == one[one >= 0]).all(), "a position that is drawn at both draws the same token"
    assert len({sum(int((each >= 0).sum()) for each in texts) for texts in found}) == len(THRESHOLDS)


def test_only_tokens_more_probable_than_the_threshold_are_drawn(
    store: ArtifactStore, prompts: ArtifactRef, model: HfModel, exact: Any
) -> None:
    for number, document in enumerate(read_corpus(store, prompts)):
        before, rest = model.tokens.split(document.text, document.prefix_length)
        shares = distributions(exact, [*before, *rest])[len(before) :]
        own = shares.gather(-1, torch.tensor(rest)[:, None])[:, 0].numpy()
        noises = [noise(1, str(number), len(rest))]
        (found,) = model.redraw([[*before, *rest]], [len(before)], noises, 0.003, 5, 1, lambda _: None)
        assert ((found >= 0) == (own > 0.003)).all()
        for place in (found >= 0).nonzero()[0]:
            assert int(found[place]) in shares[place].topk(6).indices.tolist()


def test_batches_order_and_chunks_change_nothing(
    run: Run, store: ArtifactStore, prompts: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, edited = run()
    for number, batch_size in enumerate((1, 7)):
        plan = Plan(batch_size=batch_size, shard_documents=14)
        assert run(plan=plan, key=f"{number}" * 64)[1] == edited
    turned = write_corpus(store, reversed(list(read_corpus(store, prompts))))
    monkeypatch.setitem(scoring._LOGIT_BYTES, "cpu", 4 * 320 * 10)
    assert run(corpus=turned, key="2" * 64)[1] == edited[::-1]


def test_another_seed_gives_another_corpus(run: Run) -> None:
    assert run(seed=8, key="8" * 64)[0].corpus != run()[0].corpus


def test_an_adapter_edits_by_its_own_weights(
    run: Run, store: ArtifactStore, model_ref: ArtifactRef, model_directory: Path, tmp_path: Path
) -> None:
    adapter = publish_adapter(store, model_ref, write_adapter(model_directory, tmp_path, seed=1))
    answer, edited = run(model=adapter, key="1e" * 32)
    assert {each.model_digest for each in edited} - {None} == {adapter.digest}
    assert edited != run(key="2e" * 32)[1]
    assert answer.served is not None
    assert answer.served.model == adapter.digest


def test_real_prefixes_stay(run: Run, store: ArtifactStore, prompts: ArtifactRef) -> None:
    _, edited = run(threshold=1e-6, key="3" * 64)
    for old, new in zip(read_corpus(store, prompts), edited, strict=True):
        assert new.prefix_length == old.prefix_length
        assert new.text[: new.prefix_length] == old.text[: old.prefix_length]


STRANGE = (
    "naïve 🐍🐍 café — the whole\r\n\tworld  of   it\u00a0and \ufffd, e\u0301 \u200b end ",
    "🐍" * 8,
    "<|end|> is spelt out, the serpent swallows its own tail <|end|>",
    " ",
)


class OneDraw:
    """A model that draws one token at one place of every text."""

    def __init__(self, model: HfModel, place: int, token: int, tokens: Tokens | None = None) -> None:
        self.tokens, self.served, self.context_tokens = tokens or model.tokens, model.served, model.context_tokens
        self._place, self._token = place, token

    def redraw(self, texts: list[list[int]], first: list[int], noises: list[Any], *_: Any) -> list[Any]:
        drawn = [np.full_like(each, STAYS) for each in noises]
        for each in drawn:
            each[self._place : self._place + 1] = self._token
        return drawn


def test_what_is_not_replaced_keeps_its_exact_characters(
    store: ArtifactStore, backend: HfBackend, model: HfModel, asked: Edit, noting_task: Callable[..., Any]
) -> None:
    documents = [Document(id=f"s{i}", text=text, origin=Origin.HUMAN) for i, text in enumerate(STRANGE)]
    corpus = write_corpus(store, documents)
    (calls,) = model.tokens.encode(" calls")
    replaced = 0
    for place in range(60):
        fake = SimpleNamespace(name="fake", capabilities=ABLE, open=lambda _, p=place: OneDraw(model, p, calls))
        answer = edit(store, cast(Backend, fake), replace(asked, corpus=corpus), PLAN, f"{place:064}", noting_task())
        for old, new in zip(documents, read_corpus(store, answer.corpus), strict=True):
            before, _, after = new.text.rpartition(" calls")
            gone = old.text[len(before) : len(old.text) - len(after)]
            assert new == old or before + gone + after == old.text
            assert new == old or model.tokens.encode(gone) == [model.tokens.encode(gone)[0]], "one token made room"
            replaced += new != old
    assert replaced > 40


def spaced() -> Tokens:
    """Return a tokenizer that puts a space before every text and drops it when decoding, as Llama's did."""
    pieces = ["<unk>", "<s>", *"\u2581abcdefghijklmnopqrstuvwxyz", "\u2581a", "\u2581t", "\u2581z", "zz"]
    merges = [("\u2581", "a"), ("\u2581", "t"), ("\u2581", "z"), ("z", "z")]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return Tokens(tokenizer, start=[1], ends=[])


def pieces_of_words() -> Tokens:
    """Return a tokenizer that drops the spaces between words, as BERT's does."""
    names = ["[UNK]", "[CLS]", "a", "tail", "the", "mirror", "zz", "##s", "##zz"]
    tokenizer = Tokenizer(models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    return Tokens(tokenizer, start=[1], ends=[])


ENDS = {"at  a zail", "at  a t zil", "at  a ta zl", "at  a tai z"}


@pytest.mark.parametrize(
    ("tokens", "token", "text", "wanted"),
    [
        (spaced(), "zz", "at a", {"zzt a", "azz a", "atzz"}),
        (spaced(), "\u2581z", "at  a tail", {*ENDS, "zt  a tail", "a z  a tail", "at z a tail", "at  z tail"}),
        (pieces_of_words(), "##zz", "the  mirrors a", {"##zz  mirrors a", "the  mirrorzz a", "the  mirrorszz"}),
        (pieces_of_words(), "zz", "the  mirrors a", {"zz  mirrors a", "the  mirror zz a", "the  mirrors zz"}),
    ],
)
def test_tokenizers_that_treat_spaces_in_their_own_ways_keep_what_is_not_replaced(
    store: ArtifactStore,
    model: HfModel,
    asked: Edit,
    noting_task: Callable[..., Any],
    tokens: Tokens,
    token: str,
    text: str,
    wanted: set[str],
) -> None:
    corpus = write_corpus(store, [Document(id="one", text=text)])
    number = tokens._tokenizer.token_to_id(token)
    found = set()
    for place in range(len(tokens.encode(text))):
        fake = OneDraw(model, place, number, tokens)
        backend = cast(Backend, SimpleNamespace(name="fake", capabilities=ABLE, open=lambda _, fake=fake: fake))
        key = f"{len(text)}{number}{place:060}"
        answer = edit(store, backend, replace(asked, corpus=corpus), PLAN, key, noting_task())
        found |= {document.text for document in read_corpus(store, answer.corpus)}
    assert found - {text} == wanted


def test_control_tokens_are_never_drawn(model: HfModel) -> None:
    tokens = model.tokens.encode("The serpent swallows its own tail for the first time")
    for seed in range(20):
        noises = [noise(seed, "a", len(tokens))]
        (found,) = model.redraw([tokens], [0], noises, 1e-9, 400, 1, lambda _: None)
        assert 0 not in found.tolist()


def test_a_text_longer_than_the_context_is_edited_to_its_end(
    run: Run, store: ArtifactStore, human: ArtifactRef, model: HfModel
) -> None:
    given = list(read_corpus(store, human))
    assert any(len(model.tokens.encode(document.text)) > model.context_tokens for document in given)
    _, edited = run(corpus=human, threshold=1e-4, key="5" * 64)
    for old, new in zip(given, edited, strict=True):
        assert new.text[-60:] != old.text[-60:]


def test_a_text_that_fits_and_a_text_read_through_windows_begin_alike(
    run: Run, store: ArtifactStore, model: HfModel
) -> None:
    ids = model.tokens.encode("The serpent swallows its own tail. " * 12)
    short, long = model.tokens.decode_many([ids[:60], ids])
    corpora = [write_corpus(store, [Document(id="one", text=text)]) for text in (short, long)]
    first, second = (run(corpus=corpus, threshold=0.01, key=k * 64)[1] for corpus, k in zip(corpora, "67", strict=True))
    assert second[0].text.startswith(first[0].text[:150])
    assert first[0].text != short


def test_interrupted_work_goes_on_from_its_shards_and_ends_in_the_same_corpus(
    run: Run, noting_task: Callable[..., Any]
) -> None:
    whole, _ = run(key="9" * 64)
    with pytest.raises(Cancelled):
        run(noting_task(3), key="a" * 64)
    last = noting_task()
    assert run(last, key="a" * 64)[0] == whole
    seen = noting_task()
    run(seen, key="b" * 64)
    assert len(last.told) < len(seen.told)


def test_progress_rises_to_the_number_of_documents(run: Run, noting_task: Callable[..., Any]) -> None:
    task = noting_task()
    answer, _ = run(task, key="c" * 64)
    done = [progress.done for progress in task.told]
    assert done == sorted(done)
    assert done[-1] == answer.documents == task.told[-1].total


def test_a_backend_that_is_a_server_says_who_can(
    store: ArtifactStore, asked: Edit, noting_task: Callable[..., Any]
) -> None:
    server = cast(Backend, SimpleNamespace(name="big", capabilities=ABLE - {Capability.EDIT}))
    with pytest.raises(CapabilityMissing, match="'transformers'"):
        edit(store, server, asked, PLAN, "d" * 64, noting_task())


@pytest.mark.parametrize("change", [{"threshold": 0.0}, {"threshold": 1.1}, {"top_k": 0}, {"generation": -1}])
def test_impossible_requests_are_refused(asked: Edit, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        replace(asked, **change)
