"""From documents and records to a report: fold all in once, measure what is asked. Knows no transport and no store."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ouroscope.errors import InvalidRequest, Undefined
from ouroscope.records.analysis import (
    CountingSpec,
    Family,
    LeftOut,
    MetricValue,
    NetworkDrawing,
    RepeatedText,
    Report,
    Rung,
    Share,
)
from ouroscope.records.documents import Document, View
from ouroscope.records.predictions import NextToken, ScoredText
from ouroscope.records.progress import Progress
from services.analyzer.catalogue import ANALYZER_VERSION, NETWORK_NEEDS
from services.analyzer.choice import choose, needs_of
from services.analyzer.embedding.embedded import Embedded, embed
from services.analyzer.embedding.prints import embedding_print
from services.analyzer.fingerprint import Fingerprint, fingerprint
from services.analyzer.jackknife import GROUPS, estimate, interval
from services.analyzer.measured import MeasuredRung
from services.analyzer.metric import Metric
from services.analyzer.modelled import ModelSample
from services.analyzer.network.drawing import drawing
from services.analyzer.network.edges import CONSTRUCTIONS, COOCCURRENCE, SYNTACTIC
from services.analyzer.parsing.parsed import PARSED, PARTS_OF_SPEECH, Need
from services.analyzer.reading import ReadElsewhere, read
from services.analyzer.repeats import repeated_texts
from services.analyzer.rungs import RungSample, ladder
from services.analyzer.sample import Sample
from services.analyzer.side import Side, side_of
from services.analyzer.tools import Tools
from services.analyzer.trees import Trees
from services.analyzer.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked for."""

    view: View = View.WHOLE
    metrics: tuple[str, ...] = ()
    """Ids; empty means all."""
    drawn_concepts: int = 0
    repeated_texts: int = 0
    whole_corpus: CountingSpec | None = None
    """How all text is counted as it is read; None does not."""


def analyze(
    documents: Iterable[Document] | None,
    next_tokens: Iterable[NextToken] = (),
    texts: Iterable[ScoredText] = (),
    base_texts: Iterable[ScoredText] = (),
    *,
    view: View = View.WHOLE,
    metrics: Iterable[str] = (),
    drawn_concepts: int = 0,
    repeated_texts: int = 0,
    tools: Tools = Tools(),  # noqa: B008  # frozen
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
        repeated_texts: most runs of words to show that many documents share, 0 for none.
        tools: parser and encoder; without them what needs them is left out, and the report says so.
        on_progress: is told how far the work is, every few hundred documents and after each rung.
        check: is called as often; what it raises ends the work.

    Returns:
        The report, and the fingerprint of each of its rungs (none without documents).

    Raises:
        InvalidRequest: a metric is unknown, or there is nothing to measure.
    """
    options = Options(view=view, metrics=tuple(metrics), drawn_concepts=drawn_concepts, repeated_texts=repeated_texts)
    watch = Watch(on_progress, check)
    side = analyze_side(documents or (), next_tokens, texts, base_texts, options=options, tools=tools, watch=watch)
    return side.report, tuple(side.fingerprints.values())


def analyze_side(
    documents: Iterable[Document] | ReadElsewhere,
    next_tokens: Iterable[NextToken] = (),
    texts: Iterable[ScoredText] = (),
    base_texts: Iterable[ScoredText] = (),
    *,
    options: Options,
    domain: str = "",
    tools: Tools = Tools(),  # noqa: B008  # frozen
    watch: Watch | None = None,
) -> Side:
    """Measure as `analyze` does and return all that a comparison can use; with `domain` only what is of it.

    Raises:
        InvalidRequest: a metric is unknown, nothing is of the domain, or there is nothing to measure.
        CapabilityMissing, LimitExceeded: see `open_counts`; counting exactly takes more memory than it may.
    """
    choose(options.metrics)
    watch = watch or Watch()
    of, counting = domain, options.whole_corpus
    folded, known = read(
        documents, next_tokens, texts, base_texts, view=options.view, domain=of, watch=watch, counting=counting
    )
    report, prints = measure(folded.text.finalise(), known, options, tools, watch)
    if folded.whole:
        report = replace(report, whole_corpus=folded.whole.result())
    return side_of(report, prints, known.answers.kept())


def measure(
    sample: Sample,
    known: ModelSample,
    options: Options,
    tools: Tools = Tools(),  # noqa: B008  # frozen
    watch: Watch | None = None,
) -> tuple[Report, tuple[Fingerprint, ...]]:
    """Return the report of what accumulators hold, and the fingerprint of each rung.

    Raises:
        InvalidRequest: a metric is unknown, or there is nothing to measure.
    """
    if not sample.documents and known.is_empty():
        raise InvalidRequest("there is nothing to analyse: give at least one document, prompt or scored text")
    metrics, left_out = choose(options.metrics, tools.lacking)
    text = [metric for metric in metrics if metric.family is not Family.MODEL]
    of_model = [metric for metric in metrics if metric.family is Family.MODEL and not known.is_empty()]
    found = _measure_text(sample, text, options, tools, watch or Watch())
    report = Report(
        analyzer_version=ANALYZER_VERSION,
        view=options.view,
        documents=sample.documents,
        tokens=sample.tokens,
        clusters=sample.clusters,
        prompts=len(known.prompts),
        rungs=tuple(found.rungs),
        model_metrics=tuple(value_of(metric, known) for metric in of_model),
        top1_histogram=known.top1_histogram(),
        drawing=found.drawing,
        left_out=left_out + _unmeasurable(options.metrics, metrics, sample, known),
        parser=tools.parser.identity if tools.parser and found.made & PARSED else "",
        encoder=tools.encoder.identity if tools.encoder and Need.EMBEDDING in found.made else "",
        part_of_speech_shares=found.part_of_speech_shares,
        repeated_texts=found.repeated_texts,
    )
    return report, tuple(found.prints)


@dataclass(slots=True)
class _OfText:
    """What was measured of text."""

    made: frozenset[Need]
    """What was made of it beyond words."""
    rungs: list[Rung] = field(default_factory=list)
    prints: list[Fingerprint] = field(default_factory=list)
    drawing: NetworkDrawing | None = None
    part_of_speech_shares: tuple[Share, ...] = ()
    repeated_texts: tuple[RepeatedText, ...] = ()


def _measure_text(sample: Sample, metrics: Sequence[Metric], options: Options, tools: Tools, watch: Watch) -> _OfText:
    cuts = ladder(sample)
    found = _OfText(needs_of(options.metrics, tools.lacking) if cuts else frozenset())
    trees = _parse(cuts, found.made & PARSED, tools, watch)
    embedded = _embed(cuts, found.made, tools, watch)
    for cut in cuts:
        rung = MeasuredRung(cut, trees, embedded)
        wanted = [metric for metric in metrics if cut is cuts[-1] or not metric.largest_rung_only]
        values = tuple(_values(wanted, rung, watch))
        found.rungs.append(Rung(budget=cut.budget, clusters=cut.clusters, metrics=values))
        found.prints.append(_fingerprint(rung, options, found.made))
        watch.on_progress(Progress(stage="measuring", done=len(found.rungs), total=len(cuts), unit="rungs"))
    if cuts:
        _show(rung, options, found)
        clusters_D = sample.clusters_D[rung.rung.places_D]
        found.repeated_texts = repeated_texts(rung.rung, clusters_D, options.repeated_texts, watch.check)
    return found


def _parse(cuts: Sequence[RungSample], needs: frozenset[Need], tools: Tools, watch: Watch) -> Trees | None:
    """Return the trees of the largest rung, which holds all others; None if nothing needs them."""
    if not (cuts and needs and tools.parser):
        return None
    return Trees(tools.parser.parse(cuts[-1], needs, watch.on_progress, watch.check))


def _embed(cuts: Sequence[RungSample], needs: frozenset[Need], tools: Tools, watch: Watch) -> Embedded | None:
    """Return the vectors of the documents of the largest rung; None if nothing needs them."""
    if not (cuts and Need.EMBEDDING in needs and tools.encoder):
        return None
    return embed(cuts[-1], tools.encoder, watch.on_progress, watch.check)


def _fingerprint(rung: MeasuredRung, options: Options, made: frozenset[Need]) -> Fingerprint:
    """Return the fingerprint of a rung, with the networks that metrics were asked for of, now or in a comparison."""
    ids = options.metrics
    asked = [name for name in CONSTRUCTIONS if not ids or any(id.startswith(f"{name}_") for id in ids)]
    tables = (rung.network(name).table for name in asked if NETWORK_NEEDS[name] <= made)
    parts_of_speech_PK = rung.trees.parts_of_speech_PK if Need.POS in made else None
    meanings = embedding_print(rung.vectors[0]) if Need.EMBEDDING in made else None
    return fingerprint(rung.rung, tables, parts_of_speech_PK, meanings)


def _show(rung: MeasuredRung, options: Options, found: _OfText) -> None:
    """Add what only people look at, from the largest rung."""
    if options.drawn_concepts:
        best = SYNTACTIC if NETWORK_NEEDS[SYNTACTIC] <= found.made else COOCCURRENCE
        found.drawing = drawing(rung.network(best).table, options.drawn_concepts)
    if Need.POS in found.made:
        counts = rung.trees.parts_of_speech_PK.sum(axis=1).tolist()
        total = sum(counts) or 1
        shares = zip(PARTS_OF_SPEECH, counts, strict=True)
        found.part_of_speech_shares = tuple(Share(label=part, value=count / total) for part, count in shares)


def _values(metrics: Iterable[Metric], rung: MeasuredRung, watch: Watch) -> Iterator[MetricValue]:
    for metric in metrics:
        # Before each: at the largest rung some take a second, and who has gone should not be worked for.
        watch.check()
        yield value_of(metric, rung)


def value_of(metric: Metric, source: MeasuredRung | ModelSample) -> MetricValue:
    """Measure one metric: with an interval where there are replicates, with a reason where there is no value."""
    blank = MetricValue(id=metric.id, undefined_because="not measured", definition=metric.definition)
    try:
        summaries = list(metric.take(source))
        replicates = _replicates(metric, summaries)
        if not all(math.isfinite(replicate) for replicate in replicates):
            raise Undefined("the value is not finite")
    except Undefined as reason:
        return replace(blank, undefined_because=str(reason))
    if len(replicates) == GROUPS:
        theta, lower, upper = interval(replicates)
        return replace(
            blank, undefined_because=None, value=theta, lower=lower, upper=upper, replicates=tuple(replicates)
        )
    bounds = metric.bounds(summaries[0]) or (None, None)
    return replace(blank, undefined_because=None, value=estimate(replicates), lower=bounds[0], upper=bounds[1])


def _replicates(metric: Metric, summaries: Sequence[Any]) -> list[float]:
    values = [metric.sheet(summary) for summary in summaries]
    if not metric.mean_over_groups or len(values) == 1:
        return values
    return [math.fsum(values[:g] + values[g + 1 :]) / (len(values) - 1) for g in range(len(values))]


def _unmeasurable(
    asked: Sequence[str], metrics: Sequence[Metric], sample: Sample, known: ModelSample
) -> tuple[LeftOut, ...]:
    """Say why what had nothing to be measured on is missing: family by family, or by the names that were asked for."""
    no_words = "no document has a word" if sample.documents else "no documents were given"
    no_text = "" if len(sample.words_N) else no_words
    no_model = "no next-token records or scored texts were given" if known.is_empty() else ""
    reasons = {family: no_model if family is Family.MODEL else no_text for family in Family}
    missing = [metric for metric in metrics if reasons[metric.family]]
    if asked:
        return tuple(LeftOut(id=metric.id, reason=reasons[metric.family]) for metric in missing)
    families = (family for family in Family if any(metric.family is family for metric in missing))
    return tuple(LeftOut(id=family.value, reason=reasons[family]) for family in families)
