"""Reads an experiment: a file, a scale of it, changes from the command line, and what its sweep makes of them.

What is wrong is told all at once, each problem with the line where it stands.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ouroscope.canonical import from_plain
from ouroscope.embedded import experiment_names, experiment_path
from ouroscope.errors import (
    CapabilityMissing,
    FieldProblem,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
)
from ouroscope.mappings import problems_of, read_mapping, read_text, refusal, told_with_place
from ouroscope.placed import Placed, plain_of
from ouroscope.records.runs import RunSpec
from ouroscope_app.experiments.cells import Cell, cells_of
from ouroscope_app.experiments.changes import merged, overridden

EXAMPLE = "`name: my-run`, see experiments/quickstart.yaml"
SCALES, SWEEP = "scales", "sweep"


@dataclass(frozen=True, slots=True)
class Experiment:
    """What a file means at one scale."""

    name: str
    """What the names of its runs begin with."""
    scale: str
    """Empty where the file has none."""
    specs: tuple[RunSpec, ...]
    """One, or one for each cell of the sweep; each has the name of its run."""
    swept: bool

    @property
    def seeds(self) -> int:
        """Return the largest number of repetitions of any run."""
        return max(spec.seeds for spec in self.specs)


def read_experiment(source: str, scale: str = "", overrides: Sequence[str] = (), name: str = "") -> Experiment:
    """Return the runs that `source` asks for.

    Args:
        source: A path, or the name of a shipped experiment.
        scale: One of the scales of the file; empty takes the first.
        overrides: Changes as `key=value`, after the scale.
        name: What the names of the runs begin with, instead of what the file says.

    Raises:
        NotFound: there is no such file and no such experiment.
        InvalidRequest: the file is not YAML or JSON, or something in it is wrong; every problem has its line.
    """
    path = find_file(source)
    document, chosen = _at_scale(_parsed(path), scale)
    document = overridden(document, overrides)
    sweep = document.value.get(SWEEP)
    rest = Placed({key: item for key, item in document.value.items() if key != SWEEP}, document.where)
    begin = name or _begin(rest, chosen)
    cells = cells_of(rest, sweep, begin)
    return Experiment(begin, chosen, _read_cells(path, cells), sweep is not None)


def find_file(source: str) -> Path:
    """Return the file that a person names.

    Raises:
        NotFound: there is no such file and no such experiment.
    """
    path = Path(source)
    if path.is_file():
        return path
    shipped = experiment_path(source)
    if shipped is None:
        known = experiment_names()
        close = difflib.get_close_matches(source.lower(), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"or one of {', '.join(known)}"
        raise NotFound(f"there is no specification {source}; give a YAML file, {hint}")
    return shipped


def scales_of(path: Path) -> tuple[str, ...]:
    """Return the names of the scales of a file, the default one first."""
    scales = _parsed(path).value.get(SCALES)
    return tuple(scales.value) if scales and isinstance(scales.value, dict) else ()


def title_of(path: Path) -> str:
    """Return what the first comment of a file says up to its first full stop or question mark."""
    comment = itertools.takewhile(lambda line: line.startswith("#"), read_text(path, "a specification").splitlines())
    said = " ".join(line.lstrip("# ") for line in comment)
    return re.split(r"(?<=[.?]) ", said)[0]


def _parsed(path: Path) -> Placed:
    return read_mapping(path, "a specification", EXAMPLE)


def _at_scale(document: Placed, scale: str) -> tuple[Placed, str]:
    """Return the document with one of its scales over it, and which one that is."""
    scales = document.value.get(SCALES)
    if scales is None:
        if scale:
            raise InvalidRequest(f"{document.where}: --scale {scale}: this file has no scales")
        return document, ""
    if not isinstance(scales.value, dict) or not scales.value:
        raise InvalidRequest(f"{scales.where}: scales maps names to changes, as `scales: {{tiny: {{documents: 100}}}}`")
    chosen = scale or next(iter(scales.value))
    if chosen not in scales.value:
        raise InvalidRequest(f"{scales.where}: --scale {scale}: there is {' and '.join(scales.value)}")
    rest = Placed({key: item for key, item in document.value.items() if key != SCALES}, document.where)
    layer = scales.value[chosen]
    return (rest if layer.value is None else merged(rest, layer)), chosen


def _begin(document: Placed, scale: str) -> str:
    given = document.value.get("name")
    name = given.value if given and isinstance(given.value, str) else "run"
    return f"{name}-{scale}" if scale else name


def _read_cells(path: Path, cells: Sequence[Cell]) -> tuple[RunSpec, ...]:
    specs: list[RunSpec] = []
    told: list[str] = []
    for cell in cells:
        spec, problems = _judged(cell.document)
        told += [told_with_place(cell.document, problem) for problem in problems]
        if spec is not None:
            specs.append(spec)
    if told:
        raise refusal(path, told)
    return tuple(specs)


def _judged(document: Placed) -> tuple[RunSpec | None, list[FieldProblem]]:
    """Return the specification if nothing is wrong with it, and all problems of its records and of the plan."""
    plain = plain_of(document)
    try:
        spec = from_plain(RunSpec, plain)
    except InvalidRequest as error:
        problems = problems_of(error)
        return None, [*problems, *_further(plain, problems)]
    problems = _plan_problems(spec)
    return (None if problems else spec), problems


def _further(plain: dict[str, Any], problems: Sequence[FieldProblem]) -> list[FieldProblem]:
    """Return what the plan says of the specification without the fields that are wrong, so that nobody mends twice."""
    for problem in problems:
        _drop(plain, problem.field)
    try:
        further = _plan_problems(from_plain(RunSpec, plain))
    except InvalidRequest as error:
        further = list(error.problems)
    wrong = {problem.field for problem in problems}
    return [problem for problem in further if problem.field not in wrong]


def _plan_problems(spec: RunSpec) -> list[FieldProblem]:
    """Return what is wrong with a specification that its records cannot see."""
    # They import much; whoever only asks for help does not.
    from services.coordinator.dataset.sources import check_source
    from services.coordinator.plan import validate

    problems = _raised(lambda: validate(spec))
    for position, domain in enumerate(spec.dataset.domains):
        alone = replace(spec.dataset, domains=(domain,))
        problems += _raised(partial(check_source, alone), f"dataset.domains[{position}]")
    return problems or _raised(partial(check_source, spec.dataset), "dataset")


def _raised(check: Callable[[], object], group: str = "") -> list[FieldProblem]:
    """Return the problems that a check raises; those of a group of fields with the path of the group before them."""
    try:
        check()
    except InvalidRequest as error:
        return [replace(found, field=f"{group}.{found.field}".strip(".")) for found in problems_of(error)]
    except (NotFound, PreconditionFailed) as error:
        return [FieldProblem(group, error.message)]
    except CapabilityMissing:
        # Where it runs, a library may be installed that is not installed here; the coordinator says so.
        return []
    return []


def _drop(plain: Any, field: str) -> None:
    """Take a field out of a plain specification, so that its default stands in; one that is not there stays away."""
    *parents, last = field.replace("[", ".").replace("]", "").split(".")
    for part in parents:
        if isinstance(plain, list):
            named = [item for item in plain if isinstance(item, dict) and item.get("name") == part]
            plain = named[0] if named else plain[int(part)] if part.isdecimal() and int(part) < len(plain) else None
        else:
            plain = plain.get(part) if isinstance(plain, dict) else None
    if isinstance(plain, dict):
        plain.pop(last, None)
