"""Speed on an accelerator: tokens per second, and the share of what its memory could deliver at best.

    python -m benchmarks.gpu --model OWNER/NAME

Every step of decoding reads all weights and the keys and values so far once; the memory-bandwidth floor is the time
that this takes at the bandwidth which the device shows when it copies one large array. Printed for several batch sizes:
Ouroscope, `model.generate` with the library's dynamic and static cache, its continuous batching, and vLLM where it is
installed. Then scoring: tokens per second of whole texts, one at a time and in batches.

Prints the hardware. Needs an accelerator and says so where there is none.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.generation import Quiet, continuous, ours, raw
from ouroscope.corpora.docstrings import SOURCES, gather
from ouroscope.store.artifacts import ArtifactStore
from services.generator.backend import Prompt
from services.generator.in_process.backend import HfBackend
from services.generator.in_process.model import HfModel
from services.generator.models import find, import_model, stored_shape
from services.generator.plan import ModelShape
from services.generator.sliding import judge_sliding


def read_options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="ouro-tiny", help="embedded model, directory or Hugging Face id")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--prefix", type=int, default=16, help="tokens of each prompt")
    parser.add_argument("--new", type=int, default=48, help="new tokens of each document")
    parser.add_argument("--texts", type=int, default=256, help="texts that are scored")
    parser.add_argument("--tokens", type=int, default=256, help="tokens of a text that are scored at most")
    parser.add_argument("--dtype", default="auto")
    return parser.parse_args()


def main() -> int:
    """Measure and print."""
    options = read_options()
    if not torch.cuda.is_available():
        print("this machine has no CUDA device; nothing was measured")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        store = ArtifactStore(folder)
        backend = HfBackend(store, device="cuda", dtype=options.dtype)
        ref = import_model(store, find(options.model), [], Quiet(), max_bytes=1 << 42).model
        model, shape = backend.open(ref), stored_shape(store, ref)
        texts = [document.text for document in gather(SOURCES[:1]).documents]
        bandwidth = copied_bytes_per_second()
        print(f"{torch.cuda.get_device_name()}, {bandwidth / 1e9:.0f} GB/s copied; {dict(backend.fingerprint())}")
        print(f"{options.model}, {shape.parameters / 1e6:.0f}M parameters, {options.prefix} + {options.new} tokens\n")
        generation(model, shape, prompts_of(model, texts, options), options, bandwidth)
        vllm(str(store.directory(ref)), prompts_of(model, texts, options), options)
        scoring(model, texts, options)
    return 0


def prompts_of(model: HfModel, texts: list[str], options: argparse.Namespace) -> list[Prompt]:
    """Return prompts of equal length, enough for the largest batch."""
    cut = (model.tokens.encode(text)[: options.prefix] for text in texts)
    long = [ids for ids in cut if len(ids) == options.prefix]
    sound = [text for text in model.tokens.decode_many(long) if len(model.tokens.encode(text)) == options.prefix]
    return [Prompt(f"p{i}", text) for i, text in enumerate(sound[: max(options.batches)])]


def generation(
    model: HfModel, shape: ModelShape, prompts: list[Prompt], options: argparse.Namespace, bandwidth: float
) -> None:
    """Print tokens per second of every way in every batch size, and the share of the floor."""
    print("| batch | way | tokens/s | share of the memory-bandwidth floor |")
    print("|---:|---|---:|---:|")
    for batch in options.batches:
        some, new = prompts[:batch], options.new
        floor = floor_bytes(shape, model, batch, options) / bandwidth
        ways: dict[str, Callable[[], int]] = {
            "`model.generate`": partial(raw, model, some, batch, new),
            "`model.generate`, static cache": partial(raw, model, some, batch, new, "static"),
            "`model.generate_batch`": partial(continuous, model, some, new),
            "Ouroscope": partial(ours, model, some, batch, new),
        }
        for name, way in ways.items():
            tokens, seconds = measured(way)
            print(f"| {len(some)} | {name} | {tokens / seconds:.0f} | {floor / seconds:.2f} |")


def floor_bytes(shape: ModelShape, model: HfModel, batch: int, options: argparse.Namespace) -> float:
    """Return the bytes that decoding must read: all weights once a step, and the keys and values so far."""
    width = next(model.loaded.model.parameters()).element_size()
    positions = sum(options.prefix + step for step in range(options.new))
    cache = batch * positions * shape.layers * shape.key_value_width * width
    return float(options.new * shape.parameters * width + cache)


def vllm(directory: str, prompts: list[Prompt], options: argparse.Namespace) -> None:
    """Print tokens per second of vLLM where it is installed."""
    if importlib.util.find_spec("vllm") is None:
        print("\nvLLM is not installed")
        return
    from vllm import LLM, SamplingParams

    engine = LLM(model=directory, gpu_memory_utilization=0.5)
    how = SamplingParams(temperature=1.0, top_k=50, min_tokens=options.new, max_tokens=options.new, ignore_eos=True)

    def write() -> int:
        answers = engine.generate([prompt.text for prompt in prompts], how, use_tqdm=False)
        return sum(len(answer.outputs[0].token_ids) for answer in answers)

    tokens, seconds = measured(write)
    print(f"\nvLLM, {len(prompts)} prompts: {tokens / seconds:.0f} tokens/s")


def scoring(model: HfModel, texts: list[str], options: argparse.Namespace) -> None:
    """Print tokens per second of scoring, one text at a time and in batches."""
    ids = [model.tokens.encode(text)[: options.tokens] for text in texts[: options.texts]]
    print("\n| texts at once | scored tokens/s |\n|---:|---:|")
    for batch in (1, *options.batches):

        def judge(size: int = batch) -> int:
            found = judge_sliding(model, ids, [0] * len(ids), model.context_tokens // 2, size, lambda _: None)
            return sum(len(each.log_probabilities) for each in found)

        tokens, seconds = measured(judge)
        print(f"| {batch} | {tokens / seconds:.0f} |")


def measured(way: Callable[[], int]) -> tuple[int, float]:
    """Return the tokens and the seconds of a way, after one round that is not counted."""
    way()
    torch.cuda.synchronize()
    began = time.perf_counter()
    tokens = way()
    torch.cuda.synchronize()
    return tokens, time.perf_counter() - began


def copied_bytes_per_second() -> float:
    """Return how many bytes a second the device reads and writes when it copies one large array."""
    source = torch.empty(1 << 29, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    _, seconds = measured(lambda: target.copy_(source).numel())
    return 2 * source.numel() * source.element_size() / seconds


if __name__ == "__main__":
    sys.exit(main())
