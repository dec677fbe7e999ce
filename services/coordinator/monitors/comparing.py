"""Asks the analyzer for verdicts: on the whole of a generation and on its domains, with the history of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ouroscope.errors import CorruptArtifact, NotFound
from ouroscope.records.analysis import Compare, Comparison, Policy
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.monitors import DomainComparison, Monitor
from services.coordinator.answers import published
from services.coordinator.monitors.history import Recorded
from services.coordinator.monitors.judging import (
    WHOLE,
    Past,
    Said,
    baseline_missing,
    domain_missing,
    history_for,
    overall,
)
from services.coordinator.monitors.relay import Findings
from services.coordinator.workers import Analyzer

EXPLAIN = 5
"""Most concepts, repeated texts and prompts of each kind in an explanation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A generation to be judged."""

    report: ArtifactRef
    number: int | None = None
    """None where it is not part of a sequence."""
    domains: Mapping[str, ArtifactRef] = field(default_factory=dict)
    """Reports on the domains that it has."""
    by_domain: bool = True
    """Whether domains could be told apart in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is said of a generation, and what each part was compared with."""

    said: Said
    comparison: Comparison
    domains: tuple[DomainComparison, ...] = ()
    baselines: Mapping[str, ArtifactRef] = field(default_factory=dict)
    """Of the parts that were compared: a domain that the generation lacks, or whose baseline is gone, was not."""

    @property
    def gravest(self) -> Comparison:
        """Return the comparison that decides, with the sentence on all of them."""
        by_domain = {one.domain: one.comparison for one in self.domains}
        return replace(by_domain.get(self.said.domain, self.comparison), sentence=self.said.sentence)


def candidate_of(found: Findings, number: int | None) -> Candidate:
    """Return what was measured as something to be judged; `number` is None where it is not part of a sequence."""
    return Candidate(
        report=published(found.whole),
        number=number,
        domains={domain: published(report) for domain, report in found.domains.items()},
        by_domain=found.by_domain,
    )


class Comparing:
    """Compares generations with baselines."""

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer

    async def judge(self, monitor: Monitor, candidate: Candidate, pasts: Sequence[Past]) -> Judgement:
        """Return what is said of a candidate beside the baselines of a monitor, which has one, and after its past."""
        baselines: dict[str, ArtifactRef] = {}
        compared: dict[str, Comparison] = {}
        for domain, baseline, report in _parts(monitor, candidate):
            if report is None:
                compared[domain] = domain_missing(domain, monitor.policy)
                continue
            request = _request(baseline, report, monitor.policy, candidate.number, domain, pasts)
            answer = await self._unless_baseline_is_gone(request)
            compared[domain] = answer or baseline_missing(baseline, monitor.policy)
            if answer is not None:
                baselines[domain] = baseline
        judgement = _judgement(compared, candidate.domains, baselines)
        return judgement if candidate.by_domain or not monitor.domain_baselines else _without_domains(judgement)

    async def judge_again(self, old: Recorded, pasts: Sequence[Past]) -> Judgement:
        """Return what is said of a recorded generation after another past, beside what it was compared with then.

        Where that, or its report, is gone, what was said of it stays.
        """
        generation = old.generation
        assert generation.comparison is not None
        reports = {one.domain: one.report for one in generation.domains if one.report is not None}
        said = {WHOLE: generation.comparison, **{one.domain: one.comparison for one in generation.domains}}
        compared = {}
        for domain, comparison in said.items():
            baseline, report = old.baselines.get(domain), reports.get(domain, generation.report)
            if baseline is None or report is None:
                compared[domain] = comparison
                continue
            request = _request(baseline, report, comparison.policy, generation.number, domain, pasts)
            compared[domain] = await self._unless_gone(request) or comparison
        return _judgement(compared, reports, old.baselines)

    async def _unless_baseline_is_gone(self, request: Compare) -> Comparison | None:
        try:
            return await self._analyzer.compare(request)
        except (NotFound, CorruptArtifact) as error:
            if error.metadata.get("side") == "baseline":
                return None
            raise

    async def _unless_gone(self, request: Compare) -> Comparison | None:
        try:
            return await self._analyzer.compare(request)
        except (NotFound, CorruptArtifact):
            return None


def _parts(monitor: Monitor, candidate: Candidate) -> Iterator[tuple[str, ArtifactRef, ArtifactRef | None]]:
    """Yield what is compared with what: the whole, then each domain of the monitor."""
    assert monitor.baseline is not None
    yield WHOLE, monitor.baseline, candidate.report
    if candidate.by_domain:
        for one in monitor.domain_baselines:
            yield one.domain, one.baseline, candidate.domains.get(one.domain)


def _without_domains(judgement: Judgement) -> Judgement:
    told = f"{judgement.said.sentence} Domains were not compared: a finished report does not tell them apart."
    return replace(judgement, said=replace(judgement.said, sentence=told))


def _request(
    baseline: ArtifactRef, report: ArtifactRef, policy: Policy, number: int | None, domain: str, pasts: Sequence[Past]
) -> Compare:
    history = () if number is None else history_for(pasts, number, domain, baseline)
    return Compare(
        baseline=baseline, candidate=report, policy=policy, history=history, generation=number, explain=EXPLAIN
    )


def _judgement(
    compared: Mapping[str, Comparison], reports: Mapping[str, ArtifactRef], baselines: Mapping[str, ArtifactRef]
) -> Judgement:
    whole = compared[WHOLE]
    domains = tuple(
        DomainComparison(domain=domain, report=reports.get(domain), comparison=comparison)
        for domain, comparison in compared.items()
        if domain != WHOLE
    )
    return Judgement(said=overall(whole, domains), comparison=whole, domains=domains, baselines=baselines)
