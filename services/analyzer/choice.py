"""Which metrics are measured: those that were asked for, less those that cannot be had here, each with its reason."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.records.analysis import LeftOut
from services.analyzer.catalogue import METRICS, RELATIVE, RELATIVE_NEEDS
from services.analyzer.metric import Metric
from services.analyzer.parsing.parsed import Need

_NEEDS_BASELINE = "needs a baseline; ask for a comparison"


def choose(
    wanted: Iterable[str], lacking: Mapping[Need, str] = MappingProxyType({})
) -> tuple[tuple[Metric, ...], tuple[LeftOut, ...]]:
    """Return the metrics of these ids, and those of them that cannot be measured here; no ids means all metrics.

    Args:
        wanted: ids of metrics.
        lacking: needs that cannot be met here, each with the reason.

    Raises:
        InvalidRequest: an id is unknown; near ones are named.
    """
    ids = frozenset(wanted)
    relative = {info.id: LeftOut(id=info.id, reason=_why_not(info.id, lacking)) for info in RELATIVE}
    known = {metric.id: metric for metric in METRICS}
    problems = [_unknown(id, known.keys() | relative.keys()) for id in sorted(ids - known.keys() - relative.keys())]
    if problems:
        raise InvalidRequest("; ".join(problem.description for problem in problems), problems)
    asked = [metric for metric in METRICS if not ids or metric.id in ids]
    missing = [LeftOut(id=metric.id, reason=why) for metric in asked if (why := _lack(metric, lacking))]
    missing += [relative[id] for id in sorted(ids & relative.keys())]
    return tuple(metric for metric in asked if not _lack(metric, lacking)), tuple(missing)


def needs_of(wanted: Iterable[str], lacking: Mapping[Need, str] = MappingProxyType({})) -> frozenset[Need]:
    """Return what must be made of a text for the metrics of these ids, now or in a comparison; no ids means all.

    What cannot be measured here needs nothing.
    """
    ids = frozenset(wanted)
    needs = {metric.id: metric.needs for metric in METRICS} | dict(RELATIVE_NEEDS)
    asked = (needs[id] for id in needs if not ids or id in ids)
    return frozenset().union(*(each for each in asked if not each & lacking.keys()))


def _lack(metric: Metric, lacking: Mapping[Need, str]) -> str:
    return _lacking_of(metric.needs, lacking)


def _why_not(relative: str, lacking: Mapping[Need, str]) -> str:
    return _lacking_of(RELATIVE_NEEDS.get(relative, frozenset()), lacking) or _NEEDS_BASELINE


def _lacking_of(needs: frozenset[Need], lacking: Mapping[Need, str]) -> str:
    return next((lacking[need] for need in Need if need in needs and need in lacking), "")


def _unknown(id: str, known: Iterable[str]) -> FieldProblem:
    near = difflib.get_close_matches(id, sorted(known), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "docs/metrics.md names all of them"
    return FieldProblem("metrics", f"there is no metric {id[:80]!r}; {hint}")
