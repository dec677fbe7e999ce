"""`ouroscope models`: the models that come with the project, those of others, what runs them and how good they are."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import typer
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from ouroscope.canonical import to_plain
from ouroscope.embedded import model_directory, names, pipeline_directory
from ouroscope.errors import CapabilityMissing, NotFound
from ouroscope_app.columns import number, table
from ouroscope_app.declared import BACKENDS, declared_in
from ouroscope_app.home import Home
from ouroscope_app.output import FAULT, answers, command, notes, print_json, progress

app = typer.Typer(help="Models: list, import and evaluate them, and see what can run them.", no_args_is_help=True)

GENERATOR = typer.Option(
    "", "--generator", metavar="HOST:PORT", help="Ask this generator; empty starts one for the time being."
)
JSON = typer.Option(False, "--json", help="Print one JSON document.")


@app.command("list")
@command
def list_(json_: bool = JSON) -> None:
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


@app.command("import")
@command
def import_(
    source: str = typer.Argument(help="An embedded name, a directory, or owner/name of the Hugging Face Hub."),
    base: str = typer.Option("", "--base", metavar="model/DIGEST", help="Stored model that an adapter was made for."),
    generator: str = GENERATOR,
    json_: bool = JSON,
) -> None:
    """Bring a model into the store and print its name there, which `base` in a file of backends asks for.

    Weights must be safetensors and nothing in the model may be a program. An adapter (LoRA, as PEFT saves it) needs
    `--base`.
    """
    from ouroscope_app.generating import import_model

    info = asyncio.run(import_model(Home.find(os.environ).prepare(), generator, source, base))
    if json_:
        print_json(to_plain(info))
        return
    answers.print(str(info.model), markup=False, soft_wrap=True)
    notes.print(f"{info.parameters:,} weights, {info.context_tokens:,} tokens at once, {info.vocabulary:,} in all")


@app.command("backends")
@command
def backends(backends: str = BACKENDS, generator: str = GENERATOR, json_: bool = JSON) -> None:
    """List what can run models and what each can do; servers are asked now.

    `ouroscope models backends --backends FILE` shows whether a file is right and its servers answer, before a run
    counts on them; the exit status is 1 if one cannot be asked. A run needs GENERATE and SCORE; its specification
    names the backend: `backend: NAME`.
    """
    from ouroscope_app.generating import list_backends

    declared = declared_in(backends)
    found = asyncio.run(list_backends(Home.find(os.environ).prepare(), generator, declared))
    if json_:
        print_json({"backends": [to_plain(info) for info in found]})
        return
    shown = table(("backend", "kind", "weights", "can", "problem"), frozenset())
    for info in found:
        able = ", ".join(capability.value.lower().replace("_", " ") for capability in info.capabilities)
        shown.add_row(info.name, info.kind, info.weights or "loaded", able or "nothing now", info.problem)
    answers.print(shown)
    if any(not info.capabilities for info in found):
        raise typer.Exit(FAULT)


@app.command("evaluate")
@command
def evaluate(
    model: str = typer.Argument(help="model/DIGEST in the store, an embedded name, a directory, or a Hub id."),
    tasks: list[str] = typer.Option(..., "--tasks", help="Names of tasks, with commas or the option repeated."),
    limit: int = typer.Option(0, min=0, help="Examples of each task that are asked, the first ones; 0 asks all."),
    few_shot: int = typer.Option(-1, min=-1, help="Solved examples before each; -1 takes what the task says."),
    seed: int = typer.Option(0, min=0, help="Seed of the choice of solved examples."),
    batch_size: int = typer.Option(0, min=0, help="Requests that are looked at together; 0 chooses."),
    own_tasks: Path | None = typer.Option(None, "--own-tasks", metavar="DIR", help="Folder with tasks of your own."),
    generator: str = GENERATOR,
    json_: bool = JSON,
) -> None:
    """Let a model do tasks of lm-evaluation-harness: `ouroscope models evaluate ouro-tiny --tasks hellaswag`.

    Needs `pip install 'ouroscope[evaluation]'`; the data of a task comes from the Hugging Face Hub when it is first
    asked for. The model of each generation of a run is in `ouroscope runs show NAME --json`.
    """
    from ouroscope_app.generating import evaluate as evaluated

    if own_tasks is not None and not own_tasks.is_dir():
        raise NotFound(f"there is no folder {own_tasks}; --own-tasks takes one with YAML files of tasks")
    names = tuple(name.strip() for given in tasks for name in given.split(",") if name.strip())
    options = {"tasks": names, "limit": limit, "seed": seed, "batch_size": batch_size}
    chosen = {**options, "few_shot": None if few_shot < 0 else few_shot}
    home = Home.find(os.environ).prepare()
    ref, found = asyncio.run(evaluated(home, generator, model, own_tasks, **chosen))
    if json_:
        print_json({"model": str(ref), **to_plain(found)})
        return
    shown = table(("task", "measure", "value", "standard error", "examples"), frozenset({"value", "examples"}))
    for score in found.scores:
        error = "" if score.standard_error is None else number(score.standard_error)
        shown.add_row(score.task, score.metric, number(score.value), error, f"{score.examples:,}")
    answers.print(shown)


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
