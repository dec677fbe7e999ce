"""Where the page and the tables of a study are written: several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ouroscope.errors import PreconditionFailed
from ouroscope.records.runs import Run
from ouroscope_app.history import generations_of
from ouroscope_app.home import Home
from ouroscope_app.pages import put_page
from services.analyzer.catalogue import CATALOGUE
from services.coordinator.report.loading import Artifacts
from services.coordinator.study.export import write_tables
from services.coordinator.study.loading import load_study
from services.coordinator.study.page import render_study

PAGE = "index.html"


def write_study(home: Home, runs: Sequence[Run], name: str, folder: Path | None = None) -> Path:
    """Write page and tables of a study into `folder`, or into `reports/<name>` in the home; return the page.

    Raises:
        PreconditionFailed: nothing was measured in any of the runs.
    """
    target = folder or home.path / "reports" / name
    study = load_study(Artifacts(home.store()), [(run, generations_of(home, run)) for run in runs], CATALOGUE)
    if not study.parts:
        raise PreconditionFailed("nothing was measured in these runs yet; look again when a generation is done")
    write_tables(study, target)
    return put_page(target / PAGE, render_study(study, name))
