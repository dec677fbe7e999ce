"""What a sweep varies, expanded into cells: plain changes of one specification, each under a name of its own. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ouroscope.errors import InvalidRequest
from ouroscope.placed import Placed
from ouroscope_app.experiments.changes import EVERY, assigned

MAX_CELLS = 1000
MAX_NAME = 63
"""Characters in the name of a run."""
_FORMS = {"grid", "list"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One specification of a sweep."""

    name: str
    """Name of its run."""
    changes: Mapping[str, Placed]
    """What it changes, by path; empty where nothing is swept."""
    document: Placed
    """The specification with its changes and its name in place."""


def cells_of(document: Placed, sweep: Placed | None, name: str) -> tuple[Cell, ...]:
    """Return the cells of a sweep in the order in which they are run; the last axis of a grid varies fastest.

    Args:
        document: The specification.
        sweep: `{grid: {PATH: [VALUE, ...]}}` or `{list: [{PATH: VALUE}, ...]}`; None makes one cell.
        name: What the names of all runs begin with.

    Raises:
        InvalidRequest: the sweep has another form, a path leads nowhere, or two names are the same or too long.
    """
    changes = [dict[str, Placed]()] if sweep is None else _changes(sweep)
    short = _short_paths(dict.fromkeys(path for change in changes for path in change))
    labels = _value_labels(changes)
    cells = []
    for change, values in zip(changes, labels, strict=True):
        cell = "-".join([name, *(f"{short[path]}-{values[path]}".strip("-") for path in change)])
        cells.append(Cell(cell, change, _changed(document, change, cell)))
    _check_names([cell.name for cell in cells], document.where if sweep is None else sweep.where)
    return tuple(cells)


def _changed(document: Placed, change: Mapping[str, Placed], name: str) -> Placed:
    for path, value in change.items():
        document = assigned(document, path, value, value.where)
    return assigned(document, "name", Placed(name, document.where), document.where)


def _changes(sweep: Placed) -> list[dict[str, Placed]]:
    given = sweep.value if isinstance(sweep.value, dict) else {}
    if len(given) != 1 or not set(given) <= _FORMS:
        raise InvalidRequest(
            f"{sweep.where}: a sweep is `grid: {{PATH: [VALUE, ...]}}`, all combinations, or "
            "`list: [{PATH: VALUE}, ...]`, one entry per run"
        )
    ((form, axes),) = given.items()
    changes = _grid(axes) if form == "grid" else _listed(axes)
    if not 1 <= len(changes) <= MAX_CELLS:
        raise InvalidRequest(f"{axes.where}: a sweep has 1 to {MAX_CELLS} runs, this one {len(changes)}")
    for path, value in ((path, value) for change in changes for path, value in change.items()):
        if path == "name":
            raise InvalidRequest(f"{value.where}: names of runs are made from what is swept; leave name out")
    return changes


def _grid(axes: Placed) -> list[dict[str, Placed]]:
    if not isinstance(axes.value, dict) or not all(isinstance(axis.value, list) for axis in axes.value.values()):
        raise InvalidRequest(f"{axes.where}: a grid maps each path to a list of values, as `start: [SEQUENTIAL, BASE]`")
    amount = 1
    for axis in axes.value.values():
        amount *= len(axis.value)
    if amount > MAX_CELLS:
        raise InvalidRequest(f"{axes.where}: a sweep has 1 to {MAX_CELLS} runs, this one {amount}")
    values = (axis.value for axis in axes.value.values())
    return [dict(zip(axes.value, chosen, strict=True)) for chosen in itertools.product(*values)]


def _listed(entries: Placed) -> list[dict[str, Placed]]:
    if not isinstance(entries.value, list) or not all(isinstance(one.value, dict) for one in entries.value):
        raise InvalidRequest(f"{entries.where}: a list holds mappings of paths to values, as `- {{start: BASE}}`")
    return [one.value for one in entries.value]


def _short_paths(paths: Sequence[str] | Mapping[str, None]) -> dict[str, str]:
    """Name each path by as many of its last parts as tell it from the others: `real-share`, or `human-real-share`."""
    parts = {path: [slug for part in path.split(".") if part != EVERY and (slug := _slug(part))] for path in paths}
    for length in range(1, 1 + max(map(len, parts.values()), default=0)):
        short = {path: "-".join(its[-length:]) for path, its in parts.items()}
        if len(set(short.values())) == len(short):
            return short
    return {path: "-".join(its) for path, its in parts.items()}


def _value_labels(changes: Sequence[Mapping[str, Placed]]) -> list[dict[str, str]]:
    """Write scalars as they are; a group of values has no short form, so it goes by its number among them."""
    numbers: dict[tuple[str, int], int] = {}

    def label(path: str, value: Placed) -> str:
        if not isinstance(value.value, dict | list):
            return _slug("none" if value.value is None else str(value.value))
        known = [key for key in numbers if key[0] == path]
        return str(numbers.setdefault((path, id(value)), len(known) + 1))

    return [{path: label(path, value) for path, value in change.items()} for change in changes]


def _slug(text: str) -> str:
    """Return `text` in letters, digits and hyphens.

    >>> _slug("real_share"), _slug("0.25"), _slug("meta-llama/Llama-2-7b-hf")
    ('real-share', '0-25', 'meta-llama-llama-2-7b-hf')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _check_names(names: Sequence[str], where: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidRequest(f"{where}: two runs would be called {twice[0]}; the same values are swept twice")
    longest = max(names, key=len)
    if len(longest) > MAX_NAME:
        raise InvalidRequest(
            f"{where}: the run {longest} would have a name of {len(longest)} characters, {MAX_NAME} fit; "
            "shorten `name` or the values"
        )
