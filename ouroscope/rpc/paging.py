"""Pages of lists (AIP-158): how large one is, and opaque tokens of where the next begins. Knows no list."""

from __future__ import annotations

import base64
import binascii

from ouroscope.errors import FieldProblem, InvalidRequest

DEFAULT_PAGE, LARGEST_PAGE = 100, 1000


def page_size(asked: int) -> int:
    """Return how many items a page has: 0 means 100, and more than 1000 means 1000.

    Raises:
        InvalidRequest: it is negative.
    """
    if asked < 0:
        raise _wrong("page_size", f"must be 0 or more, got {asked}")
    return min(asked or DEFAULT_PAGE, LARGEST_PAGE)


def write_token(key: str) -> str:
    """Return the page token that stands for `key`: the last item told, or where the next page begins."""
    return base64.urlsafe_b64encode(b"1:" + key.encode()).decode()


def read_token(token: str) -> str | None:
    """Return the key of a page token; None for the empty token of the first page.

    Raises:
        InvalidRequest: `write_token` did not make it.
    """
    if not token:
        return None
    try:
        version, _, key = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        version, key = "", ""
    if version != "1":
        raise _wrong("page_token", "is not one that this service gave; start again without it")
    return key


def _wrong(field: str, description: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {description}", [FieldProblem(field, description)])
