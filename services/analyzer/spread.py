"""How far human sources differ among themselves: the table that turns differences into effects. Knows no text.

An effect of 1 is the standard deviation of a metric between human sources (the libraries of the embedded corpus, or the
sources that a user names) at one token budget; `calibration` measures it. Model metrics have no budget.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from ouroscope.canonical import from_plain
from ouroscope.errors import FieldProblem, InvalidRequest, NotFound, Undefined

FEWEST_SOURCES = 5
"""Fewer sources than this give no standard deviation that one may build on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One metric among human sources."""

    id: str
    mean: float
    deviation: float
    """Standard deviation between sources, in the unit of the metric."""
    sources: int
    definition: int = 1
    """Number of the definition that it was measured with; it is no unit for values of another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RungSpread:
    """All text and network metrics among human sources at one budget."""

    budget: int
    metrics: tuple[Spread, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanSource:
    """A source that was measured."""

    name: str
    documents: int
    tokens: int
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanSpread:
    """The calibration table with its provenance."""

    analyzer_version: str
    """Version of the analyzer that measured it. What it can judge say the definition of each metric and the tools."""
    date: str
    """Day of the measurement, ISO 8601."""
    command: str
    """What was run to make it."""
    sources: tuple[HumanSource, ...]
    rungs: tuple[RungSpread, ...]
    """In rising order of budget."""
    model: str = ""
    """Language model whose predictions gave `model_metrics`; empty where none was asked."""
    model_metrics: tuple[Spread, ...] = ()
    parser: str = ""
    """Identity of the pipeline that parsed the sources; empty where none did."""
    encoder: str = ""
    """Identity of the model that embedded the documents of the sources; empty where none did."""

    def deviation(self, metric: str, budget: int, value: float, definition: int = 1) -> float:
        """Return what one unit of effect stands for, in the unit of the metric, where the baseline measured `value`.

        Above the largest rung that enough sources reach, the deviation is held; and if the value has outgrown the human
        mean there (as numbers of types do), it grows in proportion, as it does between the measured rungs. A budget of
        0 asks for a model metric.

        Raises:
            Undefined: there is no deviation, or one of another definition, or it is 0.
        """
        known = self._known(metric, definition)
        reached = [rung for rung in known if rung <= budget]
        if not reached:
            raise Undefined(f"the calibration table has no human spread of {metric}; calibrate with human text")
        spread = known[max(reached)]
        grows = budget > max(known) and spread.mean != 0
        deviation = spread.deviation * (max(1.0, abs(value / spread.mean)) if grows else 1.0)
        if deviation <= 0:
            raise Undefined(f"human sources do not differ in {metric}, so a difference has no unit")
        return deviation

    def _known(self, metric: str, definition: int) -> dict[int, Spread]:
        """Return what enough sources say of a metric, by budget; of a model metric at 0."""
        every = [(rung.budget, spread) for rung in self.rungs for spread in rung.metrics]
        every += [(0, spread) for spread in self.model_metrics]
        known = {budget: one for budget, one in every if one.id == metric and one.sources >= FEWEST_SOURCES}
        for one in known.values():
            if one.definition != definition:
                raise Undefined(
                    f"the calibration table has the human spread of {metric} by its definition {one.definition}, not "
                    f"by {definition}; calibrate again, or use the table that comes with this version"
                )
        return known


@cache
def shipped_spread() -> HumanSpread:
    """Return the table that comes with the project, measured on the libraries of the embedded corpus."""
    text = resources.files("services.analyzer").joinpath("human_spread.json").read_text(encoding="utf-8")
    return from_plain(HumanSpread, json.loads(text))


def read_spread(path: Path) -> HumanSpread:
    """Read a table that a user made with `ouroscope` from text of their own.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is not a calibration table.
    """
    try:
        plain: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFound(f"the calibration table {path.name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        problem = FieldProblem("human_spread", "must be the JSON file that a calibration wrote")
        raise InvalidRequest(f"{path.name} is not a calibration table: {problem.description}", [problem]) from error
    return from_plain(HumanSpread, plain)
