"""Service metrics of one process, in Prometheus terms. Knows neither gRPC nor what the services do."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class ServiceMetrics:
    """Counters that every service of a process shares; the label `grpc_service` tells them apart.

    One per registry: a second one on the same registry is refused by prometheus_client.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        method = ("grpc_service", "grpc_method")
        self.handled = Counter(
            "grpc_server_handled",
            "Calls that were answered, by status.",
            (*method, "grpc_code"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time from the start of a call to its answer.",
            method,
            registry=self.registry,
            buckets=SECONDS,
        )
        self.in_flight = Gauge("grpc_server_in_flight", "Calls being handled.", method, registry=self.registry)
        self.queue_depth = Gauge(
            "ouroscope_queue_depth", "Operations that wait for a worker.", ("grpc_service",), registry=self.registry
        )
        self.tokens_generated = Counter(
            "ouroscope_tokens_generated", "Tokens that models of this process have drawn.", registry=self.registry
        )
        self.documents_analysed = Counter(
            "ouroscope_documents_analysed", "Documents that the analyzer has measured.", registry=self.registry
        )

    def watch_queue(self, service: str, depth: Callable[[], int]) -> None:
        """Let the queue depth of `service` (its full gRPC name) be read from `depth` at every scrape."""
        self.queue_depth.labels(service).set_function(depth)
