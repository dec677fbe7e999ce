"""On what a job is computed, in words that go into its digest. Touches torch's process-wide settings, in one place."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import transformers

from ouroscope.errors import CapabilityMissing
from ouroscope.executor import processors
from ouroscope.records.training import BaseWeights, Method, Optimizer, Recipe
from services.trainer.refusals import FIELD, refuse

_TRAINING = "2"
"""Number of the way we train; raised when the same request would give another model."""
_LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "bitsandbytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Everything besides the request that can change the result, to the last bit."""

    device: str
    """`cpu` or `cuda`."""
    precision: str
    """Type that matrices are multiplied in; the weights themselves are always float32."""
    threads: int
    hardware: str
    """Instruction set of the processor, or name of the accelerator."""
    versions: tuple[str, ...]

    @property
    def fingerprint(self) -> dict[str, str]:
        """Return all of it as text, for the digest of a request."""
        return {
            "device": self.device,
            "hardware": self.hardware,
            "precision": self.precision,
            "threads": str(self.threads),
            "versions": ", ".join(self.versions),
            "training": _TRAINING,
        }

    @property
    def reproducible(self) -> bool:
        """Return whether the same request gives the same bytes again here."""
        return self.device == "cpu"

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Multiply in `precision` inside this context."""
        if self.precision == "float32":
            yield
        else:
            with torch.autocast(self.device, dtype=getattr(torch, self.precision)):
                yield


def prepare(threads: int = 0, device: str = "auto") -> Environment:
    """Set the process up for training and return what it will be computed on.

    Args:
        threads: Threads of one operation; 0 takes as many as the processors this process may use.
        device: `cpu`, `cuda`, or `auto` for an accelerator if there is one.

    Raises:
        CapabilityMissing: there is no such device here.
    """
    accelerated = torch.cuda.is_available()
    if device == "cuda" and not accelerated:
        raise CapabilityMissing("torch finds no CUDA device here; choose cpu, or install a build of torch that has it")
    device = ("cuda" if accelerated else "cpu") if device == "auto" else device
    threads = threads or processors()
    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    if device == "cpu":
        # Set for the whole life of the process: a job's result must not depend on what runs beside it. Filling fresh
        # memory with a pattern would only help to find reads of it.
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a module property
    return Environment(
        device=device,
        precision="bfloat16" if _multiplies_bfloat16(device) else "float32",
        threads=threads,
        hardware=torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability(),
        versions=tuple(f"{name} {_version(name)}" for name in _LIBRARIES),
    )


def check_able(recipe: Recipe, environment: Environment) -> None:
    """Check that this machine has what `recipe` asks for.

    Raises:
        CapabilityMissing: with all that is missing, and what would do instead.
    """
    refuse(missing(recipe, environment))


def missing(recipe: Recipe, environment: Environment) -> Iterator[CapabilityMissing]:
    """Yield what `recipe` asks for and this machine has not, each with what would do instead."""
    for field, value, instead in _of_few_bits(recipe):
        what = f"{field} {value}"
        if environment.device != "cuda":
            told = f"{what} needs a GPU that CUDA can use, and this trainer has none; take {instead}"
            yield CapabilityMissing(told, **{FIELD: field})
        elif importlib.util.find_spec("bitsandbytes") is None:
            told = f"{what} needs bitsandbytes, which is not installed here; install it or take {instead}"
            yield CapabilityMissing(told, **{FIELD: field})
    yield from _not_shardable(recipe)


def _of_few_bits(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Yield each field whose value keeps weights or moments in few bits, the value, and one that does not."""
    if recipe.method is Method.LORA and recipe.lora.base_weights is BaseWeights.FOUR_BIT:
        yield "recipe.lora.base_weights", "FOUR_BIT", "BFLOAT16"
    if recipe.optimizer is Optimizer.ADAMW_8BIT:
        yield "recipe.optimizer", "ADAMW_8BIT", "ADAFACTOR"


def _not_shardable(recipe: Recipe) -> Iterator[CapabilityMissing]:
    """Yield what cannot be split over processes: FSDP2 knows no packed bits, and torch's Adafactor no shards."""
    whole = [(field, value) for field, value, _ in _of_few_bits(recipe)]
    whole += [("recipe.optimizer", "ADAFACTOR")] if recipe.optimizer is Optimizer.ADAFACTOR else []
    for field, value in whole if recipe.processes > 1 else ():
        told = f"{field} {value} works in one process only; set recipe.processes to 1, or take ADAMW and BFLOAT16"
        yield CapabilityMissing(told, **{FIELD: field})


def _multiplies_bfloat16(device: str) -> bool:
    """Return whether the hardware itself multiplies bfloat16: emulated, it would be slower than float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def places(device: str) -> int:
    """Return how many processes can train here side by side: one for each GPU, or for each processor."""
    return torch.cuda.device_count() if device == "cuda" else processors()


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "none"
