"""Counting equal cells, a cell being a number that names a thing and the group in which it stands."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def count_cells(parts: Iterable[Ints]) -> tuple[Ints, Ints]:
    """Return the different cells of all parts, rising, and how often each occurs.

    As `numpy.unique` does, in half the memory: the sum of the parts is sorted where it lies.

    >>> [found.tolist() for found in count_cells([np.array([7, 3]), np.array([7])])]
    [[3, 7], [1, 2]]
    """
    cells = np.concatenate(list(parts))
    cells.sort()
    begins = np.flatnonzero(np.diff(cells, prepend=-1))
    return cells[begins], np.diff(begins, append=len(cells))
