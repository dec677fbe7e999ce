"""How much work there is for each kind of worker, for whoever scales them. Pure: the stages at work are handed in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ouroscope.records.checks import Problems

STAGES = "stages"
"""Name of what is measured."""

_GENERATOR, _TRAINER, _ANALYZER = "generator", "trainer", "analyzer"
WORKERS = (_GENERATOR, _TRAINER, _ANALYZER)

WORKERS_OF: Mapping[str, tuple[str, ...]] = {
    "backend": (_GENERATOR,),
    "dataset": (),
    "model": (_GENERATOR,),
    "recipe": (_TRAINER,),
    "baseline": (_GENERATOR, _ANALYZER),
    "prompts": (_GENERATOR,),
    "fresh": (_GENERATOR,),
    "generate": (_GENERATOR,),
    "samples": (_GENERATOR,),
    "score": (_GENERATOR,),
    "analyse": (_ANALYZER,),
    "compare": (_ANALYZER,),
    "across": (_GENERATOR, _ANALYZER),
    "choose": (_GENERATOR, _ANALYZER),
    "fine_tune": (_TRAINER,),
}
"""Whom each stage asks. A stage that waits because nobody answers counts as well: somebody has to be started for it."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """What is scaled, and by what."""

    worker: str
    stages_per_replica: float = 1.0
    """Above 0."""


def read_scaled(metadata: Mapping[str, str]) -> Scaled:
    """Read the metadata of a trigger; what is not ours in it, such as the address, is left alone.

    Raises:
        InvalidRequest: it names no worker, or a number that is none.
    """
    problems = Problems("trigger metadata")
    worker, told = metadata.get("worker", ""), metadata.get("stagesPerReplica", "1")
    problems.check(worker in WORKERS, "worker", f"must be one of {', '.join(WORKERS)}")
    share = _number(told)
    problems.check(0 < share < math.inf, "stagesPerReplica", "must be a number above 0")
    problems.raise_any()
    return Scaled(worker, share)


def demand(worker: str, stages: Iterable[str]) -> int:
    """Return how many of the stages at work ask a kind of worker; an unknown stage asks nobody."""
    return sum(worker in WORKERS_OF.get(stage, ()) for stage in stages)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
