"""What the status of a Job and of its pods says, in our words. Pure: knows the forms of Kubernetes, asks nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ouroscope.errors import LimitExceeded, OuroscopeError, PreconditionFailed
from services.trainer.jobs.template import CONTAINER

Object = Mapping[str, Any]

NO_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
NO_CONTAINER = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
"""What a container waits for that seldom comes by itself."""
_MOST = 160
_ENDED = ("Succeeded", "Failed")


def uid_of(one: Object) -> str:
    """Return what tells an object from an earlier one of the same name."""
    return str(_inner(one, "metadata").get("uid", ""))


def is_leaving(one: Object) -> bool:
    """Return whether an object is being deleted."""
    return "deletionTimestamp" in _inner(one, "metadata")


def is_waiting(job: Object) -> bool:
    """Return whether a queue has not let the Job begin, or has stopped it for a while."""
    return _inner(job, "spec").get("suspend") is True


def outcome(job: Object) -> str:
    """Return `Complete` or `Failed` once a Job has ended, and nothing before."""
    return next((kind for kind in ("Complete", "Failed") if _condition(job, kind)), "")


def at_work(pods: Sequence[Object]) -> list[Object]:
    """Return the pods that have not ended, the youngest last."""
    return sorted((pod for pod in pods if _inner(pod, "status").get("phase") not in _ENDED), key=_age)


def newest(pods: Sequence[Object]) -> Object | None:
    """Return the pod that was begun last."""
    return max(pods, key=_age, default=None)


def has_begun(pod: Object) -> bool:
    """Return whether there is a log to ask for."""
    return _inner(pod, "status").get("phase") in ("Running", *_ENDED)


def hindrance(pod: Object) -> str:
    """Return the word of Kubernetes for why a container of a pod cannot begin; empty if nothing keeps it."""
    waits = (_inner(_inner(one, "state"), "waiting").get("reason") for one in _containers(pod))
    return next((word for word in waits if word in NO_IMAGE | NO_CONTAINER), "")


def stage(pod: Object) -> str:
    """Return what a pod waits for that has not begun."""
    placed = _condition_of(pod, "PodScheduled")
    if placed.get("status") == "False":
        return f"wait for a node: {_short(placed.get('message') or placed.get('reason'))}"
    word = hindrance(pod)
    return f"wait for the image: {word}" if word in NO_IMAGE else "wait for its container"


def cannot_begin(name: str, word: str) -> OuroscopeError:
    """Return the error of a Job whose container does not come to be."""
    if word in NO_IMAGE:
        told = f"the image of Job {name!r} cannot be had ({word}); check its name in the template, and the pull secrets"
    else:
        told = f"the container of Job {name!r} cannot be made ({word}); check Secrets and volumes of the template"
    return PreconditionFailed(told, job=name)


def failure(name: str, job: Object, pods: Sequence[Object], told: OuroscopeError | None) -> OuroscopeError:
    """Return the error of a Job that failed, with what is to be done.

    Args:
        name: Of the Job.
        job: As it is now.
        pods: Of the Job, as many as are still there.
        told: What the last of them said, if it said anything.
    """
    if _condition(job, "Failed").get("reason") == "DeadlineExceeded":
        return LimitExceeded(
            f"Job {name!r} was at work for longer than it may (activeDeadlineSeconds); what was reached is kept: raise "
            "trainer.jobs.deadlineSeconds, or ask again to go on",
            job=name,
        )
    last = newest(pods)
    if last is not None and "OOMKilled" in _endings(last):
        return LimitExceeded(
            f"Job {name!r} needed more memory than its container may have (OOMKilled); lower recipe.batch_size or "
            "recipe.block_tokens, or raise trainer.resources.limits.memory",
            job=name,
        )
    why = told.message if told else ", ".join(_endings(last) if last else []) or "its pods are gone"
    return PreconditionFailed(
        f"Job {name!r} failed ({_short(why)}), and was begun again as often as it may; see the logs of its pods. What "
        "was reached is kept: ask again to go on",
        job=name,
    )


def _endings(pod: Object) -> list[str]:
    """Return in the words of Kubernetes how a pod and its container ended."""
    found = [str(word) for word in (_inner(pod, "status").get("reason"),) if word]
    for one in _containers(pod):
        ended = _inner(_inner(one, "state"), "terminated") or _inner(_inner(one, "lastState"), "terminated")
        if one.get("name") == CONTAINER and ended:
            found += [str(ended.get("reason", "Error")), f"exit status {ended.get('exitCode')}"]
    return found


def _containers(pod: Object) -> Iterator[Object]:
    status = _inner(pod, "status")
    for kind in ("initContainerStatuses", "containerStatuses"):
        yield from (one for one in status.get(kind) or () if isinstance(one, Mapping))


def _condition(one: Object, kind: str) -> Object:
    """Return the condition of that kind if it holds."""
    found = _condition_of(one, kind)
    return found if found.get("status") == "True" else {}


def _condition_of(one: Object, kind: str) -> Object:
    conditions = _inner(one, "status").get("conditions") or ()
    return next((each for each in conditions if isinstance(each, Mapping) and each.get("type") == kind), {})


def _age(pod: Object) -> tuple[str, str]:
    metadata = _inner(pod, "metadata")
    return str(metadata.get("creationTimestamp", "")), str(metadata.get("name", ""))


def _inner(one: Object, key: str) -> Object:
    found = one.get(key)
    return found if isinstance(found, Mapping) else {}


def _short(text: Any) -> str:
    words = " ".join(str(text or "no reason was told").split())
    return words if len(words) <= _MOST else f"{words[: _MOST - 3]}..."
