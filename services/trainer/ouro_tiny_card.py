"""What is known about a trained `ouro-tiny`: one record, written once for programs and once for people.

Knows numbers and names; computes nothing and loads no model.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

RECORD = "training.json"
CARD = "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """How a model was made and how well it predicts; run reports quote it."""

    command: str
    """What makes the same model again, given the same versions."""
    seed: int
    steps: int
    best_step: int
    """The step whose weights were kept."""
    schedule: Mapping[str, float]
    """Every number of the schedule."""
    parameters: int
    seconds: float
    tokens_per_second: float
    hardware: str
    train_documents: int
    train_words: int
    train_tokens: int
    train_digest: str
    """SHA-256 of the training texts, in order, each followed by a zero byte."""
    heldout_documents: int
    heldout_tokens: int
    heldout_perplexity: float
    """Per token, on held-out documents that took no part in choosing the weights."""
    unigram_perplexity: float
    """The same texts under a model that knows only token frequencies."""
    uniform_perplexity: float
    """The same texts under a model that knows nothing: the size of the vocabulary."""
    bits_per_byte: float
    unigram_bits_per_byte: float
    uniform_bits_per_byte: float
    heldout_perplexity_by_library: Mapping[str, float]
    """For libraries with at least 40 held-out documents; a test measures one of them again."""
    corpus_versions: Mapping[str, str]
    """Libraries whose docstrings were read."""
    corpus_words: Mapping[str, int]
    """Training words by library."""
    corpus_licences: Mapping[str, str]
    """As the libraries' own metadata state them."""
    software: Mapping[str, str]
    """What the training ran on."""


def write_record(folder: Path, record: TrainingRecord) -> None:
    """Write the record as JSON and as a model card."""
    text = json.dumps(asdict(record), indent=2, ensure_ascii=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")
    (folder / CARD).write_text(card(record), encoding="utf-8")


def read_record(folder: Path) -> TrainingRecord:
    """Read the record of a trained model."""
    return TrainingRecord(**json.loads((folder / RECORD).read_text(encoding="utf-8")))


def licence_of(distribution: str) -> str:
    """Return what a distribution's metadata say about its licence, in a few words."""
    try:
        metadata = importlib.metadata.metadata(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
    if expression := metadata.get_all("License-Expression"):
        return str(expression[0])
    named = [line.split(" :: ")[-1] for line in metadata.get_all("Classifier") or () if line.startswith("License ::")]
    free_text = " ".join(metadata.get_all("License") or ()).strip().splitlines()
    return ", ".join(named) or (free_text[0][:60] if free_text else "unknown")


def card(record: TrainingRecord) -> str:
    """Return the model card: what it is, how it was made, how good it is, what it is not."""
    return _CARD.format(
        **asdict(record),
        corpus_table="\n".join(_corpus_row(record, name) for name in record.corpus_words),
        schedule_list=", ".join(f"{name} {value:g}" for name, value in record.schedule.items()),
        software_list=", ".join(f"{name} {version}" for name, version in record.software.items()),
        minutes=record.seconds / 60,
        passes=record.steps * record.schedule["batch"] * record.schedule["length"] / record.train_tokens,
    )


def _corpus_row(record: TrainingRecord, name: str) -> str:
    version, licence = record.corpus_versions[name], record.corpus_licences[name]
    return f"| {name} | {version} | {record.corpus_words[name]:,} | {licence} |"


_CARD = """\
---
language: en
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# ouro-tiny

A causal language model of {parameters:,} parameters (Llama architecture, bfloat16) and its byte-level BPE tokenizer
(4,096 tokens), trained from nothing for [Ouroscope](../../README.md). It exists so that every part of the project runs
on a laptop without network, accelerator or server: it is large enough to write sentences that look like English and to
change measurably when it is fine-tuned on its own output, and too small for anything else.

`training.json` beside this card has all numbers for programs.

## Quality

On {heldout_documents:,} held-out documents ({heldout_tokens:,} tokens), each alone, given only that a document begins:

| model | perplexity per token | bits per byte |
| --- | ---: | ---: |
| uniform over the vocabulary | {uniform_perplexity:,.0f} | {uniform_bits_per_byte:.3f} |
| unigram (token frequencies of the training texts) | {unigram_perplexity:,.1f} | {unigram_bits_per_byte:.3f} |
| **ouro-tiny** (the saved bfloat16 weights) | **{heldout_perplexity:,.1f}** | **{bits_per_byte:.3f}** |

The weights are those of step {best_step:,} of {steps:,}: the best of the looks that training took at another eighth of
the held-out part, which is not counted here.

## Data

The TRAIN part of Ouroscope's embedded corpus: prose from the docstrings of installed Python libraries and from
Python's language reference: {train_documents:,} passages, {train_words:,} words, {train_tokens:,} tokens. Code,
doctests, parameter tables, field lists and licence texts were left out.

A passage's part depends on a hash of its words only. Passages that repeat more than 30 % of the five-word runs of
earlier ones were dropped over the whole corpus, and so was every passage outside TRAIN that repeats as much of TRAIN.
The PROMPT part, from which runs take prompts and real texts, and the HELD_OUT part were never read in training, neither
of the weights nor of the tokenizer.

SHA-256 of the training texts: `{train_digest}`.

| library | version | training words | licence by its metadata |
| --- | --- | ---: | --- |
{corpus_table}

The texts are documentation under the licences named above and belong to their authors. They were read to train; the
repository ships none of them. The weights are offered under Apache-2.0, like the rest of the project. A model this
size can repeat phrases that are frequent in its training texts.

## Training

    {command}

- {steps:,} steps with seed {seed}, about {passes:.1f} passes over the training texts
- {minutes:.0f} minutes at {tokens_per_second:,.0f} tokens per second
- {hardware}
- AdamW with linear warm-up and cosine decay, gradient norm clipped at 1, dropout on the output of every block
- schedule: {schedule_list}
- software: {software_list}

The same command gives the same texts, tokenizer and order of batches when the versions above are installed. Weights can
differ in their last digits with another number of threads or another processor.

## Use and limits

For demonstrations, tests and measurements of Ouroscope. It knows the vocabulary and the sentence shapes of software
documentation and no facts: what it states about any library is invented. English only. It has 512 positions but was
trained on sequences of {schedule[length]:g} tokens; beyond those its predictions get worse. Not aligned, not filtered,
not for any decision about people.

No sampling parameter is tuned: `generation_config.json` holds token ids only. The tokenizer adds no special tokens by
itself; put `<|endoftext|>` before a text to begin a document.
"""
