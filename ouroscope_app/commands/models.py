"""`ouroscope models`: what this project trained itself, and how to train it again."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ouroscope.embedded import model_directory, names
from ouroscope.errors import CapabilityMissing
from ouroscope_app.output import answers, command, notes, print_json

app = typer.Typer(help="The models that come with Ouroscope.", no_args_is_help=True)


@app.command("list")
@command
def list_(json_: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> None:
    """List the embedded models and where they lie."""
    found = {name: str(model_directory(name)) for name in names()}
    if json_:
        print_json({"models": found})
        return
    for name, path in found.items():
        answers.print(f"{name}  {path}", markup=False, soft_wrap=True)


@app.command("train-tiny")
@command
def train_tiny(
    out: Path = typer.Option(Path("ouro-tiny"), "--out", help="Folder to write; it must not exist."),
    steps: int = typer.Option(0, min=0, help="Optimiser steps; 0 takes those of the committed model."),
    seed: int = typer.Option(1, min=0, help="Seed of weights and order."),
) -> None:
    """Train the embedded model `ouro-tiny` again from nothing, on the training part of the embedded corpus."""
    try:
        from services.trainer.ouro_tiny_training import Schedule
        from services.trainer.pretrain import pretrain
    except ImportError as error:
        raise CapabilityMissing("training needs torch; install ouroscope[trainer]") from error
    schedule = Schedule(seed=seed, steps=steps) if steps else Schedule(seed=seed)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"), TimeRemainingColumn())
    with Progress(*columns, console=notes) as bar:
        task = bar.add_task("training", total=None, loss="")

        def show(done: int, total: int, loss: float, tokens_per_second: float) -> None:
            bar.update(task, completed=done, total=total, loss=f"loss {loss:.3f}, {tokens_per_second:,.0f} tokens/s")

        pretrain(out, schedule=schedule, on_progress=show)
    answers.print(str(out), markup=False)
