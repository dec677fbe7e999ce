"""Fine-tuning on an accelerator: tokens per second, model FLOPs utilisation and peak memory, with the hardware named.

`python -m benchmarks.gpu_training` prints one table: full and low-rank fine-tuning of Llama shapes with random weights
(what a weight is changes no time), through the trainer's own loop. `--shape 8b --method lora-bfloat16` and the like
choose one row. What does not fit is told as such.

    MFU = F * tokens per second / peak

F is the arithmetic that a step must do per token, in FLOPs: 6 N + 12 L d T for full fine-tuning (a forward pass, and a
backward pass to activations and to weights, each 2 N, with N weights that multiply, the embedding left out; attention
over T tokens with L layers of width d, counted whole although half of it is masked). Under adapters the frozen weights
have no gradient: 4 N + 12 L d T. Activations that are computed again are not counted. `peak` is the dense bfloat16
throughput that the maker states; give `--peak-tflops` for a device that is not in the table here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.training import Forgetful, Unwatched
from ouroscope.errors import CapabilityMissing, LimitExceeded
from ouroscope.records.progress import Progress
from ouroscope.records.training import LoraSpec, Method, Optimizer, Recipe, Schedule
from services.trainer.adapters import with_adapters
from services.trainer.environment import Environment, check_able, prepare
from services.trainer.finetune import train
from services.trainer.packing import DocumentList, packed_blocks

_SHAPES = {
    "ouro": {"hidden_size": 256, "intermediate_size": 544, "num_hidden_layers": 4, "num_attention_heads": 4},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
    "3b": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
}
"""Llama 3.1 and 3.2; every shape but the first has 8 heads of keys and values and 128,256 tokens."""
_METHODS = ("full", "full-adafactor", "lora", "lora-bfloat16")
_PEAKS = {"A100": 312, "H100 PCIe": 756, "H100": 989, "H200": 989, "L4": 121, "L40S": 362, "RTX 4090": 165}
"""Dense bfloat16 TFLOPS as NVIDIA states them (SXM where nothing else is said)."""
_SKIPPED = 3
"""Steps before the clock starts: kernels are chosen and memory is taken."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one method did with one shape."""

    tokens_per_second: float
    flops_per_token: float
    peak_gibibytes: float | None


def main() -> None:
    """Measure and print."""
    asked = _arguments()
    environment = prepare(device=asked.device)
    peak = asked.peak_tflops or next((p for name, p in _PEAKS.items() if name in environment.hardware), None)
    print(
        f"{environment.hardware}, {environment.precision}, torch {torch.__version__}; peak {peak or 'unknown'} TFLOPS"
    )
    print(f"{asked.steps} steps of {asked.batch} x {asked.length} tokens\n")
    print(f"{'shape':8}{'method':18}{'tokens/s':>10}{'MFU':>8}{'peak GiB':>10}")
    for shape in [asked.shape] if asked.shape else _SHAPES:
        for method in [asked.method] if asked.method else _METHODS:
            print(f"{shape:8}{method:18}{_told(asked, shape, method, environment, peak)}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", choices=_SHAPES)
    parser.add_argument("--method", choices=_METHODS)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--checkpointing", action="store_true", help="compute activations again")
    parser.add_argument("--peak-tflops", type=float)
    return parser.parse_args()


def _told(asked: argparse.Namespace, shape: str, method: str, environment: Environment, peak: float | None) -> str:
    try:
        row = _measured(shape, _recipe(asked, method), "bfloat16" in method, environment)
    except (LimitExceeded, torch.OutOfMemoryError):
        return "does not fit"
    except CapabilityMissing as missing:
        return str(missing)
    share = f"{row.flops_per_token * row.tokens_per_second / (peak * 1e12):.1%}" if peak else "-"
    memory = "-" if row.peak_gibibytes is None else f"{row.peak_gibibytes:.1f}"
    return f"{row.tokens_per_second:>10.0f}{share:>8}{memory:>10}"


def _recipe(asked: argparse.Namespace, method: str) -> Recipe:
    return Recipe(
        method=Method.LORA if "lora" in method else Method.FULL,
        steps=asked.steps + _SKIPPED,
        batch_size=asked.batch,
        block_tokens=asked.length,
        schedule=Schedule.CONSTANT,
        learning_rate=1e-5,
        optimizer=Optimizer.ADAFACTOR if "adafactor" in method else Optimizer.ADAMW,
        gradient_checkpointing=asked.checkpointing,
        lora=LoraSpec(rank=16, alpha=16.0),
    )


def _measured(shape: str, recipe: Recipe, low: bool, environment: Environment) -> Row:
    check_able(recipe, environment)
    model = _model(shape, low, environment)
    flops = _flops_per_token(model, recipe)
    if recipe.gradient_checkpointing:
        model.activation_checkpointing_enable()
    learner = with_adapters(model, recipe.lora, seed=0) if recipe.method is Method.LORA else model
    if environment.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    clock = _Clock(environment)
    blocks = partial(_blocks, recipe, model.config.vocab_size)
    train(
        learner,
        lambda first: blocks(),
        recipe,
        environment,
        vocabulary=model.config.vocab_size,
        memory=Forgetful(),
        control=clock,
        clock=time.monotonic,
    )
    tokens = (recipe.steps - _SKIPPED) * recipe.batch_size * recipe.block_tokens
    memory = torch.cuda.max_memory_allocated() / 2**30 if environment.device == "cuda" else None
    return Row(tokens / clock.seconds, flops, memory)


def _model(shape: str, low: bool, environment: Environment) -> LlamaForCausalLM:
    large = {"num_key_value_heads": 8, "vocab_size": 128_256} if shape != "ouro" else {"vocab_size": 8192}
    config = LlamaConfig(**_SHAPES[shape], **large, max_position_embeddings=8192, tie_word_embeddings=shape != "8b")
    torch.manual_seed(0)
    with torch.device(environment.device):
        model = LlamaForCausalLM(config)
    return model.to(torch.bfloat16) if low else model


def _flops_per_token(model: LlamaForCausalLM, recipe: Recipe) -> float:
    config = model.config
    # Tied or not, one matrix of that size multiplies: the head.
    inside = sum(
        weight.numel() for name, weight in model.named_parameters() if "embed" not in name and "head" not in name
    )
    weights = inside + config.vocab_size * config.hidden_size
    attention = 12 * config.num_hidden_layers * config.hidden_size * recipe.block_tokens
    return float((4 if recipe.method is Method.LORA else 6) * weights + attention)


def _blocks(recipe: Recipe, vocabulary: int) -> Iterator[object]:
    generator = torch.Generator().manual_seed(0)
    documents = [torch.randint(1, vocabulary, (257,), generator=generator).tolist() for _ in range(1000)]
    return packed_blocks(DocumentList(documents), block_tokens=recipe.block_tokens, end=0, seed=0)


class _Clock(Unwatched):
    """Measures from the end of the skipped steps to the end of the last."""

    def __init__(self, environment: Environment) -> None:
        self._environment, self._times = environment, dict[int, float]()

    def report(self, progress: Progress) -> None:
        # A step has read its loss from the device when it is told, so nothing of it is still to be done.
        self._times[progress.done] = time.monotonic()

    @property
    def seconds(self) -> float:
        return max(self._times.values()) - self._times[_SKIPPED]


if __name__ == "__main__":
    main()
