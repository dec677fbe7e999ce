"""The command line `ouroscope`: one command per thing a person wants to do."""

from __future__ import annotations

import os

# gRPC reads this at its first import; its core tells of every closed connection otherwise.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import typer

import ouroscope
from ouroscope.telemetry.logs import configure_logs
from ouroscope.telemetry.tracing import start_tracing
from ouroscope_app.commands import (
    analyze,
    baselines,
    compare,
    corpus,
    doctor,
    experiments,
    gate,
    models,
    monitors,
    plan,
    report,
    run,
    runs,
    serve,
    store,
    study,
    sweep,
    token,
)
from ouroscope_app.output import command

app = typer.Typer(
    name="ouroscope",
    help="Watch language models that learn from their own output.\n\n"
    "Start with `ouroscope run`: a real experiment with the embedded model, then a page to look at. "
    "`ouroscope analyze FILE` measures your own text, `ouroscope compare HUMAN.jsonl OTHER.jsonl` gives a verdict.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("sweep")(sweep.sweep)
app.command("experiments")(experiments.experiments)
app.command("analyze")(analyze.analyze)
app.command("compare")(compare.compare)
app.command("gate")(gate.gate)
app.command("plan")(plan.plan)
app.command("report")(report.report)
app.command("study")(study.study)
app.command("serve")(serve.serve)
app.command("doctor")(doctor.doctor)
app.add_typer(runs.app, name="runs")
app.add_typer(monitors.app, name="monitors")
app.add_typer(corpus.app, name="corpus")
app.add_typer(baselines.app, name="baselines")
app.add_typer(models.app, name="models")
app.add_typer(store.app, name="store")
app.add_typer(token.app, name="token")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ouroscope {ouroscope.__version__}")
        raise typer.Exit


@app.callback()
@command
def _options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    configure_logs(level=os.environ.get("OURO_LOG", "warning"), json=False)
    context.call_on_close(start_tracing("ouroscope", os.environ))


def main() -> None:
    """Run the command line."""
    app()
