"""`ouroscope run`: one experiment from text to verdict, with everything it needs started in this process."""

from __future__ import annotations

import os
from pathlib import Path

import typer
from rich.markup import escape

from ouroscope.canonical import to_plain
from ouroscope.records.runs import Run, RunState
from ouroscope_app.declared import BACKENDS, check_declared, declared_in
from ouroscope_app.home import Home
from ouroscope_app.output import FAULT, INTERRUPTED, answers, command, notes, print_json
from ouroscope_app.watch import STYLE

SCALE: str = typer.Option("", "--scale", help="Scale of the file, such as `tiny` or `paper`; empty takes its first.")
SET: list[str] = typer.Option(
    [],
    "--set",
    metavar="KEY=VALUE",
    help="Change one value: `--set generations=3 --set arms.replace.real_share=0.5`; `arms.*.real_share` means all.",
)
CALIBRATE: bool = typer.Option(
    True,
    "--calibrate/--no-calibrate",
    help="With --dry-run: let the model write and train for some seconds, to estimate the time on this machine.",
)
METRICS_PORT: int = typer.Option(
    0, "--metrics-port", min=0, max=65535, help="Port of /metrics on 127.0.0.1; 0 takes a free one."
)


@command
def run(
    spec: str = typer.Argument(
        "quickstart", help="A YAML file, or the name of a shipped experiment, see `ouroscope experiments`."
    ),
    scale: str = SCALE,
    overrides: list[str] = SET,
    backends: str = BACKENDS,
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would be done and what it costs, start nothing."),
    calibrate: bool = CALIBRATE,
    run_id: str = typer.Option("", "--name", help="Name of the run; empty makes one from the specification."),
    metrics_port: int = METRICS_PORT,
    json_: bool = typer.Option(False, "--json", help="Print the finished run as one JSON document."),
) -> None:
    """Run an experiment: let models learn from their own text, beside a control arm that keeps reading people.

    Without arguments it runs `experiments/quickstart.yaml` with the embedded model on the embedded text: a few
    minutes, no network, no GPU. Ctrl-C stops it; `ouroscope runs resume NAME` goes on where it was.

    A file may hold scales, one of which is chosen by `--scale`; one that varies something along a `sweep` is started by
    `ouroscope sweep`. `--dry-run` tells what it would cost before anything starts.

    A run whose specification says `backend: NAME` writes and scores with a server (vLLM, text-generation-inference, or
    any that is compatible with OpenAI's): declare it in a YAML file and give that as `--backends`.
    """
    # Here and below: torch, spaCy and the database are imported when they are needed, so that --help answers at once.
    from ouroscope_app.experiments.reading import read_experiment
    from ouroscope_app.specs import only_run

    experiment, declared = read_experiment(spec, scale, overrides), declared_in(backends)
    if dry_run:
        from ouroscope_app.estimating.showing import show_estimate

        show_estimate(Home.find(os.environ), experiment, calibrate=calibrate, json_=json_)
        return
    specification = only_run(experiment)
    home = Home.find(os.environ).prepare()
    check_declared(home, specification, declared)
    from ouroscope_app.drive import start_run, until_told

    conclude(home, until_told(start_run(home, specification, run_id, metrics_port, declared)), json_)


def conclude(home: Home, run: Run, json_: bool) -> None:
    """Say how a run ended, write its page, and exit with 1 if it failed and 130 if it was cancelled."""
    page = None
    if run.state is RunState.SUCCEEDED:
        from ouroscope_app.pages import write_page

        page = write_page(home, run)
    if json_:
        print_json({**to_plain(run), "page": str(page) if page else None})
    else:
        _tell(run, page)
    if run.state is not RunState.SUCCEEDED:
        raise typer.Exit(INTERRUPTED if run.state is RunState.CANCELLED else FAULT)


def _tell(run: Run, page: Path | None) -> None:
    name = run.name.removeprefix("runs/")
    for verdict in run.verdicts:
        answers.print(f"\n[bold]{verdict.arm}[/]: [{STYLE[verdict.verdict]}]{verdict.verdict.value}[/]", soft_wrap=True)
        answers.print(escape(verdict.sentence), soft_wrap=True)
    if run.state is RunState.FAILED:
        notes.print(f"[bold red]failed:[/] {escape(run.error or 'no reason given')}", soft_wrap=True)
        notes.print(
            f"mend it, then go on with [bold]ouroscope runs resume {name}[/]; a wrong specification needs a new run",
            soft_wrap=True,
        )
    if page:
        answers.print(f"\nreport: [bold]{escape(str(page))}[/] (open it in a browser)", soft_wrap=True)
