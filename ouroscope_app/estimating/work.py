"""What the runs of an experiment do, piece by piece, and which pieces are equal and so are done once. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from ouroscope.records.runs import ArmSpec, RunSpec
from ouroscope.records.selection import SelectionRule
from services.coordinator import plan
from services.coordinator.mixture import example_set

HELDOUT_TOKENS = 100
"""Tokens of a held-out document, where `evaluation.max_tokens` allows more: the mean of the embedded corpus."""
EMBEDDED_DOCUMENTS = 9_200
"""Documents of the embedded corpus that prompts are cut of, about."""
HUB_DOCUMENTS = 20_000
"""Documents that are read of another source where nothing else is said, at most."""


class Kind(Enum):
    """What is done, and in which service it waits for its turn."""

    CUT = "prompts"
    WRITE = "generate"
    SCORE = "score"
    ANALYSE = "analyse"
    TRAIN = "fine_tune"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One request to a service."""

    kind: Kind
    key: Hashable
    """Equal for equal work, in whatever arm or run."""
    amount: int
    """Tokens; steps of training; for windows the documents that they are cut of."""
    documents: int = 0
    """Documents written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """All that an experiment does."""

    pieces: tuple[Piece, ...]
    """Without repetitions."""
    lanes: tuple[tuple[Piece, ...], ...]
    """Per run, arm and seed: what one model and its text wait for, one after the other, repetitions left out."""
    runs: tuple[tuple[int, ...], ...]
    """Positions in `lanes` that belong to each run; runs go one after the other."""

    def total(self, kind: Kind) -> int:
        """Return the amount of one kind of work."""
        return sum(piece.amount for piece in self.pieces if piece.kind is kind)

    def count(self, kind: Kind) -> int:
        """Return the number of requests of one kind."""
        return sum(piece.kind is kind for piece in self.pieces)

    @property
    def documents(self) -> int:
        """Return the documents that are written."""
        return sum(piece.documents for piece in self.pieces)


def work_of(specs: Sequence[RunSpec]) -> Work:
    """Return the work of several runs that share a store."""
    seen: dict[Hashable, Piece] = {}
    lanes: list[tuple[Piece, ...]] = []
    runs = []
    for spec in specs:
        first = len(lanes)
        for seed in range(spec.seeds):
            for arm in spec.arms:
                own = [piece for piece in _lane(spec, arm, seed) if piece.key not in seen]
                seen.update((piece.key, piece) for piece in own)
                lanes.append(tuple({piece.key: piece for piece in own}.values()))
        runs.append(tuple(range(first, len(lanes))))
    return Work(pieces=tuple(seen.values()), lanes=tuple(lanes), runs=tuple(runs))


def _lane(spec: RunSpec, arm: ArmSpec, seed: int) -> Iterator[Piece]:
    for generation in range(spec.generations + 1):
        yield from _examination(spec, arm, seed, generation)
        if "fine_tune" in plan.stages_of(spec, arm, generation):
            yield from _training(spec, arm, seed, generation)


def _examination(spec: RunSpec, arm: ArmSpec, seed: int, generation: int) -> Iterator[Piece]:
    model, texts = _model_key(spec, arm, seed, generation), (spec.dataset, _domains(spec, arm))
    prompts = plan.prompt_window(spec, arm, seed, generation)
    documents, rest = prompts.count, spec.document_tokens - spec.prefix_tokens(arm)
    wanted = spec.evaluation
    for window in {prompts, plan.human_window(spec, arm, seed, generation)}:
        yield Piece(kind=Kind.CUT, key=("cut", texts, window), amount=_pool(spec, arm))
    written = ("write", model, texts, prompts, spec.sampling)
    yield Piece(kind=Kind.WRITE, key=written, amount=documents * rest, documents=documents)
    if wanted.samples:
        yield Piece(
            kind=Kind.WRITE, key=("samples", model, texts, seed, rest, spec.sampling), amount=wanted.samples * rest
        )
    scored = min(wanted.scored_documents, documents) * min(spec.document_tokens, wanted.max_tokens)
    yield Piece(kind=Kind.SCORE, key=("score", written, wanted), amount=scored + _questions(spec, texts[1]))
    if generation:
        yield Piece(kind=Kind.SCORE, key=("base", written, wanted), amount=scored)
    yield Piece(kind=Kind.ANALYSE, key=("analyse", written, wanted), amount=documents * rest)
    yield Piece(kind=Kind.ANALYSE, key=("human", texts, prompts), amount=documents * rest)
    if "across" in plan.stages_of(spec, arm, generation):
        yield from _across(spec, arm, model, rest)


def _across(spec: RunSpec, arm: ArmSpec, model: Hashable, rest: int) -> Iterator[Piece]:
    """Every domain by itself: what a model expects, and what it writes if that is asked for."""
    wanted = spec.evaluation
    for domain in spec.dataset.domains:
        key = ("across", model, domain.name, wanted)
        yield Piece(kind=Kind.SCORE, key=(*key, "score"), amount=_questions(spec, (domain.name,)))
        if wanted.across_documents:
            new = wanted.across_documents * rest
            yield Piece(kind=Kind.WRITE, key=(*key, "write"), amount=new, documents=wanted.across_documents)
            yield Piece(kind=Kind.ANALYSE, key=(*key, "analyse"), amount=new)


def _training(spec: RunSpec, arm: ArmSpec, seed: int, generation: int) -> Iterator[Piece]:
    model = _model_key(spec, arm, seed, generation)
    if arm.selection is not None and arm.selection.rule is SelectionRule.SURPLEXITY:
        pool = {corpus for portion in example_set(spec, arm, generation + 1) for corpus in portion.pool}
        tokens = min(spec.document_tokens, 256) * spec.documents
        for corpus in pool:
            yield Piece(kind=Kind.SCORE, key=("pool", model, str(corpus)), amount=tokens)
    after = _model_key(spec, arm, seed, generation + 1)
    yield Piece(kind=Kind.TRAIN, key=("train", after), amount=spec.recipe.steps)


def _questions(spec: RunSpec, domains: Sequence[str]) -> int:
    """Return the tokens of held-out text that a model is asked about; as many documents of every domain."""
    wanted = spec.evaluation
    heldout = wanted.heldout_documents * min(wanted.max_tokens, HELDOUT_TOKENS)
    return (heldout + wanted.prompts * wanted.prompt_length) * max(1, len(domains))


def _pool(spec: RunSpec, arm: ArmSpec) -> int:
    """Return the documents that windows of an arm are cut of."""
    sources = spec.dataset.sources()
    read = [domain for domain in sources if not arm.domains or domain.name in arm.domains]
    whole = [EMBEDDED_DOCUMENTS // len(sources) if one.source == "embedded" else HUB_DOCUMENTS for one in read]
    return sum(min(one.documents or most, most) for one, most in zip(read, whole, strict=True))


def _domains(spec: RunSpec, arm: ArmSpec) -> tuple[str, ...]:
    """Return the domains whose text an arm reads; none where the run has one source."""
    return tuple(sorted(arm.domains or (domain.name for domain in spec.dataset.domains)))


def _model_key(spec: RunSpec, arm: ArmSpec, seed: int, generation: int) -> Hashable:
    """Return what decides which model this is: everything before it. Names, controls and evaluations do not."""
    if generation == 0:
        return ("base", spec.model)
    same = dataclasses.replace(arm, name="same", control=None)
    core = (spec.model, spec.dataset, spec.seed, spec.documents, spec.document_tokens, spec.prompt_selection)
    how = (spec.start, spec.sampling, spec.recipe, spec.backend)
    return ("model", core, how, same, seed, generation)
