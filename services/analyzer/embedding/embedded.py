"""Documents as unit vectors: which ones are embedded, in which batches, and what is kept of them. Knows no torch.

A document is embedded whole, as far as its encoder reads, even where a rung uses only its first words: its vector says
nothing of the rung, so that one embedding of the largest rung serves all. Shapes: D = documents, d = dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ouroscope.errors import PreconditionFailed
from ouroscope.records.progress import Progress
from services.analyzer.rungs import RungSample

MOST_DOCUMENTS = 10_000
"""Documents of a corpus that are embedded: the first ones of every group, as many of each."""

Vectors = npt.NDArray[np.float64]


class Encoder(Protocol):
    """A model that turns texts into vectors."""

    identity: str
    """Name and digest; vectors of two encoders cannot be compared."""
    libraries: str
    """Versions of what it runs on: others may change the last digits."""

    def embed(self, texts: Sequence[str], on_done: Callable[[int], None]) -> npt.NDArray[np.float32]:
        """Return a row for each text; `on_done` hears after each batch how many texts are done, and may raise."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """The embedded documents of a sample."""

    places_D: npt.NDArray[np.int32]
    """Position in the sample of each, rising."""
    vectors_Dd: Vectors
    """Of length 1."""

    def of(self, rung: RungSample) -> tuple[Vectors, npt.NDArray[np.int64]]:
        """Return the vectors of the documents of `rung` that were embedded, and the group of each."""
        kept = np.isin(rung.places_D, self.places_D)
        return self.vectors_Dd[np.searchsorted(self.places_D, rung.places_D[kept])], rung.groups_D[kept].astype(
            np.int64
        )


def embed(
    rung: RungSample,
    encoder: Encoder,
    on_progress: Callable[[Progress], None] = lambda _: None,
    check: Callable[[], None] = lambda: None,
) -> Embedded:
    """Embed the documents of `rung`, equal ones once; a lower rung of the same sample finds its own among them.

    Raises:
        PreconditionFailed: the encoder makes no usable vectors.
    """
    chosen = chosen_documents(rung.groups_D, rung.groups)
    texts = [rung.texts[place] for place in chosen.tolist()]
    distinct = list(dict.fromkeys(texts))

    def on_done(done: int) -> None:
        on_progress(Progress(stage="embedding", done=done, total=len(distinct), unit="documents"))
        check()

    check()
    rows = dict(zip(distinct, range(len(distinct)), strict=True))
    vectors = unit_vectors(encoder.embed(distinct, on_done))
    return Embedded(rung.places_D[chosen], vectors[[rows[text] for text in texts]])


def chosen_documents(groups_D: npt.NDArray[np.integer], groups: int) -> npt.NDArray[np.int64]:
    """Return the positions of the documents that are embedded: the first of each group.

    >>> chosen_documents(np.array([0, 0, 1]), groups=10_000).tolist()
    [0, 2]
    """
    firsts = np.searchsorted(groups_D, groups_D)
    return np.flatnonzero(np.arange(len(groups_D)) - firsts < MOST_DOCUMENTS // groups)


def batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Yield positions of texts that are embedded together, long ones first: at most `most` tokens with the padding.

    Which texts share a batch follows from their lengths and order alone.

    >>> list(batches([1, 4, 4, 2], most=8))
    [[1, 2], [3, 0]]
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > most:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def unit_vectors(vectors_Dd: npt.NDArray[np.floating]) -> Vectors:
    """Return the rows at length 1.

    Raises:
        PreconditionFailed: a row has no direction.
    """
    exact = vectors_Dd.astype(np.float64)
    lengths = np.sqrt(np.sum(exact * exact, axis=1, keepdims=True))
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise PreconditionFailed("the encoder makes vectors of zeros or of numbers that are not finite; use another")
    return np.asarray(exact / lengths)
