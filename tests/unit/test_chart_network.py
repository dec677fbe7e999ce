"""The Helm chart: who may talk to whom, held to a table that is written here."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.chart import METRICS, NAMESPACE, PARTS, PORTS, Object, cases, of_kind, pods, selects

CASES = sorted(cases())
WORKERS = PARTS[1:]
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
OURS["job that trains"] = part("training")
OURS["job that migrates"] = part("migrate")
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
        *((who, "postgres", 5432) for who in ("coordinator", "job that migrates")),
        ("job that migrates", "dns", 53),
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
    "kueue": {
        *((who, "s3", 443) for who in (*PARTS, "job that trains")),
        ("job that trains", "dns", 53),
        ("trainer", "kubernetes", API_SERVER),
    },
    "everything": {*SCRAPES, *((who, "minio", 9000) for who in PARTS)},
}
LESS = {
    "air-gapped": {arrow for arrow in ARROWS if arrow[0] == "caller"},
    "everything": {("caller", "coordinator", PAGE)},
}


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
