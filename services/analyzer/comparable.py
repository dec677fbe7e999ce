"""Whether two values of one metric mean the same, and the unit of their difference too: definition, parser, encoder.

Reports of different versions of the analyzer are compared metric by metric. What changed its definition, or was made
by another tool, says so and has no effect; everything else is compared.
"""

from __future__ import annotations

from ouroscope.errors import Undefined
from ouroscope.records.analysis import MetricValue, Report
from services.analyzer.catalogue import METRICS, RELATIVE, RELATIVE_NEEDS
from services.analyzer.parsing.parsed import PARSED, Need
from services.analyzer.spread import HumanSpread

_NEEDS = {
    **{metric.id: metric.needs for metric in METRICS},
    **{info.id: RELATIVE_NEEDS.get(info.id, frozenset()) for info in RELATIVE},
}


def check_definitions(baseline: MetricValue, candidate: MetricValue) -> None:
    """Raise if the values of a metric rest on two definitions.

    Raises:
        Undefined: they do; the reason says which side to measure again.
    """
    ours, theirs = baseline.definition, candidate.definition
    if ours != theirs:
        older = "baseline" if ours < theirs else "candidate"
        low, high = sorted((ours, theirs))
        raise Undefined(f"its definition changed from {low} to {high}; measure the {older} again")


def check_tools(metric: str, baseline: Report, candidate: Report) -> None:
    """Raise if the two sides had the text of `metric` parsed, or embedded, by different tools.

    Raises:
        Undefined: they had.
    """
    if _parsed(metric) and baseline.parser != candidate.parser:
        raise Undefined(f"parsed with {_named(baseline.parser)} there and with {_named(candidate.parser)} here")
    if _embedded(metric) and baseline.encoder != candidate.encoder:
        raise Undefined(f"embedded with {_named(baseline.encoder)} there and with {_named(candidate.encoder)} here")


def check_unit(metric: str, report: Report, spread: HumanSpread) -> None:
    """Raise if the human spread of `metric` was measured with other tools than the report.

    Raises:
        Undefined: it was; the reason says how to calibrate.
    """
    if _parsed(metric) and spread.parser != report.parser:
        raise Undefined(
            f"parsed with {_named(report.parser)}, and the human spread with {_named(spread.parser)}; calibrate with "
            f"`python -m services.analyzer.calibrate TABLE --parser {report.parser.partition(' ')[0]}`"
        )
    if _embedded(metric) and spread.encoder != report.encoder:
        raise Undefined(
            f"embedded with {_named(report.encoder)}, and the human spread with {_named(spread.encoder)}; calibrate "
            "with the same encoder"
        )


def _parsed(metric: str) -> bool:
    return bool(_NEEDS[metric] & PARSED)


def _embedded(metric: str) -> bool:
    return Need.EMBEDDING in _NEEDS[metric]


def _named(tool: str) -> str:
    return tool or "nothing"
