"""What the status of Jobs and pods means, in forms as Kubernetes writes them."""

from __future__ import annotations

from typing import Any

import pytest

from ouroscope.errors import LimitExceeded, OuroscopeError, PreconditionFailed, Unavailable
from services.trainer.jobs import seen


def pod(name: str = "a", phase: str = "Running", *, conditions: Any = (), reason: str = "", **state: Any) -> Any:
    status = {"phase": phase, "conditions": list(conditions)} | ({"reason": reason} if reason else {})
    if state:
        status["containerStatuses"] = [{"name": "training", "state": state}]
    return {"metadata": {"name": name, "creationTimestamp": f"2026-01-01T00:00:0{len(name)}Z"}, "status": status}


def job(**condition: str) -> Any:
    return {"metadata": {"uid": "u"}, "spec": {}, "status": {"conditions": [{"status": "True", **condition}]}}


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        ({}, ""),
        ({"status": {"conditions": None}}, ""),
        (job(type="Suspended"), ""),
        # What is about to fail still has pods that end.
        (job(type="FailureTarget"), ""),
        (job(type="SuccessCriteriaMet"), ""),
        (job(type="Failed", status="False"), ""),
        (job(type="Complete"), "Complete"),
        (job(type="Failed"), "Failed"),
    ],
)
def test_a_job_has_ended_when_it_says_so(given: Any, outcome: str) -> None:
    assert seen.outcome(given) == outcome


def test_a_pod_that_ends_is_still_at_work_until_it_has_ended() -> None:
    leaving = pod("leaving")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    pods = [pod("aa", "Pending"), leaving, pod("b", "Succeeded"), pod("c", "Failed"), pod("d", "Unknown")]
    assert [each["metadata"]["name"] for each in seen.at_work(pods)] == ["d", "aa", "leaving"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (pod("a", "Pending"), "wait for its container"),
        (pod("a", "Pending", waiting={"reason": "ContainerCreating"}), "wait for its container"),
        (pod("a", "Pending", waiting={"reason": "ErrImagePull"}), "wait for the image: ErrImagePull"),
        (
            pod("a", "Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/1 nodes\n are"}]),
            "wait for a node: 0/1 nodes are",
        ),
        (
            pod("a", "Pending", conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]),
            "wait for a node: SchedulingGated",
        ),
    ],
)
def test_what_a_pod_waits_for_is_told_in_few_words(given: Any, told: str) -> None:
    assert seen.stage(given) == told


@pytest.mark.parametrize("word", sorted(seen.NO_IMAGE | seen.NO_CONTAINER))
def test_what_hinders_a_container_is_found_and_told(word: str) -> None:
    assert seen.hindrance(pod(waiting={"reason": word})) == word
    assert word in seen.cannot_begin("train", word).message
    assert seen.hindrance(pod(waiting={"reason": "PodInitializing"})) == ""


@pytest.mark.parametrize(
    ("pods", "condition", "told", "kind", "words"),
    [
        ([], {"reason": "DeadlineExceeded"}, None, LimitExceeded, "trainer.jobs.deadlineSeconds"),
        ([], {"reason": "BackoffLimitExceeded"}, None, PreconditionFailed, "its pods are gone"),
        ([pod(terminated={"reason": "OOMKilled", "exitCode": 137})], {}, None, LimitExceeded, "recipe.batch_size"),
        ([pod(terminated={"reason": "Error", "exitCode": 1})], {}, None, PreconditionFailed, "exit status 1"),
        ([pod(reason="Evicted", phase="Failed")], {}, None, PreconditionFailed, "Evicted"),
        ([pod(terminated={"exitCode": 75})], {}, Unavailable("no store"), PreconditionFailed, "no store"),
        # The last one counts: what came before was tried again.
        (
            [pod("a", terminated={"reason": "OOMKilled", "exitCode": 137}), pod("aa", terminated={"exitCode": 1})],
            {},
            None,
            PreconditionFailed,
            "exit status 1",
        ),
    ],
)
def test_a_failure_says_why_and_what_is_to_be_done(
    pods: list[Any], condition: dict[str, str], told: OuroscopeError | None, kind: type[OuroscopeError], words: str
) -> None:
    error = seen.failure("train", job(type="Failed", **condition), pods, told)
    assert type(error) is kind
    assert words in error.message
    assert "train" in error.message
