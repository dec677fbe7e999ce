"""Resource names of monitors and their generations. Knows nothing else."""

from __future__ import annotations

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.records.runs import is_name

SPACE = "monitors"
MOST_NUMBER = 2**31 - 1
"""Largest number of a generation that the wire carries."""


def monitor_name(monitor_id: str) -> str:
    """Return `monitors/{monitor}`.

    Raises:
        InvalidRequest: that is not a name.
    """
    if not is_name(monitor_id):
        problem = FieldProblem("monitor_id", "use lower-case letters, digits and hyphens, at most 63")
        raise InvalidRequest(f"{monitor_id[:80]!r} cannot name a monitor: {problem.description}", (problem,))
    return f"{SPACE}/{monitor_id}"


def monitor_id_of(name: str, field: str = "name") -> str:
    """Return the id in `monitors/{monitor}`.

    Raises:
        InvalidRequest: it is not the name of a monitor.
    """
    space, _, monitor_id = name.partition("/")
    if space != SPACE or not is_name(monitor_id):
        raise _no_name(field, name, "a monitor; write monitors/MONITOR")
    return monitor_id


def generation_of(name: str, field: str = "name") -> tuple[str, int]:
    """Return id and number in `monitors/{monitor}/generations/{n}`.

    Raises:
        InvalidRequest: it is not the name of a generation of a monitor.
    """
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != SPACE or parts[2] != "generations" or not is_name(parts[1]):
        raise _no_name(field, name, "a generation; write monitors/MONITOR/generations/NUMBER")
    if not parts[3].isdecimal() or not parts[3].isascii() or int(parts[3]) > MOST_NUMBER:
        raise _no_name(field, name, "a generation; its number is a whole number, 0 or more")
    return parts[1], int(parts[3])


def generation_name(monitor_id: str, number: int) -> str:
    """Return `monitors/{monitor}/generations/{n}`."""
    return f"{SPACE}/{monitor_id}/generations/{number}"


def _no_name(field: str, name: str, of_what: str) -> InvalidRequest:
    return InvalidRequest(f"{name[:200]!r} is not the name of {of_what}", (FieldProblem(field, f"names {of_what}"),))
