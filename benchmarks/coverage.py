"""How often the nominal 95 % interval of a voting metric holds the truth, by simulation on human text.

    python -m benchmarks.coverage OUT.json wiki=wiki.jsonl news=news.jsonl --docstrings [--parser en_ouro_sm]
    python -m benchmarks.coverage OUT.json --store STORE --predictions predictions/DIGEST --shares

A corpus is taken as the whole world: its clusters (documents, or the modules of the embedded corpus; a document longer
than a group's share is cut into pieces, each a cluster, since here nothing but the draw makes clusters independent).
Each of many draws takes clusters at random, as many as the rung of 10,000 words uses, under new names, and is measured
as any corpus is. The truth is the mean of all draws, and coverage the share of draws whose interval holds it.

Draws are without replacement, since copies of a cluster would make text poorer than any person writes. Draws of a
share f of all clusters differ from each other less than samples of a large world do, by the factor sqrt(1 - f), and
intervals are made narrower by the same factor before they are counted; f is at most .1, so this takes off one point.
The error of the truth itself, sd / sqrt(draws), makes coverage look smaller by less than .1 points.

With --shares prompts are made up that collapse by chance, each with the same probability: human prompts collapse too
rarely to tell of the share of them that do. A metric that has an interval in some draws only is judged by those.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy.special import betaincinv

from benchmarks.draws import Draw, Sampler, Unfilled, of_model, of_share, of_text
from benchmarks.parsed_once import ParsedOnce
from ouroscope.corpora.docstrings import gather
from ouroscope.corpora.readers import read_documents
from ouroscope.predictions import read_next_tokens
from ouroscope.records.analysis import Direction, Family, MetricValue
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.store import ArtifactStore
from services.analyzer.catalogue import METRICS
from services.analyzer.parsing.parser import NONE, load_parser
from services.analyzer.tools import Tools

GIVEN = (2, 4, 8, 16)
"""Words of a draw in terms of what the rung uses. The rest is what fills each of its groups where clusters are uneven;
where it does not suffice in one draw, all draws of that corpus are made again with more."""
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Probabilities with which made-up prompts collapse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How often intervals of one metric held the truth in one corpus."""

    metric: str
    corpus: str
    draws: int
    """Draws that gave an interval."""
    share: float
    lower: float
    upper: float
    """Bounds of Clopper and Pearson, 95 %."""
    above: float
    """Share of draws whose interval lies wholly above the truth."""
    truth: float
    deviation: float
    """Standard deviation of the estimates over draws."""
    mean_error: float
    """Mean standard error that the draws gave, narrowed by sqrt(1 - f): equal to the deviation if all is well."""
    fraction: float


def main() -> None:
    """Simulate, write the figures, print a table."""
    options = _options()
    found = [one for name, draw in _worlds(options) for one in simulate(name, draw, options.draws)]
    options.out.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", encoding="utf-8")
    for line in table(found):
        print(line)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("corpora", nargs="*", metavar="name=path")
    parser.add_argument("--docstrings", action="store_true", help="the embedded corpus, its modules as clusters")
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--parser", default=NONE)
    parser.add_argument("--metrics", nargs="*", help="ids, in place of the voting ones")
    parser.add_argument("--store")
    parser.add_argument("--predictions", type=ArtifactRef.parse)
    parser.add_argument("--shares", action="store_true")
    return parser.parse_args()


def _worlds(options: argparse.Namespace) -> Iterator[tuple[str, Sampler]]:
    tools = _tools(options.parser)
    ids = _wanted(options, tools, lambda family: family is not Family.MODEL)
    for name, _, path in (given.partition("=") for given in options.corpora):
        yield name, of_text(list(read_documents(path)), ids, tools)
    if options.docstrings:
        yield "docstrings", of_text(gather().documents, ids, tools)
    if options.predictions:
        records = read_next_tokens(ArtifactStore(options.store), options.predictions)
        yield "predictions", of_model(records, _wanted(options, tools, lambda family: family is Family.MODEL))
    for share in SHARES if options.shares else ():
        yield f"share {share:g}", of_share(share)


def _tools(name: str) -> Tools:
    parser = load_parser(name)
    return Tools(parser=ParsedOnce(parser) if parser else None)  # type: ignore[arg-type]  # looks like a Parser


def _wanted(options: argparse.Namespace, tools: Tools, of: Callable[[Family], bool]) -> tuple[str, ...]:
    able = [metric for metric in METRICS if of(metric.family) and not metric.needs & tools.lacking.keys()]
    if options.metrics:
        return tuple(metric.id for metric in able if metric.id in options.metrics)
    return tuple(metric.id for metric in able if metric.headline and metric.direction is not Direction.NONE)


def simulate(corpus: str, draw: Sampler, draws: int) -> Iterator[Coverage]:
    """Yield the coverage of every metric, among the draws that gave it an interval."""
    drawn = _drawn(corpus, draw, draws)
    for metric in drawn[0].values:
        found = [(one.values[metric], math.sqrt(1 - one.fraction)) for one in drawn if metric in one.values]
        truth = math.fsum(_number(value.value) for value, _ in found) / len(found)
        known = [(value, narrow) for value, narrow in found if value.replicates]
        if len(known) > 1:
            yield _coverage(corpus, truth, known)


def _drawn(corpus: str, draw: Sampler, draws: int) -> list[Draw]:
    for given in GIVEN:
        with contextlib.suppress(Unfilled):
            return [draw(random.Random(f"{corpus}/{number}"), given) for number in range(draws)]
    sys.exit(f"the clusters of {corpus} are too uneven for this simulation")


def _coverage(corpus: str, truth: float, drawn: Sequence[tuple[MetricValue, float]]) -> Coverage:
    estimates = [_number(value.value) for value, _ in drawn]
    halves = [(_number(value.upper) - _number(value.lower)) / 2 * narrow for value, narrow in drawn]
    held = sum(abs(one - truth) <= half for one, half in zip(estimates, halves, strict=True))
    above = sum(one - half > truth for one, half in zip(estimates, halves, strict=True))
    lower, upper = clopper_pearson(held, len(drawn))
    return Coverage(
        metric=drawn[0][0].id,
        corpus=corpus,
        draws=len(drawn),
        share=held / len(drawn),
        lower=lower,
        upper=upper,
        above=above / len(drawn),
        truth=truth,
        deviation=statistics.stdev(estimates),
        mean_error=statistics.fmean(halves) / 2.0930240544,
        fraction=1 - statistics.fmean(narrow**2 for _, narrow in drawn),
    )


def clopper_pearson(held: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided bounds of a share.

    >>> [round(bound, 4) for bound in clopper_pearson(0, 10)]
    [0.0, 0.3085]
    """
    tail = (1 - confidence) / 2
    lower = float(betaincinv(held, of - held + 1, tail)) if held else 0.0
    upper = float(betaincinv(held + 1, of - held, 1 - tail)) if held < of else 1.0
    return lower, upper


def table(found: Sequence[Coverage]) -> Iterator[str]:
    """Yield the lines of a Markdown table: a row for each metric, a column for each corpus."""
    corpora = list(dict.fromkeys(one.corpus for one in found))
    cells = {(one.metric, one.corpus): one for one in found}
    yield f"| metric | {' | '.join(corpora)} |"
    yield f"|---|{'---|' * len(corpora)}"
    for metric in dict.fromkeys(one.metric for one in found):
        yield f"| {metric} | {' | '.join(_cell(cells.get((metric, corpus))) for corpus in corpora)} |"


def _cell(one: Coverage | None) -> str:
    if one is None:
        return "-"
    ratio = one.mean_error / one.deviation if one.deviation else math.nan
    return f"{100 * one.share:.1f} ({100 * one.lower:.1f} to {100 * one.upper:.1f}), error {ratio:.2f}"


def _number(value: Any) -> float:
    assert isinstance(value, float)
    return value


if __name__ == "__main__":
    main()
