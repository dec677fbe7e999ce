"""Whether a low-rank adapter may be opened, and whether it belongs to a given base. Reads bytes; knows no library.

An adapter is a small model in somebody else's file, so the checks of `ouroscope.models` hold for it too. Beyond these,
only what is understood here is accepted: plain LoRA on linear projections, in the format of peft. A setting that would
change what the weights mean (other variants of LoRA, whole modules saved beside it, code to import) is refused and not
overlooked. What the adapter says about where its base lies is never followed: the base is the caller's word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ouroscope.errors import InvalidRequest, NotFound
from ouroscope.model_files import (
    LINEAGE,
    MAX_CONFIG_BYTES,
    check_entry,
    elements,
    read_object,
    read_settings,
    read_shapes,
    refused,
)
from ouroscope.models import ADAPTER_CONFIG
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.stored_models import BASE

ADAPTER_WEIGHTS = "adapter_model.safetensors"

_MEANING = frozenset({"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "bias"})
"""Settings that say what the weights mean; each is checked."""
_BEGINNINGS = (None, True, False, "gaussian", "orthogonal", "eva")
"""Ways in which the factors began that left the base as it was; the others are factors of another base."""
_WITHOUT_MEANING = frozenset(
    {"task_type", "peft_version", "inference_mode", "lora_dropout", "init_lora_weights", "fan_in_fan_out"}
    # Which modules are adapted is told by the names of the tensors; these may be patterns, which nobody need run.
    | {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"}
    # Never followed: the base is the caller's word.
    | {"base_model_name_or_path", "revision"}
    # The values that peft writes for variants which are off.
    | {"megatron_core", "qalora_group_size", "runtime_config"}
)
_TENSOR = re.compile(r"base_model\.model\.([A-Za-z0-9_.]+)\.lora_([AB])\.weight")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.]{1,256}")
_MAX_RANK = 1 << 16


@dataclass(frozen=True, slots=True)
class Factors:
    """Sizes of one pair of low-rank factors: B [outputs, rank] times A [rank, inputs] is added to a weight."""

    inputs: int
    rank: int
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedAdapter:
    """What was found in the directory of an adapter that may be opened."""

    files: tuple[str, ...]
    """Names of the files that make up the adapter, sorted."""
    settings: Mapping[str, Any]
    """What is understood of adapter_config.json, as peft names it."""
    factors: Mapping[str, Factors]
    """Sizes for each adapted module, by its name in the base."""
    parameters: int
    base: ArtifactRef | None
    """Base that ouroscope.json names; None where there is no such file."""


def check_adapter_directory(path: Path) -> CheckedAdapter:
    """Return what makes up the LoRA adapter in `path`, having found that none of it can run code.

    Raises:
        NotFound: there is no such directory.
        InvalidRequest: a file of an adapter is missing.
        UntrustedArtifact: something in it could run code or reach elsewhere, or it is no plain LoRA adapter.
    """
    if not path.is_dir():
        raise NotFound(f"the adapter's directory does not exist; give one with {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}")
    for entry in sorted(path.iterdir()):
        check_entry(entry)
    settings = _checked_settings(read_settings(_required(path, ADAPTER_CONFIG)))
    shapes = read_shapes(_required(path, ADAPTER_WEIGHTS))
    lineage = [LINEAGE] if (path / LINEAGE).is_file() else []
    return CheckedAdapter(
        files=tuple(sorted([ADAPTER_CONFIG, ADAPTER_WEIGHTS, *lineage])),
        settings=settings,
        factors=_factors(shapes, settings),
        parameters=elements(shapes),
        base=_named_base(path / LINEAGE) if lineage else None,
    )


def check_fits(adapter: CheckedAdapter, weights: Mapping[str, tuple[int, ...]]) -> None:
    """Check that every pair of factors belongs to a weight of the base and has its sizes.

    Args:
        adapter: What was found in its directory.
        weights: Shapes of the base's weights by name; see `ouroscope.models.weight_shapes`.

    Raises:
        UntrustedArtifact: the adapter was made for another base.
    """
    known = {tail: shape for name, shape in weights.items() for tail in _tails(name)}
    for module, factors in adapter.factors.items():
        shape = next((known[tail] for tail in _tails(f"{module}.weight") if tail in known), None)
        # GPT-2 keeps its projections the other way round.
        if shape is None or shape not in {(factors.outputs, factors.inputs), (factors.inputs, factors.outputs)}:
            why = "this base has no such weight" if shape is None else f"this base has {_sizes(shape)} there"
            raise refused(
                ADAPTER_WEIGHTS,
                f"is an adapter for another base: it changes {module} ({factors.outputs} x {factors.inputs}) and {why}",
            )


def lineage_of(base: ArtifactRef, **facts: object) -> bytes:
    """Return the content of an adapter's ouroscope.json: its base, so that its digest depends on it, and more."""
    told = {"version": 1, BASE: str(base), **facts}
    return (json.dumps(told, indent=2, sort_keys=True) + "\n").encode()


def _required(path: Path, name: str) -> Path:
    if not (path / name).is_file():
        raise InvalidRequest(f"the adapter has no {name}; save it with peft's save_pretrained as safetensors")
    return path / name


def _checked_settings(found: Mapping[str, Any]) -> dict[str, Any]:
    if found.get("peft_type") != "LORA":
        raise refused(ADAPTER_CONFIG, "is of a kind that is not known here; only peft_type LORA is")
    strange = [key for key, value in found.items() if value and key not in _MEANING | _WITHOUT_MEANING]
    strange += ["bias"] if found.get("bias", "none") != "none" else []
    strange += ["init_lora_weights"] if found.get("init_lora_weights") not in _BEGINNINGS else []
    if strange:
        raise refused(
            ADAPTER_CONFIG, f"asks for {strange[0][:80]!r}, which is not plain LoRA; merge the adapter into its base"
        )
    return {
        "r": _number(found.get("r"), int),
        "lora_alpha": _number(found.get("lora_alpha"), int | float),
        "use_rslora": found.get("use_rslora") is True,
        "rank_pattern": _pattern(found.get("rank_pattern"), int),
        "alpha_pattern": _pattern(found.get("alpha_pattern"), int | float),
    }


def _number(value: object, kind: Any) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value <= _MAX_RANK:
        raise refused(ADAPTER_CONFIG, "must give ranks and alphas as positive numbers")
    return value


def _pattern(value: object, kind: Any) -> dict[str, Any]:
    """Return ranks or alphas by plain names: peft takes each name for a pattern and runs it."""
    names = value if isinstance(value, dict) else {}
    if (value and not names) or not all(_PLAIN_NAME.fullmatch(name) for name in names):
        raise refused(ADAPTER_CONFIG, "must name modules in its patterns by plain names")
    return {name: _number(number, kind) for name, number in names.items()}


def _factors(shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]) -> dict[str, Factors]:
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        match = _TENSOR.fullmatch(name)
        if match is None or len(shape) != 2 or not all(shape):
            raise refused(ADAPTER_WEIGHTS, f"holds {name[:120]!r}, which is no low-rank factor of a linear projection")
        pairs.setdefault(match[1], {})[match[2]] = shape
    return {module: _pair(module, pair, settings) for module, pair in sorted(pairs.items())}


def _pair(module: str, pair: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]) -> Factors:
    rank = _of_module(settings["rank_pattern"], module, settings["r"])
    if set(pair) != {"A", "B"} or not pair["A"][0] == pair["B"][1] == rank:
        raise refused(ADAPTER_WEIGHTS, f"has no pair of factors of rank {rank} for {module[:120]}")
    return Factors(inputs=pair["A"][1], rank=rank, outputs=pair["B"][0])


def _of_module(pattern: Mapping[str, Any], module: str, otherwise: Any) -> Any:
    """Return what a pattern says of a module, as peft reads it: the first name that the module's own name ends with."""
    said = (value for name, value in pattern.items() if module == name or module.endswith(f".{name}"))
    return next(said, otherwise)


def _named_base(path: Path) -> ArtifactRef:
    told = read_object(path, MAX_CONFIG_BYTES).get(BASE)
    try:
        return ArtifactRef.parse(str(told)).expect(ArtifactKind.MODEL, BASE)
    except InvalidRequest:
        raise refused(LINEAGE, "does not name the base as model/<digest>") from None


def _tails(name: str) -> Iterator[str]:
    """Yield `name` without its first parts, longest first, as long as all numbers of layers are in it.

    The names in a file and those of the modules differ in front: `h.0.attn` and `transformer.h.0.attn`.
    """
    parts = name.split(".")
    first_number = next((i for i, part in enumerate(parts) if part.isdigit()), len(parts) - 1)
    for begin in range(max(1, first_number)):
        yield ".".join(parts[begin:])


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
