"""Serves the pages on an address of their own, in the event loop of the coordinator. Knows not what they show."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from starlette.types import ASGIApp

from ouroscope.addresses import bind_failure, check_free, check_reach, join_address, split_address
from ouroscope.security.https import https_context
from ouroscope.security.settings import Security
from services.coordinator.page.asking import AskingWho

log = structlog.get_logger(__name__)

OPTION = "OURO_COORDINATOR_PAGE_ADDRESS"
MOST_CALLS = 64
"""At a time; more are told to come back."""
LONGEST_HEAD = 16 * 1024
"""Bytes of the head of a request."""


class PageServer:
    """Pages that answer until they are closed."""

    def __init__(self, server: _Server, listening: socket.socket, host: str, scheme: str) -> None:
        self._server = server
        self._serving = asyncio.create_task(server.serve([listening]), name="page")
        self.url = f"{scheme}://{join_address(host, listening.getsockname()[1])}/"

    async def close(self) -> None:
        """Let those who are being answered have their answer, then stop. Closing twice is harmless."""
        self._server.should_exit = True
        await asyncio.wait([self._serving])
        if not self._serving.cancelled() and (error := self._serving.exception()):
            log.error("page.fell", url=self.url, exc_info=error)


def start_page_server(
    app: ASGIApp,
    address: str,
    *,
    allow_public: bool = False,
    security: Security = Security(),  # noqa: B008  # frozen
) -> PageServer:
    """Serve `app` on `address`; port 0 takes a free one.

    Raises:
        InvalidRequest: `address` is not an address.
        PreconditionFailed: it is in use, forbidden, not of this machine, or public without `allow_public`.
    """
    host, port = split_address(address)
    check_reach(address, allow_public=allow_public, option=OPTION)
    check_free(host, port, OPTION)
    asked = AskingWho(app, security.access) if security.access else app
    scheme = "https" if security.tls else "http"
    server = PageServer(_Server(_config(asked, security)), _listen(host, port), host, scheme)
    log.info("page.serving", url=server.url)
    return server


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(target[:2], family=family)
    except OSError as error:
        raise bind_failure(host, port, OPTION, error) from error


def _config(app: ASGIApp, security: Security) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CALLS,
        h11_max_incomplete_event_size=LONGEST_HEAD,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=2,
    )
    if security.tls:
        config.load()
        # Its own context would hold one certificate for good.
        config.ssl = https_context(security.tls, mutual=security.mutual)
    return config


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process: it drains the whole coordinator, not the pages alone."""
        yield
