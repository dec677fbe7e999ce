"""What the page says in words: names of metrics and arms, verdicts, what was run. Pure text; no markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ouroscope.records.analysis import Direction, Family, MetricInfo, Verdict
from ouroscope.records.runs import PromptSelection, Run, RunEvent, RunSpec, RunState, Start
from ouroscope.records.training import Method
from services.coordinator.report.view import RunView
from services.coordinator.windows import documents_written

NETWORK_NAMES = {
    "nodes": "Concepts",
    "edges": "Relations",
    "edge_weight_entropy": "Entropy of relations",
    "degree_entropy": "Entropy of degrees",
    "hub_share": "Share of the hubs",
    "density": "Density of the network",
    "mean_degree": "Mean degree",
    "degree_gini": "Gini of degrees",
    "giant_share": "Share of the largest component",
    "path_length": "Path length",
    "core_depth": "Depth of the core",
    "small_world": "Small-worldness",
    "node_overlap": "Concepts in common",
    "edge_overlap": "Relations in common",
    "central_overlap": "Central concepts in common",
}
"""Measures of a network, whatever its construction."""

CONSTRUCTIONS = {"cooccurrence_": "nearby", "syntactic_": "trees"}
"""Prefixes of their ids, and what relates two concepts: words near each other, or a tree of a sentence."""

NAMES = {
    **{
        f"{prefix}{measure}": f"{name} ({related})"
        for prefix, related in CONSTRUCTIONS.items()
        for measure, name in NETWORK_NAMES.items()
    },
    "types": "Different words",
    "type_token_ratio": "Type-token ratio",
    "mattr": "Variety in a window (MATTR)",
    "mtld": "Steady variety length (MTLD)",
    "hdd": "Expected variety of a draw (HD-D)",
    "yule_k": "Yule's K",
    "token_entropy": "Word entropy",
    "normalized_entropy_by_tokens": "Normalised entropy (by tokens)",
    "normalized_entropy_by_types": "Normalised entropy (by types)",
    "hapax_share": "Words used once",
    "zipf_exponent": "Zipf exponent",
    "head_share": "Share of the commonest words",
    "skipgram_2_2": "Distinct skip-grams",
    **{f"distinct_{length}": f"Distinct {length}-grams" for length in range(2, 6)},
    "distinct_1": "Distinct words per word",
    **{f"repetition_{length}": f"Repeated {length}-grams" for length in range(2, 5)},
    "diversity_product": "Product of n-gram diversity",
    "compression_ratio": "Compression ratio",
    "expectation_adjusted_distinct": "Length-adjusted distinct words",
    "entropy_rate": "Entropy rate",
    "self_bleu_4": "Overlap with the other texts (self-BLEU)",
    "near_duplicate_share": "Texts with a near copy",
    "levenshtein_diversity": "Edits from one text to the next",
    "tfidf_mean": "Mean tf-idf weight",
    "pos_divergence": "Other parts of speech than the baseline",
    "dependency_depth": "Depth of sentences",
    "dependency_depth_variance": "Variance of the depth of sentences",
    "dependency_distance": "Distance from word to head",
    "dependency_distance_variance": "Variance of the distance from word to head",
    "syntactic_diversity": "Variety of sentence structures",
    "vocabulary_coverage": "Vocabulary that is still used",
    "tail_coverage": "Rare words that are still used",
    "novel_token_share": "Words the baseline never saw",
    "top1_probability": "Probability of the first choice",
    "gini_top100": "Gini of the 100 likeliest tokens",
    "collapsed_90": "First choices above 90 %",
    "collapsed_99": "First choices above 99 %",
    "collapsed_999": "First choices above 99.9 %",
    "next_token_entropy": "Next-token entropy",
    "effective_tokens": "Effective number of next tokens",
    "true_token_rank": "Rank of the true token",
    "heldout_perplexity": "Perplexity on held-out text",
    "bits_per_byte": "Bits per byte on held-out text",
    "last_n_accuracy": "Accuracy on the last tokens",
    "surplexity": "Surprise at its own text",
    "base_perplexity_of_synthetic": "Surprise of the base model",
    "greedy_share": "Share of first choices in the text",
}

FAMILIES = {
    Family.TEXT: "Text",
    Family.NETWORK: "Semantic network",
    Family.MODEL: "Model",
    Family.EMBEDDING: "Meaning",
}

FAMILY_QUESTIONS = {
    Family.TEXT: "How varied is what it writes?",
    Family.NETWORK: "How rich are the concepts and their relations?",
    Family.MODEL: "How open are its predictions?",
    Family.EMBEDDING: "How wide is the spread of meanings?",
}

VERDICTS = {
    Verdict.STABLE: "Stable",
    Verdict.WARNING: "Warning",
    Verdict.COLLAPSE: "Collapse",
    Verdict.INSUFFICIENT_DATA: "Cannot be judged",
}

SEVERITY = (Verdict.COLLAPSE, Verdict.WARNING, Verdict.INSUFFICIENT_DATA, Verdict.STABLE)
"""The order in which verdicts are told."""

_DEEDS = {
    Verdict.STABLE: ("stayed stable", "stayed stable"),
    Verdict.WARNING: ("is drifting", "are drifting"),
    Verdict.COLLAPSE: ("collapsed", "collapsed"),
    Verdict.INSUFFICIENT_DATA: ("cannot be judged", "cannot be judged"),
}
"""What one arm, and what several arms did."""

_DIRECTIONS = {
    Direction.FALLING: "lower is towards collapse",
    Direction.RISING: "higher is towards collapse",
    Direction.NONE: "no direction under collapse",
}


def metric_name(metric: str) -> str:
    """Return what a person calls a metric."""
    for prefix, related in CONSTRUCTIONS.items():
        if metric.startswith(prefix) and metric not in NAMES:
            return f"{_plain(metric.removeprefix(prefix))} ({related})"
    return NAMES.get(metric, _plain(metric))


def _plain(metric: str) -> str:
    spoken = metric.replace("_", " ")
    return spoken[:1].upper() + spoken[1:]


def metric_note(info: MetricInfo) -> str:
    """Return unit and direction of a metric."""
    unit = "" if info.unit in {"", "1"} else f"{info.unit}; "
    return unit + _DIRECTIONS[info.direction]


def direction_note(direction: Direction) -> str:
    """Say which way a metric moves under collapse."""
    return _DIRECTIONS[direction]


def headline(run: Run) -> str:
    """Return the outcome of a run in one or two sentences."""
    if not run.verdicts:
        return _without_verdict(run)
    told = []
    for verdict in SEVERITY:
        arms = [f"“{one.arm}”" for one in run.verdicts if one.verdict is verdict]
        told += [deed(arms, verdict)] if arms else []
    return "; ".join(told) + "."


def deed(names: Sequence[str], verdict: Verdict) -> str:
    """Say what became of those with a verdict.

    >>> deed(["a", "b"], Verdict.COLLAPSE), deed(["a"], Verdict.WARNING)
    ('a and b collapsed', 'a is drifting')
    """
    return f"{joined(names)} {_DEEDS[verdict][len(names) > 1]}"


def _without_verdict(run: Run) -> str:
    if run.state is RunState.SUCCEEDED:
        return "The run is over, but nothing could be compared."
    return "No verdict yet."


def format_seconds(seconds: float | None) -> str:
    """Write a time left for people.

    >>> format_seconds(None), format_seconds(42), format_seconds(190)
    ('estimating', '42 s left', '3 min 10 s left')
    """
    if seconds is None:
        return "estimating"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s left" if minutes else f"{rest} s left"


def describe(event: RunEvent) -> str:
    """Say in a few words what is being done."""
    if event.stage is None:
        return event.message or event.state.value.lower()
    where = f"{event.arm} {event.generation}" if event.arm is not None else ""
    return f"{where} {event.stage.replace('_', '-')}".strip()


def caution(view: RunView) -> str | None:
    """Return why the page is not the whole story, or None where it is."""
    done, total = sum(point.report is not None for point in view.points), view.run.generations_total
    measured = f"{done} of {total} generations are measured" if total else f"{done} generations are measured"
    if view.run.state is RunState.FAILED:
        return f"The run failed; {measured}. " + (f"Reason: {view.run.error}" if view.run.error else "")
    if view.run.state is RunState.CANCELLED:
        return f"The run was cancelled; {measured}."
    if view.run.state is not RunState.SUCCEEDED:
        return f"The run goes on: {measured}. Write this page again later."
    return None if view.complete else f"Only {measured}: some reports are gone from the store."


def joined(parts: Sequence[str]) -> str:
    """Return parts as an enumeration.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def numbers_told(numbers: Sequence[int]) -> str:
    """Return generations as a person names them.

    >>> numbers_told([1, 2, 3, 4]), numbers_told([2, 4]), numbers_told([5])
    ('generations 1 to 4', 'generations 2 and 4', 'generation 5')
    """
    if len(numbers) == 1:
        return f"generation {numbers[0]}"
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"generations {numbers[0]} to {numbers[-1]}"
    return f"generations {joined([str(number) for number in numbers])}"


def percent(share: float) -> str:
    """Return a share as a percentage, the sign set apart by a space that does not break.

    >>> percent(0.25) == "25" + chr(160) + "%"
    True
    """
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of what was run."""

    name: str
    text: str


def facts(view: RunView) -> list[Fact]:
    """Return what was run, in words."""
    spec = view.run.spec
    return [
        Fact("Model", f"{spec.model}, generation 0 untouched"),
        Fact("Human text", _text(spec)),
        Fact("Rounds", _rounds(spec)),
        Fact("Documents", _documents(spec)),
        Fact("Prompts", _prompts(spec)),
        Fact("Sampling", _sampling(spec)),
        Fact("Training", _training(spec)),
        Fact("Examination", _examination(spec)),
    ]


def _text(spec: RunSpec) -> str:
    domains = spec.dataset.domains
    return f"the domains {joined([domain.name for domain in domains])}" if domains else spec.dataset.source


def _rounds(spec: RunSpec) -> str:
    seeds = "one seed" if spec.seeds == 1 else f"{spec.seeds} seeds"
    begin = "the model before it" if spec.start is Start.SEQUENTIAL else "the base model"
    return f"{spec.generations} times fine-tuned, each time from {begin}; {seeds}"


def _documents(spec: RunSpec) -> str:
    shares = sorted({(spec.prefix_tokens(arm), arm.real_share) for arm in spec.arms})
    real = joined([f"{prefix} ({percent(share)})" for prefix, share in shares])
    last = max(documents_written(spec, arm, spec.generations) for arm in spec.arms)
    more = f" (growing to {last:,} in an arm that grows)" if last > spec.documents else ""
    return f"{spec.documents:,} per generation{more}, {spec.document_tokens} tokens each, the first {real} of them real"


def _prompts(spec: RunSpec) -> str:
    if spec.prompt_selection is PromptSelection.FRESH:
        return "new ones in every generation, the same in all arms"
    return "the same ones in every generation and in all arms"


def _sampling(spec: RunSpec) -> str:
    sampling = spec.sampling
    top_k = f"top-k {sampling.top_k}" if sampling.top_k else "no top-k"
    return f"temperature {sampling.temperature:g}, {top_k}, top-p {sampling.top_p:g}"


def _training(spec: RunSpec) -> str:
    recipe = spec.recipe
    weights = "all weights" if recipe.method is Method.FULL else f"LoRA of rank {recipe.lora.rank}"
    batch = recipe.batch_size * recipe.gradient_accumulation
    return (
        f"{weights}, {recipe.steps} steps of {batch} \N{MULTIPLICATION SIGN} {recipe.block_tokens} tokens, "
        f"learning rate {recipe.learning_rate:g} ({recipe.schedule.value.lower()}); the same in every arm"
    )


def _examination(spec: RunSpec) -> str:
    asked = spec.evaluation
    prompts = f"{asked.prompts:,} prompts of {asked.prompt_length} {asked.prompt_unit.value.lower()}"
    return f"{prompts} and {asked.heldout_documents:,} documents of human text that nobody trains on"
