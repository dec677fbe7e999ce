"""The health of the four services."""

from __future__ import annotations

from panels import WARNING, Panel, bars, dashboard, lines, number, query, row

P95 = "histogram_quantile(0.95, sum by (grpc_service, grpc_method, le) (rate(grpc_server_handling_seconds_bucket[5m])))"
"""Not the recorded one: Grafana finds exemplars by the name of the histogram."""
TURNED_AWAY = 'grpc_service="ouroscope.v1.AnalyzerService", grpc_code="RESOURCE_EXHAUSTED"'


def services() -> Panel:
    """Return the health of the four services."""
    return dashboard(
        "ouroscope-services",
        "Ouroscope: services",
        "Calls, queues and work of the coordinator, the analyzer, the generator and the trainer.",
        [
            *(
                number(
                    service,
                    f'sum(up{{job="ouroscope-{service}"}}) or vector(0)',
                    told="Processes that can be scraped.",
                    width=6,
                )
                for service in ("coordinator", "analyzer", "generator", "trainer")
            ),
            lines(
                "Calls",
                query("sum by (grpc_service) (service:grpc_server_handled:rate5m)", "{{grpc_service}}"),
                unit="reqps",
                least=0,
            ),
            lines(
                "Calls that failed",
                query('service:grpc_server_handled:rate5m{grpc_code!="OK"} > 0', "{{grpc_service}} {{grpc_code}}"),
                unit="reqps",
                least=0,
            ),
            lines(
                "Time to answer, 95th percentile",
                query(P95, "{{grpc_service}} {{grpc_method}}", exemplars=True),
                unit="s",
                least=0,
                told="Points are exemplars: the traces behind single calls, where traces are on.",
            ),
            lines(
                "Calls in flight",
                query(
                    "sum by (grpc_service, grpc_method) (grpc_server_in_flight) > 0", "{{grpc_service}} {{grpc_method}}"
                ),
                least=0,
            ),
            lines(
                "Waiting operations",
                query("sum by (grpc_service) (ouroscope_queue_depth)", "{{grpc_service}}"),
                least=0,
                told="Operations that have no worker yet.",
            ),
            lines(
                "Calls that the analyzer turned away",
                query(
                    f"sum by (instance) (rate(grpc_server_handled_total{{{TURNED_AWAY}}}[5m]))",
                    "{{instance}}",
                ),
                unit="reqps",
                least=0,
            ),
            row("Work"),
            lines(
                "Documents analysed",
                query("sum(rate(ouroscope_documents_analysed_total[5m]))", "documents"),
                unit="wps",
                least=0,
            ),
            lines(
                "Tokens generated",
                query("sum(rate(ouroscope_tokens_generated_total[5m]))", "tokens"),
                unit="wps",
                least=0,
            ),
            lines(
                "Mean time of a stage",
                query("stage:ouroscope_stage_duration_seconds:mean1h", "{{stage}}"),
                unit="s",
                least=0,
            ),
            lines(
                "Generations examined",
                query("increase(ouroscope_generations_examined_total[1h])", "in the last hour"),
                least=0,
            ),
            row("What is not seen"),
            bars(
                "Undefined metrics",
                "topk(20, metric:ouroscope_metric_undefined:ratio1d > 0)",
                "{{metric}}",
                unit="percentunit",
                told="Share of the generations of the last day in which a metric had no value.",
            ),
            number(
                "Runs not shown",
                "sum(ouroscope_runs_suppressed_total)",
                colour=WARNING,
                width=6,
                told="Since the coordinator started; more were live than OURO_COORDINATOR_METRICS_LIMIT allows.",
            ),
            number(
                "Monitors without single metrics",
                "sum(ouroscope_monitors_suppressed)",
                width=6,
                told="Their verdicts and families are shown; OURO_COORDINATOR_METRICS_LIMIT allows no more.",
            ),
            lines(
                "Size of a scrape",
                query('scrape_samples_scraped{job=~"ouroscope-.+"}', "{{job}}"),
                least=0,
                told="Samples.",
            ),
        ],
    )
