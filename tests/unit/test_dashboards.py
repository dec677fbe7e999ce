"""The dashboards that ship: generated, without drift, and every query asks for what is exported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.exported import check_syntax, exported, labels_in, names_in

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
PAGES = sorted(GRAFANA.glob("dashboards/*.json"))
RULES = sorted(ROOT.glob("deploy/prometheus/rules/*.yml"))
GRID = 24
OF_PROMETHEUS = {"ALERTS": {"alertname", "alertstate"}, "scrape_samples_scraped": {"job", "instance"}}
"""Series that Prometheus makes itself."""


def load(page: Path) -> Any:
    return json.loads(page.read_text())


def recorded() -> set[str]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


def queries(page: Path) -> Iterator[str]:
    """Every expression of a dashboard, those of its variables too, with `$variables` as Prometheus sees them."""
    shown = load(page)
    yield from (target["expr"] for panel in shown["panels"] for target in panel.get("targets", ()))
    for variable in shown["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
            assert match
            yield f"count by ({match.group(2)}) ({match.group(1)})"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_metric_label_and_recorded_series_of_a_query_is_there(page: Path) -> None:
    for expression in queries(page):
        bare = re.sub(r'"[^"]*"', '""', expression)
        assert set(names_in(expression)) <= set(exported()), expression
        assert set(re.findall(r"\b\w+:[\w:]+", bare)) <= recorded(), expression
        for name, label in labels_in(expression):
            known = OF_PROMETHEUS.get(name) or exported().get(name)
            assert ":" in name or (known and label in known), expression


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_query_groups_or_a_legend_tells_by_is_a_label_of_what_it_asks_for(page: Path) -> None:
    labels = set.union(*map(set, exported().values()))
    for panel in load(page)["panels"]:
        for target in panel.get("targets", ()):
            grouped = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            asked = {label.strip() for group in grouped for label in group.split(",")}
            told = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert asked | told <= labels
            assert not asked or told <= asked or target["expr"].startswith("topk"), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_promtool_reads_every_query(page: Path, program: Callable[[str], str], tmp_path: Path) -> None:
    check_syntax([re.sub(r"\$\w+", "x", one) for one in queries(page)], program("promtool"), tmp_path)


def test_the_committed_dashboards_are_what_the_generator_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, GRAFANA / "generate.py", tmp_path], check=True)
    assert [path.name for path in PAGES] == sorted(path.name for path in tmp_path.iterdir())
    drifted = [page.name for page in PAGES if page.read_text() != (tmp_path / page.name).read_text()]
    assert drifted == [], "run `python deploy/grafana/generate.py`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_panels_have_titles_and_places_of_their_own(page: Path) -> None:
    shown = load(page)
    taken: set[tuple[int, int]] = set()
    for panel in shown["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert panel["title"]
        assert place["x"] + place["w"] <= GRID
        assert not cells & taken, f"{panel['title']} covers another panel"
        taken |= cells
    assert len({panel["id"] for panel in shown["panels"]}) == len(shown["panels"])


def test_links_lead_to_dashboards_and_variables_that_exist() -> None:
    pages = {page["uid"]: page for page in map(load, PAGES)}
    assert len(pages) == len(PAGES) == 4
    text = "".join(page.read_text() for page in PAGES)
    links = re.findall(r"/d/([\w-]+)\?var-(\w+)=", text)
    assert links
    for uid, variable in links:
        assert variable in {one["name"] for one in pages[uid]["templating"]["list"]}
    for page in pages.values():
        known = {one["name"] for one in page["templating"]["list"]}
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(page["panels"]))) - {"__value", "__field"}
        assert used <= known
        assert {panel["repeat"] for panel in page["panels"] if "repeat" in panel} <= known
