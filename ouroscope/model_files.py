"""Files that come with a model, read as bytes: what may lie beside weights, JSON of bounded size, headers of tensors.

The checks that whole models (`ouroscope.models`) and adapters (`ouroscope.adapters`) share. Knows neither kind.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ouroscope.errors import UntrustedArtifact

LINEAGE = "ouroscope.json"
"""Where a model of ours comes from; part of its content."""

_PICKLES = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".keras", ".msgpack"}
)
_PROGRAMS = frozenset({".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".ipynb"})
_CODE_KEYS = frozenset({"auto_map", "custom_generate", "custom_pipelines", "trust_remote_code"})
_KERNEL_KEYS = frozenset({"attn_implementation", "experts_implementation"})

MAX_CONFIG_BYTES = 1 << 20
MAX_HEADER_BYTES = 64 << 20
_MAX_RANK = 16
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32}
_BITS |= {"U64": 64, "I64": 64, "F64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4}


def refused(name: str, why: str) -> UntrustedArtifact:
    """Return the error that says which file of a model is refused and why."""
    return UntrustedArtifact(f"the model is refused: {name} {why}", file=name)


def check_entry(entry: Path) -> None:
    """Refuse what has no place in a directory of data: links, pickles, programs.

    Raises:
        UntrustedArtifact: it is one of these.
    """
    if entry.is_symlink():
        raise refused(
            entry.name, "is a symbolic link; copy the files themselves (cp -rL) into a directory of their own"
        )
    if entry.is_dir():
        if entry.name == "custom_generate":
            raise refused(entry.name, "holds a program that would replace generation; remove it")
        return
    if not entry.is_file():
        raise refused(entry.name, "is neither a file nor a directory")
    suffix = entry.suffix.lower()
    if suffix in _PICKLES:
        raise refused(entry.name, "is in a format that can run code when it is loaded; use safetensors and remove it")
    if suffix in _PROGRAMS:
        raise refused(
            entry.name, "is a program, and models must be data only; remove it if the model needs no code of its own"
        )


def read_object(path: Path, limit: int) -> dict[str, Any]:
    """Return the JSON object in a file of at most `limit` bytes.

    Raises:
        UntrustedArtifact: it is larger, or no JSON object.
    """
    if path.stat().st_size > limit:
        raise refused(path.name, f"is larger than {limit} bytes")
    return _parse_object(path.read_bytes(), path.name)


def read_settings(path: Path) -> dict[str, Any]:
    """Return the JSON object of settings in a file, having found that it asks for no code.

    Raises:
        UntrustedArtifact: it does, or it is no JSON object of bounded size.
    """
    settings = read_object(path, MAX_CONFIG_BYTES)
    for where, key, value in _entries(settings, path.name):
        _check_setting(path.name, where, key, value)
    return settings


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a safetensors file, whose header must describe exactly its bytes.

    Raises:
        UntrustedArtifact: it does not.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        (length,) = struct.unpack("<Q", prefix) if len(prefix) == 8 else (0,)
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise refused(path.name, "is not a safetensors file: its header does not fit")
        header = _parse_object(file.read(length), path.name)
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    found = {name: _tensor(path.name, entry) for name, entry in tensors.items()}
    _check_spans(path.name, [span for span, _ in found.values()], size - 8 - length)
    return {name: shape for name, (_, shape) in found.items()}


def elements(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return how many numbers tensors of these shapes hold."""
    return sum(math.prod(shape) for shape in shapes.values())


def _check_setting(name: str, where: str, key: str, value: object) -> None:
    if key in _CODE_KEYS and value:
        raise refused(
            name, f"asks for code of its own ({where}); use a model whose architecture is part of transformers"
        )
    # transformers fetches and loads a compiled kernel when an implementation is named like a repository.
    if key.strip("_").removesuffix("_internal") in _KERNEL_KEYS and any("/" in text for text in _strings(value)):
        raise refused(name, f"asks for a compiled kernel from elsewhere ({where}); remove that line")


def _parse_object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise refused(name, "is not valid JSON") from None
    if not isinstance(value, dict):
        raise refused(name, "is not a JSON object")
    return value


def _entries(value: object, where: str) -> Iterator[tuple[str, str, object]]:
    """Yield (path, key, value) of every entry at every depth."""
    # A list of what is left, since a hostile file may nest deeper than calls can.
    left = [(where, value)]
    while left:
        path, current = left.pop()
        if isinstance(current, list):
            left.extend((path, inner) for inner in current)
        elif isinstance(current, dict):
            for key, inner in current.items():
                yield f"{path}: {key}", str(key), inner
                left.append((f"{path}: {key}", inner))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for _, _, inner in _entries(value, ""):
        if isinstance(inner, str):
            yield inner


def _tensor(name: str, entry: object) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Return (begin, end) and the shape of one tensor."""
    if not isinstance(entry, dict):
        raise refused(name, "has a tensor without a description")
    shape, offsets = _naturals(entry.get("shape")), _naturals(entry.get("data_offsets"))
    bits = _BITS.get(str(entry.get("dtype")))
    if bits is None or shape is None or offsets is None or len(offsets) != 2 or len(shape) > _MAX_RANK:
        raise refused(name, "has a tensor of unknown type or shape")
    if (offsets[1] - offsets[0]) * 8 != math.prod(shape) * bits:
        raise refused(name, "has a tensor whose shape does not match its bytes")
    return (offsets[0], offsets[1]), tuple(shape)


def _naturals(value: object) -> list[int] | None:
    if isinstance(value, list) and all(type(item) is int and item >= 0 for item in value):
        return value
    return None


def _check_spans(name: str, spans: list[tuple[int, int]], size: int) -> None:
    end = 0
    for begin, stop in sorted(spans):
        if begin != end:
            raise refused(name, "has tensors that overlap or leave gaps")
        end = stop
    if not spans or end != size:
        raise refused(name, "does not hold the bytes that its header promises")
