"""Every decision between two stages of the loop, as pure functions of the specification and of what happened so far.

Nothing here calls a service or looks at a clock, so a resumed run decides as the first one did. Arms of one run share
all seeds: same prompts and same noise on both sides make a comparison pair by pair. Which windows of human text are
taken stands in `windows`, what training sets are made of in `mixture`, what is refused in `validation`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from ouroscope.errors import CapabilityMissing, InvalidRequest, NotFound, PreconditionFailed, Unavailable
from ouroscope.records.analysis import Compare, PastEffects
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.checks import Problems
from ouroscope.records.generation import BackendInfo, Capability, PromptUnit, SamplingSpec, changes_for
from ouroscope.records.runs import ArmSpec, RunSpec, Start
from ouroscope.records.training import Method, Recipe
from ouroscope.seeds import derive_seed
from services.coordinator.choices import Choice, is_work
from services.coordinator.mixture import example_set
from services.coordinator.mixture import feeders_of as feeders_of
from services.coordinator.mixture import synthetic_ratio as synthetic_ratio
from services.coordinator.mixture import terms_of as terms_of
from services.coordinator.protocols import Pools, TrainingSet
from services.coordinator.validation import validate as validate
from services.coordinator.windows import across_window as across_window
from services.coordinator.windows import human_window as human_window
from services.coordinator.windows import last_window as last_window
from services.coordinator.windows import prompt_window as prompt_window
from services.coordinator.windows import sample_window as sample_window

STAGES = ("prompts", "fresh", "generate", "samples", "score", "analyse", "compare", "across", "choose", "fine_tune")
"""Stages of one generation in their order; some are not always wanted, see `stages_of`."""

SETUP_STAGES = ("dataset", "model", "baseline")
"""Stages of a run before its arms begin."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One sequence of generations: an arm of a run under one seed."""

    run: str
    """Id of the run, without `runs/`."""
    arm: str
    seed: int
    """Number of the repetition, 0 or more; not the seed of a generator."""

    @property
    def workflow_id(self) -> str:
        """Return the durable name of the lane."""
        return f"{self.run}/{self.arm}/{self.seed}"

    def generation_name(self, number: int) -> str:
        """Return the resource name of one of its generations."""
        return f"runs/{self.run}/arms/{self.arm}/seeds/{self.seed}/generations/{number}"


def run_of(workflow_id: str) -> str:
    """Return the id of the run that a workflow belongs to, be it its own or that of a lane."""
    return workflow_id.split("/")[0]


@dataclass(frozen=True, slots=True)
class Turn:
    """What later decisions need to know of a generation that was examined."""

    model: ArtifactRef
    report: ArtifactRef
    effects: PastEffects | None = None
    """Of its comparison; None where it was not compared."""


def lanes_of(run: str, spec: RunSpec) -> tuple[Lane, ...]:
    """Return all lanes of a run: by seed, then in the order of the arms, so that pairs to compare stand together."""
    return tuple(Lane(run, arm.name, seed) for seed in range(spec.seeds) for arm in spec.arms)


def arm_named(spec: RunSpec, name: str) -> ArmSpec:
    """Return the arm of that name, which the specification is known to have."""
    return next(arm for arm in spec.arms if arm.name == name)


def check_backend(spec: RunSpec, found: Sequence[BackendInfo]) -> None:
    """Check, before anything is computed, that the backend of a run can write, score and take the next generation.

    Raises:
        NotFound: the generator has none of that name.
        PreconditionFailed: it cannot serve what this run will train.
        CapabilityMissing: it cannot write or score.
        InvalidRequest: it cannot honour all that is asked of it.
        Unavailable: it cannot be asked now.
    """
    chosen = next((backend for backend in found if backend.name == spec.backend), None)
    if chosen is None:
        names = ", ".join(backend.name for backend in found)
        raise NotFound(f"the generator has no backend {spec.backend[:80]!r}; it has {names}", backend=spec.backend[:80])
    _check_weights(spec, chosen)
    if chosen.problem and not chosen.capabilities:
        raise Unavailable(f"backend {chosen.name!r} does not answer: {chosen.problem}", backend=chosen.name)
    for need in (Capability.GENERATE, Capability.SCORE):
        if need not in chosen.capabilities:
            able = ", ".join(repr(other.name) for other in found if need in other.capabilities) or "none"
            why = f": {chosen.problem}" if chosen.problem else ""
            raise CapabilityMissing(
                f"a run needs a backend that can {need.value.lower()} and {chosen.name!r} cannot{why}; those that can: "
                f"{able}",
                backend=chosen.name,
                capability=need.value,
            )
    _check_needs(spec, chosen)


def _check_weights(spec: RunSpec, backend: BackendInfo) -> None:
    if backend.weights == "fixed":
        raise PreconditionFailed(
            f"backend {backend.name!r} serves one model only (weights: fixed), and a run makes a new one in each "
            "generation; declare it with weights: adapters or reload"
        )
    keeps_adapters = spec.recipe.method is Method.LORA and spec.recipe.lora.keep_adapter
    if backend.weights == "adapters" and not keeps_adapters:
        raise PreconditionFailed(
            f"backend {backend.name!r} takes adapters only (weights: adapters); set recipe.method: LORA and "
            "recipe.lora.keep_adapter: true, or declare it with weights: reload"
        )


def _check_needs(spec: RunSpec, backend: BackendInfo) -> None:
    """Tell all at once, and before anything is computed, what the backend would refuse in one request after another.

    Raises:
        InvalidRequest: it does not honour all that is asked of it.
    """
    needs = {need for arm in spec.arms for need in sampling(spec, arm, seed=0, generation=0).needs}
    if spec.evaluation.prompt_unit is PromptUnit.TOKENS:
        needs.add(Capability.EXACT_TOKENS)
    problems = Problems(f"run specification, with the backend {backend.name!r},")
    for change in changes_for(needs, backend.capabilities):
        place = change.field if change.field.startswith("sampling.") else f"evaluation.{change.field}"
        problems.check(False, place, change.description)
    problems.raise_any()


def heldout_of(spec: RunSpec, heldout: ArtifactRef) -> ArtifactRef | None:
    """Return the text on which training is evaluated, or None if the recipe asks for no evaluation."""
    return heldout if spec.recipe.heldout_steps else None


def reason_to_stop(spec: RunSpec, history: Sequence[Turn]) -> str | None:
    """Return why an arm has ended, or None to go on.

    Generation 0 is the base model, so there is one generation more than rounds of fine-tuning.
    """
    if len(history) > spec.generations:
        return f"all {spec.generations} generations are done"
    return None


def is_last(spec: RunSpec, generation: int) -> bool:
    """Return whether nobody will be trained on what this generation wrote."""
    return generation >= spec.generations


def stages_of(spec: RunSpec, arm: ArmSpec, generation: int) -> tuple[str, ...]:
    """Return the stages of one generation in their order."""
    portions = () if is_last(spec, generation) else example_set(spec, arm, generation + 1)
    wanted = {
        "fresh": human_window(spec, arm, 0, generation) != prompt_window(spec, arm, 0, generation),
        "samples": spec.evaluation.samples > 0,
        "across": across_wanted(spec, generation),
        "choose": bool(portions) and is_work(arm, portions),
        "fine_tune": bool(portions),
    }
    return tuple(stage for stage in STAGES if wanted.get(stage, True))


def generations_total(spec: RunSpec) -> int:
    """Return how many generations all arms and seeds have together, base models included."""
    return len(spec.arms) * spec.seeds * (spec.generations + 1)


def sampling(spec: RunSpec, arm: ArmSpec, seed: int, generation: int) -> SamplingSpec:
    """Return how a generation writes: as many new tokens as the real continuation has, exactly or at most."""
    return _sampling(spec, arm, derive_seed(spec.seed, "sampling", seed, generation, *_own_noise(spec, arm)))


def sample_sampling(spec: RunSpec, arm: ArmSpec, seed: int) -> SamplingSpec:
    """Return how the samples for the reader are written: same noise in every generation, only the model differs."""
    return _sampling(spec, arm, derive_seed(spec.seed, "sample sampling", seed))


def _sampling(spec: RunSpec, arm: ArmSpec, seed: int) -> SamplingSpec:
    new_tokens = spec.document_tokens - spec.prefix_tokens(arm)
    # A server that knows no least length cannot be told more than that a document may end early.
    least = new_tokens if spec.sampling.min_new_tokens else 0
    return dataclasses.replace(spec.sampling, min_new_tokens=least, max_new_tokens=new_tokens, seed=seed)


def _own_noise(spec: RunSpec, arm: ArmSpec) -> tuple[str, ...]:
    """Return what sets the noise of arms that share a pool apart: with equal noise all would write the same text."""
    shared = arm.feeds_on or any(arm.name in other.feeds_on for other in spec.arms)
    return (arm.name,) if shared else ()


def recipe(spec: RunSpec, seed: int, generation: int) -> Recipe:
    """Return how a generation is fine-tuned into the next one."""
    return dataclasses.replace(spec.recipe, seed=derive_seed(spec.seed, "training", seed, generation))


def start_of(spec: RunSpec, base: ArtifactRef, model: ArtifactRef) -> ArtifactRef:
    """Return the weights that are fine-tuned into the next generation."""
    return base if spec.start is Start.BASE else model


def own_baseline(history: Sequence[Turn]) -> ArtifactRef | None:
    """Return what an arm without a control is compared with: its own generation 0, or None while it is that."""
    return history[0].report if history else None


def comparison_wanted(
    spec: RunSpec, baseline: ArtifactRef | None, candidate: ArtifactRef, history: Sequence[Turn]
) -> Compare | None:
    """Return the question to ask, or None: a report beside itself says nothing (generation 0 of arms with one base)."""
    if baseline is None or baseline == candidate:
        return None
    past = tuple(turn.effects for turn in history if turn.effects is not None)
    return Compare(baseline=baseline, candidate=candidate, policy=spec.policy, history=past)


def human_gap_wanted(spec: RunSpec, human: ArtifactRef, candidate: ArtifactRef) -> Compare:
    """Return the second view: the text of a generation beside the real continuation of the same prompts."""
    return Compare(baseline=human, candidate=candidate, policy=spec.policy)


def across_wanted(spec: RunSpec, generation: int) -> bool:
    """Return whether a generation is examined on every domain by itself."""
    asked = spec.evaluation.across_generations
    return len(spec.dataset.domains) > 1 and (not asked or generation in asked)


def across_sampling(spec: RunSpec, arm: ArmSpec, seed: int) -> SamplingSpec:
    """Return how a generation continues held-out text of all domains: same noise always, only the model differs."""
    return _sampling(spec, arm, derive_seed(spec.seed, "across sampling", seed))


def choice(
    spec: RunSpec,
    arm: ArmSpec,
    seed: int,
    generation: int,
    model: ArtifactRef,
    portions: TrainingSet,
    pools: Pools,
) -> Choice:
    """Return what is to be chosen for the next model."""
    written = tuple((corpus, pools.prompts[j]) for j in range(len(pools.synthetic)) for corpus in pools.written(j))
    return Choice(
        model=model,
        generation=generation,
        portions=portions,
        documents=spec.documents,
        selection=arm.selection,
        edit=arm.edit,
        written=written,
        backend=spec.backend,
        # A document is scored to its end, whatever the examination looks at.
        max_tokens=max(spec.evaluation.max_tokens, spec.document_tokens),
        seed=derive_seed(spec.seed, "choice", seed, generation, *_own_noise(spec, arm)),
    )


def parse_lane(name: str) -> tuple[str, str | None, int | None, int | None]:
    """Read `runs/{run}[/arms/{arm}[/seeds/{seed}[/generations/{n}]]]`; parts that are not there are None.

    Raises:
        InvalidRequest: it is no such name.

    >>> parse_lane("runs/quick/arms/human")
    ('quick', 'human', None, None)
    """
    parts = name.split("/")
    keys, values = parts[0::2], parts[1::2]
    wanted = ["runs", "arms", "seeds", "generations"]
    if keys != wanted[: len(keys)] or len(keys) != len(values) or not all(values):
        raise InvalidRequest(f"{name[:200]!r} is not a name; write runs/RUN[/arms/ARM[/seeds/SEED[/generations/N]]]")
    padded: list[str | None] = [*values, None, None, None]
    return values[0], padded[1], _number(name, padded[2]), _number(name, padded[3])


def _number(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest(f"{name[:200]!r} is not a name: {text[:20]!r} must be a number, 0 or more")
    return int(text)
