"""A real Ray cluster for tests: a head without work, and nodes that are processes of this machine."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from typing import Any
from unittest.mock import patch

import psutil

STORE_BYTES = 80_000_000
"""Object store of a node: the least that Ray takes is 75 MB."""
STARTS = 4
"""Attempts to start a cluster."""
_VARIABLES = {
    # Nothing is reported to anybody.
    "RAY_USAGE_STATS_ENABLED": "0",
    # By default workers stand back behind all other processes: beside other tests they would hardly run.
    "RAY_worker_niceness": "0",
    # A machine that is busy is not one that is lost.
    "RAY_health_check_timeout_ms": "60000",
    "RAY_worker_register_timeout_seconds": "600",
}


@contextmanager
def ray_cluster(nodes: int = 2) -> Iterator[Any]:
    """Start a head and so many nodes of one processor each; stop them all in the end."""
    # Sockets lie in it, so its path must be short.
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        patch.dict(os.environ, {**_VARIABLES, "RAY_TMPDIR": folder}),
    ):
        cluster = _started(nodes)
        try:
            yield cluster
        finally:
            cluster.shutdown()


def _started(nodes: int) -> Any:
    """Return a cluster; where agents of a node took longer than it waits, as on a busy machine, begin once more."""
    from ray.cluster_utils import Cluster

    for left in reversed(range(STARTS)):
        try:
            with patch("ray._private.node.time", _Slower()):
                cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **_small()})
                for _ in range(nodes):
                    add_node(cluster)
                return cluster
        except Exception:  # it raises nothing narrower
            _sweep(os.environ["RAY_TMPDIR"])
            if not left:
                raise
    raise AssertionError("unreachable")


def _sweep(folder: str) -> None:
    """End what a start that failed has left."""
    for process in _below(os.getpid()):
        with suppress(psutil.Error):
            if folder in " ".join(process.cmdline()):
                process.kill()


def add_node(cluster: Any) -> Any:
    """Add a node of one processor."""
    with patch("ray._private.node.time", _Slower()):
        found = cluster.add_node(wait=False, num_cpus=1, **_small())
    cluster.wait_for_nodes(timeout=120)
    return found


def cut_power(cluster: Any) -> None:
    """End the head, the nodes and what runs on them at once: nothing of what was under way is finished."""
    own = [each.process.pid for node in cluster.list_all_nodes() for each in chain(*node.all_processes.values())]
    tree = [process for pid in own for process in (*_below(pid), psutil.Process(pid))]
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _below(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@contextmanager
def other_version(cluster: Any) -> Iterator[None]:
    """Let the cluster say that it runs another version of Ray."""
    from ray._raylet import GcsClient

    client = GcsClient(address=cluster.address)
    told = client.internal_kv_get(b"CLUSTER_METADATA", namespace=b"cluster")
    other = json.dumps({**json.loads(told), "ray_version": "2.9.3"}).encode()
    client.internal_kv_put(b"CLUSTER_METADATA", other, True, namespace=b"cluster")
    try:
        yield
    finally:
        client.internal_kv_put(b"CLUSTER_METADATA", told, True, namespace=b"cluster")


class _Slower:
    """The module `time`, with a clock four times slower for those who measure how long they wait."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    @staticmethod
    def monotonic() -> float:
        return time.monotonic() / 4


def _small() -> dict[str, Any]:
    """Return what every node gets; ports too, since a node waits only so long for its agents to choose some."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in _PORTS]
        ports = {name: each.getsockname()[1] for name, each in zip(_PORTS, sockets, strict=True)}
    return {"include_dashboard": False, "object_store_memory": STORE_BYTES, **ports}


_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
