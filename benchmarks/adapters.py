"""What changing the weights costs: from one generation's adapter to the next over a base that stays.

    python -m benchmarks.adapters --threads 1

Prints the time until the first token can be drawn after: the base and an adapter are loaded from the store; the next
adapter comes, checked against its digest, its base and its own rules; an adapter that is in memory comes back; the base
alone comes back. Counts how often the base was loaded. Then the tokens per second with an adapter beside those without.
Asked for: under 1 s for the embedded model, without loading the base again.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from benchmarks.generation import CLOCKS, Quiet, timed
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import SamplingSpec
from ouroscope.store.artifacts import ArtifactStore
from services.generator.backend import Prompt
from services.generator.in_process import backend as in_process_backend
from services.generator.in_process.backend import HfBackend
from services.generator.in_process.model import HfModel
from services.generator.models import find, import_model

ONE_TOKEN = SamplingSpec(min_new_tokens=1, max_new_tokens=1)


def read_options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="ouro-tiny", help="embedded model, directory or Hugging Face id")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--adapters", type=int, default=6)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    return parser.parse_args()


def main() -> int:
    """Measure and print."""
    options = read_options()
    warnings.filterwarnings("ignore", category=FutureWarning)
    loads = counted_loads()
    with tempfile.TemporaryDirectory() as folder:
        store = ArtifactStore(Path(folder) / "store")
        base = import_model(store, find(options.model), [], Quiet(), max_bytes=1 << 40).model
        refs = [published(store, base, Path(folder) / str(i), options.rank, i) for i in range(options.adapters)]
        backend = HfBackend(store, device=options.device, threads=options.threads, kept_adapters=2)
        first, *rest = refs
        show("base and adapter from the store", [seconds_until_a_token(backend, first)])
        show("next adapter from the store", [seconds_until_a_token(backend, ref) for ref in rest])
        back = [refs[-1], refs[-2]] * options.rounds
        show("adapter that is in memory", [seconds_until_a_token(backend, ref) for ref in back])
        show("base alone", [seconds_until_a_token(backend, ref) for ref in (base, first) * options.rounds][::2])
        print(f"the base was loaded {len(loads)} time(s)")
        speeds = timed(
            {name: writing(backend.open(ref)) for name, ref in (("without", base), ("with", first))},
            CLOCKS[options.clock],
            options.rounds,
        )
    share = statistics.median(a / b for a, b in zip(speeds["with"], speeds["without"], strict=True))
    print(f"tokens per second with an adapter of rank {options.rank}: {share:.2f} of those without")
    return 0


def counted_loads() -> list[object]:
    """Return a list that grows by one each time the weights of a base are loaded."""
    loads: list[object] = []
    load = in_process_backend.load_weights

    def noting(*arguments: object) -> object:
        loads.append(arguments)
        return load(*arguments)  # type: ignore[arg-type]

    in_process_backend.load_weights = noting
    return loads


def published(store: ArtifactStore, base: ArtifactRef, folder: Path, rank: int, seed: int) -> ArtifactRef:
    """Let peft write an adapter for every projection and import it."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(store.directory(base))
    settings = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, settings)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.01)
    adapted.save_pretrained(folder)
    return import_model(store, find(str(folder)), [], Quiet(), max_bytes=1 << 40, base=base).model


def seconds_until_a_token(backend: HfBackend, ref: ArtifactRef) -> float:
    """Return the wall time until one token is drawn from that model."""
    began = time.perf_counter()
    backend.open(ref).write([Prompt("a", "The")], ONE_TOKEN, 1, lambda _: None)
    return time.perf_counter() - began


def writing(model: HfModel) -> Callable[[], int]:
    """Return what writes a batch and tells the number of tokens."""
    sampling = SamplingSpec(min_new_tokens=32, max_new_tokens=32)
    prompts = [Prompt(str(i), "The serpent swallows its own tail") for i in range(128)]

    def write() -> int:
        return sum(each.tokens for each in model.write(prompts, sampling, 128, lambda _: None).continuations)

    return write


def show(name: str, seconds: list[float]) -> None:
    """Print the median and the longest time."""
    print(f"{name}: median {statistics.median(seconds):.3f} s, longest {max(seconds):.3f} s ({len(seconds)} times)")


if __name__ == "__main__":
    sys.exit(main())
