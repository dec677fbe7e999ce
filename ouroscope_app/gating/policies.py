"""What a gate lets through, as it is named on the command line: a word, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from ouroscope.errors import NotFound
from ouroscope.mappings import read_record
from ouroscope.records.analysis import Policy, Verdict
from ouroscope.records.monitors import GatePolicy

Record = TypeVar("Record", Policy, GatePolicy)

WORDS = {"warning": Verdict.WARNING, "collapse": Verdict.COLLAPSE}
"""Least verdict that is refused."""


def gate_policy(source: str, allow_insufficient_data: bool, thresholds: Policy) -> GatePolicy:
    """Return the policy that `source` names: `warning`, `collapse`, a YAML or JSON file, or nothing for the default.

    Args:
        source: What was named.
        allow_insufficient_data: Lets through what cannot be judged, whatever the file says.
        thresholds: When a difference matters, where no file says so.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: the file is not a policy; all problems are told.
    """
    if source in ("", *WORDS):
        refused = WORDS.get(source, Verdict.WARNING)
        return GatePolicy(policy=thresholds, refuse_from=refused, allow_insufficient_data=allow_insufficient_data)
    told = read_policy(GatePolicy, source, f"it is one of {', '.join(WORDS)}, or a file")
    return GatePolicy(
        policy=told.policy,
        refuse_from=told.refuse_from,
        allow_insufficient_data=told.allow_insufficient_data or allow_insufficient_data,
    )


def read_policy(kind: type[Record], source: str, otherwise: str = "give a YAML or JSON file") -> Record:
    """Read a policy from a file; what is left out takes its default.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is not a policy; all problems are told.
    """
    path = Path(source)
    if not path.is_file():
        raise NotFound(f"there is no policy {source}; {otherwise}")
    return read_record(kind, path, "a policy", "`refuse_from: COLLAPSE`" if kind is GatePolicy else "`margin: 1.0`")
