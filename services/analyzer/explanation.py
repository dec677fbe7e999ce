"""What moved most between two sides, for people to look at: concepts, repeated texts, prompts. Changes no verdict."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ouroscope.errors import Undefined
from ouroscope.records.analysis import ConceptMove, Explanation, PromptMove
from services.analyzer.comparable import check_tools
from services.analyzer.fingerprint import NetworkPrint
from services.analyzer.keys import word_keys
from services.analyzer.side import Side


def explanation_of(baseline: Side, candidate: Side, budget: int, most: int) -> Explanation:
    """Return what moved most, at most `most` of each kind; nothing is said of what a side did not keep.

    Args:
        baseline: hashes and numbers are enough.
        candidate: the words come from its drawing and its repeated texts, the ids of prompts from its answers.
        budget: the rung at which networks are compared; 0 where there is none in common.
        most: how many of each kind.
    """
    concepts = sorted(_concepts(baseline, candidate, budget), key=lambda one: (-_growth(one), one.label))
    prompts = sorted(_prompts(baseline, candidate), key=lambda one: (-_fall(one), one.prompt_id))
    return Explanation(
        concepts=tuple(one for one in concepts if _growth(one) > 0)[:most],
        repeated_texts=candidate.report.repeated_texts[:most],
        prompts=tuple(one for one in prompts if _fall(one) > 0)[:most],
    )


def _growth(move: ConceptMove) -> float:
    return move.candidate_share - (move.baseline_share or 0.0)


def _fall(move: PromptMove) -> float:
    return move.baseline_entropy - move.candidate_entropy


def _concepts(baseline: Side, candidate: Side, budget: int) -> Iterator[ConceptMove]:
    """Yield the shares of the concepts that the candidate has drawn, in the networks of the common rung."""
    drawing = candidate.report.drawing
    if not (drawing and budget):
        return
    sides = [side.fingerprints[budget].networks.get(drawing.construction) for side in (baseline, candidate)]
    if not all(_has_strengths(side) for side in sides) or not _same_tools(drawing.construction, baseline, candidate):
        return
    labels = [concept.label for concept in drawing.concepts]
    ours, theirs = (_shares(side, labels) for side in sides if side)
    for label, before, now in zip(labels, ours, theirs, strict=True):
        yield ConceptMove(label=label, baseline_share=before, candidate_share=now)


def _has_strengths(network: NetworkPrint | None) -> bool:
    # Reports of earlier versions kept no strengths, and a network without relations has none.
    return network is not None and network.strength_n is not None and bool(network.strength_n.sum())


def _same_tools(construction: str, baseline: Side, candidate: Side) -> bool:
    try:
        check_tools(f"{construction}_nodes", baseline.report, candidate.report)
    except Undefined:
        return False
    return True


def _shares(network: NetworkPrint, labels: list[str]) -> list[float]:
    """Return the part that each concept has of the strength of a network; 0 where it is no node."""
    assert network.strength_n is not None
    keys = word_keys(labels)
    places = np.minimum(np.searchsorted(network.nodes_n, keys), len(network.nodes_n) - 1)
    strengths = np.where(network.nodes_n[places] == keys, network.strength_n[places], 0)
    total = int(network.strength_n.sum(dtype=np.int64))
    return [strength / total for strength in strengths.tolist()]


def _prompts(baseline: Side, candidate: Side) -> Iterator[PromptMove]:
    before = {answer.key: answer for answer in baseline.answers}
    for now in candidate.answers:
        if now.prompt_id and now.key in before:
            yield PromptMove(
                prompt_id=now.prompt_id,
                baseline_entropy=before[now.key].entropy,
                candidate_entropy=now.entropy,
                baseline_top1=before[now.key].top1,
                candidate_top1=now.top1,
            )
