"""Every metric as a value in a list: what it is called, which way it moves, how it is got from a rung or a model.

To see all metrics, read `METRICS`. Ids, directions and headlines are those of the project's table of names; a test
holds them to it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.records.analysis import Direction, Family, LeftOut, MetricInfo
from services.analyzer.measured import MeasuredRung
from services.analyzer.metrics import (
    documents,
    duplicates,
    embedding,
    lexical,
    model,
    ngrams,
    sequences,
    similarity,
    trees,
    weighting,
)
from services.analyzer.metrics.entropy_rate import entropy_rate
from services.analyzer.modelled import ModelSample
from services.analyzer.network import shape, structure, syntactic
from services.analyzer.network.edges import CONSTRUCTIONS, COOCCURRENCE, SYNTACTIC
from services.analyzer.parsing.parsed import Need

ANALYZER_VERSION = "2"
"""Raised with every change of what is measured; which values can be compared says the definition of each metric."""

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
    bounds: Callable[[Any], tuple[float, float] | None] = lambda _: None
    """The 95 % interval of a summary that has one by itself, where there are no replicates."""
    needs: frozenset[Need] = frozenset()
    """What must be made of the text before it can be measured."""
    definition: int = 1
    """Raised when the same text would get another value; values of two definitions are not compared."""

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
            definition=self.definition,
        )


def _text(
    id: str,
    unit: str,
    direction: Direction,
    sheet: Callable[[Any], float],
    take: Callable[[MeasuredRung], Iterable[Any]],
    **more: Any,
) -> Metric:
    return Metric(id=id, family=Family.TEXT, unit=unit, direction=direction, sheet=sheet, take=take, **more)


def _words(id: str, unit: str, direction: Direction, sheet: Callable[[Any], float], **more: Any) -> Metric:
    return _text(id, unit, direction, sheet, lambda rung: rung.spectra, **more)


def _shape(name: str, unit: str, direction: Direction, sheet: Callable[[Any], float], **more: Any) -> Metric:
    return Metric(
        id=name,
        family=Family.NETWORK,
        unit=unit,
        direction=direction,
        sheet=sheet,
        take=lambda network: network.shapes,
        **more,
    )


def _structure(name: str, unit: str, sheet: Callable[[Any], float], **more: Any) -> Metric:
    return Metric(
        id=name,
        family=Family.NETWORK,
        unit=unit,
        direction=NEITHER,
        sheet=sheet,
        take=lambda network: [network.graph],
        largest_rung_only=True,
        **more,
    )


def _of_network(construction: str, metric: Metric) -> Metric:
    """Return a measure of any network as a metric of those of one construction."""
    return replace(
        metric,
        id=f"{construction}_{metric.id}",
        take=lambda rung: metric.take(rung.network(construction)),
        needs=NETWORK_NEEDS[construction],
    )


def _model(
    id: str,
    unit: str,
    direction: Direction,
    sheet: Callable[[Any], float],
    take: Callable[[ModelSample], Iterable[Any]],
    **more: Any,
) -> Metric:
    return Metric(id=id, family=Family.MODEL, unit=unit, direction=direction, sheet=sheet, take=take, **more)


def _prompts(
    id: str, unit: str, direction: Direction, sheet: Callable[[Any], float], column: str, **more: Any
) -> Metric:
    return _model(id, unit, direction, sheet, lambda known: known.prompts.ratios(column), **more)


def _trees(
    id: str,
    unit: str,
    direction: Direction,
    sheet: Callable[[Any], float],
    take: Callable[[MeasuredRung], Iterable[Any]],
    *more: Need,
) -> Metric:
    needs = frozenset({Need.TREE, *more})
    return Metric(id=id, family=Family.TEXT, unit=unit, direction=direction, sheet=sheet, take=take, needs=needs)


def _embedding(
    id: str, unit: str, sheet: Callable[[Any], float], take: Callable[[MeasuredRung], Iterable[Any]]
) -> Metric:
    shared = Metric(id=id, family=Family.EMBEDDING, unit=unit, direction=FALLING, sheet=sheet, take=take, headline=True)
    return replace(shared, needs=frozenset({Need.EMBEDDING}))


def _collapsed(tau: int) -> Metric:
    id = f"collapsed_{tau}"
    return _model(
        id,
        "ratio",
        RISING,
        model.collapsed,
        lambda known: model.counted(known.prompts.ratios(id)),
        headline=tau == 99,
    )


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
    _text("self_bleu_4", "ratio", RISING, similarity.self_bleu_4, lambda rung: rung.overlaps),
    _text("compression_ratio", "ratio", RISING, sequences.compression_ratio, lambda rung: rung.compressed),
    _words("expectation_adjusted_distinct", "ratio", FALLING, lexical.expectation_adjusted_distinct),
    _text("entropy_rate", "nats", FALLING, entropy_rate, lambda rung: rung.matches(), mean_over_groups=True),
    _text("near_duplicate_share", "ratio", RISING, duplicates.near_duplicate_share, lambda rung: rung.near_duplicates),
    _text(
        "levenshtein_diversity",
        "ratio",
        FALLING,
        similarity.levenshtein_diversity,
        lambda rung: rung.neighbour_distances,
    ),
    _text("tfidf_mean", "ratio", NEITHER, weighting.tfidf_mean, lambda rung: rung.word_weights),
    _trees("dependency_depth", "steps", NEITHER, trees.dependency_depth, lambda rung: rung.trees.depths),
    _trees(
        "dependency_depth_variance",
        "steps^2",
        FALLING,
        trees.dependency_depth_variance,
        lambda rung: rung.trees.depths,
    ),
    _trees(
        "dependency_distance",
        "steps",
        NEITHER,
        trees.dependency_distance,
        lambda rung: rung.trees.distances,
        Need.POS,
    ),
    _trees(
        "dependency_distance_variance",
        "steps^2",
        FALLING,
        trees.dependency_distance_variance,
        lambda rung: rung.trees.distances,
        Need.POS,
    ),
    _trees(
        "syntactic_diversity",
        "ratio",
        FALLING,
        trees.syntactic_diversity,
        lambda rung: rung.trees.kernels,
        Need.POS,
    ),
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

_OF_A_NETWORK = (
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
    _structure("path_length", "steps", structure.path_length, bounds=lambda graph: graph.mean_path_interval),
    _structure("assortativity", "1", structure.assortativity),
    _structure("modularity", "1", structure.modularity),
    _structure("communities", "communities", structure.communities),
    _structure("core_depth", "relations", structure.core_depth),
    _structure("small_world", "1", structure.small_world),
)

NETWORK_NEEDS: Mapping[str, frozenset[Need]] = MappingProxyType({COOCCURRENCE: frozenset(), SYNTACTIC: syntactic.NEEDS})
"""What must be made of the text to build a network."""

NETWORK = tuple(_of_network(construction, metric) for construction in CONSTRUCTIONS for metric in _OF_A_NETWORK)

MODEL = (
    _prompts("top1_probability", "ratio", RISING, model.top1_probability, "top1", headline=True),
    _prompts("gini_top100", "ratio", RISING, model.gini_top100, "gini", headline=True),
    _collapsed(90),
    _collapsed(99),
    _collapsed(999),
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

EMBEDDING = (
    _embedding("vendi_score", "documents", embedding.vendi_score, lambda rung: rung.kernel_spectra),
    _embedding("effective_rank", "dimensions", embedding.effective_rank, lambda rung: rung.covariance_spectra),
    _embedding("mean_cosine_distance", "1", embedding.mean_cosine_distance, lambda rung: rung.alignments),
)

METRICS = TEXT + NETWORK + MODEL + EMBEDDING


def _relative(id: str, family: Family, direction: Direction, summary: str, unit: str = "ratio") -> MetricInfo:
    return MetricInfo(id=id, family=family, unit=unit, direction=direction, summary=summary)


def _overlaps(construction: str) -> tuple[MetricInfo, ...]:
    summaries = {
        "node_overlap": "Jaccard similarity of concepts with the baseline's.",
        "edge_overlap": "Jaccard similarity of relations with the baseline's.",
        "central_overlap": "Rank-biased overlap of the most central concepts.",
    }
    return tuple(_relative(f"{construction}_{name}", Family.NETWORK, FALLING, summaries[name]) for name in summaries)


RELATIVE = (
    _relative("vocabulary_coverage", Family.TEXT, FALLING, "Share of the baseline's words that still occur."),
    _relative("tail_coverage", Family.TEXT, FALLING, "Share of the baseline's rare words that still occur."),
    _relative(
        "novel_token_share", Family.TEXT, NEITHER, "Share of words that the baseline never saw; guards verdicts."
    ),
    _relative(
        "pos_divergence",
        Family.TEXT,
        RISING,
        "Jensen-Shannon divergence of the parts of speech from the baseline's.",
        "nats",
    ),
    *(info for construction in CONSTRUCTIONS for info in _overlaps(construction)),
    _relative(
        "frechet_distance",
        Family.EMBEDDING,
        RISING,
        "Frechet distance of the documents' vectors from the baseline's.",
        "1",
    ),
    _relative(
        "frontier_divergence",
        Family.EMBEDDING,
        RISING,
        "How little the documents cover the baseline's space of meanings.",
    ),
)
"""Metrics of a comparison: they need a baseline, and `Compare` measures them from two fingerprints."""

RELATIVE_NEEDS: Mapping[str, frozenset[Need]] = MappingProxyType(
    {
        "pos_divergence": frozenset({Need.POS}),
        **{info.id: syntactic.NEEDS for info in _overlaps(SYNTACTIC)},
        **{info.id: frozenset({Need.EMBEDDING}) for info in RELATIVE if info.family is Family.EMBEDDING},
    }
)
"""What must be made of the text so that a fingerprint holds what these compare; the others need words only."""

_NEEDS_BASELINE = "needs a baseline; ask for a comparison"


def metric_infos() -> tuple[MetricInfo, ...]:
    """Return the catalogue: every metric that this analyzer can measure, alone or against a baseline."""
    return tuple(metric.info() for metric in METRICS) + RELATIVE


CATALOGUE = metric_infos()


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
    hint = f"did you mean {' or '.join(near)}?" if near else "`ouroscope metrics` and ListMetrics name all of them"
    return FieldProblem("metrics", f"there is no metric {id[:80]!r}; {hint}")
