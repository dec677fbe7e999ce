"""`ouroscope baselines`: the numbers of texts that were kept under names."""

from __future__ import annotations

import os

import typer
from rich.table import Table

from ouroscope.canonical import to_plain
from ouroscope_app.home import Home
from ouroscope_app.output import answers, command, notes, print_json

app = typer.Typer(help="Look at kept baselines, and forget them.", no_args_is_help=True)

ALL = 1_000_000
"""More baselines than anybody keeps: they come on one page."""


@app.command("list")
@command
def list_(json_: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> None:
    """List the baselines that `ouroscope analyze FILE --save NAME` kept, in order of name."""
    from services.analyzer import baselines

    found, _ = baselines.page(Home.find(os.environ).store(), "", ALL)
    if json_:
        print_json({"baselines": [to_plain(info) for info in found]})
        return
    if not found:
        notes.print("no baselines yet; keep one with `ouroscope analyze FILE --save NAME`")
        return
    table = Table("baseline", box=None, pad_edge=False)
    for heading in ("documents", "words", "analyzer"):
        table.add_column(heading, justify="right")
    for info in found:
        table.add_row(info.name, f"{info.documents:,}", f"{info.tokens:,}", info.analyzer_version)
    answers.print(table)


@app.command("delete")
@command
def delete(name: str = typer.Argument(help="baselines/NAME or NAME, see `ouroscope baselines list`.")) -> None:
    """Forget a baseline: its name becomes free."""
    from ouroscope_app.kept import find, full_name
    from services.analyzer import baselines

    store = Home.find(os.environ).store()
    info = find(store, full_name(name))
    baselines.delete(store, info.name)
    answers.print(f"{info.name} deleted")
