"""From documents and records to a report: fold all in once, measure what is asked. Knows no transport and no store."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ouroscope.errors import InvalidRequest, Undefined
from ouroscope.records.analysis import Family, LeftOut, MetricValue, NetworkDrawing, Report, Rung
from ouroscope.records.documents import Document, View
from ouroscope.records.predictions import NextToken, ScoredText
from ouroscope.records.progress import Progress
from services.analyzer.catalogue import ANALYZER_VERSION, Metric, choose
from services.analyzer.fingerprint import Fingerprint, fingerprint
from services.analyzer.jackknife import GROUPS, estimate, interval
from services.analyzer.measured import MeasuredRung
from services.analyzer.modelled import ModelSample
from services.analyzer.network.drawing import drawing
from services.analyzer.rungs import ladder
from services.analyzer.sample import Accumulator, Sample

_BATCH = 256
# Documents or records between two looks at whether to stop.

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Watch:
    """How the caller follows long work, and stops it by raising from `check`."""

    on_progress: Callable[[Progress], None] = field(default=lambda _: None)
    check: Callable[[], None] = field(default=lambda: None)

    def over(self, items: Iterable[T], stage: str, unit: str) -> Iterable[Sequence[T]]:
        """Yield batches of `items`, telling progress and looking for a stop before each."""
        done = 0
        for batch in _batched(items):
            self.check()
            yield batch
            done += len(batch)
            self.on_progress(Progress(stage=stage, done=done, unit=unit))


def _batched(items: Iterable[T]) -> Iterable[tuple[T, ...]]:
    remaining = iter(items)
    while batch := tuple(itertools.islice(remaining, _BATCH)):
        yield batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked for."""

    view: View = View.WHOLE
    metrics: tuple[str, ...] = ()
    """Ids; empty means all."""
    drawn_concepts: int = 0


def analyze(
    documents: Iterable[Document] | None,
    next_tokens: Iterable[NextToken] = (),
    texts: Iterable[ScoredText] = (),
    base_texts: Iterable[ScoredText] = (),
    *,
    view: View = View.WHOLE,
    metrics: Iterable[str] = (),
    drawn_concepts: int = 0,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    check: Callable[[], None] = lambda: None,
) -> tuple[Report, tuple[Fingerprint, ...]]:
    """Measure a corpus, a model, or both; each document and record is read once.

    Args:
        documents: the corpus; None where only a model is measured.
        next_tokens: what the model expects after prompts.
        texts: held-out texts and documents of the corpus, scored by the model.
        base_texts: documents of the corpus, scored by generation 0.
        view: which part of each document is looked at.
        metrics: ids of the metrics wanted; none means all. What nobody asks for is not computed.
        drawn_concepts: concepts in the drawing of the network, 0 for none.
        on_progress: is told how far the work is, every few hundred documents and after each rung.
        check: is called as often; what it raises ends the work.

    Returns:
        The report, and the fingerprint of each of its rungs (none without documents).

    Raises:
        InvalidRequest: a metric is unknown, or there is nothing to measure.
    """
    options = Options(view=view, metrics=tuple(metrics), drawn_concepts=drawn_concepts)
    choose(options.metrics)
    watch = Watch(on_progress, check)
    accumulator = Accumulator(view)
    for batch in watch.over(documents or (), "reading", "documents"):
        accumulator.fold_all(batch)
    known = ModelSample()
    for prompts in watch.over(next_tokens, "reading", "prompts"):
        known.fold_next_tokens(prompts)
    for scored in watch.over(texts, "reading", "texts"):
        known.fold_texts(scored)
    for scored in watch.over(base_texts, "reading", "texts"):
        known.fold_base_texts(scored)
    return measure(accumulator.finalise(), known, options, watch)


def measure(
    sample: Sample, known: ModelSample, options: Options, watch: Watch | None = None
) -> tuple[Report, tuple[Fingerprint, ...]]:
    """Return the report of what accumulators hold, and the fingerprint of each rung.

    Raises:
        InvalidRequest: a metric is unknown, or there is nothing to measure.
    """
    if not sample.documents and known.is_empty():
        raise InvalidRequest("there is nothing to analyse: give at least one document, prompt or scored text")
    metrics, left_out = choose(options.metrics)
    text = [metric for metric in metrics if metric.family is not Family.MODEL]
    of_model = [metric for metric in metrics if metric.family is Family.MODEL and not known.is_empty()]
    rungs, prints, drawn = _measure_text(sample, text, options, watch or Watch())
    report = Report(
        analyzer_version=ANALYZER_VERSION,
        view=options.view,
        documents=sample.documents,
        tokens=sample.tokens,
        clusters=sample.clusters,
        prompts=len(known.prompts),
        rungs=rungs,
        model_metrics=tuple(value_of(metric, known) for metric in of_model),
        top1_histogram=known.top1_histogram(),
        drawing=drawn,
        left_out=left_out + _missing_families(metrics, sample, known),
    )
    return report, prints


def _measure_text(
    sample: Sample, metrics: Sequence[Metric], options: Options, watch: Watch
) -> tuple[tuple[Rung, ...], tuple[Fingerprint, ...], NetworkDrawing | None]:
    rungs: list[Rung] = []
    prints: list[Fingerprint] = []
    drawn = None
    cuts = ladder(sample)
    networked = any(metric.family is Family.NETWORK for metric in metrics)
    for cut in cuts:
        watch.check()
        rung = MeasuredRung(cut)
        wanted = [metric for metric in metrics if cut is cuts[-1] or not metric.largest_rung_only]
        values = tuple(value_of(metric, rung) for metric in wanted)
        rungs.append(Rung(budget=cut.budget, clusters=cut.clusters, metrics=values))
        prints.append(fingerprint(cut, rung.network if networked else None))
        if options.drawn_concepts and cut is cuts[-1]:
            drawn = drawing(rung.network, cut.lexicon.words, options.drawn_concepts)
        watch.on_progress(Progress(stage="measuring", done=len(rungs), total=len(cuts), unit="rungs"))
    return tuple(rungs), tuple(prints), drawn


def value_of(metric: Metric, source: MeasuredRung | ModelSample) -> MetricValue:
    """Measure one metric: with an interval where there are replicates, with a reason where there is no value."""
    try:
        replicates = _replicates(metric, source)
        if not all(math.isfinite(replicate) for replicate in replicates):
            raise Undefined("the value is not finite")
    except Undefined as reason:
        return MetricValue(id=metric.id, undefined_because=str(reason))
    if len(replicates) < GROUPS:
        return MetricValue(id=metric.id, value=estimate(replicates))
    theta, lower, upper = interval(replicates)
    return MetricValue(id=metric.id, value=theta, lower=lower, upper=upper, replicates=tuple(replicates))


def _replicates(metric: Metric, source: Any) -> list[float]:
    values = [metric.sheet(summary) for summary in metric.take(source)]
    if not metric.mean_over_groups or len(values) == 1:
        return values
    return [math.fsum(values[:g] + values[g + 1 :]) / (len(values) - 1) for g in range(len(values))]


def _missing_families(metrics: Sequence[Metric], sample: Sample, known: ModelSample) -> tuple[LeftOut, ...]:
    """Say for each family that was wanted and had nothing to be measured on why it is missing."""
    no_words = "no document has a word" if sample.documents else "no documents were given"
    reasons = {
        Family.TEXT: "" if len(sample.words_N) else no_words,
        Family.NETWORK: "" if len(sample.words_N) else no_words,
        Family.MODEL: "no next-token records or scored texts were given" if known.is_empty() else "",
    }
    wanted = [family for family in reasons if any(metric.family is family for metric in metrics)]
    return tuple(LeftOut(id=family.value, reason=reasons[family]) for family in wanted if reasons[family])
