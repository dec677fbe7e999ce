"""Sums over vectors, whole and without each group, and the spectra that follow from them. Knows no document.

Replicates are differences of sums, so nothing is embedded or multiplied twice. Shapes: D = vectors, d = dimensions,
K = groups (20, or 1 without replicates). Values are equal bit for bit on one kind of processor; another may round the
last digits of a product of matrices otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.analyzer.embedding.one_thread import one_thread

Vectors = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]
Spectrum = tuple[float, ...]
"""Eigenvalues, rising."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """How much the vectors of a replicate point the same way."""

    documents: int
    squared_sum: float
    """|S|^2, S = sum of the unit vectors: `documents` squared where all are equal."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Sums of the first and second order over the vectors of a replicate."""

    documents: int
    sum_d: Vectors
    gram_dd: Vectors
    """Sum of x x^T."""


def kernel_spectra(vectors_Dd: Vectors, groups_D: Groups, groups: int) -> list[Spectrum]:
    """Return the eigenvalues of X^T X / n of each replicate: those of the cosines of all pairs / n, and zeros."""
    with one_thread():
        return [_eigenvalues(left.gram_dd / left.documents) for left in moments(vectors_Dd, groups_D, groups)]


def covariance_spectra(vectors_Dd: Vectors, groups_D: Groups, groups: int) -> list[Spectrum]:
    """Return the eigenvalues of the covariance of each replicate."""
    with one_thread():
        return [_eigenvalues(_covariance_dd(left)) for left in moments(vectors_Dd, groups_D, groups)]


def moments(vectors_Dd: Vectors, groups_D: Groups, groups: int) -> Iterator[Moments]:
    """Yield the moments without group g for each g; those of all vectors where there are no replicates."""
    narrow_Dd = _narrow(vectors_Dd)
    parts = [narrow_Dd[groups_D == group] for group in range(groups)]
    total = _total(parts)
    for part in parts if groups > 1 else ():
        yield Moments(total.documents - len(part), total.sum_d - part.sum(axis=0), total.gram_dd - part.T @ part)
    if groups == 1:
        yield total


def alignments(vectors_Dd: Vectors, groups_D: Groups, groups: int) -> list[Alignment]:
    """Return the alignment without group g for each g; that of all vectors where there are no replicates."""
    sums_Kd = np.stack([vectors_Dd[groups_D == group].sum(axis=0) for group in range(groups)])
    counts_K = np.bincount(groups_D, minlength=groups)
    total_d, total = sums_Kd.sum(axis=0), int(counts_K.sum())
    if groups == 1:
        return [_alignment(total, total_d)]
    return [_alignment(total - int(n), total_d - sum_d) for n, sum_d in zip(counts_K, sums_Kd, strict=True)]


def _total(parts: list[Vectors]) -> Moments:
    sum_d = np.sum([part.sum(axis=0) for part in parts], axis=0)
    gram_dd = parts[0].T @ parts[0]
    for part in parts[1:]:
        gram_dd += part.T @ part
    return Moments(sum(map(len, parts)), sum_d, gram_dd)


def _narrow(vectors_Dd: Vectors) -> Vectors:
    """Return the vectors in no more dimensions than there are vectors, with the same angles."""
    if len(vectors_Dd) >= vectors_Dd.shape[1]:
        return vectors_Dd
    triangle = np.asarray(np.linalg.qr(vectors_Dd.T, mode="r"))
    return triangle.T


def _alignment(documents: int, sum_d: Vectors) -> Alignment:
    return Alignment(documents, math.fsum((sum_d * sum_d).tolist()))


def _covariance_dd(left: Moments) -> Vectors:
    mean_d = left.sum_d / left.documents
    return np.asarray(left.gram_dd / left.documents - np.outer(mean_d, mean_d))


def _eigenvalues(matrix_dd: Vectors) -> Spectrum:
    # Rounding may leave a hair below 0.
    return tuple(np.maximum(np.linalg.eigvalsh(matrix_dd), 0.0).tolist())
