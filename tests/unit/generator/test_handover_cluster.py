"""A rollout in Kubernetes, against a stand-in of the API server that notes what it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ouroscope.errors import Cancelled, OuroscopeError, PreconditionFailed, Unavailable
from ouroscope.kubernetes import ApiServer as ServerAt
from services.generator.declared import KubernetesReload
from services.generator.handover.cluster import Cluster
from tests.servers.changing import ApiServer
from tests.servers.running import running

ASKED = KubernetesReload(namespace="ml", deployment="tgi", annotation="ouroscope.dev/model")
DIRECTORY = "/models/ouro-0123456789abcdef"


def quiet() -> None:
    """Nobody wants to stop."""


def status(generation: int, **counts: int) -> dict[str, Any]:
    return {"observedGeneration": generation, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, **counts}


@pytest.fixture
def api() -> ApiServer:
    template = {"metadata": {"labels": {"app": "tgi"}}}
    meta = {"name": "tgi", "generation": 4}
    return ApiServer({"metadata": meta, "spec": {"replicas": 2, "template": template}, "status": status(4)})


@pytest.fixture
def cluster(api: ApiServer, tmp_path: Path) -> Iterator[Cluster]:
    token = tmp_path / "token"
    token.write_text("of the pod\n")
    with running(api.app) as url:
        yield Cluster(api=ServerAt(url=url, token=token, authorities=None), poll=0.02)


def test_the_annotation_of_the_pods_is_changed_and_the_rollout_is_waited_for(cluster: Cluster, api: ApiServer) -> None:
    api.progress.extend(
        [
            status(4),  # not seen yet: what looks finished is the old one
            status(5, replicas=3, updatedReplicas=1),
            status(5, replicas=3, updatedReplicas=2, availableReplicas=2),  # an old pod still ends
            status(5, availableReplicas=1),
            status(5),
        ]
    )
    cluster.roll_out(ASKED, DIRECTORY, 60, quiet)
    (method, path, headers, body), *looks = api.asked
    assert (method, path) == ("PATCH", "/apis/apps/v1/namespaces/ml/deployments/tgi")
    assert headers["content-type"] == "application/strategic-merge-patch+json"
    assert headers["authorization"] == "Bearer of the pod"
    assert body == {"spec": {"template": {"metadata": {"annotations": {"ouroscope.dev/model": DIRECTORY}}}}}
    assert [look[0] for look in looks] == ["GET"] * 5
    assert not api.progress


def test_the_same_directory_again_is_no_new_rollout(cluster: Cluster, api: ApiServer) -> None:
    api.progress.extend([status(5)])
    for _ in range(2):
        cluster.roll_out(ASKED, DIRECTORY, 60, quiet)
    assert api.deployment["metadata"]["generation"] == 5


def test_a_token_that_was_renewed_is_used(cluster: Cluster, api: ApiServer) -> None:
    api.token = "renewed"
    cluster.api.token.write_text("renewed")
    api.progress.append(status(5))
    cluster.roll_out(ASKED, DIRECTORY, 60, quiet)


@pytest.mark.parametrize(
    ("code", "error", "hint"), [(403, PreconditionFailed, "Role"), (422, PreconditionFailed, "refuses")]
)
def test_a_refusal_is_a_typed_error_that_says_what_is_missing(
    cluster: Cluster, api: ApiServer, code: int, error: type[OuroscopeError], hint: str
) -> None:
    api.refuses.append(code)
    with pytest.raises(error, match=hint) as caught:
        cluster.roll_out(ASKED, DIRECTORY, 60, quiet)
    assert "secret" not in caught.value.message


def test_a_deployment_that_is_not_there_is_said(cluster: Cluster) -> None:
    with pytest.raises(PreconditionFailed, match="no such deployment"):
        cluster.roll_out(KubernetesReload(namespace="ml", deployment="vllm"), DIRECTORY, 60, quiet)


def test_an_api_server_that_is_busy_for_a_while_is_asked_again(cluster: Cluster, api: ApiServer) -> None:
    api.refuses.extend([500, 429, 503])
    api.progress.append(status(5))
    cluster.roll_out(ASKED, DIRECTORY, 60, quiet)


def test_pods_that_do_not_start_are_a_typed_error(cluster: Cluster, api: ApiServer) -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    api.progress.append(status(5, availableReplicas=1) | {"conditions": [late]})
    with pytest.raises(PreconditionFailed, match="ProgressDeadlineExceeded"):
        cluster.roll_out(ASKED, DIRECTORY, 60, quiet)


def test_a_deployment_without_pods_is_a_typed_error(cluster: Cluster, api: ApiServer) -> None:
    api.deployment["spec"]["replicas"] = 0
    with pytest.raises(PreconditionFailed, match="0 replicas"):
        cluster.roll_out(ASKED, DIRECTORY, 60, quiet)


def test_a_rollout_that_does_not_end_is_given_up_after_the_declared_time(cluster: Cluster, api: ApiServer) -> None:
    api.progress.append(status(5, availableReplicas=1))
    with pytest.raises(Unavailable, match=r"'tgi' did not end"):
        cluster.roll_out(ASKED, DIRECTORY, 0.5, quiet)


def test_stopping_breaks_off_the_waiting(cluster: Cluster, api: ApiServer) -> None:
    api.progress.append(status(5, availableReplicas=1))

    def check() -> None:
        if len(api.asked) > 2:
            raise Cancelled("the test asked for it")

    with pytest.raises(Cancelled):
        cluster.roll_out(ASKED, DIRECTORY, 60, check)


def test_a_pod_finds_its_cluster_by_its_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of the pod")
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    found = Cluster.inside(environ, tmp_path)
    assert (found.api.url, found.api.authorities) == ("https://10.0.0.1:6443", tmp_path / "ca.crt")
    assert Cluster.inside({"KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path).api.url == "https://[fd00::1]:443"


def test_outside_of_a_cluster_the_way_out_is_said(tmp_path: Path) -> None:
    for environ in ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}):
        with pytest.raises(PreconditionFailed, match=r"reload\.command with kubectl"):
            Cluster.inside(environ, tmp_path)
