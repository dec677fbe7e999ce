"""Write the generated pages of docs/: `make docs`. A test looks for drift.

`metrics.md` is the data sheets of the metrics: their docstrings, in the order of the catalogue.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from ouroscope.records.analysis import Direction, Family
from services.analyzer.catalogue import ANALYZER_VERSION, METRICS, NOT_MEASURED, RELATIVE, Metric

HEAD = f"""# Metrics

GENERATED from the docstrings in `services/analyzer` by `make docs`; analyzer version {ANALYZER_VERSION}.

A metric marked *votes* is a headline of its family. Undefined values say why; they are never 0. How metrics become
effects and verdicts is in [ARCHITECTURE.md](../ARCHITECTURE.md).
"""
UNDER_COLLAPSE = {Direction.RISING: "rises", Direction.FALLING: "falls", Direction.NONE: "either way"}


def metrics_page() -> str:
    """Return `metrics.md`."""
    parts = [HEAD]
    for family in Family:
        sheets = [sheet(metric) for metric in METRICS if metric.family is family]
        if sheets:
            parts += [f"## {family.value.capitalize()}\n", *sheets]
    parts.append("## Relative to a baseline\n\nMeasured by `Compare`, from hashed vocabularies and networks.\n")
    parts += [f"### {info.id}\n\n{info.summary}\n" for info in RELATIVE]
    parts.append("## Not measured by this version\n")
    parts.append("".join(f"- `{left.id}`: {left.reason}\n" for left in NOT_MEASURED))
    return "\n".join(parts)


def sheet(metric: Metric) -> str:
    """Return the section of one metric."""
    votes = ", votes" if metric.headline else ""
    facts = f"*{metric.unit}; under collapse it {UNDER_COLLAPSE[metric.direction]}{votes}*"
    return f"### {metric.id}\n\n{facts}\n\n```\n{inspect.cleandoc(metric.sheet.__doc__ or '')}\n```\n"


def main() -> None:
    """Write the pages into the folder given, docs/ by default."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    (folder / "metrics.md").write_text(metrics_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
