"""Which coordinator is at work on a home: a small file that a living process keeps, so that other commands find it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from ouroscope_app.home import Home


@dataclass(frozen=True, slots=True)
class Live:
    """Where the coordinator that drives this home listens."""

    pid: int
    coordinator: str
    """`host:port`."""
    metrics: str
    """URL."""
    page: str
    """URL of the page to look at."""


@contextmanager
def announced(home: Home, coordinator: str, metrics: str, page: str) -> Iterator[Live]:
    """Keep the file while the block runs; yields what it says."""
    live = Live(os.getpid(), coordinator, metrics, page)
    path = home.path / "state" / "live.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(asdict(live)))
    draft.replace(path)
    try:
        yield live
    finally:
        path.unlink(missing_ok=True)


def find_live(home: Home) -> Live | None:
    """Return the coordinator at work on `home`, or None; a file left by a killed process does not count."""
    try:
        live = Live(**json.loads((home.path / "state" / "live.json").read_text()))
        os.kill(live.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return live
