"""The committed small model is what its card says: small, safe to load, and much better than word frequencies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors import safe_open  # noqa: E402 (after the checks that the extra is installed)

from ouroscope.corpora.docstrings import Part, gather  # noqa: E402
from ouroscope.corpora.sources import Source  # noqa: E402
from ouroscope.errors import AlreadyExists, InvalidRequest  # noqa: E402
from services.trainer.ouro_tiny import END, new_model, quality, train_tokenizer, unigram_quality  # noqa: E402
from services.trainer.ouro_tiny_card import read_record  # noqa: E402
from services.trainer.ouro_tiny_training import Schedule, packed_batches, trained  # noqa: E402
from services.trainer.pretrain import pretrain, refuse_to_overwrite  # noqa: E402

FOLDER = Path(__file__).parents[2] / "models" / "ouro-tiny"
TEXTS = ["The zebra has stripes and the lion has none of them, which is known.", "A hoof grows slowly."] * 20


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tests run beside each other; threads that wait for each other would take most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model():
    return transformers.AutoModelForCausalLM.from_pretrained(FOLDER, use_safetensors=True, dtype=torch.float32)


def test_the_folder_is_small_and_holds_no_code_or_pickle() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_000_000
    assert {path.suffix for path in files} <= {".json", ".md", ".safetensors"}


def test_all_weights_are_bfloat16_and_as_many_as_the_card_says() -> None:
    with safe_open(FOLDER / "model.safetensors", framework="pt") as weights:
        tensors = [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118 (not a mapping)
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}
    assert sum(tensor.numel() for tensor in tensors) == read_record(FOLDER).parameters


def test_no_sampling_parameter_is_tuned() -> None:
    config = json.loads((FOLDER / "generation_config.json").read_text())
    assert not {"temperature", "top_k", "top_p", "do_sample", "repetition_penalty"} & set(config)


def test_tokenizer_and_model_agree_on_their_special_tokens(tokenizer, model) -> None:
    assert tokenizer.is_fast
    assert tokenizer.eos_token == tokenizer.bos_token == END
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert len(tokenizer) == model.config.vocab_size


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_survives_the_tokenizer(tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_perplexity_on_the_card_is_found_again(tokenizer, model) -> None:
    record = read_record(FOLDER)
    corpus = gather([Source(name="networkx")])
    texts = [document.text for document in corpus.part(Part.HELD_OUT)]
    found = quality(model, tokenizer, texts)
    # Another version of the library has other paragraphs; copies of other libraries' are not dropped here.
    assert found.perplexity == pytest.approx(record.heldout_perplexity_by_library["networkx"], rel=0.15)
    train = [document.text for document in corpus.part(Part.TRAIN)]
    assert found.perplexity < unigram_quality(tokenizer, train, texts).perplexity / 3


def test_the_record_is_consistent() -> None:
    record = read_record(FOLDER)
    assert record.heldout_perplexity < record.unigram_perplexity / 5 < record.uniform_perplexity
    assert f"**{record.heldout_perplexity:,.1f}**" in (FOLDER / "README.md").read_text()


def test_pretraining_learns_and_the_same_seed_gives_the_same_weights() -> None:
    tokenizer = train_tokenizer(TEXTS)
    schedule = Schedule(steps=4, batch=2, length=16, warm_up=2, watch_every=4)
    before = quality(fresh(tokenizer), tokenizer, TEXTS[:2]).perplexity
    first, second = (trained(tokenizer, TEXTS, TEXTS[:2], schedule, lambda *progress: None) for _ in range(2))
    assert quality(first.model, tokenizer, TEXTS[:2]).perplexity < before
    assert first.best_step == 4
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))


def test_what_is_published_loads_and_is_described(tmp_path: Path) -> None:
    schedule = Schedule(steps=2, batch=1, length=32, watch_every=2, threads=1)
    for _ in range(2):  # the second time replaces the first
        record = pretrain(tmp_path / "model", schedule=schedule, corpus=gather([Source(name="click")]))
    assert read_record(tmp_path / "model") == record
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.dtype == torch.bfloat16
    assert model.num_parameters() == record.parameters
    assert f"{record.bits_per_byte:.3f}" in (tmp_path / "model" / "README.md").read_text()


def fresh(tokenizer):
    torch.manual_seed(1)
    return new_model(tokenizer)


def test_packing_wastes_no_token_and_marks_every_document() -> None:
    batches: Iterator = packed_batches([[5, 6], [7], [8, 9, 10]], 0, Schedule(batch=1, length=8))
    batch = next(batches)
    assert batch.shape == (1, 9)
    assert sorted(batch.flatten().tolist()) == [0, 0, 0, 5, 6, 7, 8, 9, 10]


def test_a_folder_with_other_things_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(AlreadyExists):
        refuse_to_overwrite(tmp_path)


def test_a_schedule_without_steps_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        Schedule(steps=0)
