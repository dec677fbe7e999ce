"""Where a coordinator keeps its tables: files in a home, or a database of its own on a real server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Place:
    """What `open_history` is told."""

    home: Path
    url: str | None = None


def make_place(request: pytest.FixtureRequest, home: Path) -> Place:
    """Return the place that the parameter of a fixture names."""
    if request.param == "sqlite":
        return Place(home)
    return Place(home, request.getfixturevalue("postgresql").database())
