"""Generations in MLflow, read back from a real file store."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

# Read when the library is imported: no test may reach anybody.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

from ouroscope.canonical import from_plain  # noqa: E402 (after the check that the extra is installed)
from ouroscope.errors import CapabilityMissing  # noqa: E402
from ouroscope.integrations.mlflow import log_generation, log_report  # noqa: E402
from ouroscope.records.analysis import (  # noqa: E402
    Comparison,
    Family,
    FamilyEffect,
    MetricEffect,
    MetricValue,
    Report,
    Rung,
    Verdict,
    VerdictReason,
)
from ouroscope.records.monitors import DomainComparison, MonitorGeneration  # noqa: E402

COMPARISON = Comparison(
    verdict=Verdict.WARNING,
    reason=VerdictReason.BEYOND_MARGIN,
    sentence="Warning: poorer.",
    budget=10_000,
    families=(FamilyEffect(family=Family.TEXT, effect=2.0, lower=1.5, upper=2.5, p_value=0.001, metrics=("types",)),),
    metrics=(
        MetricEffect(id="types", baseline=100.0, candidate=80.0, effect=2.0, lower=1.5, upper=2.5),
        MetricEffect(id="mattr", undefined_because="too short"),
    ),
)
GENERATION = MonitorGeneration(
    name="monitors/news/generations/3",
    number=3,
    comparison=COMPARISON,
    verdict=Verdict.WARNING,
    reason=VerdictReason.BEYOND_MARGIN,
    sentence="Warning: poorer.",
    synthetic_share=0.5,
)
REPORT = Report(
    analyzer_version="1",
    rungs=(
        Rung(
            budget=10_000,
            clusters=40,
            metrics=(
                MetricValue(id="types", value=80.0, lower=75.0, upper=85.0),
                MetricValue(id="mtld", undefined_because="too short"),
            ),
        ),
    ),
)


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Open a run; what the test calls it with is logged into it and read back."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())

    def log(work: Any, *arguments: Any) -> tuple[Any, Path]:
        with mlflow.start_run() as run:
            work(*arguments)
        found = mlflow.get_run(run.info.run_id)
        return found, Path(found.info.artifact_uri.removeprefix("file://")) / "ouroscope"

    yield log
    mlflow.set_tracking_uri(None)


def test_values_effects_and_bounds_are_metrics_at_the_step_of_the_generation(logged: Any) -> None:
    run, _ = logged(log_generation, GENERATION)
    assert run.data.metrics == {
        "ouroscope/synthetic_share": 0.5,
        "ouroscope/metric/types": 80.0,
        "ouroscope/effect/types": 2.0,
        "ouroscope/effect/types_lower": 1.5,
        "ouroscope/effect/types_upper": 2.5,
        "ouroscope/family_effect/text": 2.0,
        "ouroscope/family_effect/text_lower": 1.5,
        "ouroscope/family_effect/text_upper": 2.5,
    }
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "ouroscope/effect/types")
    assert [(one.step, one.value) for one in history] == [(3, 2.0)]


def test_the_verdict_is_a_tag_and_what_is_undefined_is_named(logged: Any) -> None:
    run, _ = logged(log_generation, GENERATION)
    told = {name: value for name, value in run.data.tags.items() if name.startswith("ouroscope.")}
    assert told == {
        "ouroscope.monitor": "monitors/news",
        "ouroscope.generation": "3",
        "ouroscope.verdict": "WARNING",
        "ouroscope.reason": "BEYOND_MARGIN",
        "ouroscope.undefined": "effect/mattr, metric/mattr",
    }


def test_the_whole_generation_its_sentence_and_its_report_are_artifacts(logged: Any) -> None:
    _, folder = logged(log_generation, GENERATION, REPORT)
    assert (folder / "generation-3.txt").read_text() == "Warning: poorer.\n"
    assert from_plain(MonitorGeneration, json.loads((folder / "generation-3.json").read_text())) == GENERATION
    assert from_plain(Report, json.loads((folder / "report-3.json").read_text())) == REPORT


def test_a_report_brings_its_bounds(logged: Any) -> None:
    run, folder = logged(log_report, REPORT)
    assert run.data.metrics == {
        "ouroscope/metric/types": 80.0,
        "ouroscope/metric/types_lower": 75.0,
        "ouroscope/metric/types_upper": 85.0,
    }
    assert run.data.tags["ouroscope.undefined"] == "metric/mtld"
    assert from_plain(Report, json.loads((folder / "report-0.json").read_text())) == REPORT


def test_a_baseline_has_no_verdict_and_domains_have_numbers_of_their_own(logged: Any) -> None:
    first = MonitorGeneration(name="monitors/news/generations/0", number=0, sentence="It is the baseline.")
    run, _ = logged(log_generation, first)
    assert (run.data.tags["ouroscope.verdict"], run.data.metrics) == ("BASELINE", {})
    domains = (DomainComparison(domain="a/b: c", comparison=COMPARISON),)
    run, _ = logged(log_generation, replace(GENERATION, domains=domains))
    assert run.data.metrics["ouroscope/domain/a_b_ c/effect/types"] == 2.0


def test_without_mlflow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(CapabilityMissing, match="install the extra `mlflow`"):
        log_report(REPORT)
