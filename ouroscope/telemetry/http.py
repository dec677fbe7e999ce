"""A small HTTP endpoint that shows a registry at /metrics. Knows nothing of what is measured."""

from __future__ import annotations

import gzip
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder, gzip_accepted

from ouroscope.addresses import bind_failure, check_reach, join_address
from ouroscope.errors import NotPermitted, OuroscopeError
from ouroscope.security.callers import Access
from ouroscope.security.https import CHALLENGE, check_reader, https_context
from ouroscope.security.settings import Security
from ouroscope.telemetry.written import Source

log = structlog.get_logger(__name__)

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class MetricsEndpoint:
    """An endpoint that answers until it is closed."""

    def __init__(self, server: WSGIServer, host: str, scheme: str) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()
        self.port: int = server.server_address[1]
        """Port in use, also where 0 was asked for."""
        self.url = f"{scheme}://{join_address(host, self.port)}/metrics"

    def close(self) -> None:
        """Stop answering; closing twice is harmless."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def start_metrics_endpoint(
    registry: CollectorRegistry,
    port: int,
    *,
    host: str = "127.0.0.1",
    option: str = "--metrics-port",
    sources: Sequence[Source] = (),
    security: Security = Security(),  # noqa: B008  # frozen
    allow_public: bool = False,
) -> MetricsEndpoint:
    """Show `registry` and what `sources` write at `http://host:port/metrics`.

    In the text or the OpenMetrics format, as the scraper asks.

    Args:
        registry: collected anew at every scrape, in a thread.
        port: 0 takes a free one.
        host: address to listen on; only this machine by default.
        option: what sets the port, for the text of errors.
        sources: what has its text at hand, beside the registry.
        security: TLS, and tokens that a scraper must show.
        allow_public: whether an address that other machines reach may be used although strangers are not kept out.

    Raises:
        PreconditionFailed: the port is in use or forbidden, or the host is not of this machine, or public without
            protection and `allow_public`.
    """
    check_reach(join_address(host, port), allow_public=allow_public or security.protects, option=option)
    # The age of every counter as a series of its own doubles their number and helps nobody in the text format.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # an oversight of the library
    context = https_context(security.tls, mutual=security.mutual) if security.tls else None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = type("_Server", (_Server,), {"address_family": family, "context": context})
    try:
        server: WSGIServer = kind((host, port), _Handler)
    except OSError as error:
        raise bind_failure(host, port, option, error) from error
    server.set_app(_only_metrics(_scrape(registry, sources), security.access))
    return MetricsEndpoint(server, host, "https" if context else "http")


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    context: ssl.SSLContext | None = None

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self.context is not None:
            # The handshake is left to the thread of the call: a silent client must not hold up the others.
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Scanners and scrapers without a certificate are no fault of ours; the original writes a traceback."""
        log.info("metrics.connection_failed", kind=type(sys.exception()).__name__)

    def server_bind(self) -> None:
        # The original asks DNS for the name of the host, which can take many seconds without a network.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds that a silent client may hold a thread

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes come every few seconds; they are not news."""


def _scrape(registry: CollectorRegistry, sources: Sequence[Source]) -> Callable[..., Iterable[bytes]]:
    def show(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _plain(start_response, "405 Method Not Allowed", "only GET is answered here\n")
        encode, kind = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        # The registry comes last, since OpenMetrics ends with a line that its encoder writes.
        body = "".join(source.text() for source in sources).encode() + encode(registry)
        headers = [("Content-Type", kind)]
        if gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
            # The fastest level: a scrape stays on the machine or in the cluster.
            body = gzip.compress(body, compresslevel=1)
            headers.append(("Content-Encoding", "gzip"))
        start_response("200 OK", headers)
        return [body]

    return show


def _only_metrics(show: Callable[..., Iterable[bytes]], access: Access | None) -> Callable[..., Iterable[bytes]]:
    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/metrics":
            return _plain(start_response, "404 Not Found", "there is only /metrics here\n")
        try:
            if access is not None:
                check_reader(access, environ.get("HTTP_AUTHORIZATION"))
            return show(environ, start_response)
        except NotPermitted as error:
            return _plain(start_response, "403 Forbidden", f"{error.message}\n")
        except OuroscopeError as error:
            return _plain(start_response, "401 Unauthorized", f"{error.message}\n", ("WWW-Authenticate", CHALLENGE))
        except Exception as error:
            log.error("metrics.scrape_failed", exc_info=error)
            return _plain(start_response, "500 Internal Server Error", "the scrape failed; see the log\n")

    return answer


def _plain(start_response: StartResponse, status: str, text: str, *headers: tuple[str, str]) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *headers])
    return [text.encode()]
