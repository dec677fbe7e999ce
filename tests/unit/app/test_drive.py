"""A run in a terminal ends when it is told to, by whoever tells it."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from ouroscope_app.drive import until_told


def test_a_signal_to_end_ends_the_work_in_order() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)
        finally:
            ended.append("in order")

    with pytest.raises(KeyboardInterrupt):
        until_told(work())
    assert ended == ["in order"]


def test_what_the_work_gives_is_passed_on() -> None:
    async def work() -> int:
        return 7

    assert until_told(work()) == 7
