"""Everything that costs time in a loop: write, score, measure, train; the very functions of the services, in process.

Without transport and without queues. What was asked before is answered from memory, so loops of one seed share what is
equal among them: generation 0, the windows, and what is trained on the same text by the same recipe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

from benchmarks.detection.arms import DOCUMENT_TOKENS, ROOT, Arm, prompts_of
from ouroscope.corpora.docstrings import Part, gather
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.predictions import read_next_tokens, read_scored_texts
from ouroscope.records.analysis import Family
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.generation import Generate, Generated, Score, WindowSpec
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTune
from ouroscope.seeds import derive_seed
from ouroscope.store import ArtifactStore
from ouroscope.tokens import Tokens
from services.analyzer.analysis import analyze
from services.analyzer.catalogue import METRICS
from services.analyzer.side import Side, side_of
from services.analyzer.tools import Tools
from services.generator.backends import Backends
from services.generator.in_process.backend import HfBackend
from services.generator.jobs import Jobs
from services.generator.windows import Pool, windows
from services.trainer.environment import prepare
from services.trainer.job import Job

MODEL = "ouro-tiny"
PROMPTS = 200
"""Held-out prompts after which the next token is asked for; the same in all generations and loops."""
PROMPT_TOKENS = 32
HELD_OUT = 100
"""Held-out documents for the perplexity."""
OF_RIVALS = ("distinct_1", "type_token_ratio", "self_bleu_4", "heldout_perplexity")
"""What the peers of the verdict look at and no family votes by."""
MEASURED = tuple(one.id for one in METRICS if one.headline and one.family is not Family.EMBEDDING) + OF_RIVALS

T = TypeVar("T")


class Undisturbed:
    """A task that nobody watches or stops."""

    def check(self) -> None:
        """Go on."""

    def report(self, progress: Progress, /) -> None:
        """Tell nobody."""


TASK = Undisturbed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The human text of the benchmark; nothing of one list is in the other."""

    prompts: Sequence[Document]
    held_out: Sequence[Document]
    """Long enough to be asked about, in the order of their names, which are hashes."""

    @classmethod
    def embedded(cls) -> Texts:
        """Gather the embedded corpus; takes half a minute."""
        corpus = gather()
        long_enough = (one for one in corpus.part(Part.HELD_OUT) if len(one.text.split()) > PROMPT_TOKENS)
        return cls(prompts=corpus.part(Part.PROMPT), held_out=sorted(long_enough, key=lambda one: one.id))


class Workshop:
    """The tools for the loops of one seed, and what they made so far."""

    def __init__(self, store: ArtifactStore, texts: Texts, tools: Tools, seed: int) -> None:
        """Bring the model and the held-out text into the store."""
        self.store = store
        self.seconds: dict[str, float] = {}
        """Time of each stage since it was last emptied."""
        self._texts = texts
        self._tools = tools
        self._seed = seed
        self._environment = prepare(threads=1, device="cpu")
        backend = HfBackend(store, device="cpu", threads=1)
        self._generator = Jobs(store=store, backends=Backends(backend), max_model_bytes=2**30)
        self._known: dict[Hashable, object] = {}
        self._windows: dict[int, list[Document]] = {}
        self.base = self._generator.import_model(MODEL)[1](TASK).model
        self._questions = write_corpus(store, texts.held_out[:PROMPTS])
        self._heldout = write_corpus(store, texts.held_out[:HELD_OUT])

    def prompts(self, arm: Arm, generation: int) -> ArtifactRef:
        """Return the windows whose beginnings a generation continues."""
        return self._once("prompts", (arm, generation), lambda: self._written(arm, generation))

    def write(self, request: Generate) -> Generated:
        """Let a model continue every prompt."""
        return self._once("write", request, lambda: self._generator.generate(request)[1](TASK))

    def fine_tune(self, request: FineTune) -> ArtifactRef:
        """Return the next model."""
        return self._once("train", request, lambda: self._trained(request))

    def examine(self, model: ArtifactRef, corpus: ArtifactRef) -> Side:
        """Return what a monitor would be given of a generation, measured."""
        asked = Score(
            model=model,
            prompts=self._questions,
            prompt_length=PROMPT_TOKENS,
            heldout=self._heldout,
            max_tokens=DOCUMENT_TOKENS,
            batch_size=16,
        )
        scored = self._once("score", asked, lambda: self._generator.score(asked)[1](TASK)).predictions
        return self._once("measure", (corpus, scored), lambda: self._measured(corpus, scored))

    def documents(self, corpus: ArtifactRef) -> list[Document]:
        """Return the documents of a corpus."""
        return list(read_corpus(self.store, corpus))

    def _written(self, arm: Arm, generation: int) -> ArtifactRef:
        prefix = DOCUMENT_TOKENS - arm.new_tokens
        if prefix not in self._windows:
            self._windows[prefix] = self._cut(prefix)
        return write_corpus(self.store, prompts_of(arm, self._windows[prefix], generation))

    def _cut(self, prefix: int) -> list[Document]:
        """Return all windows of the pool in the order of this seed."""
        order = derive_seed(ROOT, "windows", self._seed)
        wanted = WindowSpec(document_tokens=DOCUMENT_TOKENS, prefix_tokens=prefix, count=1, seed=order)
        tokens = Tokens.open(self.store.directory(self.base))
        found = windows(self._texts.prompts, tokens, wanted, Pool(), lambda _: None)
        # Without their source, each window is its own cluster. Of the sources, some have many windows: 20 groups of
        # whole sources would need half as much text again until the least of them is full.
        return [replace(document, group=None) for _, document in sorted(found, key=lambda one: one[0])]

    def _measured(self, corpus: ArtifactRef, predictions: ArtifactRef) -> Side:
        next_tokens, texts = read_next_tokens(self.store, predictions), read_scored_texts(self.store, predictions)
        documents = read_corpus(self.store, corpus)
        found = analyze(documents, next_tokens, texts, view=View.CONTINUATION, metrics=MEASURED, tools=self._tools)
        return side_of(*found)

    def _trained(self, request: FineTune) -> ArtifactRef:
        return Job(store=self.store, request=request, environment=self._environment, control=TASK).run().model

    def _once(self, stage: str, question: Hashable, work: Callable[[], T]) -> T:
        """Answer from memory, or do the work and note its time."""
        key = (stage, question)
        if key not in self._known:
            began = time.perf_counter()
            self._known[key] = work()
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began
        return cast(T, self._known[key])
