"""Monitors of pipelines that others run, the generations they report, and the gate before a training."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from ouroscope.records.analysis import Comparison, Policy, Verdict, VerdictReason
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.checks import Problems
from ouroscope.records.documents import Document
from ouroscope.records.predictions import NextToken, ScoredText

LONGEST_DESCRIPTION = 256
MOST_DOMAINS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainBaseline:
    """What documents of one domain are compared with."""

    domain: str
    baseline: ArtifactRef
    """Report or frozen baseline of that domain alone."""

    def __post_init__(self) -> None:
        problems = Problems("baseline of a domain")
        problems.check(bool(self.domain), "domain", "must not be empty")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainComparison:
    """How the documents of one domain compare."""

    domain: str
    report: ArtifactRef | None = None
    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorGeneration:
    """One generation that a pipeline reported."""

    name: str
    """`monitors/{monitor}/generations/{n}`."""
    number: int
    report: ArtifactRef | None = None
    comparison: Comparison | None = None
    """With the verdict on the sequence so far; None for the generation that is the baseline."""
    synthetic_share: float | None = None
    """Of its tokens, in [0, 1]; None where unknown."""
    create_time: datetime | None = None
    """By the clock of the coordinator: no other clock is ever read."""
    domains: tuple[DomainComparison, ...] = ()
    verdict: Verdict | None = None
    """The gravest of the whole and of the domains; None for the baseline."""
    reason: VerdictReason | None = None
    sentence: str = ""
    description: str = ""
    """What the pipeline says of it, for example the version of its model."""
    judge_time: datetime | None = None
    """When its verdict was last given: later than `create_time` where a late generation changed the sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """A retraining pipeline under watch."""

    name: str = ""
    """`monitors/{monitor}`."""
    description: str = ""
    baseline: ArtifactRef | None = None
    """Report or frozen baseline, at creation also a corpus; None until the first generation has become it."""
    policy: Policy = field(default_factory=Policy)
    paused: bool = False
    create_time: datetime | None = None
    update_time: datetime | None = None
    etag: str = ""
    """Changes with every update."""
    domain_baselines: tuple[DomainBaseline, ...] = ()
    generations: int = 0
    newest: MonitorGeneration | None = None
    """The one with the largest number."""

    def __post_init__(self) -> None:
        problems = Problems("monitor")
        domains = [one.domain for one in self.domain_baselines]
        short = len(self.description) <= LONGEST_DESCRIPTION
        problems.check(short, "description", f"must have at most {LONGEST_DESCRIPTION} characters")
        problems.check(len(set(domains)) == len(domains), "domain_baselines", "two have the same domain")
        problems.check(len(domains) <= MOST_DOMAINS, "domain_baselines", f"must be at most {MOST_DOMAINS}")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """What a gate lets through."""

    policy: Policy = field(default_factory=Policy)
    refuse_from: Verdict = Verdict.WARNING
    """Least verdict that is refused."""
    allow_insufficient_data: bool = False
    """Whether a candidate that cannot be judged is let through."""

    def __post_init__(self) -> None:
        problems = Problems("gate policy")
        known = self.refuse_from in (Verdict.WARNING, Verdict.COLLAPSE)
        problems.check(known, "refuse_from", "must be WARNING or COLLAPSE")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class GateDecision:
    """What a gate says."""

    passed: bool
    sentence: str
    comparison: Comparison
    report: ArtifactRef | None = None
    """On the candidate."""
    policy: GatePolicy = field(default_factory=GatePolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """A piece of what is measured: documents, what their model expects, or both. Never sent as one message."""

    documents: tuple[Document, ...] = ()
    next_tokens: tuple[NextToken, ...] = ()
    texts: tuple[ScoredText, ...] = ()
