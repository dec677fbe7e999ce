"""`ouroscope sweep`: one experiment along its axes, from the first run to one page that compares them all."""

from __future__ import annotations

import os
from pathlib import Path

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ouroscope.canonical import to_plain
from ouroscope.errors import PreconditionFailed
from ouroscope.records.runs import Run, RunSpec, RunState
from ouroscope_app.commands.run import CALIBRATE, METRICS_PORT, SCALE, SET
from ouroscope_app.declared import BACKENDS, check_declared, declared_in
from ouroscope_app.home import Home
from ouroscope_app.output import FAULT, answers, command, counted, notes, print_json
from ouroscope_app.watch import STYLE
from services.generator.declared import DeclaredBackend


@command
def sweep(
    spec: str = typer.Argument(help="A YAML file, or the name of a shipped experiment, see `ouroscope experiments`."),
    scale: str = SCALE,
    overrides: list[str] = SET,
    backends: str = BACKENDS,
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what all runs together would cost, start none."),
    calibrate: bool = CALIBRATE,
    name: str = typer.Option("", "--name", help="What the names of the runs begin with; empty takes the file's."),
    metrics_port: int = METRICS_PORT,
    json_: bool = typer.Option(False, "--json", help="Print the finished runs as one JSON document."),
) -> None:
    """Run every combination that the `sweep` of a file asks for, one run after the other, and compare them.

    A file varies what it names by path: `sweep: {grid: {sampling.temperature: [0.7, 1.0], start: [SEQUENTIAL, BASE]}}`
    makes four runs, `list: [{...}, {...}]` one for each entry. They share seeds, so they compare pair by pair, and what
    is equal between them (base model, human text, generation 0) is computed once.

    Stop it whenever you like: the same command again leaves out what is finished and goes on with the rest.
    """
    from ouroscope_app.experiments.reading import read_experiment

    experiment, declared = read_experiment(spec, scale, overrides, name), declared_in(backends)
    if dry_run:
        from ouroscope_app.estimating.showing import show_estimate

        show_estimate(Home.find(os.environ), experiment, calibrate=calibrate, json_=json_)
        return
    home = Home.find(os.environ).prepare()
    for one in experiment.specs:
        check_declared(home, one, declared)
    notes.print(f"{experiment.name}: {counted(len(experiment.specs), 'run')}", markup=False, soft_wrap=True)
    _conclude(home, experiment.name, _driven(home, experiment.specs, metrics_port, declared), json_)


def _driven(
    home: Home, specs: tuple[RunSpec, ...], metrics_port: int, declared: tuple[DeclaredBackend, ...]
) -> list[Run]:
    """Bring all runs to their end; where they are there already, no service is started."""
    from ouroscope_app.drive import until_told
    from ouroscope_app.sweeping import finished_runs, run_sweep

    if (finished := finished_runs(home, specs)) is not None:
        notes.print("all are finished already")
        return finished
    try:
        return until_told(run_sweep(home, specs, metrics_port, declared))
    except KeyboardInterrupt:
        notes.print("go on with the same command; what was finished is not done again")
        raise


def _conclude(home: Home, name: str, runs: list[Run], json_: bool) -> None:
    """Say how the runs ended, write the page that compares them, and exit with 1 if one did not succeed."""
    page = _page(home, name, runs)
    if json_:
        print_json({"runs": [to_plain(run) for run in runs], "page": str(page) if page else None})
    else:
        _tell(runs, page)
    if any(run.state is not RunState.SUCCEEDED for run in runs):
        raise typer.Exit(FAULT)


def _page(home: Home, name: str, runs: list[Run]) -> Path | None:
    from ouroscope_app.study_pages import write_study

    try:
        return write_study(home, runs, name)
    except PreconditionFailed as error:
        notes.print(error.message, markup=False, soft_wrap=True)
        return None


def _tell(runs: list[Run], page: Path | None) -> None:
    table = Table("run", "state", "arm", "verdict", box=None, pad_edge=False)
    for run in runs:
        name, state = run.name.removeprefix("runs/"), run.state.value.lower()
        for verdict in run.verdicts:
            table.add_row(name, state, verdict.arm, Text(verdict.verdict.value, STYLE[verdict.verdict]))
            name = state = ""
        if not run.verdicts:
            table.add_row(name, state, "", "")
    answers.print(table)
    for run in runs:
        if run.state is RunState.FAILED:
            why = escape(run.error or "no reason given")
            notes.print(f"[bold red]failed:[/] {run.name.removeprefix('runs/')}: {why}", soft_wrap=True)
    if page:
        answers.print(f"\ncomparison: [bold]{escape(str(page))}[/] (open it in a browser)", soft_wrap=True)
