"""The rules that ship: promtool accepts them, every alert is tried both ways, every name is really exported."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup

from ouroscope_app.main import app
from tests.exported import check_syntax, exported, labels_in, names_in

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = sorted(PROMETHEUS.glob("rules/*.yml"))
TESTS = sorted(PROMETHEUS.glob("tests/*.yaml"))
SEVERITIES = {"critical", "warning", "info"}
CHAPTERS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"]: rule for rule in rules() if "record" in rule}


def test_promtool_accepts_the_configuration_and_the_rules(program: Callable[[str], str]) -> None:
    for command in (["config", PROMETHEUS / "prometheus.yml"], ["rules", *RULES]):
        done = subprocess.run([program("promtool"), "check", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(path: Path, program: Callable[[str], str]) -> None:
    command = [program("promtool"), "test", "rules", path.name]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_and_not_to_fire() -> None:
    tried = [
        (one["alertname"], bool(one["exp_alerts"]))
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for one in test.get("alert_rule_test", ())
    ]
    assert set(tried) == {(name, fires) for name in ALERTS for fires in (True, False)}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_grave_it_is_what_it_means_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert re.fullmatch(r"Ouroscope[A-Z][A-Za-z]+", name)
    assert alert["labels"]["severity"] in SEVERITIES
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"docs/runbooks/{name}.md"


PAGES = sorted(path for path in (ROOT / "docs" / "runbooks").glob("*.md") if path.stem != "README")
WITHOUT_ALERT = {"RayHeadLost"}


@pytest.mark.parametrize("name", [*ALERTS, *WITHOUT_ALERT])
def test_every_alert_has_a_runbook_with_the_same_four_chapters(name: str) -> None:
    text = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == CHAPTERS


def test_there_is_no_other_runbook_and_the_index_lists_all() -> None:
    assert {path.stem for path in PAGES} == {*ALERTS, *WITHOUT_ALERT}
    index = (ROOT / "docs" / "runbooks" / "README.md").read_text()
    rows = dict(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+)", index, re.MULTILINE))
    assert rows.keys() == {*ALERTS, *WITHOUT_ALERT}
    assert {name: rows[name] for name in ALERTS} == {
        name: alert["labels"]["severity"] for name, alert in ALERTS.items()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_runbook_asks_prometheus_for_what_is_there(page: Path, program: Callable[[str], str], tmp_path: Path) -> None:
    asked = re.findall(r"^promtool query instant \S+ '(.+)'$", page.read_text(), re.MULTILINE)
    check_syntax(asked, program("promtool"), tmp_path)
    for expression in asked:
        check_names(expression)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_command_line_understands_every_command_of_a_runbook(page: Path) -> None:
    for line in re.findall(r"(?:^|`)(ouroscope [^`\n]+)", page.read_text(), re.MULTILINE):
        command, words = typer.main.get_command(app), shlex.split(line)[1:]
        while isinstance(command, TyperGroup):
            command = command.commands[words.pop(0)]
        command.make_context(line, words)


def check_names(expression: str) -> None:
    """Fail for a metric, a label or a recorded series that is not there."""
    assert set(names_in(expression)) <= set(exported())
    for name, label in labels_in(expression):
        assert name in RECORDED or label in exported()[name], f"{name} has no label {label}"
    assert set(re.findall(r"\b\w+:[\w:]+", re.sub(r'"[^"]*"', "", expression))) <= set(RECORDED)


@pytest.mark.parametrize("rule", [*rules()], ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_and_label_of_a_rule_is_exported(rule: dict[str, Any]) -> None:
    check_names(rule["expr"])


def test_the_names_of_metrics_are_found_in_an_expression() -> None:
    expression = 'sum by (run) (ouroscope_generation{run=~"up|x", arm!="y"}) > a:ouroscope_generation:sum or up == 0'
    assert list(names_in(expression)) == ["ouroscope_generation", "up"]
    assert list(labels_in(expression)) == [("ouroscope_generation", "run"), ("ouroscope_generation", "arm")]


def test_the_configuration_scrapes_every_service_at_its_default_port_under_the_name_that_rules_know() -> None:
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    said = re.search(r"Ports of `/metrics`: ([^.]+)\.", (ROOT / "docs" / "settings.md").read_text())
    assert said is not None
    ports = dict(part.split(" ") for part in said.group(1).split(", "))
    assert {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs} == {
        f"ouroscope-{service}": [f"127.0.0.1:{port}"] for service, port in ports.items()
    }
    asked = " ".join(rule["expr"] for rule in ALERTS.values())
    for job in jobs:
        assert job["job_name"].removeprefix("ouroscope-") in asked
