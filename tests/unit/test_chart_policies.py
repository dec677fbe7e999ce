"""The Helm chart: what its pods may do, what they need, and what they are given."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.chart import FULL, METRICS, PARTS, PORTS, cases, containers, objects, of_kind, pods, render, selects

CASES = sorted(cases())


@pytest.mark.parametrize("case", CASES)
def test_containers_have_no_rights_that_they_do_not_need(case: str) -> None:
    for name, container in containers(case):
        rights = container["securityContext"]
        assert rights["runAsNonRoot"], name
        assert rights["readOnlyRootFilesystem"], name
        assert rights["allowPrivilegeEscalation"] is False, name
        assert rights["privileged"] is False, name
        assert rights["capabilities"] == {"drop": ["ALL"]}, name
        assert rights["seccompProfile"] == {"type": "RuntimeDefault"}, name


@pytest.mark.parametrize("case", CASES)
def test_pods_know_nothing_of_the_cluster(case: str) -> None:
    for pod in pods(case).values():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] > 0
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all("hostPath" not in volume for volume in spec["volumes"])
    assert all(one["automountServiceAccountToken"] is False for one in of_kind(case, "ServiceAccount").values())
    rights = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    # The one that asks for Jobs; tests/unit/test_chart_jobs.py says what it may.
    assert rights & {one["kind"] for one in objects(case)} == ({"Role", "RoleBinding"} if case == "kueue" else set())


def found(what: Any, *keys: str) -> set[str]:
    """Return the texts below these keys, at whatever depth."""
    if isinstance(what, list):
        return set().union(*(found(one, *keys) for one in what))
    if not isinstance(what, dict):
        return set()
    here = {value for key, value in what.items() if (key in keys or not keys) and isinstance(value, str)}
    return here.union(*(found(value, *keys) for value in what.values()))


@pytest.mark.parametrize("case", CASES)
def test_secrets_are_made_by_cert_manager_external_secrets_or_whoever_the_operator_trusts(case: str) -> None:
    assert not of_kind(case, "Secret"), "nothing of the chart, and so of a release, holds a secret"
    made = {one["spec"]["secretName"] for one in of_kind(case, "Certificate").values()}
    made |= {one["spec"]["target"]["name"] for one in of_kind(case, "ExternalSecret").values()}
    for name, pod in pods(case).items():
        asked = found(pod["spec"]["volumes"], "secretName") | {
            one["valueFrom"]["secretKeyRef"]["name"]
            for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
            for one in container.get("env", ())
            if "secretKeyRef" in one.get("valueFrom", ())
        }
        assert asked <= made | found(cases()[case]), name


@pytest.mark.parametrize("case", CASES)
def test_every_container_has_limits_and_room_to_write(case: str) -> None:
    for name, container in containers(case):
        assert {"cpu", "memory"} <= set(container["resources"]["limits"]), name
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pods(case)[name]["spec"]["volumes"]}
        claims = of_kind(case, "StatefulSet").get(name, {}).get("spec", {}).get("volumeClaimTemplates", ())
        assert set(mounts) <= {*volumes, *(claim["metadata"]["name"] for claim in claims)}, name
        assert mounts["tmp"]["mountPath"] == "/tmp"
        for volume in volumes.values():
            assert volume.get("emptyDir", {"sizeLimit": ""}).keys() >= {"sizeLimit"}, name
            if "secret" in volume:
                assert mounts.get(volume["name"], {"readOnly": True})["readOnly"], name


@pytest.mark.parametrize("case", CASES)
def test_services_are_asked_for_their_health_as_they_speak(case: str) -> None:
    encrypted = cases()[case].get("tls", {}).get("enabled", True)
    for name in PARTS:
        (container,) = pods(case)[name]["spec"]["containers"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[kind]
            if encrypted:
                command = probe["exec"]["command"]
                assert command[0:2] == ["env", f"OURO_CLIENT_SERVER_NAME={FULL}-{name}"]
                assert command[2:] == ["python", "-m", "ouroscope.rpc.probe", f"127.0.0.1:{PORTS[name]}"]
            else:
                assert probe["grpc"] == {"port": PORTS[name]}
        assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] >= 300
        # Longer than the ten seconds that calls at work get, and what is waited before.
        assert pods(case)[name]["spec"]["terminationGracePeriodSeconds"] >= 30


@pytest.mark.parametrize("case", CASES)
def test_one_coordinator_and_workers_that_come_and_go(case: str) -> None:
    coordinator = of_kind(case, "StatefulSet")["coordinator"]["spec"]
    assert coordinator["replicas"] == 1
    assert coordinator["serviceName"] == f"{FULL}-coordinator"
    scalers = {**of_kind(case, "HorizontalPodAutoscaler"), **of_kind(case, "ScaledObject")}
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in scalers.values()}
    for name, one in of_kind(case, "Deployment").items():
        # A number here would fight with the autoscaler.
        assert ("replicas" in one["spec"]) != (f"{FULL}-{name}" in scaled)
        spread = one["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert {each["topologyKey"] for each in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    budgets = of_kind(case, "PodDisruptionBudget")
    assert set(budgets) == set(PARTS)
    for name, budget in budgets.items():
        assert budget["spec"]["maxUnavailable"] == 1
        assert selects(budget["spec"]["selector"], pods(case)[name]["metadata"]["labels"])


def test_every_part_is_put_where_its_values_say() -> None:
    where: dict[str, Any] = {
        part: {
            "nodeSelector": {"pool": part},
            "tolerations": [{"key": part, "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
            "priorityClassName": f"{part}-first",
            "runtimeClassName": f"{part}-runtime",
        }
        for part in PARTS
    }
    texts = (text for name, text in render(where).items() if name in ("coordinator.yaml", "workers.yaml"))
    rendered = [one for text in texts for one in yaml.safe_load_all(text) if one]
    made = {one["metadata"]["name"]: one for one in rendered if one["kind"] in ("StatefulSet", "Deployment")}
    for part, values in where.items():
        spec = made[f"{FULL}-{part}"]["spec"]["template"]["spec"]
        assert {name: spec[name] for name in values} == values


def test_gpus_are_limits_and_memory_is_shared() -> None:
    for case, name, gpus in (("gpu-vllm", "trainer", 1), ("everything", "generator", 2)):
        spec = pods(case)[name]["spec"]
        (container,) = spec["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == gpus
        shared = next(one for one in container["volumeMounts"] if one["mountPath"] == "/dev/shm")
        volume = next(one for one in spec["volumes"] if one["name"] == shared["name"])
        assert volume["emptyDir"]["medium"] == "Memory"
        # A second pod would wait for a GPU that the first one holds.
        assert of_kind(case, "Deployment")[name]["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


@pytest.mark.parametrize("case", CASES)
def test_state_is_where_it_outlives_its_pod(case: str) -> None:
    values: dict[str, Any] = cases()[case]
    claims = of_kind(case, "StatefulSet")["coordinator"]["spec"].get("volumeClaimTemplates", [])
    on_server = {"database"} & values.get("externalSecrets", {}).keys() or values.get("database", {}).get(
        "existingSecret"
    )
    assert bool(claims) != bool(on_server)
    store = values.get("store", {})
    if store.get("kind") == "s3":
        assert not of_kind(case, "PersistentVolumeClaim")
    elif "existingClaim" not in store.get("volume", {}):
        claim = of_kind(case, "PersistentVolumeClaim")["store"]
        assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize("case", ["defaults", "gpu-vllm", "everything"])
def test_a_certificate_names_every_service_that_is_called_by_it(case: str) -> None:
    certificates = of_kind(case, "Certificate")
    issuers = of_kind(case, "Issuer")
    for name in (*PARTS, "client"):
        spec = certificates[name]["spec"]
        called = {f"{FULL}-{one}" for one in of_kind(case, "Service") if one.removesuffix("-sticky") == name}
        assert called <= set(spec["dnsNames"])
        assert ("server auth" in spec["usages"]) == (name != "client")
        issuer = spec["issuerRef"]
        assert issuer["name"].removeprefix(f"{FULL}-") in issuers or issuer["kind"] == "ClusterIssuer"
        if name in PARTS:
            mounted = next(one for one in pods(case)[name]["spec"]["volumes"] if one["name"] == "tls")
            assert mounted["secret"]["secretName"] == spec["secretName"]


@pytest.mark.parametrize("case", ["gpu-vllm", "everything"])
def test_prometheus_finds_each_pod_once_by_the_name_that_the_rules_know(case: str) -> None:
    for name, monitor in of_kind(case, "ServiceMonitor").items():
        wanted = monitor["spec"]["selector"]
        found = [one for one in of_kind(case, "Service").values() if selects(wanted, one["metadata"]["labels"])]
        assert [one["metadata"]["name"] for one in found] == [f"{FULL}-{name}"]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": f"ouroscope-{name}"}]
        assert METRICS[name] in {one["port"] for one in found[0]["spec"]["ports"] if one["name"] == endpoint["port"]}
        assert endpoint["scheme"] == "https"
        assert endpoint["tlsConfig"]["serverName"] == f"{FULL}-{name}"
        assert ("authorization" in endpoint) == (case == "everything")
