"""What a task and the trainer that began it tell each other, in a log that holds other things too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.errors import FieldProblem, InvalidRequest, OuroscopeError, StorageFull, Unavailable
from ouroscope.records.progress import Progress
from services.trainer.jobs.lines import MARK, MAX_LINE, error_line, progress_line, published_line, told_in
from services.trainer.task import Interrupted

PROGRESS = Progress(stage="train", done=3, total=9, unit="steps", loss=1.5)


def test_the_last_word_of_each_kind_counts_and_all_else_is_passed_over() -> None:
    log = "\n".join(
        [
            progress_line(Progress(stage="read")),
            '{"event": "task.ended"}',
            progress_line(PROGRESS),
            MARK + "{broken",
            MARK + '{"progress": {"stage": 3}}',
            MARK + '{"unheard of": 1}',
            MARK + "[1]",
            progress_line(PROGRESS)[:-9],
        ]
    )
    told = told_in(log)
    assert (told.progress, told.error, told.published) == (PROGRESS, None, "")


@pytest.mark.parametrize("kind", OuroscopeError.__subclasses__())
def test_every_error_comes_back_as_what_it_was(kind: type[OuroscopeError]) -> None:
    error = kind("it is so", hint="x")
    found = told_in(error_line(error)).error
    assert (type(found), found and found.message, found and found.metadata) == (kind, "it is so", {"hint": "x"})


def test_problems_of_fields_come_back() -> None:
    error = InvalidRequest("wrong", [FieldProblem("recipe.chat", "is odd")])
    found = told_in(error_line(error)).error
    assert isinstance(found, InvalidRequest)
    assert found.problems == error.problems


def test_a_line_is_short_however_long_what_it_says() -> None:
    problems = [FieldProblem("é" * 5000, "é" * 5000)] * 50
    error = InvalidRequest("é" * 100_000, problems, **{f"k{n}": "é" * 5000 for n in range(50)})
    line = error_line(error)
    assert len(line) <= MAX_LINE
    found = told_in(line).error
    assert found is not None, "a line that is too long would not be read"
    assert "\n" not in line


def test_who_goes_on_has_not_failed() -> None:
    log = "\n".join([error_line(StorageFull("no room")), progress_line(PROGRESS)])
    assert told_in(log).error is None
    assert told_in(f"{log}\n{published_line('model/x')}").published == "model/x"


@given(st.text())
def test_no_log_is_too_odd_to_be_read(text: str) -> None:
    told_in(text)
    told_in(MARK + text)


def test_a_stage_is_told_when_it_begins_at_most_once_a_second_and_when_it_is_over() -> None:
    said: list[str] = []
    now = [0.0]
    control = Interrupted(said.append, clock=lambda: now[0])
    for step in range(1, 10):
        now[0] = step * 0.25
        control.report(Progress(stage="train", done=step, total=9))
    control.report(Progress(stage="publish"))
    told = [told_in(line).progress for line in said]
    assert [(each.stage, each.done) for each in told if each] == [
        ("train", 1),
        ("train", 5),
        ("train", 9),
        ("publish", 0),
    ]


def test_work_goes_on_until_a_signal_comes() -> None:
    control = Interrupted(lambda line: None)
    control.check()
    control._signalled = True
    with pytest.raises(Unavailable, match="what was reached is kept"):
        control.check()
