"""Text to tokens and back, for tokenizers of different habits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from ouroscope.tokens import Tokens
from services.generator.in_process.model import HfModel


@pytest.fixture
def spaced() -> Tokenizer:
    """A tokenizer that puts a space before every text and drops it when decoding, as Llama's did."""
    pieces = ["<unk>", "<s>", "</s>", "▁", *"abcdefghijklmnopqrstuvwxyzOU", "▁a", "▁b", "▁c"]
    merges = [("▁", "a"), ("▁", "b"), ("▁", "c")]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


@pytest.mark.parametrize("prefix", ["The serp", "café", "", "x  ", "🐍"])
@given(rest=st.text(max_size=30))
def test_prefix_and_rest_are_cut_exactly_at_the_seam(model: HfModel, prefix: str, rest: str) -> None:
    before, after = model.tokens.split(prefix + rest, len(prefix))
    assert model.tokens.decode_many([before, after]) == [prefix, rest]


def test_added_tokens_give_the_text_after_the_prompt(model: HfModel) -> None:
    prompt, added = model.tokens.encode_many(["The mirror", " of it"])
    assert model.tokens.continued([prompt], [added]) == [" of it"]


def test_half_a_character_becomes_a_replacement_and_spoils_nothing_before_it(model: HfModel) -> None:
    letter = model.tokens.encode("\U00010348")  # too rare to be one token
    assert model.tokens.continued([model.tokens.encode("é")], [letter[:-1]]) == ["\ufffd"]


def test_a_tokenizer_that_adds_spaces_is_cut_by_its_offsets(spaced: Tokenizer) -> None:
    tokens = Tokens(spaced, start=[1], ends=[2])
    before, after = tokens.split("ab cd", 2)
    assert before + after == tokens.encode("ab cd")
    assert len(before) == 2


def test_a_tokenizer_that_adds_spaces_keeps_the_one_at_the_seam(spaced: Tokenizer) -> None:
    tokens = Tokens(spaced, start=[1], ends=[2])
    whole = tokens.encode("ab cd")
    assert tokens.continued([whole[:2]], [whole[2:]]) == [" cd"]


def test_what_a_template_puts_first_is_the_start(spaced: Tokenizer, tmp_path: Path) -> None:
    spaced.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text('{"eos_token_id": [2, 3], "bos_token_id": 7}')
    opened = Tokens.open(tmp_path)
    assert opened.start == (1,)
    assert opened.ends == {2, 3}


def test_models_that_cut_texts_alike_share_one_tokenizer(model_directory: Path, tmp_path: Path) -> None:
    # Each one of the library keeps the words that it met for ever.
    other = shutil.copytree(model_directory, tmp_path / "other")
    assert Tokens.open(other) is Tokens.open(model_directory)
    assert Tokens.open(other, control=True) is not Tokens.open(other)
    (other / "generation_config.json").write_text('{"eos_token_id": 5}')
    assert Tokens.open(other).ends == {5}


@pytest.mark.parametrize(
    ("generation", "config", "start", "ends"),
    [
        ("{}", '{"bos_token_id": 5, "eos_token_id": 6}', (5,), {6}),
        ('{"eos_token_id": [8, 9]}', '{"bos_token_id": null, "eos_token_id": 6}', (8,), {8, 9}),
        ("{}", '{"text_config": {"bos_token_id": 3}}', (3,), set()),
        ("{}", "{}", (), set()),
    ],
)
def test_start_and_ends_are_read_where_models_say_them(
    spaced: Tokenizer, tmp_path: Path, generation: str, config: str, start: tuple[int], ends: set[int]
) -> None:
    spaced.post_processor = None
    spaced.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "generation_config.json").write_text(generation)
    opened = Tokens.open(tmp_path)
    assert (opened.start, opened.ends) == (start, ends)
