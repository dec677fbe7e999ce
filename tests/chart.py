"""The Helm chart, rendered without a cluster: what tests of its objects share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate import utils as bundled
from referencing import Registry, Resource

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "chart"
RELEASE, NAMESPACE = "ouro", "lab"
FULL = f"{RELEASE}-ouroscope"
PARTS = ("coordinator", "generator", "trainer", "analyzer")
PART = "app.kubernetes.io/component"
PORTS = {"coordinator": 50054, "generator": 50051, "trainer": 50052, "analyzer": 50053}
METRICS = {"coordinator": 9464, "generator": 9465, "trainer": 9466, "analyzer": 9467}
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
        "spread": False,
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
    named = {part: one["spec"]["template"] for part, one in made.items()}
    jobs = {one["spec"]["template"]["metadata"]["labels"][PART]: one for one in of_kind(case, "Job").values()}
    named |= {part: one["spec"]["template"] for part, one in jobs.items()}
    return {**named, **of_kind(case, "Pod"), **ray_pods(case), **training_pods(case)}


def training_job(case: str) -> Object:
    """Return the template of the Job that carries out a training; nothing where the trainer does that itself."""
    found = of_kind(case, "ConfigMap").get("training")
    return yaml.safe_load(found["data"]["job.yaml"]) if found else {}


def rights_of(case: str, part: str) -> set[tuple[str, str]]:
    """Return the verbs and resources that the Role of a part grants."""
    rules = of_kind(case, "Role")[part]["rules"]
    return {(verb, what) for rule in rules for what in rule["resources"] for verb in rule["verbs"]}


def training_pods(case: str) -> dict[str, Object]:
    """Return the pod that the trainer has Jobs made of, where it asks for them."""
    job = training_job(case)
    return {"training": job["spec"]["template"]} if job else {}


def ray_clusters(case: str) -> dict[str, Object]:
    """Return the specs of clusters of Ray, by what makes them: `ray` stays, `job` is for one analysis."""
    stay, once = of_kind(case, "RayCluster"), of_kind(case, "RayJob")
    clusters = {name: one["spec"] for name, one in stay.items()}
    return {**clusters, **{name: one["spec"]["rayClusterSpec"] for name, one in once.items()}}


def ray_pods(case: str) -> dict[str, Object]:
    """Return the pods of clusters of Ray, and those that hand jobs to them."""
    made = {f"{name} submitter": one["spec"]["submitterPodTemplate"] for name, one in of_kind(case, "RayJob").items()}
    for name, spec in ray_clusters(case).items():
        made[f"{name} head"] = spec["headGroupSpec"]["template"]
        for group in spec["workerGroupSpecs"]:
            made[f"{name} {group['groupName']}"] = group["template"]
    return made


def containers(case: str) -> Iterator[tuple[str, Object]]:
    """Yield every container with its part, those that run first included."""
    for part, pod in pods(case).items():
        for one in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
            yield part, one


def environment(container: Object) -> dict[str, str]:
    """Return the variables of a container; one from a Secret has a value that stands for it."""
    return {one["name"]: one.get("value", "postgresql://from-a-secret/x") for one in container.get("env", ())}


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a selector of labels means something that has these."""
    assert set(selector) <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def number(version: str) -> tuple[int, ...]:
    """Return a version of Kubernetes as something that has an order."""
    return tuple(map(int, version.split(".")))


def claimed_versions() -> list[str]:
    """Return the versions of Kubernetes that the chart claims and whose schemas are there, the oldest first."""
    claim = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
    oldest = re.search(r">=(\d+\.\d+)", claim).group(1)  # type: ignore[union-attr]
    found = {bundled.major_minor(version) for version in bundled.all_versions()}
    return sorted((v for v in found if number(v) >= number(oldest)), key=number)


@cache
def _definitions(version: str) -> Registry[Any]:
    folder = f"kubernetes-json-schema/v{version}.0-local-strict"
    return Resource.from_contents(bundled.schema_contents(f"{folder}/_definitions.json", version)) @ Registry()


@cache
def validator(version: str, api: str, kind: str) -> Draft202012Validator:
    """Return what checks one kind. Like `kubernetes_validate.validate`, which reads two megabytes for each object."""
    name = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api)
    folder = f"kubernetes-json-schema/v{version}.0-local-strict"
    schema = bundled.schema_contents(f"{folder}/{kind.lower()}-{name}.json", version)
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _definitions(version))
