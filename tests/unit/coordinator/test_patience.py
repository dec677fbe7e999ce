"""Waiting for workers."""

from __future__ import annotations

import pytest

from ouroscope.errors import Busy, DeadlineExceeded, OuroscopeError, StorageFull, Unavailable
from services.coordinator.patience import Patiently


class Work:
    """Fails as often as it is told to, then succeeds."""

    def __init__(self, *failures: OuroscopeError) -> None:
        self.failures = list(failures)
        self.begun = 0

    async def __call__(self) -> str:
        self.begun += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


@pytest.mark.parametrize(
    "passing", [Unavailable("gone", retry_after=0), Busy("full", retry_after=0), DeadlineExceeded("slow")]
)
async def test_what_fails_in_passing_is_tried_again_and_the_reason_is_told(passing: OuroscopeError) -> None:
    work, told = Work(passing, passing), list[str]()
    assert await Patiently(first_pause=0.0)(work, told.append) == "done"
    assert work.begun == 3
    assert told == [f"{passing.message}; trying again"] * 2


async def test_what_waiting_cannot_help_is_raised_at_once() -> None:
    work, told = Work(StorageFull("no room")), list[str]()
    with pytest.raises(StorageFull):
        await Patiently()(work, told.append)
    assert (work.begun, told) == (1, [])


async def test_patience_ends() -> None:
    work = Work(*[Unavailable("gone", retry_after=0)] * 1000)
    with pytest.raises(Unavailable):
        await Patiently(limit=0.05, first_pause=0.001, longest_pause=0.01)(work, lambda _: None)
    assert 1 < work.begun < 1000
