"""What a check has found: how bad it is, in one sentence, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and may not for long, or not as meant."""
    FAULT = "fault"
    """Something will fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    level: Level
    told: str
    """What was found. Never a secret, and no text of documents."""
    remedy: str = ""
    """What to do; empty where all is well."""

    def __post_init__(self) -> None:
        if (self.level is Level.OK) == bool(self.remedy):
            raise ValueError("a finding has a remedy if and only if something is wrong")


def ok(subject: str, told: str) -> Finding:
    """Return that all is well."""
    return Finding(subject=subject, level=Level.OK, told=told)


def warning(subject: str, told: str, remedy: str) -> Finding:
    """Return that something may go wrong."""
    return Finding(subject=subject, level=Level.WARNING, told=told, remedy=remedy)


def fault(subject: str, told: str, remedy: str) -> Finding:
    """Return that something is wrong."""
    return Finding(subject=subject, level=Level.FAULT, told=told, remedy=remedy)
