"""A comparison in the terminal: what it rests on is said, and what says nothing is not shown."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from ouroscope.records.analysis import (
    Comparison,
    ConceptMove,
    Explanation,
    Family,
    FamilyEffect,
    MetricEffect,
    MetricValue,
    PromptMove,
    RepeatedText,
    Report,
    Rung,
    Verdict,
    VerdictReason,
)
from ouroscope_app import comparison_table
from ouroscope_app.commands.compare import as_json
from ouroscope_app.comparison_table import basis, notes_on, show_comparison
from services.analyzer.side import Side

BUDGET = 20_000


def side(*ids: str) -> Side:
    values = tuple(MetricValue(id=id, value=1.0) for id in ids)
    rung = Rung(budget=BUDGET, clusters=800, metrics=values)
    return Side(report=Report(analyzer_version="2", documents=800, tokens=24_679, clusters=1, rungs=(rung,)))


def effect(id: str, lower: float, upper: float) -> MetricEffect:
    return MetricEffect(id=id, baseline=0.5, candidate=0.5, effect=(lower + upper) / 2, lower=lower, upper=upper)


TEXT = FamilyEffect(family=Family.TEXT, effect=0.1, lower=-0.2, upper=0.4, p_value=1.0, metrics=("types",))
WEB = FamilyEffect(
    family=Family.NETWORK, effect=0.2, lower=-2.9, upper=3.0, p_value=0.03, metrics=("cooccurrence_nodes",)
)
STABLE = Comparison(
    verdict=Verdict.STABLE,
    reason=VerdictReason.WITHIN_MARGIN,
    sentence="Stable: nothing moved.",
    budget=BUDGET,
    novel_token_share=0.081,
    expected_novel_token_share=0.094,
    families=(TEXT, WEB),
    metrics=(
        effect("cooccurrence_nodes", -2.9, 3.3),
        effect("mtld", -7.68, -1.62),
        effect("types", -0.2, 0.4),
        effect("hdd", -0.1, 0.3),
    ),
)
ALIKE = [side("types", "cooccurrence_nodes")] * 2


def shown(monkeypatch: pytest.MonkeyPatch, comparison: Comparison, width: int = 80, explained: int = 0) -> list[str]:
    stream = io.StringIO()
    for name in ("answers", "notes"):
        monkeypatch.setattr(comparison_table, name, Console(file=stream, width=width, highlight=False))
    show_comparison(comparison, ALIKE, explained)
    return stream.getvalue().splitlines()


def starting(lines: list[str], beginning: str) -> int:
    return next(place for place, line in enumerate(lines) if line.strip().startswith(beginning))


def test_metrics_stand_below_their_family_and_voters_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, STABLE)
    text, network = starting(lines, "text  "), starting(lines, "network  ")
    assert (
        text < starting(lines, "* types") < starting(lines, "hdd") < network < starting(lines, "* cooccurrence_nodes")
    )


def test_an_interval_that_says_nothing_is_not_shown_unless_it_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, STABLE, width=300)
    assert not any("-7.68" in line for line in lines)
    assert any("-2.90 to +3.30" in line for line in lines)
    assert any(line.startswith("not shown") and "mtld" in line for line in lines)


def test_the_basis_names_both_sides_the_budget_and_what_is_new() -> None:
    said = " ".join(basis(STABLE, ALIKE))
    for name in ("baseline", "candidate"):
        assert f"{name}: 800 documents, 24,679 words, 1 independent cluster" in said
    assert "20,000 words" in said
    assert "8.1%" in said
    assert "9.4%" in said


def test_a_family_that_rests_on_fewer_metrics_than_a_side_has_says_so() -> None:
    sides = [side("types", "cooccurrence_nodes"), side("types", "cooccurrence_nodes", "syntactic_nodes")]
    said = list(notes_on(STABLE, sides))
    assert "network rests on 1 of 2 headline metrics, without syntactic_nodes: not measured in the baseline" in said
    assert not any(line.startswith("text rests") for line in said)


def test_a_metric_that_both_sides_have_and_that_cannot_be_compared_gives_its_reason() -> None:
    two = [side("types", "cooccurrence_nodes", "syntactic_nodes")] * 2
    parsed = MetricEffect(id="syntactic_nodes", undefined_because="parsed with another pipeline")
    said = list(notes_on(replace(STABLE, metrics=(*STABLE.metrics, parsed)), two))
    assert any(line.endswith("without syntactic_nodes: parsed with another pipeline") for line in said)


def test_a_family_without_a_vote_in_another_domain_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    shifted = replace(STABLE, reason=VerdictReason.BASELINE_DOES_NOT_COVER_DOMAIN, families=())
    lines = shown(monkeypatch, shifted, width=300)
    assert any(line.startswith("text has no vote: the baseline does not cover") for line in lines)
    assert any("no vote" in line for line in lines if line.startswith("network "))


def test_a_human_spread_is_explained_and_p_values_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said = " ".join(shown(monkeypatch, STABLE, width=300))
    assert "1 is the standard deviation" in said
    assert "text 1, network 0.03" in said


def test_the_longest_name_fits_a_terminal_of_80_columns_with_all_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    long = effect("cooccurrence_edge_weight_entropy", -0.37, 0.2)
    lines = shown(monkeypatch, replace(STABLE, metrics=(*STABLE.metrics, long)))
    (row,) = (line for line in lines if "cooccurrence_edge_weight_entropy" in line)
    assert row.rstrip().endswith("0.5")
    assert len(row) <= 80


def test_json_has_the_sides_the_guard_and_who_votes() -> None:
    told = as_json(STABLE, ALIKE[0].report, ALIKE[1].report)
    assert told["candidate"] == {"documents": 800, "tokens": 24_679, "clusters": 1}
    assert told["expected_novel_token_share"] == 0.094
    assert [id for id, one in told["metrics"].items() if one["votes"]] == ["cooccurrence_nodes", "types"]
    assert told["explanation"] is None


EXPLAINED = replace(
    STABLE,
    verdict=Verdict.WARNING,
    explanation=Explanation(
        concepts=(ConceptMove(label="market", baseline_share=0.001, candidate_share=0.14),),
        repeated_texts=tuple(
            RepeatedText(text=f"[red]it rose again {n}[/]\x1b[2J", documents=9, clusters=8) for n in range(4)
        ),
        prompts=(
            PromptMove(
                prompt_id="wiki/7", baseline_entropy=2.0, candidate_entropy=0.5, baseline_top1=0.3, candidate_top1=0.9
            ),
        ),
    ),
)


def test_what_moved_is_shown_as_often_as_asked_and_strangers_write_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "\n".join(shown(monkeypatch, EXPLAINED, width=300, explained=4))
    assert "market  (14 % of its strength, before 0.1 %)" in said
    assert said.count("[red]it rose again") == 4
    assert "\x1b" not in said
    assert "wiki/7  (entropy 0.50 nats, before 2.00; first choice 90%, before 30%)" in said
    once = "\n".join(shown(monkeypatch, EXPLAINED, width=300, explained=1))
    assert once.count("it rose again") == 1


def test_of_what_is_stable_nothing_looks_like_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    calm = replace(EXPLAINED, verdict=Verdict.STABLE)
    assert "market" not in " ".join(shown(monkeypatch, calm, width=300, explained=4))


def test_json_has_the_explanation_whole_and_as_it_is() -> None:
    told = as_json(EXPLAINED, ALIKE[0].report, ALIKE[1].report)["explanation"]
    assert told["concepts"] == [{"label": "market", "baseline_share": 0.001, "candidate_share": 0.14}]
    assert told["repeated_texts"][3] == {"text": "[red]it rose again 3[/]\x1b[2J", "documents": 9, "clusters": 8}
    assert told["prompts"][0]["prompt_id"] == "wiki/7"
