"""Reads what a service that runs as a process logs, for tests of several kinds."""

from __future__ import annotations

import json
import subprocess
from typing import Any


def event(process: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """Return the next log line of that event."""
    assert process.stderr is not None
    for line in process.stderr:
        told: dict[str, Any] = json.loads(line)
        if told["event"] == name:
            return told
    raise AssertionError(f"the process ended without {name}")
