"""Where report pages are written."""

from __future__ import annotations

import os
from pathlib import Path

from ouroscope.records.runs import Run
from ouroscope_app.history import generations_of, text_of
from ouroscope_app.home import Home
from services.analyzer.catalogue import CATALOGUE
from services.coordinator.report.loading import Artifacts, load_view
from services.coordinator.report.page import render_report


def write_page(home: Home, run: Run, path: Path | None = None) -> Path:
    """Write the page of a run to `path`, or to `reports/<run>.html` in the home, and return where it is."""
    target = path or home.path / "reports" / f"{run.name.removeprefix('runs/')}.html"
    view = load_view(Artifacts(home.store()), run, generations_of(home, run), CATALOGUE, dealt=text_of(home, run))
    return put_page(target, render_report(view))


def put_page(path: Path, html: str) -> Path:
    """Write a page where it belongs, whole or not at all, and return where that is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(html, encoding="utf-8")
    draft.replace(path)
    return path
