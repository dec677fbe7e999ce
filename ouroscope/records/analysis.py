"""What the analyzer measures and says."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.checks import Problems
from ouroscope.records.documents import View
from ouroscope.shapes import UNLESS_DEFAULT


class Family(Enum):
    """Metrics that see the same side of collapse; each family votes once."""

    TEXT = "TEXT"
    NETWORK = "NETWORK"
    MODEL = "MODEL"
    EMBEDDING = "EMBEDDING"


class Direction(Enum):
    """Which way a metric moves under collapse."""

    RISING = "RISING"
    FALLING = "FALLING"
    NONE = "NONE"


class Verdict(Enum):
    """What one comparison, or a sequence of them, says."""

    STABLE = "STABLE"
    WARNING = "WARNING"
    COLLAPSE = "COLLAPSE"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"


class VerdictReason(Enum):
    """Why a verdict was given."""

    WITHIN_MARGIN = "WITHIN_MARGIN"
    BEYOND_MARGIN = "BEYOND_MARGIN"
    BEYOND_FAR_BOUND = "BEYOND_FAR_BOUND"
    PERSISTENT = "PERSISTENT"
    TOO_FEW_CLUSTERS = "TOO_FEW_CLUSTERS"
    TOO_FEW_TOKENS = "TOO_FEW_TOKENS"
    TOO_WIDE = "TOO_WIDE"
    BASELINE_DOES_NOT_COVER_DOMAIN = "BASELINE_DOES_NOT_COVER_DOMAIN"
    NOTHING_COMPARABLE = "NOTHING_COMPARABLE"
    BASELINE_MISSING = "BASELINE_MISSING"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricInfo:
    """Catalogue entry of a metric."""

    id: str
    family: Family
    unit: str
    """`ratio`, `nats`, `tokens`, `words`, `documents`, `1` (pure number), ..."""
    direction: Direction
    headline: bool = False
    """Whether it votes for its family."""
    summary: str = ""
    """First line of its data sheet."""
    definition: int = 1
    """Number of its definition; values of two definitions are not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricValue:
    """One measured value with its 95 % interval; undefined is said, never dressed up as 0."""

    id: str
    value: float | None = None
    lower: float | None = None
    """Lower end of the 95 % interval; None where no interval is known."""
    upper: float | None = None
    replicates: tuple[float, ...] = ()
    """Delete-one-group jackknife replicates, in the order of the groups; empty where no interval is known."""
    undefined_because: str | None = None
    definition: int = 1
    """Number of the definition that it was measured with."""

    def __post_init__(self) -> None:
        problems = Problems(f"value of {self.id}")
        problems.check(
            (self.value is None) == (self.undefined_because is not None), "value", "needs a value or a reason"
        )
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """All text and network metrics at one token budget."""

    budget: int
    """Tokens in every replicate."""
    clusters: int
    """Independent clusters in the sample."""
    metrics: tuple[MetricValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts between edges; `len(edges) == len(counts) + 1`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """A node of a drawn network."""

    label: str
    strength: float
    """Sum of the weights of its edges."""
    degree: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """An edge of a drawn network, between positions in its list of concepts."""

    source: int
    target: int
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDrawing:
    """The most central concepts of a semantic network and the relations among them."""

    construction: str
    """`cooccurrence` or `syntactic`."""
    concepts: tuple[Concept, ...]
    relations: tuple[Relation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedText:
    """A run of words that many texts share."""

    text: str
    """Lower-cased, with single spaces."""
    documents: int
    """Documents of the sample that hold it, at least 2."""
    clusters: int
    """Independent clusters that hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of a whole."""

    label: str
    value: float
    """In [0, 1]."""


class Counting(Enum):
    """How what differs in a whole corpus is counted."""

    EXACT = "EXACT"
    SKETCH = "SKETCH"


@dataclass(frozen=True, slots=True, kw_only=True)
class CountingSpec:
    """How the whole corpus is counted, not only its sample."""

    counting: Counting = Counting.EXACT
    memory: int = 256 * 2**20
    """Bytes that all counts may take, at least 1 MiB: sketches stay within it, exact counting ends at it."""

    def __post_init__(self) -> None:
        problems = Problems("whole_corpus")
        problems.check(2**20 <= self.memory <= 2**36, "memory", "must be in [1048576, 68719476736]")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A number of a whole corpus, with its bounds where it was not counted exactly."""

    id: str
    """What was counted; of frequent words and edges the words, of an edge two with a space between."""
    value: float
    lower: float
    upper: float
    approximate: bool = False
    """Whether it is an estimate; otherwise both bounds are the value."""
    confidence: float = 1.0
    """How often the true number lies within the bounds, in (0, 1]; 1 is always."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeCorpus:
    """What the whole of a corpus has, counted beside the sample that everything else is measured on."""

    counting: Counting
    memory: int
    """Bytes that the counts could take."""
    distinct: tuple[Count, ...] = ()
    """How many different words, n-grams, and nodes and edges of the co-occurrence network."""
    frequent_words: tuple[Count, ...] = ()
    """In falling order. With sketches only words that are sure to be more frequent than any that was lost."""
    frequent_edges: tuple[Count, ...] = ()
    """The same for relations of the co-occurrence network."""
    document_lengths: tuple[Count, ...] = ()
    """Words of a document that a tenth, half and nine tenths of the documents do not exceed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A metric that was not measured, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything measured of one corpus, one model, or both."""

    report: ArtifactRef | None = None
    """Where it is stored; None for a report that was not published."""
    analyzer_version: str
    view: View = View.WHOLE
    documents: int = 0
    tokens: int = 0
    """Word tokens of the whole corpus, not only of the sample."""
    clusters: int = 0
    prompts: int = 0
    """Next-token records that the model metrics rest on."""
    rungs: tuple[Rung, ...] = ()
    """In rising order of budget. A corpus under the smallest rung has one rung at the budget it reaches."""
    model_metrics: tuple[MetricValue, ...] = ()
    top1_histogram: Histogram | None = None
    """How often the most probable next token had which probability."""
    drawing: NetworkDrawing | None = None
    left_out: tuple[LeftOut, ...] = ()
    parser: str = ""
    """Name, version and digest of the pipeline that parsed the text; empty where nothing was parsed."""
    encoder: str = ""
    """Name and digest of the model that embedded the documents; empty where nothing was embedded."""
    part_of_speech_shares: tuple[Share, ...] = ()
    """Share of each universal part of speech among the tokens of the largest rung; empty without a parser."""
    repeated_texts: tuple[RepeatedText, ...] = ()
    """What the texts of the largest rung repeat most, in falling order of clusters; empty unless asked for."""
    whole_corpus: WholeCorpus | None = field(default=None, metadata=UNLESS_DEFAULT)
    """Counts of all text, not of the sample; None unless asked for."""

    @property
    def metrics(self) -> tuple[MetricValue, ...]:
        """Return the values of the largest rung, then those of the model."""
        return (self.rungs[-1].metrics if self.rungs else ()) + self.model_metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzeCorpus:
    """Measure a stored corpus, stored predictions, or both."""

    corpus: ArtifactRef | None = None
    predictions: ArtifactRef | None = None
    base_predictions: ArtifactRef | None = None
    """Scores of the same documents under generation 0, for base_perplexity_of_synthetic."""
    view: View = View.WHOLE
    metrics: tuple[str, ...] = ()
    """Ids of the metrics wanted; empty means all. What nobody asked for is not computed."""
    drawn_concepts: int = 0
    """Concepts in the drawing of the network; 0 draws none."""
    repeated_texts: int = 0
    """Most repeated runs of words in the report; 0 shows none."""
    domain: str = ""
    """Measure only documents and records of this domain; empty means all."""
    whole_corpus: CountingSpec | None = field(default=None, metadata=UNLESS_DEFAULT)
    """How all text is counted, beside the sample; None does not."""

    def __post_init__(self) -> None:
        problems = Problems("analysis")
        problems.check(
            self.corpus is not None or self.predictions is not None, "corpus", "give a corpus or predictions"
        )
        problems.check(0 <= self.drawn_concepts <= 500, "drawn_concepts", "must be in [0, 500]")
        problems.check(0 <= self.repeated_texts <= 50, "repeated_texts", "must be in [0, 50]")
        problems.check(
            self.corpus is not None or self.whole_corpus is None, "whole_corpus", "predictions have no text to count"
        )
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a difference matters. Effects are in units of the spread between human sources."""

    margin: float = 1.0
    """Effects below it are within the human band."""
    far_bound: float = 4.0
    """One comparison alone says COLLAPSE only beyond this; no human control reached it."""
    persistence: int = 3
    """Consecutive generations beyond the margin that mean COLLAPSE."""
    confidence: float = 0.95
    max_novel_token_share: float = 0.03
    """Shift guard: the baseline does not cover the domain of the candidate if the share of candidate tokens that it
    never saw exceeds what its own clusters find new in one another by more than this."""
    min_narrowing: float = 0.0125
    """A fall of diversity that lasts is COLLAPSE only if that share lies below what its own clusters find by at least
    this, on the average of the generations in which it lasts; otherwise it is WARNING: rather another topic."""
    max_length_ratio: float = 2.0
    """The same for the mean length of documents: if it is this many times that of the baseline, or its inverse, a fall
    that lasts is WARNING."""

    def __post_init__(self) -> None:
        problems = Problems("policy")
        problems.check(self.margin > 0, "margin", "must be above 0")
        problems.check(self.far_bound > self.margin, "far_bound", "must be above margin")
        problems.check(self.persistence >= 1, "persistence", "must be at least 1")
        problems.check(0.5 <= self.confidence < 1, "confidence", "must be in [0.5, 1)")
        problems.check(0 < self.max_novel_token_share <= 1, "max_novel_token_share", "must be in (0, 1]")
        problems.check(-1 <= self.min_narrowing <= 1, "min_narrowing", "must be in [-1, 1]")
        problems.check(self.max_length_ratio > 1, "max_length_ratio", "must be above 1")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricEffect:
    """How far one metric moved, in units of human spread; positive is towards collapse."""

    id: str
    baseline: float | None = None
    candidate: float | None = None
    effect: float | None = None
    lower: float | None = None
    upper: float | None = None
    undefined_because: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyEffect:
    """Mean effect of the headline metrics of one family."""

    family: Family
    effect: float
    lower: float
    upper: float
    p_value: float
    """One-sided, against an effect within the margin; adjusted by Holm over the families."""
    metrics: tuple[str, ...]
    """Headline metrics that were measured on both sides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEffects:
    """Family effects of an earlier generation of the same sequence."""

    generation: int
    families: tuple[FamilyEffect, ...]
    excess_novelty: float | None = None
    """Share of words that the baseline never saw beyond what was expected; None where no text was compared."""

    def of(self, family: Family) -> FamilyEffect | None:
        """Return the effect of one family, or None if it could not vote."""
        return next((effect for effect in self.families if effect.family is family), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """Compare a candidate report with a baseline; a history turns it into a verdict on a sequence."""

    baseline: ArtifactRef
    """A report or a frozen baseline."""
    candidate: ArtifactRef
    """A report."""
    policy: Policy = Policy()
    history: tuple[PastEffects, ...] = ()
    """Earlier generations in rising order, without the candidate."""
    generation: int | None = None
    """Number of the candidate in its sequence; None where it is not part of one."""
    explain: int = 0
    """Most concepts, repeated texts and prompts of each kind in the explanation; 0 gives none."""

    def __post_init__(self) -> None:
        problems = Problems("comparison")
        problems.check(self.generation is None or self.generation >= 0, "generation", "must be 0 or more")
        problems.check(0 <= self.explain <= 50, "explain", "must be in [0, 50]")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptMove:
    """How the place of a concept in the semantic network changed."""

    label: str
    baseline_share: float | None = None
    """Its share of the strength of the baseline's network, in [0, 1]; None where the baseline did not keep it."""
    candidate_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMove:
    """How what a model expects after one prompt changed."""

    prompt_id: str
    baseline_entropy: float
    """In nats."""
    candidate_entropy: float
    baseline_top1: float
    """Largest probability, in [0, 1]."""
    candidate_top1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What moved most, to look at."""

    concepts: tuple[ConceptMove, ...] = ()
    """Those whose share of the network grew most, the largest growth first."""
    repeated_texts: tuple[RepeatedText, ...] = ()
    """What the candidate's texts repeat most."""
    prompts: tuple[PromptMove, ...] = ()
    """Prompts that both sides answered, those whose entropy fell most first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the analyzer says of a candidate beside a baseline."""

    verdict: Verdict
    reason: VerdictReason
    sentence: str
    """The verdict in words, with the figures it rests on."""
    budget: int = 0
    """Rung that both sides reach; 0 where only the model was compared."""
    novel_token_share: float | None = None
    """Share of candidate tokens whose type the baseline never saw, in [0, 1]."""
    expected_novel_token_share: float | None = None
    """What that share would be for text of the baseline's own sources, in [0, 1]."""
    families: tuple[FamilyEffect, ...] = ()
    metrics: tuple[MetricEffect, ...] = ()
    """In falling order of evidence."""
    policy: Policy = Policy()
    explanation: Explanation | None = None
    """What moved most; None unless asked for."""
    first_beyond: int | None = None
    """First generation of the sequence in which a family lay beyond the margin; None where none did, or where the
    request does not number its candidate."""

    @property
    def excess_novelty(self) -> float | None:
        """Return how much more of the candidate is new than was to be expected; None where no text was compared."""
        if self.novel_token_share is None or self.expected_novel_token_share is None:
            return None
        return self.novel_token_share - self.expected_novel_token_share

    def as_past(self, generation: int) -> PastEffects:
        """Return what the verdicts on later generations of the sequence need of this one."""
        return PastEffects(generation=generation, families=self.families, excess_novelty=self.excess_novelty)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineInfo:
    """A frozen baseline: numbers under a name, without anybody's text."""

    name: str
    """`baselines/{baseline}`."""
    baseline: ArtifactRef
    analyzer_version: str
    documents: int = 0
    tokens: int = 0
    clusters: int = 0
