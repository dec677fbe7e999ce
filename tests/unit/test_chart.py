"""The Helm chart: objects that Kubernetes accepts, nonsense that is refused, rules and dashboards that arrive whole."""

from __future__ import annotations

import json
from pathlib import Path

import helm_python
import pytest
import yaml

from ouroscope import __version__
from tests.chart import (
    CHART,
    FULL,
    NAMESPACE,
    ROOT,
    Object,
    cases,
    claimed_versions,
    objects,
    of_kind,
    render,
    validator,
)
from tests.custom_resources import SPECS

CASES = sorted(cases())
CHART_FILE: Object = yaml.safe_load((CHART / "Chart.yaml").read_text())
VERSIONS = claimed_versions()
KEDA: Object = {"keda": [{"podSelector": {}}]}
RAY: Object = {"enabled": True, "existingSecret": "x"}


@pytest.mark.parametrize("case", CASES)
def test_helm_finds_nothing_wrong(case: str) -> None:
    report = helm_python.lint(CHART, cases()[case], strict=True, namespace=NAMESPACE)
    assert report["errors"] == []
    assert {one["error"] for one in report["messages"]} <= {"icon is recommended"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_one_that_kubernetes_knows(version: str) -> None:
    wrong = [
        f"{case}: {one['kind']}/{one['metadata']['name']}: {error.json_path} {error.message[:200]}"
        for case in CASES
        for one in objects(case)
        if (one["apiVersion"], one["kind"]) not in SPECS
        for error in validator(version, one["apiVersion"], one["kind"]).iter_errors(one)
    ]
    assert wrong == []


def test_the_validator_would_see_a_field_that_does_not_exist() -> None:
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"portz": []}}
    for version in (VERSIONS[0], VERSIONS[-1]):
        assert "portz" in next(validator(version, "v1", "Service").iter_errors(wrong)).message


@pytest.mark.parametrize("case", CASES)
def test_names_are_unique_and_everything_is_in_the_release(case: str) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in objects(case)]
    assert len(names) == len(set(names))
    for one in objects(case):
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "ouro"
        assert len(one["metadata"]["name"]) <= 63


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"coordinator": {"replicas": 2}}, "coordinator.replicas is 2.*one durable owner per database"),
        ({"analyzer": {"autoscaling": {"minReplicas": 5}}}, "analyzer.autoscaling.maxReplicas is below"),
        ({"analyser": {}}, "analyser"),
        ({"coordinator": {"replica": 1}}, "/coordinator.*replica"),
        ({"coordinator": {"settings": {"PATIENC": 1}}}, "/coordinator/settings.*PATIENC"),
        ({"coordinator": {"settings": {"DATABASE": "postgresql://secret"}}}, "/coordinator/settings.*DATABASE"),
        ({"generator": {"extraEnv": [{"name": "OURO_GENERATOR_DEVICE"}]}}, "/generator/extraEnv/0/name"),
        ({"generator": {"gpus": -1}}, "/generator/gpus"),
        ({"trainer": {"sharedMemory": "much"}}, "/trainer/sharedMemory"),
        ({"trainer": {"resources": {"limits": {"memory": None}}}}, "/trainer/resources/limits.*memory"),
        ({"trainer": {"settings": {"GRACE": 110}}}, "trainer.terminationGracePeriodSeconds must be 15"),
        ({"image": {"service": {"digest": "sha256:12"}}}, "/image/service/digest"),
        ({"store": {"kind": "disk"}}, "/store/kind"),
        ({"tls": {"enabled": False}}, "tls.enabled is false.*allowPlaintext"),
        ({"tls": {"mutual": False}}, "nobody is asked who they are.*tls.mutual.*allowPlaintext"),
        ({"tls": {"certManager": {"enabled": False}}}, "tls.existingSecret is empty"),
        ({"security": {"tokens": {"existingSecret": "x"}}}, "security.clientToken.existingSecret is empty"),
        (
            {"allowPlaintext": True, "tls": {"enabled": False}, "security": {"tokens": {"existingSecret": "x"}}},
            "security.tokens.existingSecret needs tls.enabled",
        ),
        ({"store": {"kind": "s3"}}, "store.s3.url is empty"),
        ({"store": {"kind": "s3", "s3": {"url": "s3://bucket"}}}, "networkPolicy.objectStore.to is empty"),
        ({"database": {"existingSecret": "x"}}, "networkPolicy.database.to is empty"),
        (
            {"generator": {"backends": [{"name": "a", "kind": "vllm", "urls": [], "weights": "fixed"}]}},
            "networkPolicy.inference.to is empty",
        ),
        ({"monitoring": {"serviceMonitor": {"enabled": True}}}, "networkPolicy.prometheus is empty"),
        ({"trainer": {"autoscaling": {"enabled": True}}}, "networkPolicy.keda is empty"),
        (
            {"trainer": {"autoscaling": {"enabled": True, "minReplicas": 2}}},
            "trainer.autoscaling.maxReplicas is below trainer.autoscaling.minReplicas",
        ),
        (
            {"generator": {"autoscaling": {"enabled": True, "maxReplicas": 3}}, "coordinator": {"spread": False}},
            "is 3.*set coordinator.spread",
        ),
        ({"generator": {"autoscaling": {"stagesPerReplica": 0}}}, "/generator/autoscaling/stagesPerReplica"),
        ({"ray": {"enabled": True}}, "ray.existingSecret is empty.*openssl"),
        ({"ray": {**RAY, "worker": {"minReplicas": 5}}}, "ray.worker.maxReplicas is below"),
        ({"ray": {**RAY, "worker": {"minReplicas": 0}}}, "ray.worker.minReplicas is 0.*ray.autoscaling.enabled"),
        ({"ray": {**RAY, "autoscaling": {"enabled": True}}}, "networkPolicy.apiServer.to is empty"),
        ({"ray": RAY, "store": {"volume": {"accessMode": "ReadWriteOnce"}}}, "ray needs a store that pods of several"),
        ({"ray": RAY, "analyzer": {"settings": {"PROCESSES": 4}}}, "analyzer.settings.PROCESSES.*ray.processes"),
        ({"ray": {**RAY, "objectStoreBytes": 1000}}, "/ray/objectStoreBytes"),
        ({"ray": {**RAY, "extraEnv": [{"name": "RAY_AUTH_TOKEN", "value": "x"}]}}, "/ray/extraEnv/0/name"),
        ({"ray": {**RAY, "job": {"enabled": True}}}, "ray.job.corpus is empty"),
        ({"ray": {**RAY, "job": {"enabled": True, "corpus": "x; curl evil"}}}, "/ray/job/corpus"),
        ({"ray": {**RAY, "job": {"arguments": ["$(id)"]}}}, "/ray/job/arguments/0"),
        ({"ray": {**RAY, "job": {"enabled": True, "corpus": "/data/store/x"}}}, "networkPolicy.kuberay is empty"),
        (
            {
                "ray": {**RAY, "job": {"enabled": True, "corpus": "/data/store/x"}},
                "store": {"kind": "s3", "s3": {"url": "s3://bucket"}},
            },
            "ray.job.enabled needs store.kind volume",
        ),
        ({"ray": RAY}, "analyzer: one replica keeps all workers.*analyzer.autoscaling.enabled=false"),
        ({"trainer": {"queue": "Not A Name"}}, "/trainer/queue"),
        ({"trainer": {"jobs": {"enabled": True}}}, "networkPolicy.apiServer.to is empty: the trainer would not reach"),
        ({"trainer": {"jobs": {"enabled": True}, "queue": "x"}}, "trainer.queue.*name the queue in trainer.jobs.queue"),
        (
            {"trainer": {"jobs": {"enabled": True}, "autoscaling": {"enabled": True}}, "networkPolicy": KEDA},
            "trainer.jobs.enabled and trainer.autoscaling.enabled exclude each other",
        ),
        (
            {"trainer": {"jobs": {"enabled": True}}, "store": {"volume": {"accessMode": "ReadWriteOnce"}}},
            "trainer.jobs needs a store that pods of several nodes mount",
        ),
        ({"trainer": {"jobs": {"queue": "Not A Name"}}}, "/trainer/jobs/queue"),
        ({"trainer": {"jobs": {"keepSeconds": 1}}}, "/trainer/jobs/keepSeconds"),
        ({"trainer": {"settings": {"JOBS": "x"}}}, "/trainer/settings.*JOBS"),
        (
            {
                "trainer": {"autoscaling": {"enabled": True}},
                "security": {"tokens": {"existingSecret": "x"}, "clientToken": {"existingSecret": "y"}},
            },
            "trainer.autoscaling.enabled: KEDA shows certificates and no tokens",
        ),
    ],
)
def test_nonsense_is_refused_and_the_key_is_named(values: Object, told: str) -> None:
    with pytest.raises(helm_python.HelmError, match=f"(?s){told}"):
        render(values)


def test_the_chart_has_the_version_of_the_program() -> None:
    assert CHART_FILE["appVersion"] == __version__


@pytest.mark.parametrize(("of", "pattern"), [("prometheus/rules", "*.yml"), ("grafana/dashboards", "*.json")])
def test_rules_and_dashboards_are_those_of_the_repository(of: str, pattern: str) -> None:
    folder = CHART / "files" / Path(of).name
    originals = {path.name: path.read_text() for path in (ROOT / "deploy" / of).glob(pattern)}
    assert originals
    assert {path.name: path.read_text() for path in folder.iterdir()} == originals, f"cp deploy/{of}/* {folder}/"


def test_rules_and_dashboards_arrive_whole() -> None:
    (rule,) = of_kind("gpu-vllm", "PrometheusRule").values()
    files = sorted((CHART / "files/rules").iterdir())
    assert rule["spec"]["groups"] == [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    dashboards = of_kind("gpu-vllm", "ConfigMap")
    for path in (CHART / "files/dashboards").iterdir():
        shown = dashboards[f"dashboard-{path.stem}"]
        assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(shown["data"][path.name]) == json.loads(path.read_text())


def test_notes_say_what_to_do_next() -> None:
    for case in CASES:
        notes = render(cases()[case])["NOTES.txt"]
        assert f"helm test ouro --namespace {NAMESPACE}" in notes
        assert f"{FULL}-coordinator:50054" in notes
        assert "  \n" not in notes
        assert ("KEDA scales" in notes) == (case == "gpu-vllm")
