"""The tables of `scaling.md`, for `generate.py`: what the cost model says, between marks that the page has for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ouroscope_app.estimating.showing import duration
from ouroscope_app.planning.coefficients import PROMPTS, Measured, shipped
from ouroscope_app.planning.costs import COOCCURRENCE, SCORING, SYNTACTIC, TEXT, WORDS, WRITING, Cost
from ouroscope_app.planning.inputs import Inputs
from ouroscope_app.planning.planned import plan
from ouroscope_app.planning.sampling import Sampled, sampled
from ouroscope_app.planning.showing import price, short
from services.analyzer.sample import LADDER

SIZES = tuple(10.0**power for power in range(6, 13))
CORES = 64
BANDWIDTH = 20e6
"""Bytes a second from the store for each processor."""
INTERVALS = (0.05, 0.02, 0.01, 0.005)
PAGE = Path(__file__).parent / "scaling.md"


def scaling_page() -> str:
    """Return `scaling.md` with its tables as the model has them now."""
    text, measured = PAGE.read_text(encoding="utf-8"), shipped()
    tables = {"costs": costs_table(measured), "model": model_table(measured)}
    tables |= {"samples": samples_table(measured), "coefficients": coefficients_table(measured)}
    for name, table in tables.items():
        between = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = between.sub(lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", text)
    return text


def costs_table(measured: Measured) -> str:
    """Return what the text of a whole corpus takes, by size."""
    head = ("words", "words, CPU", "co-occurrence, CPU", "syntactic, CPU", "all three, CPU", "read")
    rows = []
    for size in SIZES:
        alone, many = (
            _costs(Inputs(tokens=size, cores=cores, bandwidth=BANDWIDTH * cores), measured) for cores in (1, CORES)
        )
        cpu = [duration(alone[work].cpu_seconds) for work in (WORDS, COOCCURRENCE, SYNTACTIC, TEXT)]
        spread = (f"{short(many[TEXT].bytes_moved)}B", duration(many[TEXT].seconds), price(many[TEXT].money))
        row = (short(size), *cpu, f"{short(alone[TEXT].bytes_read)}B", duration(alone[TEXT].seconds))
        rows.append((*row, price(alone[TEXT].money), *spread))
    several = tuple(f"{column}, {CORES} cores" for column in ("moved", "time", "money"))
    return _table((*head, "time, 1 core", "money, 1 core", *several), rows)


def model_table(measured: Measured) -> str:
    """Return what asking ouro-tiny about so many words takes, on processors."""
    rows = []
    for size in SIZES:
        found = _costs(Inputs(tokens=size), measured)
        cells = ((duration(found[work].cpu_seconds), price(found[work].money)) for work in (SCORING, WRITING))
        rows.append((short(size), *(cell for pair in cells for cell in pair)))
    return _table(("words", "scoring, CPU", "money", "writing, CPU", "money"), rows)


def samples_table(measured: Measured) -> str:
    """Return how much is enough for several intervals, metric by metric."""
    by_interval = [sampled(Inputs(tokens=1e12, interval=wanted), measured) for wanted in INTERVALS]
    rows = []
    for asked in zip(*by_interval, strict=True):
        width = measured.width(asked[0].metric)
        assert width is not None
        slopes = sorted({one.exponent for one in width.corpora})
        falls = f"{slopes[0]} to {slopes[-1]}" if len(slopes) > 1 else f"{slopes[0]}"
        reach = "" if asked[0].one_report is None else f"± {asked[0].one_report:.2%}"
        first = f"± {width.half_width(width.size):.1%}"
        rows.append((f"`{width.metric}`", first, reach, falls, f"{width.growth}", *map(_enough, asked)))
    sizes = (f"at {LADDER[0]:,} words, or 200 prompts", f"at {LADDER[-1]:,}")
    return _table(("metric", *sizes, "width falls", "value grows", *(f"± {wanted:.1%}" for wanted in INTERVALS)), rows)


def coefficients_table(measured: Measured) -> str:
    """Return the coefficients with their sources."""
    rows = [(one.unit, f"{one.value:.3g}", one.source) for one in measured.coefficients]
    return _table(("what", "value", "from"), rows)


def _costs(inputs: Inputs, measured: Measured) -> dict[str, Cost]:
    return {cost.work: cost for cost in plan(inputs, measured).everything}


def _enough(one: Sampled) -> str:
    if one.unit == PROMPTS:
        return f"{short(one.needed)} prompts"
    return f"{one.rung:,}" if one.samples == 1 else f"{one.samples:,} x {one.rung:,}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells that begin with a letter are text, so their column is flush left."""
    numbers = [all(not row[column][:1].isalpha() for row in rows) for column in range(1, len(head))]
    lines = [head, ["---", *("---:" if flush else "---" for flush in numbers)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
