"""Measures how far human sources differ among themselves, the unit of every effect. Reads no file and knows no model.

A source is text of one kind by one hand or house: a library of the embedded corpus, an author, a newspaper. Its value
at a rung is that of one sample of the whole source, so the deviation between sources does not shrink as the rung grows.
(Bundles of small documents of one corpus were tried in their place. Their deviation is sampling noise: 1.3 % of the
number of types at 10,000 words of news and 0.7 % at 50,000, where libraries have 11 % at every rung. An effect in such
units grows with the size of the corpus.)

`services.analyzer.calibrate` is the command.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.records.analysis import Direction, Family, MetricValue
from ouroscope.records.documents import Document
from ouroscope.records.predictions import NextToken, ScoredText
from services.analyzer.analysis import analyze
from services.analyzer.catalogue import ANALYZER_VERSION, METRICS
from services.analyzer.jackknife import GROUPS
from services.analyzer.sample import LADDER
from services.analyzer.side import Side, side_of
from services.analyzer.spread import FEWEST_SOURCES, HumanSource, HumanSpread, RungSpread, Spread
from services.analyzer.tools import Tools

Values = dict[str, list[float]]

FEWEST_RECORDS = 60
"""Prompts, or scored texts, of a source that counts for model metrics. With fewer, the noise of sampling passes for a
difference between sources: 300 prompts know the mean top-1 probability to 0.015, 20 to 0.06."""

_DIRECTED = [metric for metric in METRICS if metric.direction is not Direction.NONE]
_OF_TEXT = tuple(metric.id for metric in _DIRECTED if metric.family is not Family.MODEL)
_COUNTED = ("collapsed_90", "collapsed_99", "collapsed_999")
_OF_MODELS = tuple(metric.id for metric in _DIRECTED if metric.family is Family.MODEL)
_DEFINITIONS = {metric.id: metric.definition for metric in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a table says of how it was made."""

    date: str
    """ISO 8601 day."""
    command: str
    versions: Mapping[str, str] = field(default_factory=dict)
    """Version of each source, where it has one."""
    model: str = ""
    """The language model whose records were measured."""


@dataclass(slots=True)
class ModelRecords:
    """What one model makes of text from one source."""

    next_tokens: list[NextToken] = field(default_factory=list)
    texts: list[ScoredText] = field(default_factory=list)


def calibrate(
    sources: Mapping[str, Iterable[Document]],
    provenance: Provenance,
    *,
    records: Mapping[str, ModelRecords] | None = None,
    tools: Tools = Tools(),  # noqa: B008  # frozen
) -> HumanSpread:
    """Return the mean and the standard deviation of every metric between human sources, at every rung.

    A metric that fewer than five sources have at a rung is left out there; `HumanSpread.deviation` tells what holds
    then. Sources that do not reach the smallest rung count for nothing and are not told.

    Args:
        sources: human text by source, one kind of text throughout.
        provenance: kept with the table.
        records: what one model makes of human text, by source.
        tools: parser and encoder; without them what needs them has no spread.

    Raises:
        InvalidRequest: fewer than five sources reach the smallest rung.
    """
    rungs: dict[int, Values] = defaultdict(lambda: defaultdict(list))
    told: list[HumanSource] = []
    for name, documents in sources.items():
        side = _measure(documents, tools)
        if side.budgets:
            told.append(_source(name, side, provenance))
            _collect(rungs, side)
    _check(told)
    table = tuple(RungSpread(budget=budget, metrics=_spreads(rungs[budget])) for budget in sorted(rungs))
    return HumanSpread(
        analyzer_version=ANALYZER_VERSION,
        date=provenance.date,
        command=provenance.command,
        sources=tuple(told),
        rungs=tuple(rung for rung in table if rung.metrics),
        model=provenance.model,
        model_metrics=_of_models(records or {}),
        parser=tools.parser.identity if tools.parser else "",
        encoder=tools.encoder.identity if tools.encoder else "",
    )


def _measure(documents: Iterable[Document], tools: Tools) -> Side:
    # Only the value of the source matters here, not its interval; by single documents more sources fill a rung.
    loose = (replace(document, group=None, prompt_id=None) for document in documents)
    return side_of(*analyze(loose, metrics=_OF_TEXT, tools=tools))


def _source(name: str, side: Side, provenance: Provenance) -> HumanSource:
    version = provenance.versions.get(name, "")
    return HumanSource(name=name, documents=side.report.documents, tokens=side.report.tokens, version=version)


def _collect(rungs: dict[int, Values], side: Side) -> None:
    for budget in side.budgets:
        _add(rungs[budget], side.text_values(budget).values())


def _of_models(records: Mapping[str, ModelRecords]) -> tuple[Spread, ...]:
    values: Values = defaultdict(list)
    large = [one for one in records.values() if max(len(one.next_tokens), len(one.texts)) >= FEWEST_RECORDS]
    for one in large:
        report, _ = analyze(None, one.next_tokens, one.texts, one.texts, metrics=_OF_MODELS)
        _add(values, _of_many_clusters(report.model_metrics))
    fewest = min((len(one.next_tokens) for one in large), default=0)
    return tuple(_seen(spread, fewest) for spread in _spreads(values))


def _of_many_clusters(values: Sequence[MetricValue]) -> Iterable[MetricValue]:
    """Return the values with an interval; a share of few prompts has none, and goes by the other values of prompts."""
    known = {value.id for value in values if len(value.replicates) == GROUPS}
    return (one for one in values if one.id in known or (one.id in _COUNTED and "top1_probability" in known))


def _seen(spread: Spread, fewest: int) -> Spread:
    """Take the share of collapsed predictions to be known to one prompt at best: small models may have none at all."""
    if spread.id not in _COUNTED:
        return spread
    return replace(spread, deviation=max(spread.deviation, 1 / max(1, fewest)))


def _add(values: Values, measured: Iterable[MetricValue]) -> None:
    for one in measured:
        if one.value is not None:
            values[one.id].append(one.value)


def _spreads(values: Values) -> tuple[Spread, ...]:
    return tuple(_spread(id, found) for id, found in sorted(values.items()) if len(found) >= FEWEST_SOURCES)


def _spread(id: str, found: Sequence[float]) -> Spread:
    return Spread(
        id=id,
        mean=statistics.fmean(found),
        deviation=statistics.stdev(found),
        sources=len(found),
        definition=_DEFINITIONS[id],
    )


def _check(told: Sequence[HumanSource]) -> None:
    if len(told) < FEWEST_SOURCES:
        problem = FieldProblem(
            "sources", f"at least {FEWEST_SOURCES} must hold {LADDER[0]:,} words and a few more, {len(told)} do"
        )
        raise InvalidRequest(f"human spread cannot be measured: {problem.field}: {problem.description}", [problem])
