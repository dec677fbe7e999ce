"""Whether a model directory may be opened: it must hold data only, and data of bounded size.

A model is somebody else's file. Loading the wrong kind runs somebody else's program: pickles, Python files, a
configuration that names code or a kernel to fetch, an adapter that names another repository. All of that is refused
here, before any library that would obey it sees the directory. Knows nothing of torch or transformers: it reads bytes.
"""

from __future__ import annotations

import json
import math
import re
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ouroscope.errors import InvalidRequest, NotFound, UntrustedArtifact

BUILDING = threading.RLock()
"""Hold this while a library loads a model or adds adapters to one.

While transformers loads, it replaces torch's initialisers and default type for the whole process: a model that another
thread builds at that moment would get weights nobody chose.
"""

SAFELY: Mapping[str, bool] = MappingProxyType(
    {"trust_remote_code": False, "use_safetensors": True, "local_files_only": True}
)
"""How every model is opened by transformers: no code of its own, no pickle, nothing fetched."""

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"

TOKENIZER_FILES = frozenset(
    {TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt"}
    | {"merges.txt", "tokenizer.model", "chat_template.jinja"}
)
"""Files that say how text becomes tokens; a fine-tuned model inherits them byte for byte."""
_SETTINGS = frozenset({CONFIG, "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"})
_OTHER_FILES = frozenset({CONFIG, "generation_config.json", "ouroscope.json"})

_PICKLES = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".keras", ".msgpack"}
)
_PROGRAMS = frozenset({".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".ipynb"})
_CODE_KEYS = frozenset({"auto_map", "custom_generate", "custom_pipelines", "trust_remote_code"})
_KERNEL_KEYS = frozenset({"attn_implementation", "experts_implementation"})

_MAX_CONFIG_BYTES = 1 << 20
_MAX_TOKENIZER_BYTES = 256 << 20
_MAX_HEADER_BYTES = 64 << 20
_MAX_RANK = 16
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32}
_BITS |= {"U64": 64, "I64": 64, "F64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4}
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedModel:
    """What was found in a model directory that may be opened."""

    files: tuple[str, ...]
    """Names of the files that make up the model, sorted; anything else in the directory is not part of it."""
    config: Mapping[str, Any]
    parameters: int
    """Elements of all stored tensors; tied weights that are stored once count once."""

    @property
    def context_tokens(self) -> int | None:
        """Return the longest sequence the configuration allows, where it says so."""
        found = (self.config.get(key) for key in ("max_position_embeddings", "n_positions", "n_ctx"))
        return next((value for value in found if isinstance(value, int)), None)


def check_model_directory(path: Path) -> CheckedModel:
    """Return what makes up the Hugging Face model in `path`, having found that none of it can run code.

    Raises:
        NotFound: there is no such directory.
        InvalidRequest: a file that a causal language model needs is missing.
        UntrustedArtifact: something in it could run code, reach outside the directory, or is not what its name says.
    """
    if not path.is_dir():
        raise NotFound("the model directory does not exist; give a directory with config.json and model.safetensors")
    for entry in sorted(path.iterdir()):
        _check_entry(entry)
    config = _read_object(_required(path, CONFIG), _MAX_CONFIG_BYTES)
    _required(path, TOKENIZER)
    for name in sorted(TOKENIZER_FILES | _OTHER_FILES):
        _check_text_file(path / name)
    weights = _weight_files(path)
    parameters = sum(_check_tensors(path / name) for name in weights)
    texts = [name for name in TOKENIZER_FILES | _OTHER_FILES if (path / name).is_file()]
    index = [INDEX] if weights != (WEIGHTS,) else []
    return CheckedModel(files=tuple(sorted([*texts, *weights, *index])), config=config, parameters=parameters)


def _refuse(name: str, why: str) -> UntrustedArtifact:
    return UntrustedArtifact(f"the model is refused: {name} {why}", file=name)


def _check_entry(entry: Path) -> None:
    if entry.is_symlink():
        raise _refuse(
            entry.name, "is a symbolic link; copy the files themselves (cp -rL) into a directory of their own"
        )
    if entry.is_dir():
        if entry.name == "custom_generate":
            raise _refuse(entry.name, "holds a program that would replace generation; remove it")
        return
    if not entry.is_file():
        raise _refuse(entry.name, "is neither a file nor a directory")
    suffix = entry.suffix.lower()
    if suffix in _PICKLES:
        raise _refuse(entry.name, "is in a format that can run code when it is loaded; use safetensors and remove it")
    if suffix in _PROGRAMS:
        raise _refuse(
            entry.name, "is a program, and models must be data only; remove it if the model needs no code of its own"
        )
    if entry.name == "adapter_config.json":
        raise _refuse(
            entry.name, "makes this an adapter that would load another model; merge the adapter into its base first"
        )


def _required(path: Path, name: str) -> Path:
    if not (path / name).is_file():
        raise InvalidRequest(
            f"the model directory has no {name}; save the model and its fast tokenizer with save_pretrained"
        )
    return path / name


def _check_text_file(path: Path) -> None:
    if not path.is_file():
        return
    if path.name in _SETTINGS:
        for where, key, value in _entries(_read_object(path, _MAX_CONFIG_BYTES), path.name):
            _check_setting(path.name, where, key, value)
    elif path.name in {TOKENIZER, "ouroscope.json"}:
        _read_object(path, _MAX_TOKENIZER_BYTES)
    elif path.stat().st_size > _MAX_TOKENIZER_BYTES:
        raise _refuse(path.name, f"is larger than {_MAX_TOKENIZER_BYTES} bytes")


def _check_setting(name: str, where: str, key: str, value: object) -> None:
    if key in _CODE_KEYS and value:
        raise _refuse(
            name, f"asks for code of its own ({where}); use a model whose architecture is part of transformers"
        )
    # transformers fetches and loads a compiled kernel when an implementation is named like a repository.
    if key.strip("_").removesuffix("_internal") in _KERNEL_KEYS and any("/" in text for text in _strings(value)):
        raise _refuse(name, f"asks for a compiled kernel from elsewhere ({where}); remove that line")


def _read_object(path: Path, limit: int) -> dict[str, Any]:
    if path.stat().st_size > limit:
        raise _refuse(path.name, f"is larger than {limit} bytes")
    return _parse_object(path.read_bytes(), path.name)


def _parse_object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise _refuse(name, "is not valid JSON") from None
    if not isinstance(value, dict):
        raise _refuse(name, "is not a JSON object")
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


def _weight_files(path: Path) -> tuple[str, ...]:
    if (path / WEIGHTS).is_file():
        return (WEIGHTS,)
    if not (path / INDEX).is_file():
        raise InvalidRequest(f"the model directory has no {WEIGHTS}; save the weights as safetensors")
    index = _read_object(path / INDEX, _MAX_HEADER_BYTES).get("weight_map")
    names = (
        set(index.values()) if isinstance(index, dict) and all(isinstance(n, str) for n in index.values()) else set()
    )
    if not names or not all(_SHARD.fullmatch(name) for name in names):
        raise _refuse(INDEX, "must name safetensors files of the same directory")
    for name in sorted(names):
        _required(path, name)
    return tuple(sorted(names))


def _check_tensors(path: Path) -> int:
    """Return the number of elements; the header must describe exactly the bytes that follow it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        (length,) = struct.unpack("<Q", prefix) if len(prefix) == 8 else (0,)
        if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
            raise _refuse(path.name, "is not a safetensors file: its header does not fit")
        header = _parse_object(file.read(length), path.name)
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    spans = [_tensor(path.name, entry) for entry in tensors.values()]
    _check_spans(path.name, [span for span, _ in spans], size - 8 - length)
    return sum(elements for _, elements in spans)


def _tensor(name: str, entry: object) -> tuple[tuple[int, int], int]:
    """Return (begin, end) and the number of elements of one tensor."""
    if not isinstance(entry, dict):
        raise _refuse(name, "has a tensor without a description")
    shape, offsets = _naturals(entry.get("shape")), _naturals(entry.get("data_offsets"))
    bits = _BITS.get(str(entry.get("dtype")))
    if bits is None or shape is None or offsets is None or len(offsets) != 2 or len(shape) > _MAX_RANK:
        raise _refuse(name, "has a tensor of unknown type or shape")
    elements = math.prod(shape)
    if (offsets[1] - offsets[0]) * 8 != elements * bits:
        raise _refuse(name, "has a tensor whose shape does not match its bytes")
    return (offsets[0], offsets[1]), elements


def _naturals(value: object) -> list[int] | None:
    if isinstance(value, list) and all(type(item) is int and item >= 0 for item in value):
        return value
    return None


def _check_spans(name: str, spans: list[tuple[int, int]], size: int) -> None:
    end = 0
    for begin, stop in sorted(spans):
        if begin != end:
            raise _refuse(name, "has tensors that overlap or leave gaps")
        end = stop
    if not spans or end != size:
        raise _refuse(name, "does not hold the bytes that its header promises")
