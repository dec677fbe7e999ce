"""`ouroscope report`: the page of a run."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from ouroscope_app.home import Home
from ouroscope_app.output import answers, command


@command
def report(
    run: str = typer.Argument(help="Name of the run, see `ouroscope runs list`."),
    out: Path = typer.Option(None, "--out", "-o", help="File to write; default reports/RUN.html in the data folder."),
) -> None:
    """Write the report page of a run: one HTML file that opens from disk and loads nothing from the network."""
    from ouroscope_app.history import find_run
    from ouroscope_app.pages import write_page

    home = Home.find(os.environ)
    answers.print(str(write_page(home, find_run(home, run), out)), soft_wrap=True, markup=False)
