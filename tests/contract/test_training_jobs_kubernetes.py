"""Trainings as Jobs at a real API server, with the rights that the chart gives and the controllers of Kubernetes.

No node is there, so what a kubelet would say of a pod is written by the test; in the last one the pods are processes.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ouroscope.errors import Cancelled, LimitExceeded
from ouroscope.kubernetes import ApiServer
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.training import FineTune, FineTuned, Recipe
from ouroscope.security.certificates import TlsFiles
from ouroscope.store import ArtifactStore
from services.trainer.jobs.following import Jobs, Times
from services.trainer.jobs.seen import at_work
from services.trainer.jobs.template import read_template
from tests.certificates import Authority
from tests.chart import NAMESPACE, objects, rights_of
from tests.kubernetes import ASSETS, ControlPlane, missing
from tests.servers.node import NAME as NODE
from tests.servers.node import Node, joined
from tests.servers.waiting import wait_until
from tests.training_jobs import (
    LONG,
    Following,
    following,
    request_for,
    template,
    tiny_model,
    train_here,
    written,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

ACCOUNT = "ouro-ouroscope-trainer"
RIGHTS = {"Role", "RoleBinding", "ServiceAccount"}
REQUESTED = FineTune(
    model=ArtifactRef(ArtifactKind.MODEL, "a" * 64),
    corpora=(ArtifactRef(ArtifactKind.CORPUS, "b" * 64),),
    recipe=Recipe(),
)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    made = ControlPlane(Path(os.environ[ASSETS]), tmp_path_factory.mktemp("plane"))
    try:
        made.start()
        if not made.has_controllers():
            pytest.skip("there are no controllers that would make pods of Jobs")
        made.kubectl("create", "namespace", NAMESPACE)
        made.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        made.apply(NAMESPACE, [one for one in objects("kueue") if one["kind"] in RIGHTS])
        yield made
    finally:
        made.stop()


@dataclass
class House:
    """What one test has: the cluster, and who asks it for Jobs with the rights of the chart."""

    plane: ControlPlane
    jobs: Jobs
    request: FineTune = REQUESTED

    @property
    def name(self) -> str:
        return self.jobs.template.asked(self.request).name

    def job(self) -> Any:
        return json.loads(self._kubectl("get", "job", self.name, "-o=json"))

    def pods(self) -> list[Any]:
        return self.plane.list("pods", NAMESPACE)

    def let_begin(self, suspend: bool = False) -> None:
        """Do what a queue does that has quota, or takes it back."""
        self._kubectl(
            "patch", "job", self.name, "--type=merge", f"--patch={json.dumps({'spec': {'suspend': suspend}})}"
        )

    def says(self, phase: str, **state: Any) -> None:
        """Write what a kubelet would say of the one pod."""
        wait_until(lambda: len(self.pods()) == 1)
        (pod,) = self.pods()
        container = {
            "name": "training",
            "image": "x",
            "imageID": "x",
            "ready": False,
            "restartCount": 0,
            "state": state,
        }
        told = {"status": {"phase": phase, "containerStatuses": [container]}}
        name = pod["metadata"]["name"]
        self._kubectl("patch", "pod", name, "--subresource=status", "--type=merge", f"--patch={json.dumps(told)}")

    def _kubectl(self, *arguments: str) -> str:
        return self.plane.kubectl(f"--namespace={NAMESPACE}", *arguments)


@pytest.fixture
def house(plane: ControlPlane, store: ArtifactStore, tmp_path: Path) -> Iterator[House]:
    reach = json.loads(plane.config.read_text())["clusters"][0]["cluster"]
    token = tmp_path / "token"
    token.write_text(plane.kubectl("create", "token", ACCOUNT, f"--namespace={NAMESPACE}"))
    api = ApiServer(
        url=reach["server"], token=token, authorities=Path(reach["certificate-authority"]), namespace=NAMESPACE
    )
    job = template(store.url)
    job["spec"]["backoffLimit"] = 0
    read = read_template(written(tmp_path / "job.yaml", job), store.url)
    made = House(plane, Jobs(api=api, template=read, store=store, times=Times(poll=0.2, patience=20.0)))
    yield made
    plane.kubectl("delete", "jobs", "--all", f"--namespace={NAMESPACE}", "--cascade=foreground")


def test_a_job_waits_for_quota_makes_a_pod_under_the_strictest_rules_and_gives_its_answer(
    house: House, store: ArtifactStore
) -> None:
    begun = following(house.jobs, REQUESTED)
    wait_until(lambda: "wait for quota" in begun.asked.stages)
    assert house.pods() == []
    house.let_begin()
    wait_until(lambda: "wait for its container" in begun.asked.stages)
    (pod,) = house.pods()
    assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == "training"
    house.says("Running", running={})
    model = store.publish(ArtifactKind.MODEL, None, {"weights": b"x"})
    tuned = FineTuned(model=model, steps=3, tokens=9)
    store.put_result(house.jobs.template.asked(REQUESTED).answer, tuned)
    house.says("Succeeded", terminated={"exitCode": 0, "reason": "Completed"})
    assert begun.end() == tuned
    # What finished work left is found again; nothing new is made.
    uid = house.job()["metadata"]["uid"]
    assert following(house.jobs, REQUESTED).end() == tuned
    assert house.job()["metadata"]["uid"] == uid


def test_a_queue_that_takes_its_quota_back_and_gives_it_again_is_followed(house: House) -> None:
    begun = following(house.jobs, REQUESTED)
    wait_until(lambda: "wait for quota" in begun.asked.stages)
    house.let_begin()
    wait_until(lambda: len(house.pods()) == 1)
    begun.asked.told.clear()
    house.let_begin(suspend=True)
    wait_until(lambda: "wait for quota" in begun.asked.stages and not house.pods())
    house.let_begin()
    wait_until(lambda: len(house.pods()) == 1)
    _cancelled(begun)


def test_who_cancels_ends_the_job_and_its_pod(house: House) -> None:
    begun = following(house.jobs, REQUESTED)
    wait_until(lambda: "wait for quota" in begun.asked.stages)
    house.let_begin()
    wait_until(lambda: len(house.pods()) == 1)
    _cancelled(begun)
    wait_until(lambda: house.pods() == [])
    assert house.plane.list("jobs", NAMESPACE) == []
    again = following(house.jobs, REQUESTED)
    wait_until(lambda: "wait for quota" in again.asked.stages)
    _cancelled(again)


def test_too_little_memory_is_told(house: House) -> None:
    begun = following(house.jobs, REQUESTED)
    wait_until(lambda: "wait for quota" in begun.asked.stages)
    house.let_begin()
    house.says("Failed", terminated={"exitCode": 137, "reason": "OOMKilled"})
    with pytest.raises(LimitExceeded, match="OOMKilled"):
        begun.end()


def test_a_pod_that_is_taken_away_is_not_counted_as_a_failure(house: House) -> None:
    begun = following(house.jobs, REQUESTED)
    wait_until(lambda: "wait for quota" in begun.asked.stages)
    house.let_begin()
    wait_until(lambda: len(house.pods()) == 1)
    (first,) = house.pods()
    name = first["metadata"]["name"]
    taken = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": ""}
    told = {"status": {"phase": "Failed", "conditions": [taken]}}
    house.plane.kubectl(
        f"--namespace={NAMESPACE}",
        *("patch", "pod", name, "--subresource=status", "--type=merge", f"--patch={json.dumps(told)}"),
    )
    wait_until(lambda: any(one["metadata"]["name"] != name for one in house.pods()))
    assert not house.job()["status"].get("failed")
    _cancelled(begun)


def test_the_account_may_do_what_is_asked_and_nothing_else(house: House) -> None:
    def may(verb: str, what: str) -> bool:
        kind, _, part = what.partition("/")
        asked = (
            "auth",
            "can-i",
            verb,
            kind,
            f"--subresource={part}",
            f"--as=system:serviceaccount:{NAMESPACE}:{ACCOUNT}",
            "--quiet",
        )
        try:
            house.plane.kubectl(f"--namespace={NAMESPACE}", *asked)
        except AssertionError:
            return False
        return True

    verbs = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
    kinds = (
        "jobs",
        "pods",
        "pods/log",
        "pods/exec",
        "secrets",
        "configmaps",
        "serviceaccounts",
        "deployments",
        "roles",
    )
    found = {(verb, what) for verb in verbs for what in kinds if may(verb, what)}
    assert found == rights_of("kueue", "trainer")


def test_a_real_training_killed_and_preempted_ends_with_the_model_of_an_undisturbed_one(
    house: House, tmp_path: Path
) -> None:
    jobs, folder = house.jobs, tiny_model(tmp_path / "tiny")
    request, undisturbed = request_for(jobs.store, folder, LONG), ArtifactStore(tmp_path / "undisturbed")
    request_for(undisturbed, folder, LONG)
    job = template(jobs.store.url)
    job["spec"]["template"]["spec"]["nodeName"] = NODE
    read = read_template(written(tmp_path / "job.yaml", job), jobs.store.url)
    house = replace(house, jobs=replace(jobs, template=read), request=request)
    node = Node(_everything(house.plane), NAMESPACE, tmp_path)
    with node.client, joined(node, _of_node(tmp_path)):
        begun = following(house.jobs, request)
        wait_until(lambda: "wait for quota" in begun.asked.stages)
        house.let_begin()
        wait_until(lambda: bool(begun.asked.steps) and begun.asked.steps[-1] > 600, seconds=240)
        node.kill()
        begun.asked.told.clear()
        wait_until(lambda: bool(begun.asked.steps) and begun.asked.steps[-1] > 1600, seconds=240)
        assert begun.asked.steps[0] > 500, "the last checkpoint"
        at = begun.asked.steps[-1]
        house.let_begin(suspend=True)
        wait_until(lambda: "wait for quota" in begun.asked.stages and not at_work(house.pods()), seconds=240)
        begun.asked.told.clear()
        house.let_begin()
        tuned = begun.end(seconds=240)
    assert begun.asked.steps[0] > at, "what was kept when the pod was told to end"
    assert tuned == train_here(undisturbed, request)


def _everything(plane: ControlPlane) -> httpx.Client:
    """Return what asks a cluster as whoever may do everything."""
    config = json.loads(plane.config.read_text())
    reach, token = config["clusters"][0]["cluster"], config["users"][0]["user"]["token"]
    trust = ssl.create_default_context(cafile=reach["certificate-authority"])
    return httpx.Client(
        base_url=reach["server"], verify=trust, headers={"Authorization": f"Bearer {token}"}, trust_env=False
    )


def _of_node(folder: Path) -> TlsFiles:
    return Authority("nodes").issue("node").write(folder / "node")


def _cancelled(begun: Following) -> None:
    begun.asked.stop_with = Cancelled("enough")
    with pytest.raises(Cancelled):
        begun.end()
