"""What a report keeps of the vectors behind it, enough to compare two corpora: moments and a sample. No text.

Vectors are not text, but they tell what a text is about, and may tell more to whoever has the encoder: a fingerprint
with them deserves the care that the corpus deserves. Shapes: m = vectors that are kept, d = dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.analyzer.embedding.moments import Vectors
from services.analyzer.embedding.one_thread import one_thread

KEPT = 1_000
"""Most vectors that are kept of a rung, evenly from its groups."""

_PARTS = ("documents", "mean_d", "covariance_dd", "vectors_md")


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingPrint:
    """The embedded documents of one rung."""

    documents: npt.NDArray[np.int64]
    """How many, as an array of one number."""
    mean_d: Vectors
    covariance_dd: npt.NDArray[np.float32]
    """Divided by documents - 1, or 1 where there is one."""
    vectors_md: npt.NDArray[np.float16]

    def tensors(self, prefix: str) -> Mapping[str, npt.NDArray[Any]]:
        """Return its arrays by name."""
        return {f"{prefix}/{part}": np.ascontiguousarray(getattr(self, part)) for part in _PARTS}


def embedding_print(vectors_Dd: Vectors) -> EmbeddingPrint:
    """Return what is kept of these vectors; there is at least one."""
    count = len(vectors_Dd)
    kept = np.arange(min(count, KEPT)) * count // min(count, KEPT)
    centred_Dd = vectors_Dd - vectors_Dd.mean(axis=0)
    with one_thread():
        products_dd = centred_Dd.T @ centred_Dd
    return EmbeddingPrint(
        documents=np.array([count]),
        mean_d=vectors_Dd.mean(axis=0),
        covariance_dd=(products_dd / max(1, count - 1)).astype(np.float32),
        vectors_md=vectors_Dd[kept].astype(np.float16),
    )


def embedding_print_of(prefix: str, tensors: Mapping[str, npt.NDArray[Any]]) -> EmbeddingPrint | None:
    """Return what `EmbeddingPrint.tensors` gave under `prefix`; None if there is nothing.

    Raises:
        KeyError: a part is missing.
    """
    if not any(name.startswith(prefix + "/") for name in tensors):
        return None
    return EmbeddingPrint(**{part: tensors[f"{prefix}/{part}"] for part in _PARTS})
