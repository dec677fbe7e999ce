"""Logs in tests of several kinds: what a service that runs as a process tells, and this process as it was before."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog


@contextmanager
def kept_logs() -> Iterator[None]:
    """Have logs set up as before in the end: commands and processes set them up for good."""
    root = logging.getLogger()
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configuration)


def event(process: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """Return the next log line of that event."""
    assert process.stderr is not None
    for line in process.stderr:
        told: dict[str, Any] = json.loads(line)
        if told["event"] == name:
            return told
    raise AssertionError(f"the process ended without {name}")
