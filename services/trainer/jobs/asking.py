"""Jobs, their pods and their logs, asked of the API server. What may pass is asked again, for a bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import structlog

from ouroscope.errors import OuroscopeError, PreconditionFailed, Unavailable
from ouroscope.kubernetes import ApiServer, Refusal
from services.trainer.jobs.seen import Object, uid_of
from services.trainer.jobs.template import CONTAINER

log = structlog.get_logger(__name__)

REQUEST_SECONDS = 10.0
"""Short: whoever wants the work to stop waits for it at most."""
_STEP = 0.2
_LOG_LINES = 50
_LOG_BYTES = 1 << 20
_MOST_PODS = 100
_NAME_LABEL = "batch.kubernetes.io/job-name"


class Taken(Exception):
    """There is a Job of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The API server, for one request of ours."""

    api: ApiServer
    client: httpx.AsyncClient
    check: Callable[[], None]
    """Called between questions; raises when the work is to stop."""
    poll: float
    """Seconds between two looks."""
    patience: float
    """Seconds for which an API server that does not answer is asked again."""

    async def pause(self) -> None:
        """Let some time pass before the next look, and heed who wants the work to stop."""
        until = time.monotonic() + self.poll
        while (left := until - time.monotonic()) > 0:
            self.check()
            await asyncio.sleep(min(_STEP, left))
        self.check()

    async def create(self, job: Mapping[str, Any]) -> Object:
        """Make a Job and return it.

        Raises:
            Taken: there is one of that name.
            PreconditionFailed: the API server refuses it.
            Unavailable: it does not answer.
        """
        try:
            return await self._again(lambda: self.api.answer(self.client, "POST", self._jobs, json=job))
        except Refusal as refusal:
            if refusal.status == 409:
                raise Taken from refusal
            raise _error(refusal, "create on jobs") from refusal

    async def job(self, name: str) -> Object | None:
        """Return a Job, or None if there is none of that name; raises what `create` does."""
        try:
            return await self._again(lambda: self.api.answer(self.client, "GET", f"{self._jobs}/{name}"))
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise _error(refusal, "get on jobs") from refusal

    async def delete(self, job: Object) -> None:
        """Delete a Job, and with it its pods, which are told to end and get their time; fine if it is gone.

        Raises what `create` does.
        """
        name = job["metadata"]["name"]
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid_of(job)}}
        try:
            await self._again(lambda: self.api.answer(self.client, "DELETE", f"{self._jobs}/{name}", json=options))
        except Refusal as refusal:
            # 409: another one has its name by now.
            if refusal.status not in (404, 409):
                raise _error(refusal, "delete on jobs") from refusal

    async def pods(self, name: str, uid: str = "") -> list[Object]:
        """Return the pods of a Job of that name: of that one alone, or of any there ever was.

        Raises what `create` does.
        """
        params: dict[str, str | int] = {"labelSelector": f"{_NAME_LABEL}={name}", "limit": _MOST_PODS}
        route = f"/api/v1/namespaces/{self.api.namespace}/pods"
        try:
            answer = await self._again(lambda: self.api.answer(self.client, "GET", route, params=params))
        except Refusal as refusal:
            raise _error(refusal, "list on pods") from refusal
        found = [one for one in answer.get("items") or () if isinstance(one, Mapping)]
        return [one for one in found if not uid or uid in _owners(one)]

    async def log(self, pod: Object) -> str:
        """Return the end of a pod's log; nothing where it cannot be had now, since the work does not depend on it."""
        name = pod["metadata"]["name"]
        params: dict[str, str | int] = {"container": CONTAINER, "tailLines": _LOG_LINES, "limitBytes": _LOG_BYTES}
        route = f"/api/v1/namespaces/{self.api.namespace}/pods/{name}/log"
        # The log is text, and no other form is to be had of it.
        headers = {"Accept": "*/*"}
        try:
            body = await self.api.body(self.client, "GET", route, params=params, headers=headers)
        except Refusal as refusal:
            if refusal.status in (401, 403):
                raise _error(refusal, "get on pods/log") from refusal
            return ""
        except (Unavailable, httpx.TransportError):
            return ""
        return body.decode(errors="replace")

    @property
    def _jobs(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.api.namespace}/jobs"

    async def _again(self, ask: Callable[[], Awaitable[Object]]) -> Object:
        until = time.monotonic() + self.patience
        while True:
            try:
                return await ask()
            except (Unavailable, httpx.TransportError) as error:
                log.info("kubernetes.asks_again", error=type(error).__name__)
                if time.monotonic() > until:
                    raise Unavailable(
                        "the API server of Kubernetes does not answer; a Job that was begun goes on: ask again"
                    ) from error
            await self.pause()


def _owners(one: Object) -> list[str]:
    return [str(each.get("uid")) for each in one["metadata"].get("ownerReferences") or ()]


def _error(refusal: Refusal, verb: str) -> OuroscopeError:
    log.warning("kubernetes.refused", asked=verb, status=refusal.status, reason=refusal.reason)
    if refusal.status in (401, 403):
        return PreconditionFailed(
            f"the service account of the trainer may not ask for {verb} (HTTP {refusal.status}), or a policy of the "
            "cluster refuses it; see the Role of the chart, and the quota of the namespace"
        )
    return PreconditionFailed(
        f"the API server refuses what the trainer asked: {verb} (HTTP {refusal.status} {refusal.reason}); check the "
        "template of Jobs"
    )
