"""What the generator is asked and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.checks import Problems


class Capability(Enum):
    """What a backend can do with a model."""

    GENERATE = "GENERATE"
    SCORE = "SCORE"
    REPRODUCIBLE = "REPRODUCIBLE"
    """The same request gives the same text on the same machine."""
    LEAST_LENGTH = "LEAST_LENGTH"
    """A document ends no earlier than asked."""
    TOP_K = "TOP_K"
    """The next token is drawn from the first ones only."""
    CHAT = "CHAT"
    """Prompts may be messages of a chat, where the model has a template for them."""
    EXACT_TOKENS = "EXACT_TOKENS"
    """What is scored are the tokens that are asked about, also of a prompt that ends inside a word."""
    EDIT = "EDIT"
    """Texts can be edited: it needs whole distributions."""
    EVALUATE_TASKS = "EVALUATE_TASKS"
    """Tasks of lm-evaluation-harness can be done."""
    CLASSIFY = "CLASSIFY"
    """Text classifiers can be asked."""


CHANGES: Mapping[Capability, FieldProblem] = {
    Capability.LEAST_LENGTH: FieldProblem(
        "sampling.min_new_tokens", "set 0: it knows no least length, so documents may end early"
    ),
    Capability.TOP_K: FieldProblem("sampling.top_k", "set 0: it cannot draw from the first tokens only"),
    Capability.CHAT: FieldProblem("sampling.chat", "leave it out: it takes plain text only"),
    Capability.EXACT_TOKENS: FieldProblem(
        "prompt_unit", "set WORDS: it takes texts only, and reads a prompt that ends inside a word as other tokens"
    ),
}
"""What to change in a request that needs a capability which the chosen backend lacks."""


class Verification(Enum):
    """How it is known that the right weights answered."""

    LOADED = "LOADED"
    """In the generator's process, every file checked against its digest."""
    REPORTED = "REPORTED"
    """The server says that it serves a model whose name or path carries the digest."""
    DECLARED = "DECLARED"
    """The server serves the name that the operator has declared to be these weights."""


class PromptUnit(Enum):
    """How the length of a prompt is counted."""

    TOKENS = "TOKENS"
    WORDS = "WORDS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What answered: recorded with everything that a backend made."""

    backend: str
    kind: str
    """`transformers`, `openai`, `vllm` or `tgi`."""
    model: str
    """What the backend calls the weights."""
    verification: Verification
    reproducible: bool = False
    """Whether the same request gives the same answer again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendInfo:
    """A way of running models that a generator has."""

    name: str
    kind: str
    capabilities: tuple[Capability, ...] = ()
    problem: str = ""
    """Why it cannot be asked now, or why a capability is missing; empty if all is well."""
    weights: str = ""
    """How other weights reach a server: `adapters`, `reload`, or `fixed` where it serves one model only."""


def changes_for(needs: Iterable[Capability], able: Iterable[Capability]) -> list[FieldProblem]:
    """Return what to change in a request that needs more than a backend is able to do; empty if nothing."""
    missing = set(needs) - set(able)
    return [change for capability, change in CHANGES.items() if capability in missing]


SUMMARY = "{summary}"
"""Stands in an instruction for the summary of each document; other braces are text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFormat:
    """Texts as turns of a chat, by the template of the model: the user asks, the document is the answer."""

    instruction: str = ""
    """What the user says before the real prefix; `{summary}` in it is the summary of the document."""
    system: str | None = None
    """What the system says; None leaves its turn out."""

    @property
    def tells_summaries(self) -> bool:
        """Return whether every document needs a summary."""
        return SUMMARY in self.instruction

    def asked(self, summary: str | None) -> str:
        """Return what the user says of a document with this summary.

        Raises:
            InvalidRequest: the summary is wanted, and there is none.
        """
        if not self.tells_summaries:
            return self.instruction
        if summary is None:
            raise InvalidRequest(
                f"the instruction tells the {SUMMARY} of each document, and a document has none; leave {SUMMARY} out, "
                "or name the field of the summaries (summary_field)"
            )
        return self.instruction.replace(SUMMARY, summary)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model in the store and what the generator can do with it."""

    model: ArtifactRef
    source: str
    """What the caller named: an embedded model, a directory, a Hugging Face id."""
    parameters: int
    context_tokens: int
    vocabulary: int
    capabilities: tuple[Capability, ...] = ()
    base: ArtifactRef | None = None
    """Model that these weights are an adapter of; None for a whole model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSpec:
    """How human documents are cut into windows that serve as prompts, as human training text and as human reference."""

    document_tokens: int
    """Tokens of a whole window, at least 2."""
    prefix_tokens: int
    """Tokens of it that are the real prefix, in [1, document_tokens)."""
    count: int
    """Windows to take, at least 1."""
    offset: int = 0
    """Windows to leave out first, in the order keyed by `seed`: slices with different offsets are disjoint."""
    seed: int = 0

    def __post_init__(self) -> None:
        problems = Problems("window")
        problems.check(self.document_tokens >= 2, "document_tokens", "must be at least 2")
        problems.check(
            1 <= self.prefix_tokens < self.document_tokens, "prefix_tokens", "must be in [1, document_tokens)"
        )
        problems.check(self.count >= 1, "count", "must be at least 1")
        problems.check(self.offset >= 0, "offset", "must be 0 or more")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSpec:
    """How text is drawn from a model. The defaults are those of the published loop: the library's own."""

    temperature: float = 1.0
    """In [0, 10]; 0 is greedy."""
    top_k: int = 50
    """Tokens kept before drawing; 0 keeps all."""
    top_p: float = 1.0
    """Probability mass kept, in (0, 1]."""
    min_new_tokens: int = 1
    max_new_tokens: int = 48
    seed: int = 0
    batch_size: int = 0
    """Documents decoded together; 0 lets the backend choose from the machine, before the digest is taken."""
    chat: ChatFormat | None = None
    """Prompts as messages of a chat; None continues the plain prefix."""

    def __post_init__(self) -> None:
        problems = Problems("sampling")
        problems.check(0 <= self.temperature <= 10, "temperature", f"must be in [0, 10], got {self.temperature}")
        problems.check(self.top_k >= 0, "top_k", f"must be 0 (all) or more, got {self.top_k}")
        problems.check(0 < self.top_p <= 1, "top_p", f"must be in (0, 1], got {self.top_p}")
        problems.check(self.max_new_tokens >= 1, "max_new_tokens", "must be at least 1")
        problems.check(
            0 <= self.min_new_tokens <= self.max_new_tokens, "min_new_tokens", "must be in [0, max_new_tokens]"
        )
        problems.check(self.batch_size >= 0, "batch_size", "must be 0 (automatic) or more")
        problems.raise_any()

    @property
    def needs(self) -> frozenset[Capability]:
        """Return what a backend must be able to do beside writing.

        A least length of 1 is none: a document without a token is told by its count.
        """
        wanted = {
            Capability.LEAST_LENGTH: self.min_new_tokens > 1,
            Capability.TOP_K: self.temperature > 0 and self.top_k > 0,
            Capability.CHAT: self.chat is not None,
        }
        return frozenset(capability for capability, is_wanted in wanted.items() if is_wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparePrompts:
    """Cut a human corpus into windows with the tokenizer of `model`."""

    model: ArtifactRef
    corpus: ArtifactRef
    window: WindowSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate:
    """Let `model` continue the real prefix of every document of `prompts`."""

    model: ArtifactRef
    prompts: ArtifactRef
    sampling: SamplingSpec
    generation: int = 0
    """Generation of the model, written into the provenance of the documents."""
    backend: str = ""
    """Backend that runs the model; empty means in the generator's own process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """A corpus that a model wrote, or windows of a human corpus."""

    corpus: ArtifactRef
    documents: int
    tokens: int
    """Tokens of the model that were drawn (of whole windows, for human text)."""
    batch_size: int = 0
    """Batch size really used, after any reduction for lack of memory."""
    served: Served | None = None
    """What wrote it; None for human text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Ask a model for its probabilities; each corpus is optional, at least one is given."""

    model: ArtifactRef
    prompts: ArtifactRef | None = None
    """Human documents whose beginnings are prompts for next-token records."""
    prompt_length: int = 32
    """Length of each prompt in `prompt_unit`; a shorter document is left out."""
    prompt_unit: PromptUnit = PromptUnit.TOKENS
    top_n: int = 100
    """Probabilities kept per next-token record, in [1, 1000]."""
    heldout: ArtifactRef | None = None
    """Human documents that nobody trained on, for held-out perplexity; scored whole."""
    documents: ArtifactRef | None = None
    """Documents scored from the end of their real prefix, for surplexity."""
    unigram_corpus: ArtifactRef | None = None
    """Human text on which a unigram model is fitted, to say how good `model` is on `heldout`."""
    max_tokens: int = 256
    """Tokens of each text that are scored at most."""
    last_n: int = 32
    """Tokens at the end of each held-out document that count for last-n accuracy."""
    batch_size: int = 0
    max_documents: int = 0
    """Documents of `documents` that are scored at most, the first ones; 0 scores all."""
    backend: str = ""
    """Backend that runs the model; empty means in the generator's own process."""
    stride: int = 0
    """Tokens that the window moves on in a text longer than the context; 0 means half of the context."""

    def __post_init__(self) -> None:
        problems = Problems("score")
        problems.check(
            any((self.prompts, self.heldout, self.documents)), "prompts", "give prompts, heldout or documents"
        )
        problems.check(self.prompt_length >= 1, "prompt_length", "must be at least 1")
        problems.check(1 <= self.top_n <= 1000, "top_n", "must be in [1, 1000]")
        problems.check(self.max_tokens >= 2, "max_tokens", "must be at least 2")
        problems.check(self.last_n >= 1, "last_n", "must be at least 1")
        problems.check(self.max_documents >= 0, "max_documents", "must be 0 (all) or more")
        problems.check(self.stride >= 0, "stride", "must be 0 (half of the context) or more")
        problems.raise_any()

    @property
    def needs(self) -> frozenset[Capability]:
        """Return what a backend must be able to do beside scoring: prompts counted in tokens may end inside a word."""
        cuts_words = self.prompts is not None and self.prompt_unit is PromptUnit.TOKENS
        return frozenset({Capability.EXACT_TOKENS} if cuts_words else ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Where the probabilities lie, and how good the model is beside two trivial ones."""

    predictions: ArtifactRef
    prompts: int
    texts: int
    tokens: int
    unigram_perplexity: float | None = None
    """Perplexity per token of an add-one smoothed unigram model on the same held-out tokens."""
    uniform_perplexity: float | None = None
    """Size of the vocabulary."""
    served: Served | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateTasks:
    """Let `model` do tasks of lm-evaluation-harness."""

    model: ArtifactRef
    tasks: tuple[str, ...]
    limit: int = 0
    """Examples of each task that are asked at most, the first ones; 0 asks all."""
    few_shot: int | None = None
    """Solved examples before each question; None takes what the task says."""
    seed: int = 0
    batch_size: int = 0

    def __post_init__(self) -> None:
        problems = Problems("evaluate tasks")
        problems.check(bool(self.tasks), "tasks", "give at least one task, as `hellaswag`")
        problems.check(self.limit >= 0, "limit", "must be 0 (all) or more")
        problems.check(self.few_shot is None or self.few_shot >= 0, "few_shot", "must be 0 or more")
        problems.check(self.batch_size >= 0, "batch_size", "must be 0 (automatic) or more")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """How well a model does one task, by one measure."""

    task: str
    metric: str
    value: float
    examples: int
    """Examples that were asked, at least 1."""
    standard_error: float | None = None
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedTasks:
    """How well a model does tasks."""

    scores: tuple[TaskScore, ...]
    served: Served | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Draw the tokens of a text anew that a model finds too easy (ToEdit, Zhu et al. 2025)."""

    model: ArtifactRef
    corpus: ArtifactRef
    threshold: float = 0.99
    """Tokens with a higher probability are drawn anew; 1 changes nothing."""
    top_k: int = 8
    """Tokens kept before drawing."""
    generation: int = 0
    seed: int = 0
    batch_size: int = 0

    def __post_init__(self) -> None:
        problems = Problems("edit")
        problems.check(0 < self.threshold <= 1, "threshold", f"must be in (0, 1], got {self.threshold}")
        problems.check(self.top_k >= 1, "top_k", "must be at least 1")
        problems.check(self.generation >= 0, "generation", "must be 0 or more")
        problems.check(self.batch_size >= 0, "batch_size", "must be 0 (automatic) or more")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Classify:
    """Ask a text classifier which documents machines wrote."""

    classifier: str
    """A directory on the generator's machine, or a Hugging Face id of a sequence classification model."""
    corpus: ArtifactRef
    label: str = ""
    """Label that means that a machine wrote it; empty takes the last one whose name does not speak of people."""
    max_tokens: int = 256
    """Tokens of each document that are read at most, without its real prefix."""
    batch_size: int = 0

    def __post_init__(self) -> None:
        problems = Problems("classify")
        problems.check(bool(self.classifier.strip()), "classifier", "name a folder or a Hugging Face id")
        problems.check(self.max_tokens >= 2, "max_tokens", "must be at least 2")
        problems.check(self.batch_size >= 0, "batch_size", "must be 0 (automatic) or more")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """What a classifier says."""

    detections: ArtifactRef
    """Stored probabilities, one per document; an artifact of the kind `predictions`."""
    documents: int
