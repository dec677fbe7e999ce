"""What a run is told to do, and what becomes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from ouroscope.records.analysis import Comparison, Policy, Verdict
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.checks import Problems
from ouroscope.records.generation import PromptUnit, SamplingSpec
from ouroscope.records.selection import Selected, SelectionSpec
from ouroscope.records.training import Recipe
from ouroscope.shapes import UNLESS_DEFAULT

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def is_name(text: str) -> bool:
    """Return whether `text` can name a run, an arm or a monitor: lower-case letters, digits, hyphens, at most 63."""
    return _NAME.fullmatch(text) is not None


class PromptSelection(Enum):
    """Whether every generation sees new prompts or the same ones."""

    FRESH = "FRESH"
    FIXED = "FIXED"


class Start(Enum):
    """From which weights a generation is fine-tuned."""

    SEQUENTIAL = "SEQUENTIAL"
    BASE = "BASE"


class RunState(Enum):
    """Life of a run, an arm and a generation."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Return whether nothing more will happen by itself."""
        return self in {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}


class HumanText(Enum):
    """Which human documents a protocol that mixes takes."""

    FRESH = "FRESH"
    REPLAYED = "REPLAYED"
    """Those of the first round again and again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EditSpec:
    """Human text that is edited by the current model before it is trained on (ToEdit)."""

    threshold: float = 0.99
    """Tokens with a higher probability are drawn anew."""
    top_k: int = 8
    """Tokens kept before drawing."""

    def __post_init__(self) -> None:
        problems = Problems("edit")
        problems.check(0 < self.threshold <= 1, "threshold", f"must be in (0, 1], got {self.threshold}")
        problems.check(self.top_k >= 1, "top_k", "must be at least 1")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSpec:
    """One way of choosing what to train on."""

    name: str
    protocol: str
    """Id of a protocol: see docs/protocols.md."""
    real_share: float = 0.25
    """Share of every document that is real prefix, in (0, 1)."""
    control: str | None = None
    """Arm it is compared with at the same generation; None picks the human arm of the same real_share and domains, one
    of the same part first, and without any the arm's own generation 0."""
    domains: tuple[str, ...] = ()
    """Domains of the data set whose text is prompted with and trained on; empty means all."""
    human_fraction: float | None = None
    """Human documents in a mixture, as a share of `documents`, in [0, 1]; None is what the protocol says."""
    synthetic_fraction: float | None = None
    """Synthetic documents in a mixture, as a share of `documents`, in [0, 1]; None is what the protocol says."""
    human_text: HumanText = HumanText.FRESH
    real_weight: float | None = None
    """Loss weight of human documents in (0, 1), synthetic ones have 1 minus it; None is what the protocol says."""
    selection: SelectionSpec | None = None
    """How documents are chosen from the pool of the protocol; None is what the protocol says."""
    edit: EditSpec | None = None
    """Edit human documents with the current model before training."""
    feeds_on: tuple[str, ...] = ()
    """Other arms whose text of the same generation joins the pool of this one."""
    part: int = 0
    """Part of the human text that this arm reads, in [0, parts)."""
    parts: int = 1
    """Disjoint parts that the human text is dealt into."""

    def __post_init__(self) -> None:
        problems = Problems(f"arm {self.name!r}")
        for share_of in ("human_fraction", "synthetic_fraction"):
            share = getattr(self, share_of)
            problems.check(share is None or 0 <= share <= 1, share_of, f"must be in [0, 1], got {share}")
        empty = self.human_fraction == self.synthetic_fraction == 0
        problems.check(not empty, "human_fraction", "a mixture needs documents")
        weight = self.real_weight
        problems.check(weight is None or 0 < weight < 1, "real_weight", f"must be in (0, 1), got {weight}")
        problems.check(1 <= self.parts <= 100, "parts", f"must be in [1, 100], got {self.parts}")
        problems.check(0 <= self.part < max(1, self.parts), "part", f"must be in [0, parts), got {self.part}")
        problems.check(is_name(self.name), "name", "use lower-case letters, digits and hyphens, at most 63")
        problems.check(0 < self.real_share < 1, "real_share", f"must be in (0, 1), got {self.real_share}")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """How the model of each generation is examined, on text that nobody trains on."""

    prompts: int = 300
    """Held-out documents whose beginnings are prompts for next-token records."""
    prompt_length: int = 32
    prompt_unit: PromptUnit = PromptUnit.TOKENS
    heldout_documents: int = 300
    """Held-out documents for perplexity."""
    max_tokens: int = 256
    last_n: int = 32
    scored_documents: int = 200
    """Documents of each generation that are scored, under its own model and under generation 0."""
    samples: int = 6
    """Fixed held-out prompts whose continuation is shown side by side in the report."""
    across_documents: int = 0
    """Held-out documents of every domain that a model continues for the cross-dataset matrix; 0 asks only for
    probabilities."""
    across_generations: tuple[int, ...] = ()
    """Generations that are examined across domains; empty means all."""

    def __post_init__(self) -> None:
        problems = Problems("evaluation")
        across = self.across_documents
        problems.check(across == 0 or across >= 20, "across_documents", "must be 0, or at least 20 for an interval")
        problems.check(all(j >= 0 for j in self.across_generations), "across_generations", "must be 0 or more")
        problems.check(self.prompts >= 20, "prompts", "must be at least 20, for an interval")
        problems.check(self.heldout_documents >= 20, "heldout_documents", "must be at least 20, for an interval")
        problems.check(self.scored_documents >= 20, "scored_documents", "must be at least 20, for an interval")
        problems.check(self.prompt_length >= 1, "prompt_length", "must be at least 1")
        problems.check(0 <= self.samples <= 100, "samples", "must be in [0, 100]")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSpec:
    """One domain of human text."""

    name: str
    source: str = "embedded"
    """`embedded`, a path that the coordinator can read, or `hf://OWNER/NAME`."""
    text_field: str = "text"
    summary_field: str = field(default="", metadata=UNLESS_DEFAULT)
    """Field of the summary that stands for `{summary}` in the instruction of a chat; empty means none."""
    libraries: tuple[str, ...] = ()
    """Libraries of the embedded corpus that belong to it; empty means all."""
    configuration: str = ""
    """Configuration of a Hugging Face data set."""
    split: str = "train"
    revision: str = ""
    """Commit of a Hugging Face data set, 40 hexadecimal digits."""
    documents: int = 0
    """Documents that are read at most, the first ones; 0 reads all."""

    def __post_init__(self) -> None:
        problems = Problems(f"domain {self.name!r}")
        problems.check(not self.name or is_name(self.name), "name", "use lower-case letters, digits and hyphens")
        problems.check(self.documents >= 0, "documents", "must be 0 (all) or more")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """Where human text comes from: one source, or several domains."""

    source: str = "embedded"
    """`embedded`, a path that the coordinator can read, or `hf://OWNER/NAME`."""
    text_field: str = "text"
    summary_field: str = field(default="", metadata=UNLESS_DEFAULT)
    domains: tuple[DomainSpec, ...] = ()
    """Several domains instead of one source."""
    configuration: str = ""
    split: str = "train"
    revision: str = ""
    documents: int = 0

    def __post_init__(self) -> None:
        problems = Problems("dataset")
        names = [domain.name for domain in self.domains]
        problems.check(all(names), "domains", "every domain needs a name")
        problems.check(len(set(names)) == len(names), "domains", "two domains have the same name")
        problems.check(self.documents >= 0, "documents", "must be 0 (all) or more")
        problems.raise_any()

    def sources(self) -> tuple[DomainSpec, ...]:
        """Return the domains, or the one source as a domain without a name."""
        if self.domains:
            return self.domains
        return (
            DomainSpec(
                name="",
                source=self.source,
                text_field=self.text_field,
                summary_field=self.summary_field,
                configuration=self.configuration,
                split=self.split,
                revision=self.revision,
                documents=self.documents,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One experiment: arms that differ in their protocol and in nothing else."""

    name: str
    arms: tuple[ArmSpec, ...]
    dataset: DatasetSpec = field(default_factory=DatasetSpec)
    model: str = "ouro-tiny"
    """An embedded model, a directory, or a Hugging Face id."""
    generations: int = 5
    """Times that a model is fine-tuned; generation 0 is the untouched base model."""
    seeds: int = 1
    """Independent repetitions; their seeds are derived and never collide."""
    seed: int = 0
    """Root from which every seed of the run is derived."""
    documents: int = 800
    """Documents per generation."""
    document_tokens: int = 64
    """Tokens of each document, real prefix and continuation together."""
    prompt_selection: PromptSelection = PromptSelection.FRESH
    start: Start = Start.SEQUENTIAL
    sampling: SamplingSpec = field(default_factory=SamplingSpec)
    """`max_new_tokens` and `seed` are set by the run, and `min_new_tokens` too unless it is 0: documents are as long as
    the real continuation, exactly, or at most where the server knows no least length."""
    recipe: Recipe = field(default_factory=Recipe)
    """`seed` is set by the run."""
    evaluation: EvaluationSpec = field(default_factory=EvaluationSpec)
    policy: Policy = field(default_factory=Policy)
    backend: str = ""
    """Backend of the generator that writes and scores; empty means the generator's own process."""

    def __post_init__(self) -> None:
        problems = Problems("run specification")
        names = [arm.name for arm in self.arms]
        problems.check(is_name(self.name), "name", "use lower-case letters, digits and hyphens, at most 63")
        problems.check(bool(self.arms), "arms", "give at least one arm")
        problems.check(len(set(names)) == len(names), "arms", "two arms have the same name")
        problems.check(self.generations >= 1, "generations", "must be at least 1")
        problems.check(1 <= self.seeds <= 100, "seeds", "must be in [1, 100]")
        problems.check(self.documents >= 20, "documents", "must be at least 20, for an interval")
        problems.check(self.document_tokens >= 4, "document_tokens", "must be at least 4")
        for arm in self.arms:
            self._check_arm(problems, arm, names)
        problems.raise_any()

    def _check_arm(self, problems: Problems, arm: ArmSpec, names: list[str]) -> None:
        prefix = round(arm.real_share * self.document_tokens)
        fits = 1 <= prefix < self.document_tokens
        known = arm.control is None or (arm.control in names and arm.control != arm.name)
        problems.check(fits, f"arms.{arm.name}.real_share", "leaves no prefix or no continuation of document_tokens")
        problems.check(known, f"arms.{arm.name}.control", f"{arm.control!r} is not another arm of this run")

    def prefix_tokens(self, arm: ArmSpec) -> int:
        """Return how many tokens of each document are real in `arm`."""
        return round(arm.real_share * self.document_tokens)

    def control_of(self, arm: ArmSpec) -> ArmSpec | None:
        """Return the arm that `arm` is compared with at the same generation, or None for its own generation 0."""
        if arm.protocol == "human" and arm.control is None:
            return None
        humans = [a for a in self.arms if a.protocol == "human" and _same_text(a, arm)]
        humans.sort(key=lambda a: (a.part, a.parts) != (arm.part, arm.parts))
        named = [a for a in self.arms if a.name == arm.control]
        return next(iter(named or [a for a in humans if a.name != arm.name]), None)


def _same_text(one: ArmSpec, other: ArmSpec) -> bool:
    return (one.real_share, set(one.domains)) == (other.real_share, set(other.domains))


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """Wall time of one stage of a generation. Never part of a digest."""

    stage: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainReport:
    """How a generation does on one domain."""

    domain: str
    report: ArtifactRef
    """On what it expects of held-out text of the domain, and on what it writes after beginnings of it."""
    human_report: ArtifactRef | None = None
    """On the real continuations of the same beginnings; None where nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One turn of the loop in one arm and seed."""

    name: str
    """`runs/{run}/arms/{arm}/seeds/{seed}/generations/{n}`."""
    number: int
    state: RunState = RunState.PENDING
    model: ArtifactRef | None = None
    corpus: ArtifactRef | None = None
    """What the model wrote."""
    human: ArtifactRef | None = None
    """Windows of human text with the same prefixes: the real continuation."""
    samples: ArtifactRef | None = None
    """Continuations of the fixed held-out prompts."""
    predictions: ArtifactRef | None = None
    report: ArtifactRef | None = None
    human_report: ArtifactRef | None = None
    comparison: Comparison | None = None
    """Against the control arm at the same generation."""
    human_gap: Comparison | None = None
    """Against the real continuation of the same prompts, as a second view."""
    training: tuple[ArtifactRef, ...] = ()
    """What the next model was trained on; empty at the last generation."""
    stages: tuple[StageTime, ...] = ()
    selections: tuple[Selected, ...] = ()
    """What was chosen of the pools for the next model; empty where whole corpora were taken."""
    across: tuple[DomainReport, ...] = ()
    """How it does on every domain; empty where the run has one, or the generation was not examined across."""
    across_predictions: ArtifactRef | None = None
    across_corpus: ArtifactRef | None = None
    """What it wrote after beginnings of all domains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmVerdict:
    """Verdict of an arm over its seeds."""

    arm: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One arm of a run."""

    name: str
    """`runs/{run}/arms/{arm}`."""
    spec: ArmSpec
    verdict: ArmVerdict | None = None
    """None before the first comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as the coordinator keeps it."""

    name: str
    """`runs/{run}`."""
    spec: RunSpec
    state: RunState
    create_time: datetime
    update_time: datetime
    error: str | None = None
    """What went wrong and what to do, for a failed run."""
    verdicts: tuple[ArmVerdict, ...] = ()
    generations_done: int = 0
    generations_total: int = 0
    base_perplexity: float | None = None
    """Held-out perplexity per token of generation 0."""
    unigram_perplexity: float | None = None
    uniform_perplexity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that happened in a run, for those who watch it."""

    run: str
    time: datetime
    state: RunState
    arm: str | None = None
    seed: int | None = None
    generation: int | None = None
    stage: str | None = None
    done: float = 0.0
    """Of the stage, in [0, 1]."""
    run_done: float = 0.0
    """Of the whole run, in [0, 1]."""
    seconds_left: float | None = None
    message: str | None = None
    finished_generation: Generation | None = None
