"""Write the generated pages of docs/: `make docs`. A test looks for drift.

`metrics.md` is the data sheets of the metrics: their docstrings, in the order of the catalogue.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ouroscope.records.analysis import Direction, Family
from services.analyzer.catalogue import ANALYZER_VERSION, METRICS, RELATIVE
from services.analyzer.metric import Metric
from services.analyzer.network.edges import CONSTRUCTIONS, cooccurrences
from services.analyzer.network.syntactic import syntactic

HEAD = f"""# Metrics

GENERATED from the docstrings in `services/analyzer` by `make docs`; analyzer version {ANALYZER_VERSION}.

A metric marked *votes* is a headline of its family. Undefined values say why; they are never 0. How metrics become
effects and verdicts is in [ARCHITECTURE.md](../ARCHITECTURE.md).
"""


def definition(build: Callable[..., object]) -> str:
    """Return what a docstring says between its first line and its arguments."""
    return inspect.cleandoc(build.__doc__ or "").split("\n\n")[1]


BUILDERS = (cooccurrences, syntactic)
INTRODUCTIONS = {
    Family.NETWORK: (
        "Two networks are built, and measured alike.\n",
        *(f"`{name}`: {definition(build)}\n" for name, build in zip(CONSTRUCTIONS, BUILDERS, strict=True)),
    )
}
UNDER_COLLAPSE = {Direction.RISING: "rises", Direction.FALLING: "falls", Direction.NONE: "either way"}


def metrics_page() -> str:
    """Return `metrics.md`."""
    parts = [HEAD]
    for family in Family:
        sheets = [sheet(metrics) for metrics in alike(metric for metric in METRICS if metric.family is family)]
        if sheets:
            parts += [f"## {family.value.capitalize()}\n", *INTRODUCTIONS.get(family, ()), *sheets]
    parts.append("## Relative to a baseline\n\nMeasured by `Compare`, from fingerprints of both sides.\n")
    parts += [f"### {info.id}\n\n{info.summary}\n" for info in RELATIVE]
    return "\n".join(parts)


def alike(metrics: Iterable[Metric]) -> Iterable[list[Metric]]:
    """Return the metrics by data sheet and facts: one sheet serves both networks."""
    groups: dict[object, list[Metric]] = {}
    for metric in metrics:
        groups.setdefault((metric.sheet, metric.unit, metric.direction, metric.headline), []).append(metric)
    return groups.values()


def sheet(metrics: Sequence[Metric]) -> str:
    """Return the section of metrics that share a data sheet."""
    first = metrics[0]
    votes = ", votes" if first.headline else ""
    facts = f"*{first.unit}; under collapse it {UNDER_COLLAPSE[first.direction]}{votes}*"
    names = ", ".join(metric.id for metric in metrics)
    return f"### {names}\n\n{facts}\n\n```\n{inspect.cleandoc(first.sheet.__doc__ or '')}\n```\n"


def main() -> None:
    """Write the pages into the folder given, docs/ by default."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    (folder / "metrics.md").write_text(metrics_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
