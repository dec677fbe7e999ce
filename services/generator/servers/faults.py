"""What went wrong with a server, as the errors of this project. Decides only; nothing of a server's text is passed on.

Unavailable is what may pass: it is tried again. Every other error is final.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from ouroscope.addresses import join_address
from ouroscope.errors import (
    CapabilityMissing,
    InvalidRequest,
    LimitExceeded,
    OuroscopeError,
    PreconditionFailed,
    Unavailable,
)

_PASSING = frozenset({408, 424, 425, 429, 500, 502, 503, 504})
"""424 is TGI's word for a generation that failed on the way."""
_NOT_TOLD = 0.0
"""Seconds to wait where the server names none: the wait between two tries is then ours alone."""
_LONGEST_WAIT = 300.0
"""Seconds: a server that asks for more is not waited for so long."""


def error_of(
    status: int, *, server: str, route: str, token_variable: str = "", body: bytes = b"", retry_after: float = _NOT_TOLD
) -> OuroscopeError:
    """Return what an answer that is no success means.

    Args:
        status: Of HTTP.
        server: Name of the backend.
        route: Path that was asked.
        token_variable: Environment variable that holds the token; empty if none is declared.
        body: First bytes of the answer.
        retry_after: Seconds that the server asks to wait.
    """
    if status in _PASSING or (status >= 500 and status != 501):
        return Unavailable(f"the server of backend {server!r} answers HTTP {status}", retry_after=retry_after)
    if status in (401, 403):
        return PreconditionFailed(
            f"the server of backend {server!r} wants another token (HTTP {status}); {_where_token(token_variable)}"
        )
    if status == 404 and _names_model(body):
        return PreconditionFailed(
            f"the server of backend {server!r} does not serve this model (any more): it was restarted, or its weights "
            "were changed; ask again, so that the weights are handed over again"
        )
    if status in (404, 405, 501):
        return CapabilityMissing(
            f"the server of backend {server!r} has no {route} (HTTP {status}); check `urls` and `kind` of the backend"
        )
    if status == 413:
        return InvalidRequest(f"the server of backend {server!r} takes no request of this size; send shorter texts")
    return InvalidRequest(
        f"the server of backend {server!r} refuses {route} (HTTP {status}); its log says why: the text may be too "
        "long for its context, or it does not know a setting of the request"
    )


def address_of(url: str) -> str:
    """Return `host:port` of a server and nothing else of its URL, which may hold a secret.

    >>> address_of("https://user:secret@vllm/path?key=secret")
    'vllm:443'
    """
    parts = urlsplit(url)
    return join_address(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def lost(server: str, url: str) -> Unavailable:
    """Return the error of a server that cannot be reached, or whose connection broke."""
    return Unavailable(
        f"the server of backend {server!r} at {address_of(url)} cannot be reached, or the connection broke",
        retry_after=_NOT_TOLD,
    )


def late(server: str, url: str, seconds: float) -> Unavailable:
    """Return the error of a server that has not answered in time."""
    return Unavailable(
        f"the server of backend {server!r} at {address_of(url)} has not answered within {seconds:g} s; raise "
        "`timeout` of the backend if its answers take longer",
        retry_after=_NOT_TOLD,
    )


def broken(server: str, route: str) -> Unavailable:
    """Return the error of an answer that cannot be understood: cut off, or of another form than the kind has."""
    return Unavailable(
        f"the server of backend {server!r} answers {route} with something that is no whole answer of its kind",
        retry_after=_NOT_TOLD,
    )


def oversized(server: str, most: int) -> LimitExceeded:
    """Return the error of an answer that is too large to be read."""
    return LimitExceeded(
        f"an answer of the server of backend {server!r} has more than {most} bytes; such a server is not trusted"
    )


def seconds_to_wait(headers: Mapping[str, str]) -> float:
    """Return the seconds that `Retry-After` asks for, in [0, 300]; 0 if nothing is asked.

    >>> seconds_to_wait({"retry-after": "7"})
    7.0
    """
    told = headers.get("retry-after", "")
    try:
        seconds = float(told)
    except ValueError:
        seconds = _until(told)
    return min(max(seconds, 0.0), _LONGEST_WAIT) if math.isfinite(seconds) else 0.0


def _until(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except ValueError:
        return 0.0


def _where_token(variable: str) -> str:
    if variable:
        return f"put the right one into the environment variable {variable} of the generator"
    return "name the environment variable that holds it as `token_variable` of the backend"


def _names_model(body: bytes) -> bool:
    """Return whether a 404 speaks of the model and not of the route, as OpenAI's errors do."""
    try:
        told = json.loads(body)
    except ValueError:
        return False
    error = told.get("error") if isinstance(told, dict) else None
    return isinstance(error, dict) and "model" in str(error.get("message", "")).lower()
