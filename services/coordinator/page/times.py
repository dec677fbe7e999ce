"""Times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(time: datetime) -> str:
    """Write a time, to the minute.

    >>> moment(datetime(2026, 11, 22, 9, 5, tzinfo=UTC))
    '22 November 2026, 09:05 UTC'
    """
    return f"{time.astimezone(UTC):%-d %B %Y, %H:%M} UTC"
