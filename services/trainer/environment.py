"""On what a job is computed, in words that go into its digest. Touches torch's process-wide settings, in one place."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import transformers

from ouroscope.errors import CapabilityMissing

_TRAINING = "1"
"""Number of the way we train; raised when the same request would give another model."""
_LIBRARIES = ("torch", "transformers", "peft", "tokenizers")


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
    threads = threads or _processors()
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


def _multiplies_bfloat16(device: str) -> bool:
    """Return whether the hardware itself multiplies bfloat16: emulated, it would be slower than float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "none"
