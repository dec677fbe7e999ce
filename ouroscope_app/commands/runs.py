"""`ouroscope runs`: look at runs, go on with them, stop them, forget them."""

from __future__ import annotations

import asyncio
import os

import typer
from rich.table import Table
from rich.text import Text

from ouroscope.canonical import to_plain
from ouroscope.errors import PreconditionFailed
from ouroscope.records.analysis import Verdict
from ouroscope.records.runs import Run
from ouroscope_app.commands.run import METRICS_PORT, conclude
from ouroscope_app.declared import BACKENDS, check_declared, declared_in
from ouroscope_app.home import Home
from ouroscope_app.live import find_live
from ouroscope_app.output import answers, command, notes, print_json
from ouroscope_app.watch import STYLE, arm_of, seed_of

app = typer.Typer(help="Look at runs, go on with them, stop them, forget them.", no_args_is_help=True)

NAME = typer.Argument(help="Name of the run, see `ouroscope runs list`.")
JSON = typer.Option(False, "--json", help="Print one JSON document.")
STOPPED = "stopped"
"""What a person sees of a run that was at work when its process ended: nobody was left to write it down."""


@app.command("list")
@command
def list_(json_: bool = JSON) -> None:
    """List the runs of this data folder, newest first."""
    from ouroscope_app.history import list_runs

    home = Home.find(os.environ)
    runs = list_runs(home)
    if json_:
        print_json({"runs": [to_plain(run) for run in runs]})
        return
    if not runs:
        notes.print("no runs yet; start one with `ouroscope run`")
        return
    driven = find_live(home) is not None
    table = Table("run", "state", "done", "begun (UTC)", "verdicts", box=None, pad_edge=False)
    for run in runs:
        said = Text(", ").join(Text(f"{v.arm} ").append_text(_coloured(v.verdict)) for v in run.verdicts)
        begun = run.create_time.strftime("%Y-%m-%d %H:%M")
        done = f"{run.generations_done}/{run.generations_total}"
        table.add_row(run.name.removeprefix("runs/"), _standing(run, driven), done, begun, said)
    answers.print(table)


@app.command("show")
@command
def show(name: str = NAME, json_: bool = JSON) -> None:
    """Show a run with its generations."""
    from ouroscope_app.history import find_run, generations_of

    home = Home.find(os.environ)
    run = find_run(home, name)
    generations = generations_of(home, run)
    if json_:
        print_json({"run": to_plain(run), "generations": [to_plain(generation) for generation in generations]})
        return
    standing = _standing(run, find_live(home) is not None)
    answers.print(f"{name}: {standing}" + (f", {run.error}" if run.error else ""), markup=False)
    if standing == STOPPED:
        notes.print(f"go on with [bold]ouroscope runs resume {name}[/]")
    table = Table("arm", "seed", "generation", "state", "verdict", "why", box=None, pad_edge=False)
    for one in generations:
        said = one.comparison
        why = said.reason.value.lower().replace("_", " ") if said else ""
        place = (arm_of(one), seed_of(one), str(one.number), one.state.value.lower())
        table.add_row(*place, _coloured(said.verdict) if said else "", why)
    answers.print(table)


@app.command("watch")
@command
def watch(name: str = NAME) -> None:
    """Follow a run that another process drives, until it ends."""
    from ouroscope_app.history import find_run

    home = Home.find(os.environ)
    run = find_run(home, name)
    if run.state.ended:
        notes.print(f"{name} has ended: {run.state.value.lower()}")
        return
    _need_live(home, name)
    from ouroscope_app.drive import watch_run

    asyncio.run(watch_run(home, run))


@app.command("resume")
@command
def resume(
    name: str = NAME,
    backends: str = BACKENDS,
    metrics_port: int = METRICS_PORT,
    json_: bool = JSON,
) -> None:
    """Go on with a run that was killed, stopped, cancelled or failed; what was finished is not done again."""
    from ouroscope_app.drive import resume_run, until_told
    from ouroscope_app.history import find_run

    home = Home.find(os.environ)
    declared = declared_in(backends)
    run = find_run(home, name)
    check_declared(home, run.spec, declared)
    conclude(home, until_told(resume_run(home, run, metrics_port, declared)), json_)


@app.command("cancel")
@command
def cancel(name: str = NAME) -> None:
    """Stop a run; what was finished stays, and `resume` goes on."""
    from ouroscope_app.drive import cancel_run
    from ouroscope_app.history import find_run

    home = Home.find(os.environ)
    run = find_run(home, name)
    if run.state.ended:
        notes.print(f"{name} has ended already: {run.state.value.lower()}")
        return
    _need_live(home, name)
    answers.print(f"{name} {asyncio.run(cancel_run(home, run)).state.value.lower()}")


@app.command("delete")
@command
def delete(name: str = NAME) -> None:
    """Forget a run that has ended; its artifacts stay in the store."""
    from ouroscope_app.drive import delete_run
    from ouroscope_app.history import find_run

    home = Home.find(os.environ)
    asyncio.run(delete_run(home, find_run(home, name)))
    answers.print(f"{name} deleted")


def _coloured(verdict: Verdict) -> Text:
    return Text(verdict.value, STYLE[verdict])


def _need_live(home: Home, name: str) -> None:
    if find_live(home) is None:
        raise PreconditionFailed(f"nobody is at work on {name}; go on with it by `ouroscope runs resume {name}`")


def _standing(run: Run, driven: bool) -> str:
    """Return the state of a run in a word; `driven`: whether a coordinator is at work on its home."""
    return run.state.value.lower() if run.state.ended or driven else STOPPED
