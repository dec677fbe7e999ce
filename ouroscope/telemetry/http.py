"""A small HTTP endpoint that shows a registry at /metrics. Knows nothing of what is measured."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder, gzip_accepted

from ouroscope.addresses import bind_failure, join_address
from ouroscope.telemetry.written import Source

log = structlog.get_logger(__name__)

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class MetricsEndpoint:
    """An endpoint that answers until it is closed."""

    def __init__(self, server: WSGIServer, host: str) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()
        self.port: int = server.server_address[1]
        """Port in use, also where 0 was asked for."""
        self.url = f"http://{join_address(host, self.port)}/metrics"

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
) -> MetricsEndpoint:
    """Show `registry` and what `sources` write at `http://host:port/metrics`.

    In the text or the OpenMetrics format, as the scraper asks.

    Args:
        registry: collected anew at every scrape, in a thread.
        port: 0 takes a free one.
        host: address to listen on; only this machine by default, since nobody is asked who they are.
        option: what sets the port, for the text of errors.
        sources: what has its text at hand, beside the registry.

    Raises:
        PreconditionFailed: the port is in use or forbidden, or the host is not of this machine.
    """
    # The age of every counter as a series of its own doubles their number and helps nobody in the text format.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # an oversight of the library
    kind = type("_Server", (_Server,), {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET})
    try:
        server: WSGIServer = kind((host, port), _Handler)
    except OSError as error:
        raise bind_failure(host, port, option, error) from error
    server.set_app(_only_metrics(_scrape(registry, sources)))
    return MetricsEndpoint(server, host)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

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


def _only_metrics(show: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/metrics":
            return _plain(start_response, "404 Not Found", "there is only /metrics here\n")
        try:
            return show(environ, start_response)
        except Exception as error:
            log.error("metrics.scrape_failed", exc_info=error)
            return _plain(start_response, "500 Internal Server Error", "the scrape failed; see the log\n")

    return answer


def _plain(start_response: StartResponse, status: str, text: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]
