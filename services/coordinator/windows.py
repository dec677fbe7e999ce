"""Which slices of human text a generation is prompted with and may train on. Pure functions of the specification.

All arms of a run count slices alike, so arms with one protocol after another see the same prompts in the same
generation. A slice is as long as the protocol that writes most needs it, and there is one for each part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache

from ouroscope.records.generation import WindowSpec
from ouroscope.records.runs import ArmSpec, PromptSelection, RunSpec
from ouroscope.seeds import derive_seed
from services.coordinator.protocols import PROTOCOLS


def prompt_window(spec: RunSpec, arm: ArmSpec, seed: int, generation: int) -> WindowSpec:
    """Return which human windows are the prompts of a generation: a slice of its own, or always the first."""
    fixed = spec.prompt_selection is PromptSelection.FIXED
    count = documents_written(spec, arm, generation)
    return _slice(spec, arm, seed, _start(spec, arm, 0 if fixed else generation), count)


def human_window(spec: RunSpec, arm: ArmSpec, seed: int, generation: int) -> WindowSpec:
    """Return which human windows may be trained on after a generation: fresh ones, whatever the prompts are."""
    return _slice(spec, arm, seed, _start(spec, arm, generation), documents_written(spec, arm, generation))


def last_window(spec: RunSpec, arms: Sequence[ArmSpec] = ()) -> WindowSpec:
    """Return the furthest slice that arms (by default all) will ever ask for: a pool that holds it holds all."""
    return max(
        (human_window(spec, arm, 0, spec.generations) for arm in arms or spec.arms),
        key=lambda window: window.offset + window.count,
    )


def sample_window(spec: RunSpec, arm: ArmSpec) -> WindowSpec:
    """Return which held-out windows every generation continues for the reader; the same in all arms and seeds."""
    first = _slice(spec, arm, 0, 0, spec.evaluation.samples)
    return dataclasses.replace(first, seed=derive_seed(spec.seed, "samples"))


def across_window(spec: RunSpec, arm: ArmSpec) -> WindowSpec:
    """Return which held-out windows of each domain every generation continues; the same in all arms and seeds."""
    first = _slice(spec, arm, 0, 0, spec.evaluation.across_documents)
    return dataclasses.replace(first, seed=derive_seed(spec.seed, "across"))


def documents_written(spec: RunSpec, arm: ArmSpec, generation: int) -> int:
    """Return how many documents the model of a generation writes."""
    return spec.documents * _longest(frozenset({arm.protocol}), generation)


def _start(spec: RunSpec, arm: ArmSpec, generation: int) -> int:
    """Return how many windows come before the slice of a generation: all parts of the generations before it first."""
    protocols = frozenset(one.protocol for one in spec.arms)
    parts = max(one.parts for one in spec.arms)
    return spec.documents * (parts * _before(protocols, generation) + arm.part * _longest(protocols, generation))


# Asked for every generation of every lane, and answered by the names of the protocols alone.
@lru_cache(maxsize=4096)
def _before(protocols: frozenset[str], generation: int) -> int:
    return sum(_longest(protocols, j) for j in range(generation))


@lru_cache(maxsize=4096)
def _longest(protocols: frozenset[str], generation: int) -> int:
    """Return how many times `documents` any of these protocols writes at most; unknown ones are told of elsewhere."""
    known = (PROTOCOLS[name] for name in protocols if name in PROTOCOLS)
    return max((protocol.written(generation) for protocol in known), default=1)


def _slice(spec: RunSpec, arm: ArmSpec, seed: int, offset: int, count: int) -> WindowSpec:
    return WindowSpec(
        document_tokens=spec.document_tokens,
        prefix_tokens=spec.prefix_tokens(arm),
        count=count,
        offset=offset,
        seed=derive_seed(spec.seed, "windows", seed),
    )
