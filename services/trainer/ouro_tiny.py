"""What `models/ouro-tiny` is: its tokenizer, its architecture, and how well it predicts a text.

Knows texts and tensors; nothing of where the texts come from, how training is scheduled, or files beyond one folder.

Shapes: B = sequences in the batch, T = tokens of a sequence, V = vocabulary.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 4096
END = "<|endoftext|>"
"""Stands between documents, hence both before the first token (BOS) and after the last (EOS)."""
PAD = "<|padding|>"
MAX_POSITIONS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well a model predicts texts it has not seen."""

    perplexity: float
    """exp of the mean surprise per token in nats; lower is better."""
    bits_per_byte: float
    """Surprise per UTF-8 byte in bits: comparable between tokenizers, which perplexity is not."""
    tokens: int


def train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE vocabulary: every string can be encoded, none is unknown."""
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(
        texts, vocab_size=VOCABULARY, min_frequency=2, show_progress=False, special_tokens=[END, PAD]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=learner._tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return an untrained model; its weights come from torch's current random state.

    3.9 million parameters: as many layers as eight megabytes of bfloat16 allow at a width of 256.
    """
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=544,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=MAX_POSITIONS,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def encoded(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each text, without special tokens."""
    return [list(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]


@torch.inference_mode()
def quality(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Quality:
    """Measure the surprise of each text alone, given only that a document begins.

    Every token of the text counts once, the special tokens do not. A text longer than the model's positions is cut
    there, and only the bytes of what was scored are counted.
    """
    model.eval()
    documents = [ids[: MAX_POSITIONS - 1] for ids in encoded(tokenizer, texts)]
    documents.sort(key=len)  # neighbours of equal length need little padding
    nats = math.fsum(_batch_nats(model, documents[start : start + 16]) for start in range(0, len(documents), 16))
    tokens = sum(map(len, documents))
    size = sum(len(tokenizer.decode(ids).encode()) for ids in documents)
    return Quality(perplexity=math.exp(nats / tokens), bits_per_byte=nats / math.log(2) / size, tokens=tokens)


def unigram_quality(tokenizer: PreTrainedTokenizerFast, train: Sequence[str], texts: Sequence[str]) -> Quality:
    """Return the quality of the model that knows only how frequent each token is (add-one smoothed).

    A language model that is not far better has learnt nothing about order.
    """
    counts = Counter(token for ids in encoded(tokenizer, train) for token in ids)
    total = counts.total() + VOCABULARY
    documents = [ids[: MAX_POSITIONS - 1] for ids in encoded(tokenizer, texts)]
    nats = -math.fsum(math.log((counts[token] + 1) / total) for ids in documents for token in ids)
    tokens = sum(map(len, documents))
    size = sum(len(tokenizer.decode(ids).encode()) for ids in documents)
    return Quality(perplexity=math.exp(nats / tokens), bits_per_byte=nats / math.log(2) / size, tokens=tokens)


def _batch_nats(model: LlamaForCausalLM, documents: Sequence[Sequence[int]]) -> float:
    """Return the summed surprise of a few documents, padded on the right to one length."""
    width = max(map(len, documents))
    begin = int(model.config.bos_token_id)
    input_BT = torch.full((len(documents), width + 1), begin)
    target_BT = torch.full((len(documents), width + 1), -100)  # the index that cross_entropy ignores
    for row, ids in enumerate(documents):
        input_BT[row, 1 : len(ids) + 1] = torch.tensor(ids)
        target_BT[row, : len(ids)] = torch.tensor(ids)
    logits_BTV = model(input_ids=input_BT, use_cache=False).logits.float()
    return float(torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), target_BT.flatten(), reduction="sum"))
