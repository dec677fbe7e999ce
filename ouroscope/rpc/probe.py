"""Ask a service for its health: `python -m ouroscope.rpc.probe HOST:PORT`, exit status 0 if it serves.

For health checks of containers, with TLS as `OURO_CLIENT_*` says; Kubernetes asks by itself where there is no TLS. Of
several addresses one has to serve: an image holds two services, a container of it runs one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ouroscope.errors import OuroscopeError
from ouroscope.rpc.tls import channel_credentials
from ouroscope.security.connection import PLAIN, Connection, read_connection

SECONDS = 5.0


def is_serving(address: str, seconds: float = SECONDS, connection: Connection = PLAIN) -> bool:
    """Return whether the server at `address` says within `seconds` that it serves."""
    with sync_channel(address, connection) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types do not tell its methods
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=seconds)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main(arguments: Sequence[str]) -> int:
    """Run as a process."""
    if not arguments:
        sys.stderr.write("usage: python -m ouroscope.rpc.probe HOST:PORT [HOST:PORT ...]\n")
        return 2
    try:
        connection = read_connection(os.environ)
        return 0 if any(is_serving(address, connection=connection) for address in arguments) else 1
    except OuroscopeError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1


def sync_channel(address: str, connection: Connection) -> grpc.Channel:
    """Open a channel for a question or two, to be used in `with`; errors are those of `channel_credentials`."""
    if not connection.encrypted:
        return grpc.insecure_channel(address)
    options = [("grpc.ssl_target_name_override", connection.server_name)] if connection.server_name else []
    return grpc.secure_channel(address, channel_credentials(connection), options=options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
