"""`ouroscope models`: what this project trained itself, and how to train it again."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from ouroscope.embedded import model_directory, names, pipeline_directory
from ouroscope.errors import CapabilityMissing
from ouroscope_app.output import answers, command, print_json, progress

app = typer.Typer(help="The models that come with Ouroscope.", no_args_is_help=True)


@app.command("list")
@command
def list_(json_: bool = typer.Option(False, "--json", help="Print one JSON document.")) -> None:
    """List the embedded models, what each is, and where it lies with its card."""
    found = _models()
    if json_:
        print_json({"models": {name: str(folder) for name, (_, folder) in found.items()}})
        return
    for name, (kind, folder) in found.items():
        card = folder / "README.md"
        answers.print(f"{name}, {kind}: {folder}", markup=False, soft_wrap=True)
        if card.is_file():
            answers.print(f"  card: {card}", markup=False, soft_wrap=True)


def _models() -> dict[str, tuple[str, Path]]:
    from services.analyzer.parsing.sources import SHIPPED

    found = {name: ("language model", model_directory(name)) for name in names()}
    parser = pipeline_directory(SHIPPED)
    return found if parser is None else {**found, SHIPPED: ("parser of English", parser)}


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
    with progress(*columns) as bar:
        task = bar.add_task("training", total=None, loss="")

        def show(done: int, total: int, loss: float, tokens_per_second: float) -> None:
            bar.update(task, completed=done, total=total, loss=f"loss {loss:.3f}, {tokens_per_second:,.0f} tokens/s")

        pretrain(out, schedule=schedule, on_progress=show)
    answers.print(str(out), markup=False)
