"""The words of a sample and what follows from a word alone, worked out once for all rungs.

Shapes: V = words of the sample.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from services.analyzer.concepts import is_concept
from services.analyzer.keys import word_keys
from services.analyzer.tokens import syllables


class Lexicon:
    """Words by id."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def keys_V(self) -> npt.NDArray[np.uint64]:
        """Return a hash of each word."""
        return word_keys(self.words)

    @cached_property
    def concepts_V(self) -> npt.NDArray[np.bool_]:
        """Return whether each word can be a node of a network."""
        return np.fromiter(map(is_concept, self.words), dtype=np.bool_, count=len(self.words))

    @cached_property
    def syllables_V(self) -> npt.NDArray[np.int64]:
        """Return about how many syllables each word has."""
        return np.fromiter(map(syllables, self.words), dtype=np.int64, count=len(self.words))
