"""Where report pages are written."""

from __future__ import annotations

import os
from pathlib import Path

from ouroscope.records.runs import Run
from ouroscope_app.history import generations_of
from ouroscope_app.home import Home
from ouroscope_app.report import load_view, render_report


def write_page(home: Home, run: Run, path: Path | None = None) -> Path:
    """Write the page of a run to `path`, or to `reports/<run>.html` in the home, and return where it is."""
    target = path or home.path / "reports" / f"{run.name.removeprefix('runs/')}.html"
    html = render_report(load_view(home.store(), run, generations_of(home, run)))
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.write_text(html, encoding="utf-8")
    draft.replace(target)
    return target
