"""Ask a service for its health: `python -m ouroscope.rpc.probe HOST:PORT`, exit status 0 if it serves.

For health checks of containers; Kubernetes asks by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS = 5.0


def is_serving(address: str, seconds: float = SECONDS) -> bool:
    """Return whether the server at `address` says within `seconds` that it serves."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types do not tell its methods
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=seconds)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main(arguments: Sequence[str]) -> int:
    """Run as a process."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m ouroscope.rpc.probe HOST:PORT\n")
        return 2
    return 0 if is_serving(arguments[0]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
