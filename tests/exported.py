"""Everything that the services export, by name and labels, told by the collectors themselves with sample data.

What rules and dashboards ask for is looked up here, so that a renamed metric fails a test and not somebody's alert.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ouroscope.telemetry.service_metrics import ServiceMetrics
from services.analyzer.catalogue import METRICS
from services.coordinator.collector import RunCollector
from services.coordinator.metric_book import MetricBook
from services.coordinator.monitors.collector import MonitorCollector
from services.coordinator.rows import Measured
from tests.unit.coordinator.sightings import show_monitor, show_run

SCRAPED = frozenset({"job", "instance"})
"""Labels that Prometheus adds to everything."""
OF_PROMETHEUS = {"up": SCRAPED}
METHOD = ("ouroscope.v1.AnalyzerService", "Analyze")
_NAMES = re.compile(r"\b(?:up|(?:ouroscope|grpc_server|process)_[a-z0-9_]+)\b")


def scrape() -> str:
    """Return a scrape in which every family has a sample."""
    infos = [metric.info() for metric in METRICS]
    values = tuple(Measured(id=info.id, value=1.0, model=info.family.value == "MODEL") for info in infos)
    book, registry = MetricBook(), CollectorRegistry()
    book.know(infos)
    runs, monitors = RunCollector(book), MonitorCollector(book)
    show_run(runs, values)
    show_monitor(monitors, values)
    services = ServiceMetrics(registry)
    services.handled.labels(*METHOD, "OK").inc()
    services.seconds.labels(*METHOD).observe(0.1)
    services.in_flight.labels(*METHOD).inc()
    services.watch_queue(METHOD[0], lambda: 1)
    for collector in (book, runs):
        registry.register(collector)
    return monitors.text() + generate_latest(registry).decode()


@cache
def exported() -> Mapping[str, frozenset[str]]:
    """Return the labels of every sample that is exported, by the name of the sample."""
    labels: dict[str, frozenset[str]] = dict(OF_PROMETHEUS)
    for family in text_string_to_metric_families(scrape()):
        for sample in family.samples:
            labels[sample.name] = labels.get(sample.name, frozenset()) | SCRAPED | set(sample.labels)
    return labels


def names_in(expression: str) -> Iterator[str]:
    """Yield the names of metrics in an expression; strings and the names that rules record are none."""
    without_strings = re.sub(r'"[^"]*"', '""', expression)
    yield from _NAMES.findall(re.sub(r"\b\w+:[\w:]+", "", without_strings))


def labels_in(expression: str) -> Iterator[tuple[str, str]]:
    """Yield the labels that an expression selects by, each with the name of its metric."""
    for name, selector in re.findall(r"\b([a-z][\w:]*)\s*\{([^}]*)\}", expression):
        yield from ((name, label) for label in re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"", selector))


def check_syntax(expressions: Iterable[str], promtool: str, folder: Path) -> None:
    """Let promtool read expressions, as the rules of a file."""
    rules = [{"record": f"a:b:c{number}", "expr": expression} for number, expression in enumerate(expressions)]
    path = folder / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "syntax", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
