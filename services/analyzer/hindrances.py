"""Why two reports cannot be compared, or not in full, and what to do about it: the reasons behind INSUFFICIENT_DATA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ouroscope.records.analysis import Family, FamilyEffect, Report, VerdictReason
from services.analyzer.effects import Effect
from services.analyzer.jackknife import GROUPS
from services.analyzer.sample import LADDER

FAMILY_WORDS = {
    Family.TEXT: "text",
    Family.NETWORK: "semantic network",
    Family.MODEL: "next-token predictions",
    Family.EMBEDDING: "embeddings",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindrance:
    """Why something that both sides measured cannot vote."""

    reason: VerdictReason
    sentence: str
    """What is lacking and what to do."""


def too_little_text(baseline: Report, candidate: Report, budget: int) -> Iterator[Hindrance]:
    """Yield what is lacking if both sides measured text and have no rung in common (`budget` is 0)."""
    if budget or not (baseline.rungs and candidate.rungs):
        return
    name, side = min((("baseline", baseline), ("candidate", candidate)), key=lambda pair: _reach(pair[1]))
    if side.clusters < GROUPS:
        yield _few_clusters(name, side)
    else:
        yield _few_tokens(name, side)


def silent_families(effects: Sequence[Effect], families: Sequence[FamilyEffect]) -> Iterator[Hindrance]:
    """Yield why a family that both sides measured has no effect of its own."""
    heard = {family.family for family in families}
    for family in Family:
        headlines = [effect for effect in effects if effect.info.family is family and effect.info.headline]
        if headlines and family not in heard:
            yield _silent(family, headlines)


def _reach(report: Report) -> tuple[bool, int]:
    # Few clusters come first: without 20 of them no number of words gives an interval.
    return report.clusters >= GROUPS, max(rung.budget for rung in report.rungs)


def _few_clusters(name: str, report: Report) -> Hindrance:
    return Hindrance(
        reason=VerdictReason.TOO_FEW_CLUSTERS,
        sentence=f"Too few independent texts: the {name} has {report.clusters} and {GROUPS} are needed for an interval "
        "(documents of one source count once); analyse text from more sources or prompts.",
    )


def _few_tokens(name: str, report: Report) -> Hindrance:
    return Hindrance(
        reason=VerdictReason.TOO_FEW_TOKENS,
        sentence=f"Too little text: the {name} has {report.tokens:,} words in {report.clusters:,} independent texts, "
        f"too few for 20 equal groups that hold {LADDER[0]:,} words without one of them; analyse more documents.",
    )


def _silent(family: Family, headlines: Sequence[Effect]) -> Hindrance:
    without_effect = [effect.told for effect in headlines if effect.told.undefined_because]
    if without_effect:
        first = without_effect[0]
        return Hindrance(
            reason=VerdictReason.NOTHING_COMPARABLE,
            sentence=f"The {FAMILY_WORDS[family]} cannot be judged ({first.id}: {first.undefined_because}).",
        )
    return Hindrance(
        reason=VerdictReason.TOO_FEW_CLUSTERS,
        sentence=f"The {FAMILY_WORDS[family]} cannot be judged: fewer than {GROUPS} independent sources or prompts "
        "give no interval; measure more of them.",
    )
