"""A made-up monitor for looking at its page: a pipeline that drifts and collapses, with domains and hostile texts."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from ouroscope.records.analysis import (
    Comparison,
    ConceptMove,
    Explanation,
    Family,
    FamilyEffect,
    MetricEffect,
    PromptMove,
    RepeatedText,
    Verdict,
    VerdictReason,
)
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.monitors import DomainBaseline, DomainComparison, Monitor, MonitorGeneration

HOSTILE = "</td><script>document.title='owned'</script><img src=x onerror=alert(1)> & \"quoted\" 'text'"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
METRICS = {
    Family.TEXT: ("types", "mattr", "token_entropy", "distinct_3"),
    Family.NETWORK: ("cooccurrence_nodes", "cooccurrence_edges", "cooccurrence_hub_share"),
}


def ref(number: int, kind: ArtifactKind = ArtifactKind.REPORT) -> ArtifactRef:
    """Return a reference that nothing stands behind."""
    return ArtifactRef(kind, f"{random.Random(number).getrandbits(256):064x}")


def example_monitor(generations: int = 8, *, domains: tuple[str, ...] = ("news", "code")) -> Monitor:
    """Return the monitor of `example_generations`."""
    recorded = example_generations(generations, domains=domains)
    return Monitor(
        name="monitors/nightly",
        description=f"retraining of the assistant {HOSTILE}",
        baseline=ref(0),
        domain_baselines=tuple(DomainBaseline(domain=name, baseline=ref(1)) for name in domains),
        create_time=NOON,
        update_time=NOON,
        etag="1",
        generations=len(recorded),
        newest=recorded[-1] if recorded else None,
    )


def example_generations(
    count: int = 8, *, domains: tuple[str, ...] = ("news", "code"), monitor: str = "monitors/nightly"
) -> list[MonitorGeneration]:
    """Return generations of which each is a little worse than the one before."""
    return [_generation(number, domains, monitor) for number in range(count)]


def _generation(number: int, domains: tuple[str, ...], monitor: str) -> MonitorGeneration:
    whole = example_comparison(number, 0.9 * number)
    return MonitorGeneration(
        name=f"{monitor}/generations/{number}",
        number=number,
        report=ref(100 + number),
        comparison=whole,
        synthetic_share=0.75,
        create_time=NOON + timedelta(days=number),
        domains=tuple(
            DomainComparison(domain=name, comparison=example_comparison(number, number * (0.3 + place)))
            for place, name in enumerate(domains)
        ),
        verdict=whole.verdict,
        reason=whole.reason,
        sentence=whole.sentence,
        description=f"model v{number}",
        judge_time=NOON + timedelta(days=number),
    )


def example_comparison(number: int, drift: float) -> Comparison:
    """Return a comparison whose effects are about `drift`."""
    rng = random.Random(f"{number}/{drift}")
    verdict = Verdict.COLLAPSE if drift > 4 else Verdict.WARNING if drift > 1 else Verdict.STABLE
    families = tuple(
        FamilyEffect(
            family=family, effect=(e := drift * (1 - 0.3 * place) + rng.gauss(0, 0.1)), lower=e - 0.5, upper=e + 0.5,
            p_value=0.01, metrics=METRICS[family],
        )
        for place, family in enumerate(METRICS)
    )  # fmt: skip
    metrics = tuple(
        MetricEffect(id=id, baseline=1.0, candidate=1 - 0.05 * e, effect=e, lower=e - 0.7, upper=e + 0.7)
        for ids in METRICS.values()
        for id in ids
        for e in [drift + rng.gauss(0, 0.4)]
    )
    return Comparison(
        verdict=verdict,
        reason=VerdictReason.BEYOND_MARGIN,
        sentence=f"{verdict.value.capitalize()}: the diversity of the text is {drift:.2f} human spreads worse.",
        budget=20_000,
        families=families,
        metrics=metrics,
        explanation=Explanation(
            concepts=(
                ConceptMove(label="error", baseline_share=0.011, candidate_share=0.093),
                ConceptMove(label=HOSTILE, candidate_share=0.02),
            ),
            repeated_texts=(
                RepeatedText(text="the quick answer is that it depends on", documents=41, clusters=39),
                RepeatedText(text=HOSTILE, documents=4, clusters=3),
            ),
            prompts=(
                PromptMove(
                    prompt_id="p7", baseline_entropy=3.1, candidate_entropy=1.2, baseline_top1=0.2, candidate_top1=0.81
                ),
            ),
        ),
    )
