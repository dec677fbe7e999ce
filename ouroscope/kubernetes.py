"""Kubernetes as a pod asks it: where the API server is, who this pod is, one bounded question. Knows no resource.

A question is one request with the token of the pod's service account; no client library is needed for that.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ouroscope.errors import PreconditionFailed, Unavailable

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds what its service account is known by."""

MAX_ANSWER_BYTES = 4 << 20
_REASON_BYTES = 64 << 10
_REASON = re.compile(r"[A-Za-z]{1,40}")
_WOULD_PASS = (408, 425, 429)


class Refusal(Exception):
    """What the API server did not do, as a status and one of its own words; its text stays out of errors and logs."""

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(f"HTTP {status} {reason}".strip())
        self.status, self.reason = status, reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServer:
    """Where the API server is and how this pod proves who it is."""

    url: str
    token: Path
    """File with the bearer token; it is read for every request, since it is renewed while the pod runs."""
    authorities: Path | None
    """Certificates of the API server's authority; None for the usual ones."""
    namespace: str = ""
    """Of this pod."""

    @classmethod
    def of_pod(cls, environ: Mapping[str, str], account: Path = ACCOUNT) -> ApiServer | None:
        """Return that of the cluster that this pod runs in; None if this is no pod, or it has no service account."""
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not (account / "token").is_file():
            return None
        place, namespace = f"[{host}]" if ":" in host else host, account / "namespace"
        return cls(
            url=f"https://{place}:{port}",
            token=account / "token",
            authorities=account / "ca.crt",
            namespace=namespace.read_text().strip() if namespace.is_file() else "",
        )

    def client(self, seconds: float) -> httpx.AsyncClient:
        """Return what asks it, each question for at most so many seconds without a sign; to be closed."""
        trust = ssl.create_default_context(cafile=str(self.authorities)) if self.authorities else True
        return httpx.AsyncClient(
            base_url=self.url,
            verify=trust,
            headers={"Accept-Encoding": "identity", "Accept": "application/json"},
            timeout=seconds,
            follow_redirects=False,
            trust_env=False,
        )

    async def answer(self, client: httpx.AsyncClient, method: str, route: str, **options: Any) -> Mapping[str, Any]:
        """Ask once and return the object that is answered.

        Raises:
            Refusal: it will not, whenever it is asked.
            Unavailable: not now, or the answer was cut off; httpx.TransportError if it cannot be reached.
            PreconditionFailed: the answer is larger than any that is expected.
        """
        body = await self.body(client, method, route, **options)
        try:
            answer = httpx.Response(200, content=body).json()
        except ValueError as error:
            raise Unavailable("the API server's answer was cut off") from error
        return answer if isinstance(answer, dict) else {}

    async def body(self, client: httpx.AsyncClient, method: str, route: str, **options: Any) -> bytes:
        """Ask once and return what is answered, as bytes; raises what `answer` does."""
        token = {"Authorization": f"Bearer {self.token.read_text().strip()}"}
        headers = {**options.pop("headers", {}), **token}
        async with client.stream(method, route, headers=headers, **options) as response:
            status = response.status_code
            if status in _WOULD_PASS or status >= 500:
                raise Unavailable(f"the API server answers HTTP {status}")
            if not response.is_success:
                raise Refusal(status, _reason(await _bounded(response, _REASON_BYTES)))
            return await _bounded(response, MAX_ANSWER_BYTES)


async def _bounded(response: httpx.Response, most: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            raise PreconditionFailed("the API server's answer is too large; is this a Kubernetes API?")
    return bytes(body)


def _reason(body: bytes) -> str:
    try:
        told = httpx.Response(200, content=body).json()
    except ValueError:
        return ""
    reason = told.get("reason") if isinstance(told, dict) else None
    return reason if isinstance(reason, str) and _REASON.fullmatch(reason) else ""
