"""A rollout in Kubernetes: an annotation of a deployment's pods is changed, and its status is waited for.

Asks the API server with the service account of this pod, by two requests; no client library is needed for that. The
account needs `get` and `patch` on the one deployment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import structlog

from ouroscope.errors import OuroscopeError, PreconditionFailed, Unavailable
from ouroscope.kubernetes import ACCOUNT, ApiServer, Refusal
from services.generator.declared import KubernetesReload
from services.generator.handover.hooks import watched

log = structlog.get_logger(__name__)

_PATCH = "application/strategic-merge-patch+json"
_REQUEST_SECONDS = 30.0
_CONFLICT = 409
_POLL = 1.0
"""Seconds between two looks at the status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The cluster whose deployments are rolled out."""

    api: ApiServer
    poll: float = _POLL

    @classmethod
    def inside(cls, environ: Mapping[str, str], account: Path = ACCOUNT) -> Cluster:
        """Return the cluster that this pod runs in.

        Raises:
            PreconditionFailed: this is no pod, or it has no service account.
        """
        api = ApiServer.of_pod(environ, account)
        if api is None:
            raise PreconditionFailed(
                "reload.kubernetes needs a generator that runs as a pod with a service account "
                "(automountServiceAccountToken: true); elsewhere use reload.command with kubectl"
            )
        return cls(api=api)

    def roll_out(self, asked: KubernetesReload, value: str, seconds: float, check: Callable[[], None]) -> None:
        """Annotate the pods of the deployment with `value` and wait until all of them are new and available.

        Raises:
            PreconditionFailed: there is no such deployment, this pod may not change it, or its pods do not start.
            Unavailable: the API server cannot be reached, or `seconds` have passed.
        """

        async def work() -> None:
            async with self.api.client(_REQUEST_SECONDS) as client:
                await self._rolled_out(client, asked, value)

        try:
            watched(work, seconds, check)
        except Unavailable as error:
            raise Unavailable(
                f"the rollout of deployment {asked.deployment!r} did not end within {seconds:g} seconds: its pods are "
                "not ready yet, or the API server does not answer; see its pods, or raise reload.ready_seconds"
            ) from error
        log.info("reload.rolled_out", namespace=asked.namespace, deployment=asked.deployment)

    async def _rolled_out(self, client: httpx.AsyncClient, asked: KubernetesReload, value: str) -> None:
        route = f"/apis/apps/v1/namespaces/{asked.namespace}/deployments/{asked.deployment}"
        patch = {"spec": {"template": {"metadata": {"annotations": {asked.annotation: value}}}}}
        made = await self._asked(client, "PATCH", route, json=patch, headers={"Content-Type": _PATCH})
        generation = _number(made, "metadata", "generation")
        while not is_rolled_out(found := await self._asked(client, "GET", route), generation):
            if problem := stuck(found, generation):
                raise PreconditionFailed(
                    f"the rollout of deployment {asked.deployment!r} does not get on ({problem}); see its pods"
                )
            await asyncio.sleep(self.poll)

    async def _asked(self, client: httpx.AsyncClient, method: str, route: str, **options: Any) -> Mapping[str, Any]:
        """Return the answer of the API server; what may pass is asked again until time is up."""
        while True:
            try:
                return await self.api.answer(client, method, route, **options)
            except Refusal as refusal:
                if refusal.status != _CONFLICT:
                    raise _error(refusal.status) from refusal
            except (Unavailable, httpx.TransportError):
                pass
            await asyncio.sleep(self.poll)


def is_rolled_out(deployment: Mapping[str, Any], generation: int) -> bool:
    """Return whether every pod of the deployment is of `generation` and available, and no older one is left.

    >>> status = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    >>> is_rolled_out({"spec": {"replicas": 1}, "status": status}, 2)
    True
    >>> is_rolled_out({"spec": {"replicas": 1}, "status": status}, 3)
    False
    """
    wanted = _number(deployment, "spec", "replicas", default=1)
    counts = ("replicas", "updatedReplicas", "availableReplicas")
    seen = _number(deployment, "status", "observedGeneration") >= generation
    return seen and wanted > 0 and all(_number(deployment, "status", count) == wanted for count in counts)


def stuck(deployment: Mapping[str, Any], generation: int) -> str:
    """Return why a rollout will not end by itself, in the word of Kubernetes; empty if it may."""
    if _number(deployment, "spec", "replicas", default=1) == 0:
        return "it is scaled to 0 replicas"
    status = deployment.get("status")
    conditions = status.get("conditions") if isinstance(status, Mapping) else None
    if not isinstance(conditions, list) or _number(deployment, "status", "observedGeneration") < generation:
        return ""
    late = any(isinstance(each, Mapping) and each.get("reason") == "ProgressDeadlineExceeded" for each in conditions)
    return "ProgressDeadlineExceeded" if late else ""


def _number(value: Mapping[str, Any], part: str, key: str, default: int = 0) -> int:
    inner = value.get(part)
    found = inner.get(key) if isinstance(inner, Mapping) else None
    return found if type(found) is int else default


def _error(status: int) -> OuroscopeError:
    if status in (401, 403):
        return PreconditionFailed(
            f"the service account of the generator may not change the deployment (HTTP {status}); give it a Role with "
            "get and patch on apps/deployments of that name"
        )
    if status == 404:
        return PreconditionFailed("there is no such deployment; check namespace and deployment of reload.kubernetes")
    return PreconditionFailed(f"the API server refuses the change of the deployment (HTTP {status})")
