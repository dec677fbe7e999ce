"""Where each family of metrics stands against the margin: what the forms of an answer say of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ouroscope.records.analysis import Comparison, Family, FamilyEffect, Policy, VerdictReason
from services.analyzer.comparison import BY_TEXT
from services.analyzer.verdicts import is_beyond


class Standing(Enum):
    """How a family stands against the margin."""

    WORSE = "WORSE"
    WITHIN = "WITHIN"
    UNCLEAR = "UNCLEAR"
    SILENT = "SILENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyStanding:
    """One family, with its effect where it has one, in words."""

    family: Family
    standing: Standing
    words: str
    effect: FamilyEffect | None = None

    @property
    def name(self) -> str:
        """Return the name that people and programs see."""
        return self.family.value.lower()


def standings(comparison: Comparison) -> tuple[FamilyStanding, ...]:
    """Return every family, also those without a vote."""
    heard = {effect.family: effect for effect in comparison.families}
    return tuple(_standing(family, heard.get(family), comparison) for family in Family)


def _standing(family: Family, effect: FamilyEffect | None, comparison: Comparison) -> FamilyStanding:
    if effect is None:
        return FamilyStanding(family=family, standing=Standing.SILENT, words=_silence(family, comparison))
    standing = _against_margin(effect, comparison.policy)
    words = {
        Standing.WORSE: f"worse by more than the margin of {comparison.policy.margin:g}",
        Standing.WITHIN: f"within the margin of {comparison.policy.margin:g}",
        Standing.UNCLEAR: f"too uncertain to tell from the margin of {comparison.policy.margin:g}",
    }
    return FamilyStanding(family=family, standing=standing, words=words[standing], effect=effect)


def _against_margin(effect: FamilyEffect, policy: Policy) -> Standing:
    if is_beyond(effect, policy):
        return Standing.WORSE
    return Standing.WITHIN if effect.upper < policy.margin else Standing.UNCLEAR


def _silence(family: Family, comparison: Comparison) -> str:
    if family in BY_TEXT and comparison.reason is VerdictReason.BASELINE_DOES_NOT_COVER_DOMAIN:
        return "no vote: the baseline does not cover the domain of the candidate"
    return "no vote: not measured on both sides, or of too little to have an interval"
