"""Text classifiers of four families, small enough to answer in a blink; nobody has trained them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizerFast,
)

from tests.unit.generator.conftest import TEXTS

LABELS = {0: "human", 1: "machine"}
SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
CONTEXT = 24


def write_bert(folder: Path, **changes: Any) -> Path:
    config = BertConfig(max_position_embeddings=CONTEXT, **SMALL, **changes, **_pieces(folder))
    return _save(BertForSequenceClassification, config, folder)


def write_distilbert(folder: Path, **changes: Any) -> Path:
    shape = {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2, "max_position_embeddings": CONTEXT}
    return _save(DistilBertForSequenceClassification, DistilBertConfig(**shape, **changes, **_pieces(folder)), folder)


def write_roberta(folder: Path, **changes: Any) -> Path:
    learner = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learner.train_from_iterator(TEXTS, vocab_size=320, show_progress=False, special_tokens=special)
    learner.save_model(str(folder))
    tokenizer = RobertaTokenizerFast.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # Positions are counted from behind the padding token: two are lost.
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT + 2, **SMALL, **changes)
    return _save(RobertaForSequenceClassification, config, folder)


def write_gpt2(folder: Path, **changes: Any) -> Path:
    """Write a classifier that knows no padding."""
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(TEXTS, vocab_size=300, show_progress=False, special_tokens=["<|end|>"])
    PreTrainedTokenizerFast(tokenizer_object=learner._tokenizer, eos_token="<|end|>").save_pretrained(folder)
    config = GPT2Config(vocab_size=300, n_embd=16, n_layer=2, n_head=2, n_positions=CONTEXT, **changes)
    return _save(GPT2ForSequenceClassification, config, folder)


def _pieces(folder: Path) -> dict[str, int]:
    """Write a tokenizer of word pieces, and return the size of its vocabulary."""
    learner = BertWordPieceTokenizer()
    learner.train_from_iterator(TEXTS, vocab_size=200, show_progress=False)
    learner.save_model(str(folder))
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}


def _save(kind: Any, config: Any, folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config.initializer_range = 0.5
        kind(config).save_pretrained(folder)
    for left_over in ("vocab.txt", "merges.txt", "vocab.json"):
        (folder / left_over).unlink(missing_ok=True)
    return folder


KINDS = (write_bert, write_distilbert, write_roberta, write_gpt2)
