"""Channels to the services: retries, balancing, keepalive and limits in one place."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

import grpc
import grpc.aio

from ouroscope.rpc.renewed import RenewedChannel
from ouroscope.rpc.tls import channel_credentials
from ouroscope.security.connection import Connection, read_connection
from ouroscope.security.watched import Watched
from ouroscope.telemetry import tracing

MAX_RECEIVED_BYTES = 16 * 1024 * 1024
"""Largest answer a client accepts; a page of generations with their comparisons is the largest there is."""

CALL_SECONDS = 30.0
"""Default deadline of a short call."""

WORK_HEADER = "ouro-work"
"""Calls with the same value of it go to the same replica, whoever makes them; calls without it go to any."""

_PACKAGE = "ouroscope.v1"

# gRPC has it behind a switch (gRFC A76), which it reads whenever a channel is made.
os.environ["GRPC_EXPERIMENTAL_RING_HASH_SET_REQUEST_HASH_KEY"] = "true"

# Only calls that can be made twice: by nature, by the digest of the request, or by its request_id.
_IDEMPOTENT = {
    "google.longrunning.Operations": ("GetOperation", "ListOperations", "WaitOperation", "CancelOperation"),
    f"{_PACKAGE}.GeneratorService": ("ImportModel", "GetModel", "PreparePrompts", "Generate", "Score"),
    f"{_PACKAGE}.TrainerService": ("FineTune",),
    f"{_PACKAGE}.AnalyzerService": ("AnalyzeCorpus", "Compare", "GetBaseline", "ListBaselines", "ListMetrics"),
    f"{_PACKAGE}.CoordinatorService": (
        "CreateRun",
        "GetRun",
        "ListRuns",
        "CancelRun",
        "ResumeRun",
        "GetArm",
        "ListArms",
        "GetGeneration",
        "ListGenerations",
    ),
    # RecordGeneration and Gate can be made twice too, but gRPC does not keep what was streamed.
    f"{_PACKAGE}.MonitorService": (
        "CreateMonitor",
        "GetMonitor",
        "ListMonitors",
        "GetMonitorGeneration",
        "ListMonitorGenerations",
    ),
}


def service_config() -> str:
    """Return the service config in JSON: which replica is asked, and retries of calls that can be made twice."""
    names = [{"service": service, "method": method} for service, methods in _IDEMPOTENT.items() for method in methods]
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.2s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps(
        {
            "loadBalancingConfig": [{"ring_hash_experimental": {"requestHashHeader": WORK_HEADER}}],
            "methodConfig": [{"name": names, "retryPolicy": retry}],
            # When most calls fail, retries stop: a service that is down is not stormed.
            "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.5},
        }
    )


def open_channel(
    address: str, connection: Connection | None = None, *, options: Iterable[tuple[str, object]] = ()
) -> grpc.aio.Channel:
    """Open a channel to `host:port` or any gRPC target (`dns:///name:port`); close it, or use it in `async with`.

    Where there are several replicas, long work and all that is asked about it go to one of them (`WORK_HEADER`).
    Nothing is connected yet, so only what `connection` names can be wrong here.

    Args:
        address: where the service is.
        connection: how it is reached: TLS, certificates, token. None: as `OURO_CLIENT_*` says, which is in plain text
            where it says nothing.
        options: of gRPC, beside ours or in their place.

    Raises:
        InvalidRequest: the connection, or a file that it names, is not right.
        NotFound: a file that it names cannot be read.
        PreconditionFailed: the certificate of this client has expired.
        CapabilityMissing: a client certificate needs a library that is not installed.
    """
    connection = connection or read_connection(os.environ)
    defaults: dict[str, object] = {
        "grpc.service_config": service_config(),
        "grpc.max_receive_message_length": MAX_RECEIVED_BYTES,
        "grpc.keepalive_time_ms": 60_000,
        "grpc.keepalive_timeout_ms": 20_000,
        # A restarted service is found again within seconds; the default waits up to two minutes.
        "grpc.initial_reconnect_backoff_ms": 200,
        "grpc.max_reconnect_backoff_ms": 3_000,
        # Services are in the same machine or cluster; a proxy meant for the outside would swallow the calls.
        "grpc.enable_http_proxy": 0,
    }
    if connection.server_name:
        defaults["grpc.ssl_target_name_override"] = connection.server_name
    chosen = [*{**defaults, **dict(options)}.items()]
    interceptors = tracing.client_interceptors()
    if not connection.encrypted:
        return grpc.aio.insecure_channel(address, options=chosen, interceptors=interceptors)

    def open_() -> grpc.aio.Channel:
        credentials = channel_credentials(connection)
        return grpc.aio.secure_channel(address, credentials, options=chosen, interceptors=interceptors)

    files = [path for path in (connection.ca, connection.certificate, connection.key) if path]
    return RenewedChannel(Watched(files, open_, event="client_tls")) if files else open_()
