"""Logs are events with fields, and a registry can be scraped."""

from __future__ import annotations

import gzip
import io
import json
import logging
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from ouroscope.errors import PreconditionFailed
from ouroscope.telemetry.http import MetricsEndpoint, start_metrics_endpoint
from ouroscope.telemetry.logs import configure_logs, get_logger
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.telemetry.written import WrittenFamilies


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """A place for logs; the settings of the process are put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_log_line_is_an_event_with_its_fields(out):
    configure_logs(json=True, stream=out)
    get_logger("toy").bind(run="r1").info("corpus.written", documents=3)
    (line,) = lines(out)
    assert (line["event"], line["run"], line["documents"], line["level"]) == ("corpus.written", "r1", 3, "info")
    assert line["logger"] == "toy"
    assert str(line["timestamp"]).endswith("Z")


def test_loggers_that_were_made_before_take_the_form_too(out):
    early = get_logger("early")
    configure_logs(json=True, stream=out)
    early.info("hello")
    assert lines(out)[0]["event"] == "hello"


def test_libraries_log_in_the_same_form(out):
    configure_logs(json=True, stream=out)
    logging.getLogger("some.library").warning("careful with %s", "this")
    assert lines(out)[0]["event"] == "careful with this"


def test_lines_below_the_level_are_not_written(out):
    configure_logs(json=True, level="warning", stream=out)
    get_logger("toy").info("quiet")
    get_logger("toy").warning("loud")
    assert [line["event"] for line in lines(out)] == ["loud"]


def test_setting_up_twice_does_not_double_the_lines(out):
    configure_logs(json=True, stream=out)
    configure_logs(json=True, stream=out)
    get_logger("toy").info("once")
    assert len(lines(out)) == 1


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_shows_no_local_variables(out, as_json):
    configure_logs(json=as_json, stream=out)

    def fail() -> None:
        document_text = "".join(["sec", "ret text"])  # noqa: F841  # what a traceback with locals would show
        raise ValueError("broken")

    try:
        fail()
    except ValueError as error:
        get_logger("toy").error("failed", exc_info=error)
    assert "broken" in out.getvalue()
    assert "secret text" not in out.getvalue()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def endpoint(registry) -> Iterator[MetricsEndpoint]:
    running = start_metrics_endpoint(registry, 0)
    yield running
    running.close()


def get(url: str, accept: str = "*/*") -> tuple[str, str]:
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def test_a_scrape_shows_what_was_counted(registry, endpoint):
    metrics = ServiceMetrics(registry)
    metrics.handled.labels("ouroscope.v1.TrainerService", "FineTune", "OK").inc()
    metrics.tokens_generated.inc(5)
    metrics.watch_queue("ouroscope.v1.TrainerService", lambda: 7)
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(get(endpoint.url)[1])
        for sample in family.samples
    }
    assert samples["grpc_server_handled_total"] == 1
    assert samples["ouroscope_tokens_generated_total"] == 5
    assert samples["ouroscope_queue_depth"] == 7


def test_promtool_finds_no_fault(registry, endpoint, program):
    metrics = ServiceMetrics(registry)
    method = ("ouroscope.v1.TrainerService", "FineTune")
    metrics.handled.labels(*method, "OK").inc()
    metrics.seconds.labels(*method).observe(0.1)
    metrics.in_flight.labels(*method).inc()
    metrics.watch_queue(method[0], lambda: 1)
    command = [program("promtool"), "check", "metrics"]
    found = subprocess.run(command, input=get(endpoint.url)[1], text=True, capture_output=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_there_is_no_series_for_when_a_counter_was_made(registry, endpoint):
    ServiceMetrics(registry)
    assert "_created" not in get(endpoint.url)[1]


def test_a_scraper_that_asks_for_openmetrics_gets_it(registry, endpoint):
    ServiceMetrics(registry).documents_analysed.inc(2)
    kind, text = get(endpoint.url, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    names = {family.name for family in openmetrics.text_string_to_metric_families(text)}
    assert "ouroscope_documents_analysed" in names


class Pieces:
    """Families of two things, written once."""

    def __init__(self) -> None:
        self.families = WrittenFamilies()
        for name in ("a", 'b "quoted"\n# HELP toy_size_bytes'):
            size = GaugeMetricFamily("toy_size_bytes", "How large.", labels=["thing"])
            size.add_metric([name], 1.5)
            empty = GaugeMetricFamily("toy_nothing", "Nothing.", labels=["thing"])
            self.families.put(name, [size, empty])

    def text(self) -> str:
        return self.families.text()


@pytest.mark.parametrize("accept", ["*/*", "application/openmetrics-text; version=1.0.0"])
def test_text_that_is_at_hand_is_shown_beside_the_registry_in_either_format(registry, accept):
    ServiceMetrics(registry).documents_analysed.inc(2)
    endpoint = start_metrics_endpoint(registry, 0, sources=[Pieces()])
    _, text = get(endpoint.url, accept)
    endpoint.close()
    parse = openmetrics.text_string_to_metric_families if "open" in accept else text_string_to_metric_families
    families = {family.name: family for family in parse(text)}
    assert {s.labels["thing"] for s in families["toy_size_bytes"].samples} == {
        "a",
        'b "quoted"\n# HELP toy_size_bytes',
    }
    assert "toy_nothing" not in families
    assert "ouroscope_documents_analysed" in {name.removesuffix("_total") for name in families}


def test_a_piece_is_replaced_and_dropped_without_the_others():
    pieces = Pieces().families
    size = GaugeMetricFamily("toy_size_bytes", "How large.", labels=["thing"])
    size.add_metric(["a"], 2.0)
    pieces.put("a", [size])
    assert 'toy_size_bytes{thing="a"} 2.0\n' in pieces.text()
    assert pieces.text().count('thing="a"') == 1
    for name in ("a", "a", 'b "quoted"\n# HELP toy_size_bytes'):
        pieces.drop(name)
    assert pieces.text() == ""


def test_a_scraper_that_reads_gzip_gets_it(registry, endpoint):
    ServiceMetrics(registry).documents_analysed.inc(2)
    asked = urllib.request.Request(endpoint.url, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert b"ouroscope_documents_analysed_total 2.0" in gzip.decompress(answer.read())


def test_nothing_can_be_sent_there(endpoint):
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(endpoint.url, data=b"x", timeout=10)
    assert caught.value.code == 405
    caught.value.close()


@pytest.mark.parametrize("path", ["/", "/metrics/x", "/favicon.ico"])
def test_nothing_else_is_served(endpoint, path):
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(endpoint.url.removesuffix("/metrics") + path)
    assert caught.value.code == 404
    caught.value.close()


def test_a_collector_that_fails_is_an_error_of_the_scrape_and_no_text_leaves(registry, endpoint):
    class Broken:
        def collect(self) -> Iterator[object]:
            raise RuntimeError("secret text")

        def describe(self) -> list[object]:
            return []

    registry.register(Broken())
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(endpoint.url)
    assert caught.value.code == 500
    assert b"secret" not in caught.value.read()
    caught.value.close()


def test_a_port_in_use_is_told_with_what_to_do(registry):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PreconditionFailed, match=rf"port {port} is in use; choose another with --metrics-port"):
            start_metrics_endpoint(registry, port)


def test_a_closed_endpoint_gives_its_port_back(registry):
    first = start_metrics_endpoint(registry, 0)
    first.close()
    second = start_metrics_endpoint(registry, first.port)
    assert second.port == first.port
    second.close()


def test_only_this_machine_is_served_by_default(endpoint):
    assert endpoint.url.startswith("http://127.0.0.1:")
