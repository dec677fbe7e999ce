"""Bytes: what a model takes in memory while it is trained and asked, and what runs leave on disk. Pure.

Rules of thumb from sizes of arrays; what libraries need beside them is the constant `PROCESS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ouroscope.embedded import model_directory, names
from ouroscope.errors import OuroscopeError
from ouroscope.models import check_model_directory, weight_shapes
from ouroscope.records.runs import RunSpec
from ouroscope.records.training import BaseWeights, Method, Optimizer, Recipe
from ouroscope_app.estimating.work import Kind, Work

FLOAT = 4
PROCESS = 1_600_000_000
"""All four services in one process with their libraries, the parser and texts under analysis: measured with ouro-tiny,
whose weights are nothing beside it."""
KEPT_MODELS = 2
"""Models that the generator keeps in memory."""
_BASE_BYTES = {BaseWeights.FLOAT32: 4.0, BaseWeights.BFLOAT16: 2.0, BaseWeights.FOUR_BIT: 0.56}
"""Bytes of a frozen weight; four bits have their scales beside them."""
_STATE_BYTES = {Optimizer.ADAMW: 8, Optimizer.ADAMW_8BIT: 2, Optimizer.ADAFACTOR: 1, Optimizer.SGD: 4}
"""Bytes that an optimiser keeps for a weight that moves."""
_TOKEN_BYTES = 6
"""Bytes of a token of a stored document, with its share of ids and provenance."""
_PREDICTION_BYTES = 40
"""Bytes of a scored token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What the files of a model say of its size."""

    parameters: int
    vocabulary: int
    matrices: tuple[tuple[int, int], ...]
    """Shapes of the weights that may get an adapter: linear projections of the blocks."""


def shape_of(model: str) -> ModelShape | None:
    """Return the size of a model whose files are on this machine; None for one that is still to be fetched."""
    folder = model_directory(model) if model in names() else Path(model).expanduser()
    try:
        checked = check_model_directory(folder)
    except (OuroscopeError, OSError):
        return None
    vocabulary = checked.config.get("vocab_size")
    shapes = (shape for name, shape in weight_shapes(folder).items() if "proj" in name and len(shape) == 2)
    matrices = tuple((shape[0], shape[1]) for shape in shapes)
    return ModelShape(
        parameters=checked.parameters, vocabulary=vocabulary if isinstance(vocabulary, int) else 0, matrices=matrices
    )


def moved_weights(shape: ModelShape, recipe: Recipe) -> int:
    """Return the weights that training moves: all, or those of the adapters."""
    if recipe.method is Method.FULL:
        return shape.parameters
    return sum(recipe.lora.rank * (rows + columns) for rows, columns in shape.matrices)


def memory_of(spec: RunSpec, shape: ModelShape) -> dict[str, int]:
    """Return the bytes that a run takes at most, by what takes them."""
    recipe, moved = spec.recipe, moved_weights(shape, spec.recipe)
    frozen = 0.0 if recipe.method is Method.FULL else shape.parameters * _BASE_BYTES[recipe.lora.base_weights]
    logits = recipe.batch_size // recipe.processes * recipe.block_tokens * shape.vocabulary * FLOAT
    return {
        "process": PROCESS,
        "models that write": KEPT_MODELS * shape.parameters * FLOAT,
        "weights in training": round(frozen + 2 * FLOAT * moved),
        "optimiser": _STATE_BYTES[recipe.optimizer] * moved,
        "logits": 3 * logits,
    }


def disk_of(specs: Sequence[RunSpec], work: Work, shape: ModelShape) -> dict[str, int]:
    """Return the bytes that runs leave in the store, by what they are."""
    window = max(spec.documents * spec.document_tokens for spec in specs)
    return {
        "models": work.count(Kind.TRAIN) * model_bytes(specs[0], shape) + shape.parameters * FLOAT,
        "texts": (work.total(Kind.WRITE) + work.count(Kind.CUT) * window) * _TOKEN_BYTES,
        "probabilities": work.total(Kind.SCORE) * _PREDICTION_BYTES,
    }


def model_bytes(spec: RunSpec, shape: ModelShape) -> int:
    """Return the bytes of one published generation: a whole model, or an adapter."""
    kept = spec.recipe.method is Method.LORA and spec.recipe.lora.keep_adapter
    return FLOAT * (moved_weights(shape, spec.recipe) if kept else shape.parameters)
