"""Reads data sets of the Hub as a process of its own: `python -m tests.unit.coordinator.hub_reader`, cases on stdin.

The address of the Hub is taken from the environment when the library is imported, so it cannot be changed for a test.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ouroscope.canonical import from_plain
from ouroscope.corpora.hub import HubText, hub_documents
from ouroscope.errors import OuroscopeError


def read(case: dict[str, Any]) -> dict[str, Any]:
    """Return what is read, or how it fails."""
    text = from_plain(HubText, case.pop("text"))
    try:
        found = hub_documents(text, **case)
        return {"documents": [[one.id, one.text, *([one.summary] if one.summary else [])] for one in found]}
    except OuroscopeError as error:
        return {"error": type(error).__name__, "message": error.message}


if __name__ == "__main__":
    answers = {name: read(case) for name, case in json.load(sys.stdin).items()}
    sys.stdout.write("\n" + json.dumps(answers))
