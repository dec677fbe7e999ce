"""Useful tokens per second: our packed blocks, padded batches of transformers' Trainer, packed ones of TRL.

`python -m benchmarks.training` prints one table. Same untrained model, same documents of mixed lengths, same optimiser,
all in float32 on the same threads; each contender in a process of its own, so that peak memory is its own. A useful
token is one of a document; padding and end tokens are none. Target: at least 1.3 times the padded Trainer. On a busy
machine read the column per CPU second.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import datasets
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments
from transformers.utils.logging import disable_progress_bar
from trl import SFTConfig, SFTTrainer

from ouroscope.corpora.docstrings import gather
from ouroscope.records.progress import Progress
from ouroscope.records.training import Recipe, Schedule
from services.trainer.course import Course
from services.trainer.environment import prepare
from services.trainer.finetune import train
from services.trainer.ouro_tiny import encoded, new_model, train_tokenizer
from services.trainer.packing import DocumentList, epoch_tokens, packed_blocks

TARGET = 1.3


@dataclass(frozen=True, slots=True)
class Setting:
    """What all contenders get."""

    documents: tuple[tuple[int, ...], ...]
    tokenizer: PreTrainedTokenizerFast
    batch: int
    length: int
    steps: int
    threads: int


@dataclass(frozen=True, slots=True)
class Result:
    """What one contender did."""

    useful_tokens: int
    wall_seconds: float
    processor_seconds: float
    peak_mebibytes: float


def main() -> None:
    """Measure and print."""
    setting = _setting(_arguments())
    lengths = sorted(map(len, setting.documents))
    print(f"{len(lengths)} documents, tokens: median {lengths[len(lengths) // 2]}, longest {lengths[-1]}")
    print(f"{setting.steps} steps of {setting.batch} x {setting.length} tokens on {setting.threads} threads, float32\n")
    print(f"{'':24}{'useful tokens/s':>16}{'per CPU second':>16}{'peak MiB':>10}")
    ours, *others = (_measured(name, contender, setting) for name, contender in _CONTENDERS.items())
    print()
    for name, other in zip(list(_CONTENDERS)[1:], others, strict=True):
        wall, processor = (mine / theirs for mine, theirs in zip(_speeds(ours), _speeds(other), strict=True))
        target = f" (target {TARGET})" if name == _PADDED else ""
        print(f"ours beside {name}: {wall:.2f} by the wall clock, {processor:.2f} by processor time{target}")


def _measured(name: str, contender: Callable[[Setting], Result], setting: Setting) -> Result:
    result = _alone(contender, setting)
    wall, processor = _speeds(result)
    print(f"{name:24}{wall:>16.0f}{processor:>16.0f}{result.peak_mebibytes:>10.0f}", flush=True)
    return result


def _speeds(result: Result) -> tuple[float, float]:
    """Return useful tokens per second of the clock and of the processor."""
    return result.useful_tokens / result.wall_seconds, result.useful_tokens / result.processor_seconds


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def _setting(asked: argparse.Namespace) -> Setting:
    """Real documents of the embedded corpus, cut where the padded contender has to cut them."""
    texts = [document.text for document in gather().documents]
    texts = random.Random(0).sample(texts, min(asked.documents, len(texts)))
    tokenizer = train_tokenizer(texts)
    documents = tuple(tuple(ids[: asked.length]) for ids in encoded(tokenizer, texts) if ids)
    return Setting(documents, tokenizer, asked.batch, asked.length, asked.steps, asked.threads)


def _alone(contender: Callable[[Setting], Result], setting: Setting) -> Result:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(contender, (setting,))


def _packed(setting: Setting) -> Result:
    environment = replace(prepare(setting.threads, "cpu"), precision="float32")
    model = _model(setting)
    recipe = Recipe(
        steps=setting.steps, batch_size=setting.batch, block_tokens=setting.length, schedule=Schedule.CONSTANT
    )
    documents = DocumentList(setting.documents)
    end = int(setting.tokenizer.eos_token_id)
    blocks = partial(packed_blocks, documents, block_tokens=setting.length, end=end, seed=0)
    work = partial(
        train,
        model,
        lambda first: blocks(first=first),
        recipe,
        environment,
        vocabulary=model.config.vocab_size,
        memory=Forgetful(),
        control=Unwatched(),
        clock=time.monotonic,
    )
    return _timed(work, _useful_of_full_blocks(setting))


def _useful_of_full_blocks(setting: Setting) -> int:
    # Of every epoch the end tokens are not text.
    share = sum(map(len, setting.documents)) / epoch_tokens(DocumentList(setting.documents))
    return round(setting.steps * setting.batch * setting.length * share)


def _padded(setting: Setting) -> Result:
    torch.set_num_threads(setting.threads)
    disable_progress_bar()
    pad, used = int(setting.tokenizer.pad_token_id), [0]

    def collate(documents: Sequence[tuple[int, ...]]) -> dict[str, torch.Tensor]:
        used[0] += sum(map(len, documents))
        width = max(map(len, documents))
        ids_BT = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in documents])
        mask_BT = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in documents])
        return {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": ids_BT.masked_fill(mask_BT == 0, -100)}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(**_usual(folder, setting), remove_unused_columns=False)
        trainer = Trainer(_model(setting), arguments, data_collator=collate, train_dataset=setting.documents)
        result = _timed(trainer.train, 0)
    return Result(used[0], result.wall_seconds, result.processor_seconds, result.peak_mebibytes)


def _packed_by_trl(setting: Setting) -> Result:
    torch.set_num_threads(setting.threads)
    disable_progress_bar()
    datasets.disable_progress_bars()
    end = int(setting.tokenizer.eos_token_id)
    documents = datasets.Dataset.from_dict({"input_ids": [[*ids, end] for ids in setting.documents]})
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            **_usual(folder, setting),
            max_length=setting.length,
            packing=True,
            packing_strategy="wrapped",
            gradient_checkpointing=False,
            bf16=False,
        )
        trainer = SFTTrainer(_model(setting), arguments, train_dataset=documents, processing_class=setting.tokenizer)
        return _timed(trainer.train, _useful_of_full_blocks(setting))


def _usual(folder: str, setting: Setting) -> dict[str, Any]:
    """Return what both trainers are told."""
    return {
        "output_dir": folder,
        "max_steps": setting.steps,
        "per_device_train_batch_size": setting.batch,
        "learning_rate": 5e-4,
        "lr_scheduler_type": "constant",
        "save_strategy": "no",
        "report_to": [],
        "logging_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    }


def _model(setting: Setting) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return new_model(setting.tokenizer)


def _timed(work: Callable[[], object], useful_tokens: int) -> Result:
    wall, processor = time.monotonic(), time.process_time()
    work()
    wall, processor = time.monotonic() - wall, time.process_time() - processor
    return Result(useful_tokens, wall, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


class Forgetful:
    """Keeps no checkpoint: the other contenders keep none."""

    def restore(self, weights: object, optimizer: object) -> Course:
        """Return that nothing happened yet."""
        return Course()

    def save(self, weights: object, optimizer: object, course: object) -> None:
        """Do nothing."""


class Unwatched:
    """Nobody waits and nobody stops it."""

    def check(self) -> None:
        """Do nothing."""

    def report(self, progress: Progress) -> None:
        """Do nothing."""


_PADDED = "padded (HF Trainer)"
_CONTENDERS = {"packed (ours)": _packed, _PADDED: _padded, "packed (TRL)": _packed_by_trl}


if __name__ == "__main__":
    main()
