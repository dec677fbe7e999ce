"""Every metric as a value in a list: what it is called, which way it moves, how it is got from a rung or a model.

To see all metrics, read `METRICS`. Ids, directions and headlines are those of the project's table of names; a test
holds them to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from ouroscope.records.analysis import Direction, Family, MetricInfo
from services.analyzer import relative, relative_embedding
from services.analyzer.metric import (
    Metric,
    of_embedding,
    of_model,
    of_prompts,
    of_shape,
    of_structure,
    of_text,
    of_trees,
    of_words,
    summary_of,
)
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
from services.analyzer.network import shape, structure, syntactic
from services.analyzer.network.edges import CONSTRUCTIONS, COOCCURRENCE, SYNTACTIC
from services.analyzer.parsing.parsed import Need

ANALYZER_VERSION = "3"
"""Raised with every change of what is measured; which values can be compared says the definition of each metric."""

FALLING, RISING, NEITHER = Direction.FALLING, Direction.RISING, Direction.NONE


def _of_network(construction: str, metric: Metric) -> Metric:
    """Return a measure of any network as a metric of those of one construction."""
    return replace(
        metric,
        id=f"{construction}_{metric.id}",
        summary=_in_network(construction, metric.sheet),
        take=lambda rung: metric.take(rung.network(construction)),
        needs=NETWORK_NEEDS[construction],
    )


def _in_network(construction: str, sheet: Callable[..., object]) -> str:
    """Return the first line of a data sheet that serves the networks of all constructions."""
    return f"{summary_of(sheet)[:-1]} ({NETWORK_NAMES[construction]})."


def _collapsed(tau: int) -> Metric:
    id = f"collapsed_{tau}"
    return of_model(
        id,
        "ratio",
        RISING,
        model.collapsed,
        lambda known: model.counted(known.prompts.ratios(id)),
        headline=tau == 99,
        summary=f"The share of prompts after which one token has a probability above 0.{tau}.",
    )


def _distinct(length: int) -> Metric:
    return of_text(
        f"distinct_{length}",
        "ratio",
        FALLING,
        ngrams.distinct,
        lambda rung: rung.tallies(length),
        headline=length == 3,
        summary=f"The share of different {_runs(length)} among all of the sample.",
    )


def _repetition(length: int) -> Metric:
    return of_text(
        f"repetition_{length}",
        "ratio",
        RISING,
        ngrams.repetition,
        lambda rung: rung.document_tallies(length),
        summary=f"The share of {_runs(length)} that repeat an earlier one of the same document.",
    )


def _runs(length: int) -> str:
    return "words" if length == 1 else f"runs of {length} words"


TEXT = (
    of_words("types", "words", FALLING, lexical.types, headline=True),
    of_words("type_token_ratio", "ratio", FALLING, lexical.type_token_ratio),
    of_text("mattr", "ratio", FALLING, sequences.mattr, lambda rung: rung.windows, headline=True),
    of_text("mtld", "words", FALLING, sequences.mtld, lambda rung: rung.streams(), mean_over_groups=True),
    of_words("hdd", "ratio", FALLING, lexical.hdd),
    of_words("yule_k", "1", RISING, lexical.yule_k),
    of_words("token_entropy", "nats", FALLING, lexical.token_entropy, headline=True),
    of_words("normalized_entropy_by_tokens", "ratio", FALLING, lexical.normalized_entropy_by_tokens, headline=True),
    of_words("normalized_entropy_by_types", "ratio", FALLING, lexical.normalized_entropy_by_types),
    of_words("hapax_share", "ratio", FALLING, lexical.hapax_share),
    of_words("zipf_exponent", "1", RISING, lexical.zipf_exponent),
    of_words("head_share", "ratio", RISING, lexical.head_share),
    *(_distinct(length) for length in range(1, 6)),
    of_text("skipgram_2_2", "ratio", FALLING, ngrams.skipgram_2_2, lambda rung: rung.skip_tallies),
    *(_repetition(length) for length in range(2, 5)),
    of_text(
        "diversity_product",
        "ratio",
        FALLING,
        ngrams.diversity_product,
        lambda rung: list(zip(*(rung.document_tallies(length) for length in (2, 3, 4)), strict=True)),
    ),
    of_text("self_bleu_4", "ratio", RISING, similarity.self_bleu_4, lambda rung: rung.overlaps),
    of_text("compression_ratio", "ratio", RISING, sequences.compression_ratio, lambda rung: rung.compressed),
    of_words("expectation_adjusted_distinct", "ratio", FALLING, lexical.expectation_adjusted_distinct),
    of_text("entropy_rate", "nats", FALLING, entropy_rate, lambda rung: rung.matches(), mean_over_groups=True),
    of_text(
        "near_duplicate_share", "ratio", RISING, duplicates.near_duplicate_share, lambda rung: rung.near_duplicates
    ),
    of_text(
        "levenshtein_diversity",
        "ratio",
        FALLING,
        similarity.levenshtein_diversity,
        lambda rung: rung.neighbour_distances,
    ),
    of_text("tfidf_mean", "ratio", NEITHER, weighting.tfidf_mean, lambda rung: rung.word_weights),
    of_trees("dependency_depth", "steps", NEITHER, trees.dependency_depth, lambda rung: rung.trees.depths),
    of_trees(
        "dependency_depth_variance",
        "steps^2",
        FALLING,
        trees.dependency_depth_variance,
        lambda rung: rung.trees.depths,
    ),
    of_trees(
        "dependency_distance",
        "steps",
        NEITHER,
        trees.dependency_distance,
        lambda rung: rung.trees.distances,
        Need.POS,
    ),
    of_trees(
        "dependency_distance_variance",
        "steps^2",
        FALLING,
        trees.dependency_distance_variance,
        lambda rung: rung.trees.distances,
        Need.POS,
    ),
    of_trees(
        "syntactic_diversity",
        "ratio",
        FALLING,
        trees.syntactic_diversity,
        lambda rung: rung.trees.kernels,
        Need.POS,
    ),
    of_text("document_length", "words", NEITHER, documents.document_length, lambda rung: rung.lengths),
    of_text("sentence_length", "words", NEITHER, documents.sentence_length, lambda rung: rung.sentences),
    of_text(
        "readability",
        "1",
        NEITHER,
        documents.readability,
        lambda rung: list(zip(rung.sentences, rung.syllables, strict=True)),
    ),
)

_OF_A_NETWORK = (
    of_shape("nodes", "concepts", FALLING, shape.nodes, headline=True),
    of_shape("edges", "relations", FALLING, shape.edges, headline=True),
    of_shape("edge_weight_entropy", "nats", FALLING, shape.edge_weight_entropy, headline=True),
    of_shape("degree_entropy", "nats", FALLING, shape.degree_entropy, headline=True),
    of_shape("hub_share", "ratio", RISING, shape.hub_share, headline=True),
    of_shape("density", "ratio", NEITHER, shape.density),
    of_shape("mean_degree", "relations", NEITHER, shape.mean_degree),
    of_shape("degree_gini", "ratio", RISING, shape.degree_gini),
    of_structure("clustering", "ratio", structure.clustering),
    of_structure("transitivity", "ratio", structure.transitivity),
    of_structure("components", "components", structure.components),
    of_structure("giant_share", "ratio", structure.giant_share),
    of_structure("path_length", "steps", structure.path_length, bounds=lambda graph: graph.mean_path_interval),
    of_structure("assortativity", "1", structure.assortativity),
    of_structure("modularity", "1", structure.modularity),
    of_structure("communities", "communities", structure.communities),
    of_structure("core_depth", "relations", structure.core_depth),
    of_structure("small_world", "1", structure.small_world),
)

NETWORK_NAMES: Mapping[str, str] = MappingProxyType(
    {COOCCURRENCE: "co-occurrence network", SYNTACTIC: "syntactic network"}
)
"""What the networks are called in a sentence."""
NETWORK_NEEDS: Mapping[str, frozenset[Need]] = MappingProxyType({COOCCURRENCE: frozenset(), SYNTACTIC: syntactic.NEEDS})
"""What must be made of the text to build a network."""

NETWORK = tuple(_of_network(construction, metric) for construction in CONSTRUCTIONS for metric in _OF_A_NETWORK)

MODEL = (
    of_prompts("top1_probability", "ratio", RISING, model.top1_probability, "top1", headline=True),
    of_prompts("gini_top100", "ratio", RISING, model.gini_top100, "gini", headline=True),
    _collapsed(90),
    _collapsed(99),
    _collapsed(999),
    of_prompts("next_token_entropy", "nats", FALLING, model.next_token_entropy, "entropy", headline=True),
    of_prompts("effective_tokens", "tokens", FALLING, model.effective_tokens, "entropy"),
    of_prompts("true_token_rank", "ranks", RISING, model.true_token_rank, "log_rank"),
    of_model(
        "heldout_perplexity", "tokens", RISING, model.heldout_perplexity, lambda m: m.heldout.ratios("nats", "tokens")
    ),
    of_model("bits_per_byte", "1", RISING, model.bits_per_byte, lambda m: m.heldout.ratios("nats", "bytes")),
    of_model(
        "last_n_accuracy", "ratio", FALLING, model.last_n_accuracy, lambda m: m.heldout.ratios("last_greedy", "last")
    ),
    of_model("surplexity", "tokens", FALLING, model.surplexity, lambda m: m.documents.ratios("nats_per_token")),
    of_model(
        "base_perplexity_of_synthetic",
        "tokens",
        FALLING,
        model.base_perplexity_of_synthetic,
        lambda m: m.base_documents.ratios("nats", "tokens"),
    ),
    of_model("greedy_share", "ratio", RISING, model.greedy_share, lambda m: m.documents.ratios("greedy", "tokens")),
)

EMBEDDING = (
    of_embedding("vendi_score", "documents", embedding.vendi_score, lambda rung: rung.kernel_spectra),
    of_embedding("effective_rank", "dimensions", embedding.effective_rank, lambda rung: rung.covariance_spectra),
    of_embedding("mean_cosine_distance", "1", embedding.mean_cosine_distance, lambda rung: rung.alignments),
)

METRICS = TEXT + NETWORK + MODEL + EMBEDDING


RELATIVE_SHEETS: Mapping[str, Callable[..., object]] = MappingProxyType(
    {
        "vocabulary_coverage": relative.vocabulary_coverage,
        "tail_coverage": relative.tail_coverage,
        "novel_token_share": relative.novelty,
        "pos_divergence": relative.pos_divergence,
        **{f"{construction}_node_overlap": relative.node_overlap for construction in CONSTRUCTIONS},
        **{f"{construction}_edge_overlap": relative.edge_overlap for construction in CONSTRUCTIONS},
        **{f"{construction}_central_overlap": relative.central_overlap for construction in CONSTRUCTIONS},
        "frechet_distance": relative_embedding.frechet_distance,
        "frontier_divergence": relative_embedding.frontier_divergence,
    }
)
"""The data sheets of the metrics of a comparison."""


def _relative(id: str, family: Family, direction: Direction, unit: str = "ratio") -> MetricInfo:
    summary = summary_of(RELATIVE_SHEETS[id])
    return MetricInfo(id=id, family=family, unit=unit, direction=direction, summary=summary)


def _overlap(construction: str, name: str) -> MetricInfo:
    info = _relative(f"{construction}_{name}", Family.NETWORK, FALLING)
    return replace(info, summary=_in_network(construction, RELATIVE_SHEETS[info.id]))


def _overlaps(construction: str) -> tuple[MetricInfo, ...]:
    return tuple(_overlap(construction, name) for name in ("node_overlap", "edge_overlap", "central_overlap"))


RELATIVE = (
    _relative("vocabulary_coverage", Family.TEXT, FALLING),
    _relative("tail_coverage", Family.TEXT, FALLING),
    _relative("novel_token_share", Family.TEXT, NEITHER),
    _relative("pos_divergence", Family.TEXT, RISING, "nats"),
    *(info for construction in CONSTRUCTIONS for info in _overlaps(construction)),
    _relative("frechet_distance", Family.EMBEDDING, RISING, "1"),
    _relative("frontier_divergence", Family.EMBEDDING, RISING),
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


def metric_infos() -> tuple[MetricInfo, ...]:
    """Return the catalogue: every metric that this analyzer can measure, alone or against a baseline."""
    return tuple(metric.info() for metric in METRICS) + RELATIVE


CATALOGUE = metric_infos()
