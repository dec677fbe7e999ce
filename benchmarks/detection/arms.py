"""The loops of the benchmark and every decision inside them, as pure functions. Knows no model and no file.

Symbols as in the coordinator's loop: M_j = model of generation j, D_j = what it wrote, H_j = the human windows whose
beginnings were its prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from types import MappingProxyType

from benchmarks.detection.record import Facts
from ouroscope.records.analysis import Verdict
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.generation import SamplingSpec
from ouroscope.records.training import Recipe
from ouroscope.seeds import derive_seed
from services.coordinator.protocols import PROTOCOLS, Pools, Terms

GENERATIONS = 10
"""Generations after the model that a loop begins with, which is generation 0."""
DOCUMENT_TOKENS = 64
PERPLEXITY_RISE = 0.10
"""Share by which held-out perplexity exceeds that of generation 0 when the rule that is the peer speaks."""
ROOT = 6
"""Root of all seeds of the benchmark."""


Rule = Callable[[Pools], tuple[ArtifactRef, ...]]
"""What a generation is trained on: whole corpora."""


def protocol(name: str) -> Rule:
    """Return the corpora of one of the coordinator's protocols that takes them whole."""

    def rule(pools: Pools) -> tuple[ArtifactRef, ...]:
        portions = PROTOCOLS[name].choose(pools, Terms(documents=1))
        return tuple(corpus for portion in portions for corpus in portion.pool)

    return rule


NEWEST = protocol("replace")


def replace_half(pools: Pools) -> tuple[ArtifactRef, ...]:
    """T_j = H_j + D_j: of the newest text, and half of the documents are people's.

    Where half of each written document is a real prefix, a quarter of all tokens is synthetic.
    """
    return (pools.human[-1], pools.synthetic[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to go on training."""

    name: str
    written: float
    """Share of each document of D_j that the model writes, in (0, 1); before it stands a real prefix."""
    documents: int
    """Documents of a generation."""
    protocol: Rule = NEWEST
    temperature: float = 1.0
    """From generation 1 on; the baseline, generation 0, is always written at 1."""
    prompts: int = 0
    """Different prompts from generation 1 on, the same ones in all and of one library; 0 = one for each document."""
    control: bool = False
    """Whether nothing should be found."""

    @property
    def new_tokens(self) -> int:
        """Return how many tokens of each document the model writes."""
        return round(self.written * DOCUMENT_TOKENS)


ARMS = (
    Arm(name="replace-50", written=0.5, documents=540),
    Arm(name="replace-75", written=0.75, documents=400),
    Arm(name="human-fresh", written=0.5, documents=540, protocol=protocol("human"), control=True),
    Arm(name="low-temperature", written=0.5, documents=540, temperature=0.7),
    Arm(name="narrow-prompts", written=0.5, documents=540, prompts=40),
    Arm(name="accumulate-fresh", written=0.5, documents=540, protocol=protocol("accumulate-fresh"), control=True),
    Arm(name="replace-25", written=0.5, documents=540, protocol=replace_half),
)
"""In the order in which they are run."""

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        # The quickstart's with half its steps of half as many blocks, for the sake of time: a generation learns from .6
        # of its text (.8 in replace-75, which has less), where the quickstart goes over all of it 1.6 times.
        "default": Recipe(steps=40, batch_size=4, block_tokens=128, learning_rate=3e-4),
        # Found with seeds from 100 on, then raised from 1e-4 after one loop of seed 0, whose records were thrown away:
        # docs/detection.md tells the figures without seed 0 as well.
        "slow": Recipe(steps=8, batch_size=8, block_tokens=128, learning_rate=1.15e-4),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One sequence of generations."""

    recipe: str
    arm: Arm
    seed: int
    """Number of the repetition: it decides which windows are read when, the noise and the order of training."""

    def sampling(self, generation: int) -> SamplingSpec:
        """Return how a generation writes: exactly as many tokens as are wanted."""
        return SamplingSpec(
            temperature=self.arm.temperature if generation else 1.0,
            min_new_tokens=self.arm.new_tokens,
            max_new_tokens=self.arm.new_tokens,
            seed=derive_seed(ROOT, "sampling", self.seed, generation),
        )

    def training(self, generation: int) -> Recipe:
        """Return how a generation is fine-tuned into the next one."""
        return replace(RECIPES[self.recipe], seed=derive_seed(ROOT, "training", self.seed, generation))


def loops(recipes: Sequence[str], arms: Sequence[str], seeds: Sequence[int]) -> list[Loop]:
    """Return all loops, seed by seed, so that what there is of them is balanced at any time."""
    wanted = [arm for arm in ARMS if arm.name in arms]
    return [Loop(recipe=recipe, arm=arm, seed=seed) for seed, recipe, arm in product(seeds, recipes, wanted)]


def prompts_of(arm: Arm, windows: Sequence[Document], generation: int) -> list[Document]:
    """Return the human windows whose beginnings a generation continues.

    New ones in each generation, in the order of `windows` and from its beginning again when they are used up; or the
    same few of one library, each several times under names of its own, since equal names would mean equal noise.
    """
    if arm.prompts and generation:
        few, again = _of_one_library(windows, arm.prompts), arm.prompts
        return [replace(few[i % again], id=f"{few[i % again].id}@{i // again}") for i in range(arm.documents)]
    first = generation * arm.documents
    return [windows[(first + i) % len(windows)] for i in range(arm.documents)]


def _of_one_library(windows: Sequence[Document], count: int) -> list[Document]:
    """Return windows of the first library that has enough: the order of the windows, so the seed, chooses it."""
    sizes = Counter(window.domain for window in windows)
    library = next(window.domain for window in windows if sizes[window.domain] >= count)
    return [window for window in windows if window.domain == library][:count]


def alarm(facts: Sequence[Facts]) -> int | None:
    """Return the first generation that was called COLLAPSE, None if there is none."""
    return next((one.generation for one in facts if one.verdict is Verdict.COLLAPSE), None)


def perplexity_alarm(facts: Sequence[Facts], rise: float = PERPLEXITY_RISE) -> int | None:
    """Return the first generation whose held-out perplexity exceeds that of generation 0 by `rise`, None without."""
    bound = facts[0].heldout_perplexity * (1 + rise) if facts else 0.0
    return next((one.generation for one in facts if one.heldout_perplexity > bound), None)


def has_ended(arm: Arm, facts: Sequence[Facts]) -> bool:
    """Return whether a loop needs no further generation.

    Either all are there, or both the verdict and the perplexity have spoken: what is asked of a loop can then not
    change any more. Controls always go to the end.
    """
    if len(facts) > GENERATIONS:
        return True
    return not arm.control and None not in (alarm(facts), perplexity_alarm(facts))
