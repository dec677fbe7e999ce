"""The Helm chart: what its pods may do, and who may talk to whom, held to tables that are written here."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.chart import FULL, NAMESPACE, PARTS, Object, cases, containers, objects, of_kind, pods

CASES = sorted(cases())
WORKERS = PARTS[1:]
PORTS = {"coordinator": 50054, "generator": 50051, "trainer": 50052, "analyzer": 50053}
METRICS = {"coordinator": 9464, "generator": 9465, "trainer": 9466, "analyzer": 9467}
PAGE = 9463
SSH, API_SERVER = 22, 6443
RAY_CLIENT, RAY_JOBS, RAY_AGENT, RAY_OTHER = 10001, 8265, 52365, 40123


@dataclass(frozen=True, kw_only=True)
class Place:
    """Something that may talk: a pod with labels, or an address outside."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = NAMESPACE
    ip: str = ""


def part(name: str) -> Place:
    return Place(
        labels={
            "app.kubernetes.io/name": "ouroscope",
            "app.kubernetes.io/instance": "ouro",
            "app.kubernetes.io/component": name,
        }
    )


RAY = ("ray-head", "ray-worker")
OURS = {name: part(name) for name in (*PARTS, "test", *RAY, "ray-submitter")}
OTHERS = {
    "caller": Place(labels={"ouroscope.dev/caller": "true"}),
    "training": Place(namespace="training"),
    "stranger": Place(labels={"app": "anything"}),
    "impostor": Place(labels=part("coordinator").labels, namespace="elsewhere"),
    "prometheus": Place(namespace="monitoring"),
    "keda": Place(namespace="keda"),
    "kuberay": Place(namespace="kuberay-system"),
    "dns": Place(labels={"k8s-app": "kube-dns"}, namespace="kube-system"),
    "postgres": Place(labels={"app": "postgres"}, namespace="databases"),
    "postgres by address": Place(ip="10.20.0.15"),
    "vllm": Place(labels={"app": "vllm"}),
    "minio": Place(labels={"app": "minio"}),
    "s3": Place(ip="52.219.1.1"),
    "metadata of the cloud": Place(ip="169.254.169.254"),
    "kubernetes": Place(ip="10.0.0.1"),
}
PLACES = {**OURS, **OTHERS}
TRIED = {*PORTS.values(), *METRICS.values(), PAGE, SSH, API_SERVER, 53, 443, 5432, 8000, 9000, 4318}
TRIED |= {RAY_CLIENT, RAY_JOBS, RAY_AGENT, RAY_OTHER}

ARROWS = {
    *(("coordinator", worker, PORTS[worker]) for worker in WORKERS),
    *((who, to, PORTS[to]) for who in ("test", "caller") for to in ("coordinator", "analyzer")),
    ("caller", "coordinator", PAGE),
    *((who, "dns", 53) for who in (*PARTS, "test")),
}
"""The architecture: what may talk to whom everywhere."""

SCRAPES = {("prometheus", to, METRICS[to]) for to in PARTS}
MORE = {
    "laptop": set(),
    "defaults": set(),
    "gpu-vllm": {
        *SCRAPES,
        *((who, "s3", 443) for who in PARTS),
        ("coordinator", "postgres", 5432),
        ("generator", "vllm", 8000),
        ("keda", "coordinator", PORTS["coordinator"]),
    },
    "air-gapped": {
        ("coordinator", "postgres by address", 5432),
        ("training", "coordinator", PORTS["coordinator"]),
        ("training", "coordinator", PAGE),
        ("training", "analyzer", PORTS["analyzer"]),
    },
    "ray": {
        # Nodes talk on ports that they choose, with nobody else.
        *((one, other, port) for one in RAY for other in RAY for port in TRIED if port >= 1024),
        *((who, "dns", 53) for who in (*RAY, "ray-submitter")),
        ("analyzer", "ray-head", RAY_CLIENT),
        ("ray-submitter", "ray-head", RAY_JOBS),
        ("kuberay", "ray-head", RAY_JOBS),
        ("ray-head", "kubernetes", API_SERVER),
    },
    "everything": {*SCRAPES, *((who, "minio", 9000) for who in PARTS)},
}
LESS = {
    "air-gapped": {arrow for arrow in ARROWS if arrow[0] == "caller"},
    "everything": {("caller", "coordinator", PAGE)},
}


def selects(selector: Object, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer: Object, place: Place) -> bool:
    """Whether one peer of a rule means a place."""
    if "ipBlock" in peer:
        if not place.ip:
            return False
        blocks = [peer["ipBlock"]["cidr"], *peer["ipBlock"].get("except", ())]
        within, *without = [ipaddress.ip_address(place.ip) in ipaddress.ip_network(block) for block in blocks]
        return within and not any(without)
    if place.ip:
        return False
    spaces = {"kubernetes.io/metadata.name": place.namespace}
    here = selects(peer["namespaceSelector"], spaces) if "namespaceSelector" in peer else place.namespace == NAMESPACE
    return here and selects(peer.get("podSelector", {}), place.labels)


def lets(case: str, way: str, owner: Place, other: Place, port: int) -> bool:
    """Whether the policies of `owner` let it talk that way ("ingress" or "egress") with `other`."""
    if owner not in OURS.values():
        return True
    peers = "from" if way == "ingress" else "to"
    for policy in of_kind(case, "NetworkPolicy").values():
        if selects(policy["spec"]["podSelector"], owner.labels):
            for rule in policy["spec"].get(way, ()):
                # A rule without peers or ports would mean all of them.
                assert rule[peers]
                ports = any(one["port"] <= port <= one.get("endPort", one["port"]) for one in rule["ports"])
                if ports and any(is_peer(one, other) for one in rule[peers]):
                    return True
    return False


def arrows(case: str) -> Iterator[tuple[str, str, int]]:
    for source, start in PLACES.items():
        for target, end in PLACES.items():
            if source in OURS or target in OURS:
                for port in sorted(TRIED):
                    if lets(case, "egress", start, end, port) and lets(case, "ingress", end, start, port):
                        yield source, target, port


@pytest.mark.parametrize("case", sorted(set(CASES) - {"everything"}))
def test_only_the_arrows_of_the_architecture_are_let_through(case: str) -> None:
    assert set(arrows(case)) == (ARROWS | MORE[case]) - LESS.get(case, set())


def test_a_rule_of_ones_own_adds_what_it_says() -> None:
    # The collector of traces may be any pod beside it, as the values say: that is every place of the namespace.
    more = {arrow for arrow in arrows("everything") if arrow[0] == "analyzer" and arrow[2] == 4318}
    assert {target for _, target, _ in more} == {"caller", "stranger", "vllm", "minio"}
    assert set(arrows("everything")) - more == (ARROWS | MORE["everything"]) - LESS["everything"]


@pytest.mark.parametrize("case", CASES)
def test_every_pod_begins_with_nothing_allowed(case: str) -> None:
    nothing = of_kind(case, "NetworkPolicy")["nothing"]["spec"]
    assert set(nothing) == {"podSelector", "policyTypes"}
    assert set(nothing["policyTypes"]) == {"Ingress", "Egress"}
    for pod in pods(case).values():
        assert selects(nothing["podSelector"], pod["metadata"]["labels"])


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
    assert not {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} & {one["kind"] for one in objects(case)}


def found(what: Any, *keys: str) -> set[str]:
    """Return the texts below these keys, at whatever depth."""
    if isinstance(what, list):
        return set().union(*(found(one, *keys) for one in what))
    if not isinstance(what, dict):
        return set()
    here = {value for key, value in what.items() if (key in keys or not keys) and isinstance(value, str)}
    return here.union(*(found(value, *keys) for value in what.values()))


@pytest.mark.parametrize("case", CASES)
def test_secrets_are_made_by_cert_manager_or_by_whoever_the_operator_trusts_with_them(case: str) -> None:
    assert not of_kind(case, "Secret"), "nothing of the chart, and so of a release, holds a secret"
    made = {one["spec"]["secretName"] for one in of_kind(case, "Certificate").values()}
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
    assert bool(claims) != bool(values.get("database", {}).get("existingSecret"))
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
