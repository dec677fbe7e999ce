"""The Helm chart and Ray: clusters that KubeRay accepts, with a token, on pods without rights, for the analyzer."""

from __future__ import annotations

import re
import shlex
from typing import Any

import helm_python
import pytest
import typer.main
import yaml

from ouroscope.addresses import split_address
from ouroscope_app.main import app
from tests.chart import (
    CHART,
    NAMESPACE,
    ROOT,
    Object,
    cases,
    claimed_versions,
    environment,
    objects,
    of_kind,
    pods,
    ray_clusters,
    ray_pods,
    render,
    validator,
)

TOKEN = {"secretKeyRef": {"name": "ouroscope-ray", "key": "auth_token"}}
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
LONGEST = "a" * 53
"""The longest name that Helm gives a release."""
FILES = ("workers.yaml", "ray.yaml", "ray-network.yaml")
KINDS = ("RayCluster", "RayJob")


def changed(**values: Any) -> Object:
    """Return the values of the example with others of `ray`."""
    example: Object = cases()["ray"]
    return {**example, "ray": {**example["ray"], **values}}


def test_nothing_of_ray_is_there_unless_it_is_asked_for() -> None:
    for case in set(cases()) - {"ray"}:
        assert not [one for one in objects(case) if one["apiVersion"].startswith("ray.io")]
        assert "RAY_" not in str(objects(case))
    assert {one["kind"] for one in objects("ray") if one["apiVersion"] == "ray.io/v1"} == set(KINDS)


@pytest.mark.parametrize("version", [claimed_versions()[0], claimed_versions()[-1]])
def test_their_pods_and_the_autoscaler_are_what_kubernetes_knows(version: str) -> None:
    check = validator(version, "v1", "Pod")
    for name, template in ray_pods("ray").items():
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        assert [f"{name}: {error.json_path} {error.message[:200]}" for error in check.iter_errors(pod)] == []
    for spec in ray_clusters("ray").values():
        parts = ("resources", "securityContext", "volumeMounts", "imagePullPolicy")
        container = {"name": "autoscaler", **{part: spec["autoscalerOptions"][part] for part in parts}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"containers": [container]}}
        assert [f"{error.json_path} {error.message[:200]}" for error in check.iter_errors(pod)] == []


def test_ray_is_the_version_that_the_analyzer_speaks_with() -> None:
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE).group(1)  # type: ignore[union-attr]
    assert {spec["rayVersion"] for spec in ray_clusters("ray").values()} == {pinned}


def test_every_process_of_a_cluster_and_whoever_asks_it_shows_the_token() -> None:
    for spec in ray_clusters("ray").values():
        # KubeRay gives it to what it adds by itself: the autoscaler, and the container that waits for the head.
        assert spec["authOptions"] == {"mode": "token", "secretName": "ouroscope-ray"}
    for name in (*ray_pods("ray"), "analyzer"):
        (container,) = pods("ray")[name]["spec"]["containers"]
        assert environment(container)["RAY_AUTH_MODE"] == "token"
        (token,) = [one for one in container["env"] if one["name"] == "RAY_AUTH_TOKEN"]
        assert token["valueFrom"] == TOKEN
        assert environment(container)["RAY_USAGE_STATS_ENABLED"] == "0"


def test_only_the_autoscaler_may_speak_with_kubernetes() -> None:
    for name, spec in ray_clusters("ray").items():
        options, head = spec["autoscalerOptions"], pods("ray")[f"{name} head"]["spec"]
        (mount,) = [one for one in options["volumeMounts"] if one["mountPath"] == SERVICE_ACCOUNT]
        (volume,) = [one for one in head["volumes"] if one["name"] == mount["name"]]
        assert mount["readOnly"]
        assert {key for source in volume["projected"]["sources"] for key in source} == {
            "serviceAccountToken",
            "configMap",
            "downwardAPI",
        }
        # The rights that KubeRay gives are of the account of the head, which must not be that of all.
        assert "serviceAccountName" not in head
        rights = options["securityContext"]
        assert rights["readOnlyRootFilesystem"]
        assert rights["runAsNonRoot"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= options["resources"]["limits"].keys()
    for template in ray_pods("ray").values():
        for container in template["spec"]["containers"]:
            assert all(mount["mountPath"] != SERVICE_ACCOUNT for mount in container["volumeMounts"])


def test_without_autoscaling_there_is_no_token_of_kubernetes_and_no_way_to_it() -> None:
    values = changed(autoscaling={"enabled": False})
    made = [one for one in yaml.safe_load_all(render(values)["ray.yaml"]) if one]
    assert "serviceAccountToken" not in str(made)
    cluster = next(one["spec"] for one in made if one["kind"] == "RayCluster")
    assert cluster["headGroupSpec"]["template"]["spec"]["serviceAccountName"] == "ouro-ouroscope"
    assert not {"enableInTreeAutoscaling", "autoscalerOptions"} & cluster.keys()
    assert cluster["workerGroupSpecs"][0]["replicas"] == 1
    assert "6443" not in render(values)["ray-network.yaml"]


def test_the_head_does_no_work_and_shows_a_dashboard_only_where_jobs_are_handed_in() -> None:
    starts = {name: spec["headGroupSpec"]["rayStartParams"] for name, spec in ray_clusters("ray").items()}
    assert {one["num-cpus"] for one in starts.values()} == {"0"}
    assert starts["ray"]["include-dashboard"] == "false"
    assert "include-dashboard" not in starts["job"]
    for spec in ray_clusters("ray").values():
        assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_nodes_are_asked_for_their_health_and_share_memory_of_a_known_size() -> None:
    for name, spec in ray_clusters("ray").items():
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            pod = group["template"]["spec"]
            (container,) = pod["containers"]
            for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[kind]["httpGet"] == {"path": "/api/healthz", "port": 52365}, name
            (shared,) = [one for one in container["volumeMounts"] if one["mountPath"] == "/dev/shm"]
            (volume,) = [one for one in pod["volumes"] if one["name"] == shared["name"]]
            assert volume["emptyDir"]["medium"] == "Memory"
            assert int(volume["emptyDir"]["sizeLimit"]) > int(group["rayStartParams"]["object-store-memory"])
            assert not {"hostNetwork", "hostPID"} & pod.keys()


def test_the_analyzer_asks_the_head_of_the_cluster_for_no_more_workers_than_there_may_be() -> None:
    (cluster,) = of_kind("ray", "RayCluster").values()
    (container,) = pods("ray")["analyzer"]["spec"]["containers"]
    variables = environment(container)
    assert variables["OURO_ANALYZER_EXECUTOR"] == "ray"
    host, port = split_address(variables["OURO_ANALYZER_RAY_ADDRESS"].removeprefix("ray://"))
    # The name that KubeRay gives to the Service of a head.
    assert host == f"{cluster['metadata']['name']}-head-svc"
    head = cluster["spec"]["headGroupSpec"]
    assert str(port) == head["rayStartParams"]["ray-client-server-port"]
    assert port in {one["containerPort"] for one in head["template"]["spec"]["containers"][0]["ports"]}
    (group,) = cluster["spec"]["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    processors = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert int(variables["OURO_ANALYZER_PROCESSES"]) == processors * group["maxReplicas"]


def test_a_node_has_the_image_and_the_store_of_the_analyzer() -> None:
    (analyzer,) = pods("ray")["analyzer"]["spec"]["containers"]
    for name in {*ray_pods("ray")} - {"job submitter"}:
        (container,) = pods("ray")[name]["spec"]["containers"]
        assert container["image"] == analyzer["image"]
        stores = [{(one["name"], one["mountPath"]) for one in each["volumeMounts"]} for each in (analyzer, container)]
        assert ("store", "/data/store") in stores[0] & stores[1]
    extra = re.search(r"^ray-cluster = (.+)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert extra is not None, "an image of nodes is built with the extra that docs/kubernetes.md names"


def test_a_cluster_may_serve_the_generator_with_its_image_and_accelerators() -> None:
    example = changed(serves="generator", worker={**cases()["ray"]["ray"]["worker"], "gpus": 2})
    made = [one for text in map(yaml.safe_load_all, (render(example)[name] for name in FILES)) for one in text if one]
    (generator,) = _template(made, "Deployment", "ouro-ouroscope-generator")["spec"]["containers"]
    assert environment(generator)["OURO_GENERATOR_EXECUTOR"] == "ray"
    (analyzer,) = _template(made, "Deployment", "ouro-ouroscope-analyzer")["spec"]["containers"]
    assert "RAY_" not in str(analyzer)
    cluster = next(one["spec"] for one in made if one["kind"] == "RayCluster")
    job = next(one["spec"]["rayClusterSpec"] for one in made if one["kind"] == "RayJob")
    for spec, image in ((cluster, generator["image"]), (job, analyzer["image"])):
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            assert group["template"]["spec"]["containers"][0]["image"] == image
    (worker,) = cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 2
    policy = next(one["spec"] for one in made if one["metadata"]["name"] == "ouro-ouroscope-ray-head")
    asked = next(rule["from"] for rule in policy["ingress"] if rule["ports"] == [{"port": 10001, "protocol": "TCP"}])
    assert [one["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for one in asked] == ["generator"]


def _template(made: list[Object], kind: str, name: str) -> Object:
    found = next(one for one in made if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return dict(found["spec"]["template"])


def test_what_the_job_runs_is_a_command_that_exists_and_leaves_its_cluster_to_go() -> None:
    (job,) = of_kind("ray", "RayJob").values()
    program, command, *words = shlex.split(job["spec"]["entrypoint"])
    analyze = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    asked = analyze.make_context(command, list(words)).params
    assert program == "ouroscope"
    assert asked["ray_address"] == "auto"
    assert str(asked["executor"]) == "ray"
    assert job["spec"]["shutdownAfterJobFinishes"]
    (head,) = pods("ray")["job head"]["spec"]["containers"]
    home = next(one for one in head["volumeMounts"] if one["mountPath"] == environment(head)["OUROSCOPE_HOME"])
    assert home["name"] != "store"


def test_queues_of_kueue_are_named_where_they_are_chosen() -> None:
    name = "kueue.x-k8s.io/queue-name"
    assert of_kind("ray", "RayJob")["job"]["metadata"]["labels"][name] == "batch"
    assert of_kind("ray", "Deployment")["trainer"]["metadata"]["labels"][name] == "batch"
    assert name not in str(objects("defaults"))


def test_names_stay_within_what_kuberay_takes() -> None:
    with helm_python.Chart.load(CHART) as chart:
        texts = chart.render(cases()["ray"], name=LONGEST, namespace=NAMESPACE)
    for text in texts.values():
        for one in yaml.safe_load_all(text) if "ray.io/v1" in text else ():
            if one and one["apiVersion"] == "ray.io/v1":
                assert len(one["metadata"]["name"]) <= (47 if one["kind"] == "RayJob" else 53)
