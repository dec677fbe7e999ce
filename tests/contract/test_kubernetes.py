"""The chart on a real control plane: the server takes its objects, pods fulfil `restricted`, controllers make them.

Needs the programs of envtest (`KUBEBUILDER_ASSETS`); `kube-controller-manager` beside them shows what becomes of the
objects, and `OURO_CRDS` lets those of operators be looked at. There is no node: no pod runs.
"""

from __future__ import annotations

import copy
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import helm_python
import pytest
import yaml

from tests.chart import CHART, FULL, NAMESPACE, PARTS, RELEASE, Object, cases, objects, pods
from tests.kubernetes import ASSETS, CONTROLLERS, DEFINITIONS, ControlPlane, Refused, missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
OUTSIDE: list[Object] = [
    {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "high"},
        "value": 1000,
    },
    {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"},
]
"""What the values of `everything` name, and a cluster has before."""
WORKLOADS = ("Deployment", "StatefulSet")
HOOK, KEPT = "helm.sh/hook", "helm.sh/resource-policy"


@dataclass(frozen=True)
class Place:
    """A case, and a namespace of its own in which only pods that fulfil `restricted` may be."""

    plane: ControlPlane
    case: str
    namespace: str

    def apply(self, made: Iterable[Object]) -> None:
        """Install or upgrade without Helm: no hooks, and first what pods need."""
        parts = [one for one in made if HOOK not in annotations(one)]
        self.plane.apply(self.namespace, sorted(parts, key=lambda one: one["kind"] in WORKLOADS))

    def known(self, made: Iterable[Object] | None = None) -> list[Object]:
        """Return those of the objects, of the case unless others are given, whose kinds the server knows."""
        groups = self.plane.groups()
        return [one for one in made or objects(self.case) if group(one) in groups]

    def helm(self) -> helm_python.Config:
        """Return what installs releases here."""
        return helm_python.Config(kubeconfig_path=self.plane.config, namespace=self.namespace)

    def install(self) -> helm_python.Config:
        """Install the release and return when controllers have made its pods."""
        helm = self.helm()
        helm.install(CHART, RELEASE, cases()[self.case], namespace=self.namespace)
        self.plane.wait(lambda: all(map(made, workloads(self))), "every workload has its pods")
        return helm

    def names(self, kind: str) -> set[str]:
        """Return the names of the objects of a kind."""
        return {one["metadata"]["name"] for one in self.plane.list(kind, self.namespace)}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    if why := missing():
        pytest.skip(why)
    plane = ControlPlane(Path(os.environ[ASSETS]), tmp_path_factory.mktemp("plane"))
    try:
        plane.start()
        if folder := os.environ.get(DEFINITIONS):
            plane.define(Path(folder))
        plane.apply("default", OUTSIDE)
        yield plane
    finally:
        plane.stop()


@pytest.fixture
def place(plane: ControlPlane) -> Place:
    """A namespace in which nothing was applied; the defaults stand for all cases."""
    return make_place(plane, "defaults")


@pytest.fixture(scope="module", params=sorted(cases()))
def looked_at(plane: ControlPlane, request: pytest.FixtureRequest) -> Place:
    """A namespace for each case, for all that only looks at it."""
    return make_place(plane, request.param)


@pytest.fixture(params=sorted(cases()))
def living(plane: ControlPlane, request: pytest.FixtureRequest) -> Place:
    """A namespace for each case, in which controllers make pods of workloads."""
    if not plane.has_controllers():
        pytest.skip(f"{ASSETS} has no {CONTROLLERS}: nothing makes pods of workloads")
    place = make_place(plane, request.param)
    if left := left_out(place):
        pytest.skip(left)
    return place


def test_the_server_takes_every_object_and_would_warn_of_none(looked_at: Place) -> None:
    looked_at.apply(looked_at.known())
    looked_at.plane.try_out(looked_at.namespace, [one for one in looked_at.known() if HOOK in annotations(one)])


def test_objects_of_operators_are_among_those_that_the_server_took(looked_at: Place) -> None:
    if left := left_out(looked_at):
        pytest.skip(left)


def test_every_pod_is_admitted_where_the_standard_restricted_is_enforced(looked_at: Place) -> None:
    looked_at.apply([one for one in objects(looked_at.case) if one["kind"] == "ServiceAccount"])
    looked_at.plane.try_out(looked_at.namespace, [bare(part, pod) for part, pod in pods(looked_at.case).items()])


def test_an_upgrade_changes_no_field_that_may_not_change(looked_at: Place) -> None:
    looked_at.apply(looked_at.known())
    second = looked_at.known(later_objects(looked_at.case))
    assert second != looked_at.known()
    looked_at.apply(second)


def test_the_namespace_would_refuse_a_pod_that_does_not_fulfil_the_standard(place: Place) -> None:
    part, pod = next(iter(pods(place.case).items()))
    wrong = bare(part, pod)
    wrong["spec"]["serviceAccountName"] = "default"
    place.plane.try_out(place.namespace, [wrong])
    wrong["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(Refused, match="violates PodSecurity"):
        place.plane.try_out(place.namespace, [wrong])


def test_a_field_that_does_not_exist_would_be_refused(place: Place) -> None:
    wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "wrong"}, "dada": {}}
    with pytest.raises(Refused, match="dada"):
        place.plane.apply(place.namespace, [wrong])


def test_controllers_make_every_pod_and_budgets_and_autoscalers_find_theirs(living: Place) -> None:
    plane, namespace = living.plane, living.namespace
    living.install()
    plane.wait(lambda: found_by_budgets(living), "every budget counts the pods of its workload")
    plane.wait(lambda: all(map(able, plane.list("hpa", namespace))), "every autoscaler finds what it scales")
    assert [one for one in plane.list("events", namespace) if one["reason"] == "FailedCreate"] == []


def test_a_release_is_upgraded_and_rolled_back(living: Place, tmp_path: Path) -> None:
    helm = living.install()
    helm.upgrade(later_chart(tmp_path), RELEASE, later(living.case), namespace=living.namespace)
    assert labelled(one["spec"]["template"] for one in workloads(living)) == set(PARTS)
    # Nothing is ever ready without a node: old pods stay beside new ones, and the coordinator's is not replaced.
    workers = set(PARTS) - {"coordinator"}
    living.plane.wait(lambda: labelled(living.plane.list("pods", living.namespace)) >= workers, "workers have new pods")
    helm.rollback(RELEASE)
    assert labelled(one["spec"]["template"] for one in workloads(living)) == set()


def test_a_release_that_is_removed_leaves_what_was_made_and_nothing_that_runs(living: Place) -> None:
    helm = living.install()
    before = living.names("pvc")
    helm.uninstall(RELEASE)
    living.plane.wait(lambda: living.names("pods") == set(), "no pod is left")
    templates = [
        one["spec"].get("volumeClaimTemplates") for one in objects(living.case) if one["kind"] == "StatefulSet"
    ]
    own = {f"home-{FULL}-coordinator-0"} if any(templates) else set()
    store = {one["metadata"]["name"] for one in objects(living.case) if one["kind"] == "PersistentVolumeClaim"}
    assert living.names("pvc") == before == own | store


def make_place(plane: ControlPlane, case: str) -> Place:
    """Make a namespace that nobody has, and the account that its controller would make for pods that name none."""
    name = f"{case}-{uuid.uuid4().hex[:8]}"
    metadata: Object = {"name": name, "labels": RESTRICTED}
    plane.apply("default", [{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
    plane.apply(name, [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}])
    return Place(plane, case, name)


def left_out(place: Place) -> str:
    """Return what is told of objects that the server does not know, or nothing."""
    groups = place.plane.groups()
    unknown = [group(one) for one in objects(place.case) if group(one) not in groups]
    whose = ", ".join(sorted(set(unknown)))
    return (
        f"{len(unknown)} objects of {whose} left out: {DEFINITIONS} names no folder that defines them"
        if unknown
        else ""
    )


def annotations(one: Object) -> Object:
    """Return the annotations of an object."""
    found: Object = one["metadata"].get("annotations") or {}
    return found


def group(one: Object) -> str:
    """Return the group of its kind; that of Kubernetes' own first kinds has no name."""
    return str(one["apiVersion"].rpartition("/")[0])


def bare(part: str, pod: Object) -> Object:
    """Return a pod as its controller would make it: with the volumes of templates of claims."""
    metadata = {**pod.get("metadata", {}), "name": f"bare-{part}".replace(" ", "-")}
    spec = copy.deepcopy(pod["spec"])
    there = {volume["name"] for volume in spec["volumes"]}
    mounted = {mount["name"] for one in spec["containers"] for mount in one.get("volumeMounts", ())}
    spec["volumes"] += [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in mounted - there]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def later(case: str) -> Object:
    """Return the values of a case with others that an operator may change at any time."""
    values = copy.deepcopy(cases()[case])
    page = values.get("coordinator", {}).get("page", True)
    for part in ("coordinator", "generator", "trainer", "analyzer"):
        own = values.setdefault(part, {})
        own.update(scratch="7Gi", podLabels={"new": "label"}, terminationGracePeriodSeconds=600)
        own["settings"] = {**own.get("settings", {}), "LOG_LEVEL": "debug"}
    values["coordinator"]["page"] = not page
    return values


def later_chart(folder: Path) -> Path:
    """Return a copy of the chart with another version of itself and of the program."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump({**about, "version": "99.0.0", "appVersion": "99.0.0"}))
    return chart


def later_objects(case: str) -> list[Object]:
    """Return the objects of the second revision, with the values of `later`."""
    with helm_python.Chart.load(CHART) as chart:
        texts = chart.render(later(case), name=RELEASE, namespace=NAMESPACE, revision=2, is_upgrade=True)
    return [one for name, text in texts.items() if name.endswith(".yaml") for one in yaml.safe_load_all(text) if one]


def labelled(pods: Iterable[Object]) -> set[str]:
    """Return which parts the pods are of that have the label of `later`."""
    found = [pod["metadata"]["labels"] for pod in pods]
    return {labels["app.kubernetes.io/component"] for labels in found if "new" in labels}


def workloads(place: Place) -> list[Object]:
    """Return what makes pods, as the server has it."""
    return [one for kind in ("statefulsets", "deployments") for one in place.plane.list(kind, place.namespace)]


def made(workload: Object) -> bool:
    """Return whether a workload has as many pods as it wants."""
    return bool(workload["status"].get("replicas", 0) == workload["spec"]["replicas"])


def found_by_budgets(place: Place) -> bool:
    """Return whether every budget expects the pods of the workload of its name."""
    wanted = {one["metadata"]["name"]: one["spec"]["replicas"] for one in workloads(place)}
    budgets = place.plane.list("pdb", place.namespace)
    return {one["metadata"]["name"]: one.get("status", {}).get("expectedPods") for one in budgets} == wanted


def able(autoscaler: Object) -> bool:
    """Return whether an autoscaler has found what it scales."""
    told = autoscaler.get("status", {}).get("conditions", [])
    return any(one["type"] == "AbleToScale" and one["status"] == "True" for one in told)
