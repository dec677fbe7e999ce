"""`ouroscope study`: several runs on one page, with tidy tables."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from ouroscope_app.home import Home
from ouroscope_app.output import answers, command


@command
def study(
    runs: list[str] = typer.Argument(help="Names of runs, see `ouroscope runs list`."),
    name: str = typer.Option("", "--name", help="Title and folder; empty takes the name of the first run."),
    out: Path = typer.Option(None, "--out", "-o", help="Folder to write to; default reports/NAME in the data folder."),
) -> None:
    """Put runs side by side: severity against the share of synthetic text, the cross-dataset matrix, tidy tables.

    Writes index.html, and values, means, effects and selections as CSV and Parquet: one row per observation, with the
    mean and the standard error over seeds. A single run with several arms may be given too.
    """
    from ouroscope_app.history import find_run, run_id
    from ouroscope_app.study_pages import write_study

    home = Home.find(os.environ)
    found = [find_run(home, one) for one in dict.fromkeys(runs)]
    title = name or f"study-{run_id(runs[0])}"
    answers.print(str(write_study(home, found, title, out)), soft_wrap=True, markup=False)
