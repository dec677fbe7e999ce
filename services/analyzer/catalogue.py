"""Every metric as a value in a list: what it is called, which way it moves, how it is got from a rung or a model.

To see all metrics, read `METRICS`. Ids, directions and headlines are those of the project's table of names; a test
holds them to it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.records.analysis import Direction, Family, LeftOut, MetricInfo
from services.analyzer.measured import MeasuredRung
from services.analyzer.metrics import documents, lexical, model, ngrams, sequences
from services.analyzer.metrics.entropy_rate import entropy_rate
from services.analyzer.modelled import ModelSample
from services.analyzer.network import shape, structure

ANALYZER_VERSION = "1"
"""Raised whenever a definition changes; values of different versions are not compared."""

FALLING, RISING, NEITHER = Direction.FALLING, Direction.RISING, Direction.NONE


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How one metric is measured: `sheet`, its data sheet, turns a summary into a value; `take` gets the summaries."""

    id: str
    family: Family
    unit: str
    direction: Direction
    sheet: Callable[[Any], float]
    take: Callable[[Any], Iterable[Any]]
    """From a MeasuredRung, or from a ModelSample for the model family: one summary for each replicate."""
    headline: bool = False
    mean_over_groups: bool = False
    """Whether `take` gives a summary for each group, whose values are averaged over the groups of a replicate."""
    largest_rung_only: bool = False
    """Whether it is measured once, on the whole sample of the largest rung, without an interval."""

    def info(self) -> MetricInfo:
        """Return its entry in the catalogue that callers see."""
        summary = (self.sheet.__doc__ or "").partition("\n")[0].removeprefix("Return ")
        return MetricInfo(
            id=self.id,
            family=self.family,
            unit=self.unit,
            direction=self.direction,
            headline=self.headline,
            summary=summary[:1].upper() + summary[1:],
        )


def _text(
    id: str,
    unit: str,
    direction: Direction,
    sheet: Callable[[Any], float],
    take: Callable[[MeasuredRung], Iterable[Any]],
    **more: bool,
) -> Metric:
    return Metric(id=id, family=Family.TEXT, unit=unit, direction=direction, sheet=sheet, take=take, **more)


def _words(id: str, unit: str, direction: Direction, sheet: Callable[[Any], float], **more: bool) -> Metric:
    return _text(id, unit, direction, sheet, lambda rung: rung.spectra, **more)


def _shape(name: str, unit: str, direction: Direction, sheet: Callable[[Any], float], **more: bool) -> Metric:
    return Metric(
        id=f"cooccurrence_{name}",
        family=Family.NETWORK,
        unit=unit,
        direction=direction,
        sheet=sheet,
        take=lambda rung: rung.shapes,
        **more,
    )


def _structure(name: str, unit: str, sheet: Callable[[Any], float]) -> Metric:
    return Metric(
        id=f"cooccurrence_{name}",
        family=Family.NETWORK,
        unit=unit,
        direction=NEITHER,
        sheet=sheet,
        take=lambda rung: [rung.graph],
        largest_rung_only=True,
    )


def _model(
    id: str,
    unit: str,
    direction: Direction,
    sheet: Callable[[Any], float],
    take: Callable[[ModelSample], Iterable[Any]],
    **more: bool,
) -> Metric:
    return Metric(id=id, family=Family.MODEL, unit=unit, direction=direction, sheet=sheet, take=take, **more)


def _prompts(
    id: str, unit: str, direction: Direction, sheet: Callable[[Any], float], column: str, **more: bool
) -> Metric:
    return _model(id, unit, direction, sheet, lambda known: known.prompts.ratios(column), **more)


def _distinct(length: int) -> Metric:
    return _text(
        f"distinct_{length}",
        "ratio",
        FALLING,
        ngrams.distinct,
        lambda rung: rung.tallies(length),
        headline=length == 3,
    )


def _repetition(length: int) -> Metric:
    return _text(f"repetition_{length}", "ratio", RISING, ngrams.repetition, lambda rung: rung.document_tallies(length))


TEXT = (
    _words("types", "words", FALLING, lexical.types, headline=True),
    _words("type_token_ratio", "ratio", FALLING, lexical.type_token_ratio),
    _text("mattr", "ratio", FALLING, sequences.mattr, lambda rung: rung.windows, headline=True),
    _text("mtld", "words", FALLING, sequences.mtld, lambda rung: rung.streams(), mean_over_groups=True),
    _words("hdd", "ratio", FALLING, lexical.hdd),
    _words("yule_k", "1", RISING, lexical.yule_k),
    _words("token_entropy", "nats", FALLING, lexical.token_entropy, headline=True),
    _words("normalized_entropy_by_tokens", "ratio", FALLING, lexical.normalized_entropy_by_tokens, headline=True),
    _words("normalized_entropy_by_types", "ratio", FALLING, lexical.normalized_entropy_by_types),
    _words("hapax_share", "ratio", FALLING, lexical.hapax_share),
    _words("zipf_exponent", "1", RISING, lexical.zipf_exponent),
    _words("head_share", "ratio", RISING, lexical.head_share),
    *(_distinct(length) for length in range(1, 6)),
    _text("skipgram_2_2", "ratio", FALLING, ngrams.skipgram_2_2, lambda rung: rung.skip_tallies),
    *(_repetition(length) for length in range(2, 5)),
    _text(
        "diversity_product",
        "ratio",
        FALLING,
        ngrams.diversity_product,
        lambda rung: list(zip(*(rung.document_tallies(length) for length in (2, 3, 4)), strict=True)),
    ),
    _text("compression_ratio", "ratio", RISING, sequences.compression_ratio, lambda rung: rung.compressed),
    _words("expectation_adjusted_distinct", "ratio", FALLING, lexical.expectation_adjusted_distinct),
    _text("entropy_rate", "nats", FALLING, entropy_rate, lambda rung: rung.matches(), mean_over_groups=True),
    _text("document_length", "words", NEITHER, documents.document_length, lambda rung: rung.lengths),
    _text("sentence_length", "words", NEITHER, documents.sentence_length, lambda rung: rung.sentences),
    _text(
        "readability",
        "1",
        NEITHER,
        documents.readability,
        lambda rung: list(zip(rung.sentences, rung.syllables, strict=True)),
    ),
)

NETWORK = (
    _shape("nodes", "concepts", FALLING, shape.nodes, headline=True),
    _shape("edges", "relations", FALLING, shape.edges, headline=True),
    _shape("edge_weight_entropy", "nats", FALLING, shape.edge_weight_entropy, headline=True),
    _shape("degree_entropy", "nats", FALLING, shape.degree_entropy, headline=True),
    _shape("hub_share", "ratio", RISING, shape.hub_share, headline=True),
    _shape("density", "ratio", NEITHER, shape.density),
    _shape("mean_degree", "relations", NEITHER, shape.mean_degree),
    _shape("degree_gini", "ratio", RISING, shape.degree_gini),
    _structure("clustering", "ratio", structure.clustering),
    _structure("transitivity", "ratio", structure.transitivity),
    _structure("components", "components", structure.components),
    _structure("giant_share", "ratio", structure.giant_share),
    _structure("path_length", "steps", structure.path_length),
    _structure("assortativity", "1", structure.assortativity),
    _structure("modularity", "1", structure.modularity),
    _structure("communities", "communities", structure.communities),
    _structure("core_depth", "relations", structure.core_depth),
    _structure("small_world", "1", structure.small_world),
)

MODEL = (
    _prompts("top1_probability", "ratio", RISING, model.top1_probability, "top1", headline=True),
    _prompts("gini_top100", "ratio", RISING, model.gini_top100, "gini", headline=True),
    _prompts("collapsed_90", "ratio", RISING, model.collapsed, "collapsed_90"),
    _prompts("collapsed_99", "ratio", RISING, model.collapsed, "collapsed_99", headline=True),
    _prompts("collapsed_999", "ratio", RISING, model.collapsed, "collapsed_999"),
    _prompts("next_token_entropy", "nats", FALLING, model.next_token_entropy, "entropy", headline=True),
    _prompts("effective_tokens", "tokens", FALLING, model.effective_tokens, "entropy"),
    _prompts("true_token_rank", "ranks", RISING, model.true_token_rank, "log_rank"),
    _model(
        "heldout_perplexity", "tokens", RISING, model.heldout_perplexity, lambda m: m.heldout.ratios("nats", "tokens")
    ),
    _model("bits_per_byte", "1", RISING, model.bits_per_byte, lambda m: m.heldout.ratios("nats", "bytes")),
    _model(
        "last_n_accuracy", "ratio", FALLING, model.last_n_accuracy, lambda m: m.heldout.ratios("last_greedy", "last")
    ),
    _model("surplexity", "tokens", FALLING, model.surplexity, lambda m: m.documents.ratios("nats_per_token")),
    _model(
        "base_perplexity_of_synthetic",
        "tokens",
        FALLING,
        model.base_perplexity_of_synthetic,
        lambda m: m.base_documents.ratios("nats", "tokens"),
    ),
    _model("greedy_share", "ratio", RISING, model.greedy_share, lambda m: m.documents.ratios("greedy", "tokens")),
)

METRICS = TEXT + NETWORK + MODEL


def _relative(id: str, family: Family, direction: Direction, summary: str) -> MetricInfo:
    return MetricInfo(id=id, family=family, unit="ratio", direction=direction, summary=summary)


RELATIVE = (
    _relative("vocabulary_coverage", Family.TEXT, FALLING, "Share of the baseline's words that still occur."),
    _relative("tail_coverage", Family.TEXT, FALLING, "Share of the baseline's rare words that still occur."),
    _relative(
        "novel_token_share", Family.TEXT, NEITHER, "Share of words that the baseline never saw; guards verdicts."
    ),
    _relative(
        "cooccurrence_node_overlap", Family.NETWORK, FALLING, "Jaccard similarity of concepts with the baseline's."
    ),
    _relative(
        "cooccurrence_edge_overlap", Family.NETWORK, FALLING, "Jaccard similarity of relations with the baseline's."
    ),
    _relative(
        "cooccurrence_central_overlap", Family.NETWORK, FALLING, "Rank-biased overlap of the most central concepts."
    ),
)
"""Metrics of a comparison: they need a baseline, and `Compare` measures them from two fingerprints."""

_NO_PARSER = "no parser is installed; it comes with a later version"
_NO_EMBEDDINGS = "no embedding model is configured; it comes with a later version"
_LATER = "not measured by this version"

NOT_MEASURED = (
    *(LeftOut(id=id, reason=_LATER) for id in ("self_bleu_4", "near_duplicate_share")),
    *(LeftOut(id=id, reason=_LATER) for id in ("levenshtein_diversity", "tfidf_mean")),
    *(LeftOut(id=id, reason=_NO_PARSER) for id in ("pos_divergence", "dependency_depth", "dependency_distance")),
    LeftOut(id="syntactic_diversity", reason=_NO_PARSER),
    *(
        LeftOut(id=metric.id.replace("cooccurrence_", "syntactic_"), reason=_NO_PARSER)
        for metric in (*NETWORK, *RELATIVE)
        if metric.family is Family.NETWORK
    ),
    *(LeftOut(id=id, reason=_NO_EMBEDDINGS) for id in ("vendi_score", "effective_rank", "mean_cosine_distance")),
    *(LeftOut(id=id, reason=_NO_EMBEDDINGS) for id in ("frechet_distance", "frontier_divergence")),
)
"""Names of the table that nothing measures yet, each with the reason."""


def metric_infos() -> tuple[MetricInfo, ...]:
    """Return the catalogue: every metric that this analyzer can measure, alone or against a baseline."""
    return tuple(metric.info() for metric in METRICS) + RELATIVE


CATALOGUE = metric_infos()


def choose(wanted: Iterable[str]) -> tuple[tuple[Metric, ...], tuple[LeftOut, ...]]:
    """Return the metrics of these ids, and those of them that cannot be measured here; no ids means all metrics.

    Raises:
        InvalidRequest: an id is unknown; near ones are named.
    """
    ids = frozenset(wanted)
    impossible = {one.id: one for one in NOT_MEASURED}
    impossible |= {one.id: LeftOut(id=one.id, reason="needs a baseline; ask for a comparison") for one in RELATIVE}
    known = {metric.id for metric in METRICS} | set(impossible)
    problems = [_unknown(id, known) for id in sorted(ids - known)]
    if problems:
        raise InvalidRequest("; ".join(problem.description for problem in problems), problems)
    if not ids:
        return METRICS, NOT_MEASURED
    chosen = tuple(metric for metric in METRICS if metric.id in ids)
    return chosen, tuple(impossible[id] for id in sorted(ids & set(impossible)))


def _unknown(id: str, known: Iterable[str]) -> FieldProblem:
    near = difflib.get_close_matches(id, sorted(known), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`ouroscope metrics` and ListMetrics name all of them"
    return FieldProblem("metrics", f"there is no metric {id[:80]!r}; {hint}")
