"""The answer of `--dry-run`: what would be done, how long it would take here, what it would fill."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from rich.table import Table

from ouroscope.canonical import to_plain
from ouroscope.executor import processors
from ouroscope_app.estimating.footprint import ModelShape, disk_of, memory_of, shape_of
from ouroscope_app.estimating.rates import Rates, seconds_of
from ouroscope_app.estimating.work import Kind, Work, work_of
from ouroscope_app.experiments.reading import Experiment
from ouroscope_app.home import Home
from ouroscope_app.output import answers, counted, notes, print_json

Amounts = dict[str, int]


def show_estimate(home: Home, experiment: Experiment, *, calibrate: bool, json_: bool) -> None:
    """Print what an experiment would cost; with `calibrate` this machine is measured, unless it is known already."""
    work = work_of(experiment.specs)
    shape = shape_of(experiment.specs[0].model)
    rates, why = _rates(home, experiment, shape, calibrate)
    seconds = seconds_of(work, rates, processors()) if rates else None
    amounts = amounts_of(experiment, work)
    memory = memory_of(experiment.specs[0], shape) if shape else {}
    disk = disk_of(experiment.specs, work, shape) if shape else {}
    if json_:
        plan = {**amounts, "memory_bytes": memory, "disk_bytes": disk, "seconds": seconds, "no_time_because": why}
        specs = [to_plain(spec) for spec in experiment.specs]
        print_json({"spec": specs[0], "plan": plan} if not experiment.swept else {"specs": specs, "plan": plan})
        return
    _print(experiment, amounts)
    _print_bytes("memory", memory, "not known before the model is on this machine")
    _print_bytes("disk", disk, "not known before the model is on this machine")
    _warn_of_disk(home, sum(disk.values()))
    told = f"about {duration(seconds)} on this machine, if it has nothing else to do" if seconds else why
    answers.print(f"time: {told}", markup=False, soft_wrap=True)
    answers.print("nothing was started; leave out --dry-run to start")


def amounts_of(experiment: Experiment, work: Work) -> Amounts:
    """Count what is done, equal work of different arms and runs once."""
    specs = experiment.specs
    step = [spec.recipe.batch_size * spec.recipe.gradient_accumulation * spec.recipe.block_tokens for spec in specs]
    return {
        "runs": len(specs),
        "arms": max(len(spec.arms) for spec in specs),
        "seeds": experiment.seeds,
        "generations_to_examine": sum(len(spec.arms) * spec.seeds * (spec.generations + 1) for spec in specs),
        "documents_to_write": work.documents,
        "tokens_to_generate": work.total(Kind.WRITE),
        "tokens_to_score": work.total(Kind.SCORE),
        "tokens_to_analyse": work.total(Kind.ANALYSE),
        "fine_tunings": work.count(Kind.TRAIN),
        "tokens_to_train": work.total(Kind.TRAIN) * max(step),
    }


def _rates(home: Home, experiment: Experiment, shape: ModelShape | None, calibrate: bool) -> tuple[Rates | None, str]:
    """Return what this machine does in a second, or why that is not known."""
    if not calibrate:
        return None, "not estimated (--no-calibrate)"
    if any(spec.backend for spec in experiment.specs):
        return None, "not estimated: a server writes, and how fast it is shows when it does"
    if shape is None:
        return None, "not estimated: the model is not on this machine yet"
    from ouroscope_app.estimating.calibration import calibrated

    notes.print("measuring this machine for some seconds (--no-calibrate leaves it out)")
    return asyncio.run(calibrated(home, experiment.specs[0])), ""


def _print(experiment: Experiment, amounts: Amounts) -> None:
    runs = counted(len(experiment.specs), "run")
    answers.print(f"{experiment.name}: {runs}", markup=False, style="bold", soft_wrap=True)
    if experiment.swept:
        for spec in experiment.specs:
            answers.print(f"  {spec.name}", markup=False, soft_wrap=True)
    first = experiment.specs[0]
    answers.print(
        "  arms: " + ", ".join(f"{arm.name} ({arm.protocol})" for arm in first.arms), markup=False, soft_wrap=True
    )
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for label, amount in amounts.items():
        table.add_row(f"  {label.replace('_', ' ')}", f"{amount:,}")
    answers.print(table)


def _print_bytes(what: str, parts: Amounts, unknown: str) -> None:
    if not parts:
        answers.print(f"{what}: {unknown}")
        return
    told = ", ".join(f"{name} {_size(size)}" for name, size in parts.items())
    answers.print(f"{what}: about {_size(sum(parts.values()))} ({told})", markup=False, soft_wrap=True)


def _warn_of_disk(home: Home, needed: int) -> None:
    there = next(folder for folder in (home.path, *home.path.parents) if folder.exists())
    free = shutil.disk_usage(Path(there)).free
    if needed > free:
        notes.print(f"[bold red]the disk has {_size(free)} free[/]: make room, or set OUROSCOPE_HOME elsewhere")


def duration(seconds: float) -> str:
    """Write a time that is not known exactly.

    >>> duration(48), duration(349), duration(6000), duration(300_000)
    ('48 s', '6 min', '1.7 h', '3.5 days')
    """
    for size, unit, form in ((86_400 * 2, "days", ".1f"), (5400, "h", ".1f"), (120, "min", ".0f")):
        if seconds >= size:
            return f"{seconds / {'days': 86_400, 'h': 3600, 'min': 60}[unit]:{form}} {unit}"
    return f"{seconds:.0f} s"


def _size(number: float) -> str:
    """Write bytes for people.

    >>> _size(1_530_000_000), _size(2_000_000)
    ('1.5 GB', '2 MB')
    """
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.0f} MB"
