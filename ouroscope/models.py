"""Whether a model directory may be opened: it must hold data only, and data of bounded size.

A model is somebody else's file. Loading the wrong kind runs somebody else's program: pickles, Python files, a
configuration that names code or a kernel to fetch, an adapter that names another repository. All of that is refused
here, before any library that would obey it sees the directory. Knows nothing of torch or transformers: it reads bytes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ouroscope.errors import InvalidRequest, NotFound
from ouroscope.model_files import (
    LINEAGE,
    MAX_HEADER_BYTES,
    check_entry,
    elements,
    read_object,
    read_settings,
    read_shapes,
    refused,
)

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
ADAPTER_CONFIG = "adapter_config.json"

TOKENIZER_FILES = frozenset(
    {TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt"}
    | {"merges.txt", "tokenizer.model", "chat_template.jinja"}
)
"""Files that say how text becomes tokens; a fine-tuned model inherits them byte for byte."""
_SETTINGS = frozenset({CONFIG, "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"})
_OTHER_FILES = frozenset({CONFIG, "generation_config.json", LINEAGE})

_MAX_TOKENIZER_BYTES = 256 << 20
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
        return context_of(self.config)


def context_of(config: Mapping[str, Any]) -> int | None:
    """Return the longest sequence, in tokens, that the configuration of a model allows, where it says so."""
    found = (config.get(key) for key in ("max_position_embeddings", "n_positions", "n_ctx"))
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
        check_entry(entry)
        if entry.name == ADAPTER_CONFIG:
            raise refused(
                entry.name, "makes this an adapter that would load another model; import it with its base, or merge it"
            )
    config = check_settings(path)
    weights = _weight_files(path)
    parameters = sum(elements(read_shapes(path / name)) for name in weights)
    texts = [name for name in TOKENIZER_FILES | _OTHER_FILES if (path / name).is_file()]
    index = [INDEX] if weights != (WEIGHTS,) else []
    return CheckedModel(files=tuple(sorted([*texts, *weights, *index])), config=config, parameters=parameters)


def check_settings(path: Path) -> Mapping[str, Any]:
    """Return the configuration of the model in `path`, having found no code in it nor in its tokenizer.

    Its weights may lie elsewhere.

    Raises:
        InvalidRequest: configuration or tokenizer is missing.
        UntrustedArtifact: one of the files could run code, or is not what its name says.
    """
    config = read_settings(_required(path, CONFIG))
    _required(path, TOKENIZER)
    for name in sorted(TOKENIZER_FILES | _OTHER_FILES):
        _check_text_file(path / name)
    return config


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every stored weight of a model that `check_model_directory` has accepted."""
    return {name: shape for file in _weight_files(path) for name, shape in read_shapes(path / file).items()}


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
        read_settings(path)
    elif path.name in {TOKENIZER, LINEAGE}:
        read_object(path, _MAX_TOKENIZER_BYTES)
    elif path.stat().st_size > _MAX_TOKENIZER_BYTES:
        raise refused(path.name, f"is larger than {_MAX_TOKENIZER_BYTES} bytes")


def _weight_files(path: Path) -> tuple[str, ...]:
    if (path / WEIGHTS).is_file():
        return (WEIGHTS,)
    if not (path / INDEX).is_file():
        raise InvalidRequest(f"the model directory has no {WEIGHTS}; save the weights as safetensors")
    index = read_object(path / INDEX, MAX_HEADER_BYTES).get("weight_map")
    names = (
        set(index.values()) if isinstance(index, dict) and all(isinstance(n, str) for n in index.values()) else set()
    )
    if not names or not all(_SHARD.fullmatch(name) for name in names):
        raise refused(INDEX, "must name safetensors files of the same directory")
    for name in sorted(names):
        _required(path, name)
    return tuple(sorted(names))
