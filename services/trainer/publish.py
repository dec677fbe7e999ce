"""A trained model as a plain Hugging Face directory. Knows torch's file formats; nothing of stores or training.

What is written depends on the weights and on where they come from, so the same training gives the same bytes: no path,
no time, no name of a machine. Weights are written as float32, the type they were trained in: the next generation starts
from exactly these. That is twice the size of bfloat16; rounding between generations would be a change nobody asked for.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from ouroscope.adapters import ADAPTER_WEIGHTS, lineage_of
from ouroscope.canonical import to_plain
from ouroscope.model_files import LINEAGE
from ouroscope.models import ADAPTER_CONFIG, CONFIG, INDEX, CheckedModel
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.training import FineTune
from services.trainer.adapters import adapter_settings, factors


def write_model(
    model: PreTrainedModel, base: Path, checked: CheckedModel, request: FineTune, folder: Path
) -> dict[str, Path]:
    """Write the model into the empty directory `folder` and return its files by name.

    Configuration, tokenizer and defaults of generation are those of `base`: training changes weights and nothing else.

    Args:
        model: Trained, without adapters.
        base: Directory of the model that training began with.
        checked: What was found there.
        request: What led from the one to the other.
        folder: Where to write.
    """
    _write_weights(model, folder)
    for name in checked.files:
        if not _is_weights(name):
            shutil.copyfile(base / name, folder / name)
    _write_json(folder / CONFIG, _in_float32(checked.config))
    _write_json(folder / LINEAGE, {"version": 1, "made_by": to_plain(request)})
    return {path.name: path for path in sorted(folder.iterdir())}


def write_adapter(learner: torch.nn.Module, base: ArtifactRef, request: FineTune, folder: Path) -> dict[str, Path]:
    """Write the adapter of `learner` into the empty directory `folder` and return its files by name.

    Args:
        learner: Trained, with adapters.
        base: Whole model that the adapter belongs to; named inside, so that the digest depends on it.
        request: What led to it.
        folder: Where to write.
    """
    save_file(factors(learner), folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    _write_json(folder / ADAPTER_CONFIG, adapter_settings(learner, str(base)))
    (folder / LINEAGE).write_bytes(lineage_of(base, made_by=to_plain(request)))
    return {path.name: path for path in sorted(folder.iterdir())}


def _write_weights(model: PreTrainedModel, folder: Path) -> None:
    # Through the library, which knows what is tied and how each architecture names its tensors on disk.
    model.save_pretrained(folder)
    for path in folder.iterdir():
        if not _is_weights(path.name):
            path.unlink()


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors") or name == INDEX


def _in_float32(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with the type of the weights as they are now, in the parts of composed models too."""
    changed = {key: _in_float32(value) if isinstance(value, dict) else value for key, value in config.items()}
    for key in ("dtype", "torch_dtype"):
        if key in changed:
            changed[key] = "float32"
    return changed


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
