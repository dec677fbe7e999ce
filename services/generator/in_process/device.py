"""Which device of this machine runs models, in which number type, and how much memory it has. Knows torch; no model."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ouroscope.errors import CapabilityMissing, InvalidRequest

LARGEST_BATCH = {"cpu": 256, "cuda": 256, "mps": 64}
"""Beyond these a step takes longer by as much as it does more."""
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def chosen_device(device: str) -> str:
    """Return the device that is meant; `auto` takes an accelerator of NVIDIA or AMD, else the processor.

    MPS is taken only where it is asked for: there float32 is the one type that every operation has.

    Raises:
        CapabilityMissing: this machine has no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device, False):
        able = ", ".join(name for name, there in present.items() if there)
        raise CapabilityMissing(f"this machine has no device {device!r}; use auto or one of: {able}")
    return device


def chosen_dtype(dtype: str, device: str) -> torch.dtype:
    """Return the number type that is meant.

    `auto` takes bfloat16 on an accelerator that computes in it, float16 on an older one, and float32 elsewhere:
    processors without instructions for bfloat16 are slower with it, and equal requests give equal text in float32.

    Raises:
        InvalidRequest: there is no such floating point type.
    """
    if dtype == "auto":
        return _best_dtype() if device == "cuda" else torch.float32
    chosen = getattr(torch, dtype, None)
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise InvalidRequest(f"{dtype!r} is no number type; use auto, float32, bfloat16 or float16")
    return chosen


def described(device: str) -> str:
    """Return what tells two devices of one kind apart."""
    if device == "cpu":
        return torch.backends.cpu.get_cpu_capability()
    return torch.cuda.get_device_name() if device == "cuda" else device


def memory_bytes(device: str) -> int:
    """Return the memory of the whole device, free or not: what is free changes from moment to moment."""
    if device == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory)
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # In a container less may be allowed; the file says `max` where it is not.
    allowed = _CONTAINER_LIMIT.read_text().strip() if _CONTAINER_LIMIT.is_file() else ""
    return min(whole, int(allowed)) if allowed.isdigit() else whole


def _best_dtype() -> torch.dtype:
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
