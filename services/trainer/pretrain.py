"""Make `models/ouro-tiny` from nothing: `python -m services.trainer.pretrain --out DIR`.

The one place where this project trains a model from scratch: gathers the embedded corpus, learns a tokenizer and the
weights from its TRAIN part only, judges them on its HELD_OUT part and publishes a folder that `transformers` loads.
The runs of the project read the PROMPT part, which this model therefore never saw.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ouroscope.corpora.docstrings import SOURCES, EmbeddedCorpus, Part, gather, tallies
from ouroscope.errors import AlreadyExists, PreconditionFailed
from services.trainer.ouro_tiny import VOCABULARY, Quality, encoded, quality, train_tokenizer, unigram_quality
from services.trainer.ouro_tiny_card import RECORD, TrainingRecord, licence_of, write_record
from services.trainer.ouro_tiny_training import OnProgress, Schedule, Trained, trained

WATCHED_EVERY = 8
"""Every eighth held-out document chooses the weights; the others judge them."""
MIN_JUDGED = 40
"""Held-out documents of a library below which its perplexity says little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The three uses of text in pretraining; none shares a document with another."""

    train: tuple[str, ...]
    watched: tuple[str, ...]
    """Looked at during training, to keep the best weights."""
    judged: tuple[str, ...]
    """Looked at once, afterwards."""


def texts_of(corpus: EmbeddedCorpus) -> Texts:
    """Return the texts that pretraining may read, by use."""
    train = tuple(document.text for document in corpus.part(Part.TRAIN))
    held_out = [document.text for document in corpus.part(Part.HELD_OUT)]
    if not train or len(held_out) < 2:
        raise PreconditionFailed("the embedded corpus is too small to pretrain; install the extra [all]")
    judged = tuple(text for index, text in enumerate(held_out) if index % WATCHED_EVERY)
    return Texts(train=train, watched=tuple(held_out[::WATCHED_EVERY]), judged=judged)


def pretrain(
    out: Path,
    *,
    schedule: Schedule | None = None,
    on_progress: OnProgress = lambda done, total, loss, speed: None,
    corpus: EmbeddedCorpus | None = None,
) -> TrainingRecord:
    """Train tokenizer and model, and publish them in the folder `out` with their record and card.

    Raises:
        AlreadyExists: `out` holds something that is not a model made here.
        PreconditionFailed: too little text is installed.
        TrainingDiverged: the loss left the finite numbers.
    """
    refuse_to_overwrite(out)
    schedule = schedule or Schedule()
    torch.set_num_threads(schedule.threads)
    corpus = corpus or gather()
    texts = texts_of(corpus)
    tokenizer = train_tokenizer(texts.train)
    started = time.monotonic()
    outcome = trained(tokenizer, texts.train, texts.watched, schedule, on_progress)
    return publish(out, outcome, tokenizer, corpus, time.monotonic() - started)


def publish(
    out: Path,
    outcome: Trained,
    tokenizer: PreTrainedTokenizerFast,
    corpus: EmbeddedCorpus,
    seconds: float,
) -> TrainingRecord:
    """Write the folder of a trained model; readers see all of it or none.

    The weights are rounded to bfloat16 first, so that what is judged is what is saved.
    """
    refuse_to_overwrite(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        outcome.model.to(torch.bfloat16).save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        record = _record(outcome, tokenizer, corpus, seconds)
        write_record(draft, record)
        _make_readable(draft)
        if out.exists():
            shutil.rmtree(out)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return record


def refuse_to_overwrite(out: Path) -> None:
    """Raise unless `out` is free, empty, or an earlier result of this script."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / RECORD).exists())):
        raise AlreadyExists("the output folder holds something else than a model made by this script; choose another")


def _make_readable(folder: Path) -> None:
    """Give the files the permissions of ordinary files: temporary folders and weights are private by default."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)


def _record(
    outcome: Trained,
    tokenizer: PreTrainedTokenizerFast,
    corpus: EmbeddedCorpus,
    seconds: float,
) -> TrainingRecord:
    """Measure the finished model and put down all that is known about it."""
    model, schedule, texts = outcome.model.float(), outcome.schedule, texts_of(corpus)
    found = quality(model, tokenizer, texts.judged)
    unigram = unigram_quality(tokenizer, texts.train, texts.judged)
    words = {tally.name: tally.words for tally in tallies(corpus.part(Part.TRAIN))}
    distributions = {source.name: source.distribution or source.name for source in SOURCES}
    return TrainingRecord(
        command=f"python -m services.trainer.pretrain --steps {schedule.steps} --seed {schedule.seed} --out DIR",
        seed=schedule.seed,
        steps=schedule.steps,
        best_step=outcome.best_step,
        schedule={name: value for name, value in asdict(schedule).items() if value is not None},
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        seconds=round(seconds, 1),
        tokens_per_second=round(schedule.steps * schedule.batch * schedule.length / seconds, 1),
        hardware=f"{platform.machine()} processor, {schedule.threads} threads, no accelerator, bfloat16 autocast",
        train_documents=len(texts.train),
        train_words=sum(words.values()),
        train_tokens=sum(map(len, encoded(tokenizer, texts.train))),
        train_digest=hashlib.sha256(b"".join(text.encode() + b"\0" for text in texts.train)).hexdigest(),
        heldout_documents=len(texts.judged),
        heldout_tokens=found.tokens,
        heldout_perplexity=found.perplexity,
        unigram_perplexity=unigram.perplexity,
        uniform_perplexity=float(VOCABULARY),
        bits_per_byte=found.bits_per_byte,
        unigram_bits_per_byte=unigram.bits_per_byte,
        uniform_bits_per_byte=_uniform_bits_per_byte(unigram),
        heldout_perplexity_by_library=_perplexity_by_library(model, tokenizer, corpus),
        corpus_versions={name: corpus.versions[name] for name in words},
        corpus_words=words,
        corpus_licences={
            name: "PSF-2.0" if name in ("python", "pydoc_data") else licence_of(distributions.get(name, name))
            for name in words
        },
        software={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
    )


def _uniform_bits_per_byte(unigram: Quality) -> float:
    """Return the bits per byte of equal odds, from a model measured on the same tokens."""
    # bits per byte = tokens per byte * log2(perplexity), and the first factor is the same for both.
    return unigram.bits_per_byte / math.log2(unigram.perplexity) * math.log2(VOCABULARY)


def _perplexity_by_library(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus: EmbeddedCorpus
) -> dict[str, float]:
    """Return the perplexity on each library's held-out documents, where there are enough of them."""
    by_library: dict[str, list[str]] = {}
    for document in corpus.part(Part.HELD_OUT):
        by_library.setdefault(document.domain or "unknown", []).append(document.text)
    return {
        name: quality(model, tokenizer, texts).perplexity
        for name, texts in by_library.items()
        if len(texts) >= MIN_JUDGED
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; progress goes to standard error."""
    defaults = Schedule()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--steps", type=int, default=defaults.steps, help="optimisation steps (default %(default)s)")
    parser.add_argument("--minutes", type=float, help="instead of --steps: as many steps as fit into this time")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="seed of all randomness (default %(default)s)")
    parser.add_argument("--threads", type=int, default=defaults.threads, help="processor threads (default %(default)s)")
    chosen = parser.parse_args(arguments)
    schedule = replace(defaults, steps=chosen.steps, minutes=chosen.minutes, seed=chosen.seed, threads=chosen.threads)
    record = pretrain(chosen.out, schedule=schedule, on_progress=_tell)
    sys.stderr.write(f"held-out perplexity {record.heldout_perplexity:.1f} (unigram {record.unigram_perplexity:.1f})\n")
    return 0


def _tell(done: int, total: int, loss: float, speed: float) -> None:
    sys.stderr.write(f"step {done}/{total}  loss {loss:.3f} nats per token  {speed:.0f} tokens/s\n")


if __name__ == "__main__":
    raise SystemExit(main())
