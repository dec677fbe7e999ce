"""What makes two requests the same: their digest, and the request_id of a caller (AIP-155). Knows no transport."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ouroscope.canonical import digest_of
from ouroscope.errors import AlreadyExists, FieldProblem, InvalidRequest


def request_digest(method: str, request: Any, fingerprint: Mapping[str, str]) -> str:
    """Return the digest (64 hexadecimal digits) under which the answer to `request` is shared and remembered.

    Args:
        method: name of the call.
        request: its record, with every automatic choice already made.
        fingerprint: what else changes the answer: versions of libraries, number type, threads.
    """
    return digest_of(method, request, dict(fingerprint))


class RequestIds:
    """Remembers the last `limit` request ids and the digest that each stood for. Thread-safe."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._digests: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, request_id: str, digest: str) -> None:
        """Note that `request_id` stands for the request of `digest`; an empty id means nothing.

        Raises:
            InvalidRequest: it is not a UUID.
            AlreadyExists: it stands for another request.
        """
        if not request_id:
            return
        try:
            key = str(uuid.UUID(request_id))
        except ValueError:
            problem = FieldProblem("request_id", "must be a UUID, or empty")
            raise InvalidRequest(f"{problem.field}: {problem.description}", [problem]) from None
        with self._lock:
            if self._digests.setdefault(key, digest) != digest:
                raise AlreadyExists(f"request_id {key} was used for another request; make a new one", request_id=key)
            self._digests.move_to_end(key)
            if len(self._digests) > self._limit:
                self._digests.popitem(last=False)
