"""The report page: what it says, that it says it safely, and that its drawings are right."""

from __future__ import annotations

import math
import re
import runpy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.corpora.stored import write_corpus
from ouroscope.layout import force_layout
from ouroscope.records.analysis import Direction, Verdict
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.runs import ArmSpec, ArmVerdict, RunState
from ouroscope.store import ArtifactStore
from services.coordinator.report.differences import Difference, interval, rows
from services.coordinator.report.lines import arm_style, metric_series, reference_series
from services.coordinator.report.loading import Artifacts, load_view
from services.coordinator.report.page import render_report
from services.coordinator.report.svg import Scale, element, spread, ticks
from services.coordinator.report.view import RunView
from tests.html_reader import Reader

EXAMPLE = runpy.run_path(str(Path(__file__).parent.parent / "report_example.py"))


@pytest.fixture(scope="module")
def view() -> RunView:
    return EXAMPLE["example_view"]()


@pytest.fixture(scope="module")
def html(view: RunView) -> str:
    return render_report(view)


@pytest.fixture(scope="module")
def page(html: str) -> Reader:
    return Reader(html)


def test_the_outcome_is_said_first_and_the_gravest_verdict_leads(page):
    assert "“replace” collapsed; “human” and “accumulate” stayed stable." in page.text
    assert page.text.index("Collapse: the openness") < page.text.index("Stable: no family")


def test_the_same_view_gives_the_same_page(view, html):
    assert render_report(view) == html


def test_nothing_is_loaded_from_anywhere_and_nothing_can_run(html, page):
    assert not page.all("script")
    assert not page.all("img")
    assert not [a for _, a in page.elements for key in a if key.startswith("on") or key in {"src", "href"}]
    assert not re.search(r"url\(|@import", html)
    policies = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_hostile_text_is_shown_as_text(page):
    assert EXAMPLE["HOSTILE"] in page.text


def test_hostile_words_in_every_other_place_are_shown_as_text(view):
    evil = "<script>x</script>"
    point = view.points[0]
    report = point.report
    drawing = replace(
        report.drawing, concepts=tuple(replace(c, label=f"{evil}{n}") for n, c in enumerate(report.drawing.concepts))
    )
    metrics = (replace(report.model_metrics[0], value=None, lower=None, upper=None, undefined_because=evil),)
    changed = replace(point, report=replace(report, drawing=drawing, model_metrics=metrics))
    run = replace(view.run, error=evil, state=RunState.FAILED, verdicts=(replace(view.run.verdicts[0], sentence=evil),))
    hostile = replace(
        view, run=run, points=(changed, *view.points[1:]), specification=evil, versions={evil: evil}, samples=()
    )
    read = Reader(render_report(hostile))
    assert not read.all("script")
    assert read.text.count(evil) >= 5


def test_text_that_no_file_can_hold_does_not_break_the_page(view):
    sample = replace(view.samples[0], continuation="lone \ud800 surrogate, \x00 and \x1b[31m and \x9b")
    read = Reader(render_report(replace(view, samples=(sample,))))
    assert "surrogate" in read.text
    assert not {"\x00", "\x1b", "\ud800"} & set(read.text)


def test_every_drawing_speaks_and_no_name_is_used_twice(page):
    names = Counter(a["id"] for _, a in page.elements if "id" in a)
    assert set(names.values()) == {1}
    drawings = [a for a in page.all("svg") if a.get("aria-hidden") != "true"]
    assert len(drawings) > 30
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert all(name in names for name in drawing["aria-labelledby"].split())


def test_every_headline_metric_has_a_chart(view, page):
    names = {a.get("id") for a in page.all("title")}
    assert {f"metric-{info.id}-t" for info in view.metrics} <= names


def test_prefix_and_continuation_can_be_told_apart(page):
    assert any(a.get("class") == "real" for a in page.all("bdi"))


def test_the_page_tells_how_to_do_it_again(view, page):
    assert "ouroscope run three-arms.yaml" in page.text
    assert view.specification.strip() in page.text
    assert view.points[0].generation.model.digest[:16] in page.text


def test_a_run_without_text_or_network_or_verdict_is_still_a_page(view):
    read = Reader(render_report(replace(view, points=(), samples=(), run=replace(view.run, verdicts=()))))
    assert "Nothing was compared" in read.text
    assert "Nothing was measured yet" in read.text


def test_a_failed_run_says_so_and_why(page):
    read = Reader(render_report(EXAMPLE["unfinished"]()))
    assert "No verdict yet." in read.text
    assert "The run failed; 2 of 12 generations are measured. Reason: the disk is full" in read.text


def test_one_seed_is_not_sold_as_more(page):
    read = Reader(render_report(EXAMPLE["one_seed"]()))
    assert "Differences of one seed" in read.text
    assert "t-interval" not in read.text


def test_what_cannot_be_judged_is_said_in_plain_words(view):
    verdicts = (ArmVerdict(arm="replace", verdict=Verdict.INSUFFICIENT_DATA, sentence="Too uncertain to tell."),)
    read = Reader(render_report(replace(view, run=replace(view.run, verdicts=verdicts))))
    assert "“replace” cannot be judged." in read.text


def test_a_metric_that_was_undefined_leaves_a_gap_and_its_reason(view, page):
    (replaced,) = [series for series in metric_series(view, "surplexity") if series.name == "replace"]
    assert [spot.number for spot in replaced.spots] == [0, 1, 2, 3, 4]
    assert "no text was scored" in page.text


def test_a_line_is_the_mean_of_the_seeds_and_a_band_the_mean_of_their_intervals(view):
    series = metric_series(view, "types")[0]
    values = [next(v for v in p.report.metrics if v.id == "types") for p in view.of("human", 2)]
    assert len(values) == 3
    assert series.spots[2].value == pytest.approx(sum(v.value for v in values) / 3)
    assert series.spots[2].lower == pytest.approx(sum(v.lower for v in values) / 3)
    assert len(series.seeds) == 3


def test_people_are_the_reference_of_texts_and_not_of_models(view):
    assert [series.name for series in reference_series(view, "types")] == ["people"]
    assert reference_series(view, "gini_top100") == []


def test_arms_differ_in_colour_and_in_mark_and_human_arms_come_first(view):
    arms = tuple(ArmSpec(name=f"arm-{n}", protocol="replace" if n != 3 else "human") for n in range(6))
    crowded = replace(view, run=replace(view.run, spec=replace(view.run.spec, arms=arms)), points=())
    styles = [arm_style(crowded, arm.name) for arm in arms]
    assert styles[3][0] == "arm0"
    assert len({style for style, _ in styles}) == 6
    assert len(set(styles)) == 6


def test_differences_are_paired_by_seed_and_have_the_interval_of_student(view):
    row = next(row for row in rows(view) if row.arm == "replace" and row.metric == "heldout_perplexity")
    pairs = []
    for seed in range(3):
        mine, theirs = (
            next(v.value for p in view.of(arm, 3) if p.seed == seed for v in p.report.metrics if v.id == row.metric)
            for arm in ("replace", "human")
        )
        pairs.append(mine - theirs)
    mean = sum(pairs) / 3
    spread_of = math.sqrt(sum((value - mean) ** 2 for value in pairs) / 2)
    cell = next(cell for cell in row.cells if cell.number == 3)
    assert cell.mean == pytest.approx(mean)
    assert cell.lower == pytest.approx(mean - 4.303 * spread_of / math.sqrt(3))
    assert row.worse == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("mean", "lower", "upper", "direction", "mark"),
    [
        (2.0, 1.0, 3.0, Direction.RISING, "worse"),
        (2.0, 1.0, 3.0, Direction.FALLING, "better"),
        (-2.0, -3.0, -1.0, Direction.FALLING, "worse"),
        (2.0, 1.0, 3.0, Direction.NONE, "beyond"),
        (2.0, -1.0, 5.0, Direction.RISING, "open"),
        (0.0, 0.0, 0.0, Direction.RISING, "open"),
        (2.0, None, None, Direction.RISING, "single"),
    ],
)
def test_a_difference_is_marked_by_its_interval_and_the_direction_of_collapse(mean, lower, upper, direction, mark):
    assert Difference(number=1, mean=mean, lower=lower, upper=upper, direction=direction).mark == mark


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40))
def test_an_interval_holds_the_mean(values):
    lower, upper = interval(values)
    assert lower <= math.fsum(values) / len(values) + 1e-6
    assert upper >= math.fsum(values) / len(values) - 1e-6


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), max_size=8))
def test_labels_are_moved_apart_and_keep_their_order(wanted):
    placed = spread(wanted, gap=12, low=0, high=200)
    ordered = sorted(zip(wanted, placed, strict=True))
    assert all(b - a >= 12 - 1e-9 for a, b in zip(sorted(placed), sorted(placed)[1:], strict=False))
    assert [p for _, p in ordered] == sorted(placed)


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_inside_and_equally_far_apart(low, span):
    found = ticks(low, low + span)
    assert len(found) <= 4
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in found)


@settings(deadline=None)
@given(st.floats(-50, 50), st.floats(-50, 50))
def test_a_bent_scale_keeps_the_order(a, b):
    scale = Scale(-50, 50, 0, 100, bend=True)
    assert (scale(a) <= scale(b)) == (a <= b) or math.isclose(a, b, abs_tol=1e-9)


def test_an_element_escapes_text_and_attributes():
    assert str(element("text", "<&", class_='"')) == '<text class="&#34;">&lt;&amp;</text>'


def test_a_layout_is_always_the_same_inside_its_frame_and_puts_no_two_on_one_spot():
    labels = [f"w{n}" for n in range(30)]
    weights = {(labels[a], labels[b]): 1.0 + a for a in range(30) for b in range(a + 1, 30) if (a * b) % 7 == 1}
    places = force_layout(labels, weights)
    assert places == force_layout(labels, weights)
    assert all(abs(axis) <= 1 for place in places.values() for axis in place)
    gaps = [math.dist(places[a], places[b]) for a in labels for b in labels if a < b]
    assert min(gaps) > 0.02


def test_related_concepts_are_nearer_than_unrelated_ones():
    labels = [f"{group}{n}" for group in "ab" for n in range(6)]
    weights = {(x, y): 1.0 for x in labels for y in labels if x < y and x[0] == y[0]}
    places = force_layout(labels, weights)
    near = [math.dist(places[x], places[y]) for x, y in weights]
    far = [math.dist(places[x], places[y]) for x in labels for y in labels if x[0] == "a" and y[0] == "b"]
    assert sum(near) / len(near) < 0.7 * sum(far) / len(far)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_that_is_read_has_enough_contrast(html, scheme):
    # WCAG 2: 4.5 for text; the values at the ends of lines are text in the colours of the arms.
    root = re.findall(r":root \{(.*?)\}", html, re.DOTALL)[0 if scheme == "light" else 1]
    colours = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6})", root))
    read = [name for name in colours if name not in {"paper", "panel", "rule", "grid"}]
    assert len(read) >= 13
    for name in read:
        for ground in ("paper", "panel"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_view_is_read_from_the_store_and_what_is_gone_is_left_out(view, tmp_path):
    from services.analyzer import reports
    from services.analyzer.catalogue import CATALOGUE
    from services.analyzer.side import side_of

    store = ArtifactStore(tmp_path)
    report = reports.publish(store, side_of(view.points[0].report, ())).report
    text = "The iterator yields nothing."
    samples = write_corpus(store, [Document(id="d", text=text, prefix_length=12, prompt_id="p")])
    gone = ArtifactRef(ArtifactKind.REPORT, "0" * 64)
    kept = replace(view.points[0].generation, report=report.report, human_report=gone, samples=samples)
    lost = replace(view.points[1].generation, report=gone, samples=ArtifactRef(ArtifactKind.CORPUS, "0" * 64))
    loaded = load_view(Artifacts(store), view.run, [lost, kept], CATALOGUE)
    assert [point.number for point in loaded.points] == [0, 1]
    assert loaded.points[0].report.metrics == report.metrics
    assert loaded.points[0].human is None
    assert loaded.points[1].report is None
    assert [(s.prefix, s.continuation) for s in loaded.samples] == [("The iterator", " yields nothing.")]
    assert any(info.id == "gini_top100" and info.headline for info in loaded.metrics)
    assert "torch" in loaded.versions
    assert "Only 1 of 54 generations are measured" in Reader(render_report(loaded)).text
