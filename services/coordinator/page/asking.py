"""Asks who wants to see the pages: a bearer token, or the token as the password that a browser asks for."""

from __future__ import annotations

import asyncio

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ouroscope.errors import NotPermitted, OuroscopeError
from ouroscope.security.callers import Access
from ouroscope.security.https import CHALLENGE, check_reader

log = structlog.get_logger(__name__)


class AskingWho:
    """An application that shows another one to those who may read."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        try:
            # In a thread: the first token of an identity provider may have to wait for its keys.
            await asyncio.to_thread(check_reader, self._access, Request(scope).headers.get("authorization"))
        except OuroscopeError as error:
            log.info("page.refused", reason=error.reason)
            await _refusal(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _refusal(error: OuroscopeError) -> PlainTextResponse:
    if isinstance(error, NotPermitted):
        return PlainTextResponse(f"{error.message}\n", 403)
    return PlainTextResponse(f"{error.message}\n", 401, {"WWW-Authenticate": CHALLENGE})
