"""Fine-tune a language model on a text file with the Trainer of transformers, and let a monitor watch the result.

    python train.py --model DIR --texts texts.txt --prompts human.txt --output DIR [--monitor NAME] [--epochs N]

Both files have a text a line. `human.txt` holds texts that people wrote and nobody trains on: their beginnings are the
prompts, the same in every generation, and a hundred of them are scored. The first call makes the monitor and its model
is the baseline; every later one is the next generation. Ends with status 3 if the verdict is COLLAPSE.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

from ouroscope.corpora.openings import openings
from ouroscope.integrations.huggingface import CollapseCallback, CollapseDetected
from ouroscope.records.analysis import Verdict
from ouroscope.records.generation import SamplingSpec


def main() -> int:
    """Train, and say what the monitor says."""
    chosen = arguments()
    tokenizer = AutoTokenizer.from_pretrained(chosen.model)
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(chosen.model, dtype="float32"),
        args=TrainingArguments(
            output_dir=chosen.output,
            num_train_epochs=chosen.epochs,
            learning_rate=chosen.learning_rate,
            per_device_train_batch_size=8,
            save_strategy="no",
            report_to=[],
            seed=chosen.seed,
        ),
        train_dataset=[tokenizer(text, truncation=True, max_length=128) for text in lines(chosen.texts)],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
    )
    watching = watch(chosen)
    trainer.add_callback(watching)
    try:
        trainer.train()
    except CollapseDetected as collapse:
        print(collapse)
        return 3
    trainer.save_model(chosen.output)
    print(watching.generations[-1].sentence if watching.generations else "the monitor could not be reached")
    return 0


def watch(chosen: argparse.Namespace) -> CollapseCallback:
    """Return what makes the difference to an ordinary training script."""
    human = lines(chosen.prompts)
    return CollapseCallback(
        chosen.monitor,
        openings(human, words=10),
        heldout=human[:100],
        sampling=SamplingSpec(max_new_tokens=chosen.new_tokens),
        coordinator=chosen.coordinator,
        ensure=True,
        stop_on=Verdict.COLLAPSE,
        raise_at_end=True,
    )


def lines(path: str) -> list[str]:
    """Return the texts of a file."""
    return [line for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]


def arguments() -> Any:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    for name in ("model", "texts", "prompts", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--monitor", default="trainer-example")
    parser.add_argument("--coordinator", default="127.0.0.1:50054")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
