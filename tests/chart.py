"""The Helm chart, rendered without a cluster: what tests of its objects share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "chart"
RELEASE, NAMESPACE = "ouro", "lab"
FULL = f"{RELEASE}-ouroscope"
PARTS = ("coordinator", "generator", "trainer", "analyzer")
Object = dict[str, Any]

EVERYTHING: Object = {
    "tls": {"certManager": {"issuerRef": {"name": "house", "kind": "ClusterIssuer"}}},
    "security": {
        "tokens": {"existingSecret": "tokens"},
        "clientToken": {"existingSecret": "run"},
        "settings": {"OIDC_ISSUER": "https://id.example", "CALLS_PER_SECOND": 2.5},
    },
    "store": {"kind": "s3", "s3": {"url": "s3://bucket/prefix", "endpoint": "https://minio.example"}},
    "coordinator": {
        "page": False,
        "spread": True,
        "settings": {"PATIENCE": 60, "RECOVER": False},
        "priorityClassName": "high",
    },
    "generator": {
        "gpus": 2,
        # Large enough to be written with an exponent by mistake.
        "settings": {"MAX_MODEL_BYTES": 400_000_000_000},
        "runtimeClassName": "nvidia",
        "podAnnotations": {"a": "b"},
        "podLabels": {"queue": "research"},
        "affinity": {"nodeAffinity": {}},
    },
    "analyzer": {"extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}]},
    "networkPolicy": {
        "objectStore": {"to": [{"podSelector": {"matchLabels": {"app": "minio"}}}], "port": 9000},
        "prometheus": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "extraEgress": {"analyzer": [{"to": [{"podSelector": {}}], "ports": [{"port": 4318, "protocol": "TCP"}]}]},
    },
    "monitoring": {
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboards": {"enabled": True},
    },
}
"""What the examples leave out."""


@cache
def cases() -> dict[str, Object]:
    """Return every set of values that is looked at, by name: the examples, the defaults, and `everything`."""
    examples = {
        path.stem.removeprefix("values-"): yaml.safe_load(path.read_text()) for path in sorted(CHART.glob("examples/*"))
    }
    return {**examples, "defaults": {}, "everything": EVERYTHING}


def render(values: Object) -> dict[str, str]:
    """Return the rendered templates, by the name of their file."""
    with helm_python.Chart.load(CHART) as chart:
        rendered = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    return {Path(name).name: text for name, text in rendered.items()}


@cache
def objects(case: str) -> tuple[Object, ...]:
    """Return the objects that a case makes."""
    texts = (text for name, text in render(cases()[case]).items() if name.endswith(".yaml"))
    return tuple(one for text in texts for one in yaml.safe_load_all(text) if one)


def of_kind(case: str, kind: str) -> dict[str, Object]:
    """Return the objects of one kind, by name without that of the release."""
    return {one["metadata"]["name"].removeprefix(f"{FULL}-"): one for one in objects(case) if one["kind"] == kind}


def pods(case: str) -> dict[str, Object]:
    """Return what becomes a pod, by part: its metadata and its spec."""
    made = {**of_kind(case, "StatefulSet"), **of_kind(case, "Deployment")}
    return {**{part: one["spec"]["template"] for part, one in made.items()}, **of_kind(case, "Pod")}


def containers(case: str) -> Iterator[tuple[str, Object]]:
    """Yield every container with its part, those that run first included."""
    for part, pod in pods(case).items():
        for one in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
            yield part, one


def environment(container: Object) -> dict[str, str]:
    """Return the variables of a container; one from a Secret has a value that stands for it."""
    return {one["name"]: one.get("value", "postgresql://from-a-secret/x") for one in container.get("env", ())}
