"""Families of metrics kept as text, piece by piece, for what is large and rarely changes. Knows nothing of the domain.

prometheus_client writes every sample anew at every scrape, some microseconds each: a thousand things with thirty
samples each take it most of a second on a busy machine. Here a piece is written when it changes; a scrape joins text.
Only gauges, whose lines are the same in the text format and in OpenMetrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector


class Source(Protocol):
    """Something that writes a part of a scrape by itself."""

    def text(self) -> str:
        """Return whole families, each ended by a line break; no family that another source has too."""


class WrittenFamilies:
    """Text of families, by family and by piece. Not thread-safe: its owner has a lock."""

    def __init__(self) -> None:
        self._heads: dict[str, str] = {}
        self._lines: dict[str, dict[str, str]] = {}
        """By name of the family, then by piece."""

    def put(self, piece: str, families: Iterable[Metric]) -> None:
        """Write the samples of a piece, in place of those that it had before."""
        self.drop(piece)
        for name, head, lines in _split(generate_latest(_Only(families)).decode()):
            self._heads[name] = head
            self._lines.setdefault(name, {})[piece] = lines

    def drop(self, piece: str) -> None:
        """Forget a piece; one that is not there is no error."""
        for lines in self._lines.values():
            lines.pop(piece, None)

    def text(self) -> str:
        """Return every family that has a sample."""
        return "".join(
            part for name, lines in self._lines.items() if lines for part in (self._heads[name], *lines.values())
        )


class _Only(Collector):
    """Families as a registry has them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return (family for family in self._families if family.samples)


def _split(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield the name of each family, its two lines of description, and its samples."""
    # Line breaks within labels are escaped, so this is never a part of a sample.
    for family in f"\n{text.rstrip()}".split("\n# HELP ")[1:]:
        told, kind, lines = family.split("\n", 2)
        yield told.split(" ", 1)[0], f"# HELP {told}\n{kind}\n", f"{lines}\n"
