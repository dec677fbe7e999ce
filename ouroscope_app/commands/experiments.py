"""`ouroscope experiments`: what ships, in one line each."""

from __future__ import annotations

import typer
from rich.table import Table

from ouroscope.embedded import experiment_names
from ouroscope_app.experiments.reading import find_file, scales_of, title_of
from ouroscope_app.output import answers, command, notes, print_json


@command
def experiments(json_: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> None:
    """List the experiments that ship with Ouroscope: start one by its name, or copy its file and change it."""
    found = [(name, find_file(name)) for name in experiment_names()]
    if json_:
        rows = [
            {"name": name, "title": title_of(path), "scales": list(scales_of(path)), "file": str(path)}
            for name, path in found
        ]
        print_json({"experiments": rows})
        return
    table = Table("experiment", "scales", "what it asks", box=None, pad_edge=False)
    for name, path in found:
        table.add_row(name, ", ".join(scales_of(path)), title_of(path))
    answers.print(table)
    notes.print("start one by `ouroscope sweep NAME` (or `ouroscope run NAME`, where nothing is varied)", markup=False)
