"""What is asked of a gate, and its answer with all that the forms of it show. Knows neither files nor services."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from ouroscope.records.analysis import Verdict
from ouroscope.records.monitors import GateDecision
from ouroscope_app.printable import printable

MONITORS = "monitors/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May this candidate be trained on?"""

    baseline: str
    candidate: str
    predictions: str = ""
    """File or artifact with what the candidate's model expects; empty for none."""
    text_field: str = "text"
    policy: str = ""
    """A word or a file, see `policies`."""
    allow_insufficient_data: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A decision beside its question."""

    question: Question
    decision: GateDecision
    basis: tuple[str, ...] = ()
    """What it rests on, where the sides were measured here."""

    @property
    def title(self) -> str:
        """Return the decision in one word."""
        return "PASSED" if self.decision.passed else "REFUSED"


@dataclass(frozen=True, slots=True)
class NextStep:
    """What to do about a decision, and the command that shows more; either may be empty."""

    said: str = ""
    command: str = ""


def next_step(answered: Answered) -> NextStep:
    """Return what to do now; nothing about what is sound."""
    verdict = answered.decision.comparison.verdict
    if verdict is Verdict.INSUFFICIENT_DATA:
        return NextStep(_about_unjudged(answered.decision.passed))
    if verdict is Verdict.STABLE:
        return NextStep()
    said = "Only COLLAPSE is refused here; look at it before the next generation:"
    if not answered.decision.passed:
        said = "Do not train on it as it is: add human text or generate again, then ask again. To see more:"
    return NextStep(said, _look(answered.question))


def _about_unjudged(passed: bool) -> str:
    if passed:
        return "Nobody knows whether it is sound; mend what the sentence names before the next generation."
    return "Mend what the sentence names and ask again; --allow-insufficient-data lets such a candidate through."


def _look(question: Question) -> str:
    """Return the command that shows more."""
    if question.baseline.startswith(MONITORS):
        return f"ouroscope monitors show {_argument(question.baseline.split('/')[1])}"
    return f"ouroscope compare {_argument(question.baseline)} {_argument(question.candidate)}"


def _argument(name: str) -> str:
    return shlex.quote(printable(name))
