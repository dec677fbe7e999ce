"""Long work in threads: one task per request, stoppable, remembered, bounded."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import structlog.testing
from structlog.testing import capture_logs

from ouroscope.errors import (
    AlreadyExists,
    Busy,
    Cancelled,
    Internal,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    TrainingDiverged,
    Unavailable,
)
from ouroscope.operations.requests import RequestIds, request_digest
from ouroscope.operations.tasks import TaskContext, TaskTable
from ouroscope.records.progress import Progress
from ouroscope.records.training import LossPoint
from ouroscope.store import ArtifactStore
from tests.servers.waiting import wait_until

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
ANSWER = LossPoint(step=1, loss=2.5)
LONG = 60.0


@pytest.fixture
def store(tmp_path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path))


@pytest.fixture
async def table(store) -> AsyncIterator[TaskTable]:
    made = TaskTable(store, queue_limit=2, remembered=3)
    yield made
    await made.close()


class Held:
    """Work that waits until it is let go, or stopped."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.calls = 0

    def __call__(self, context: TaskContext) -> LossPoint:
        self.calls += 1
        self.entered.set()
        while not self.go.wait(0.01):
            context.check()
        return ANSWER


def at_once(context: TaskContext) -> LossPoint:
    return ANSWER


def failing(error: BaseException) -> Callable[[TaskContext], LossPoint]:
    def work(context: TaskContext) -> LossPoint:
        raise error

    return work


async def entered(held: Held) -> None:
    assert await asyncio.to_thread(held.entered.wait, LONG)


def start(table: TaskTable, digest: str, work: Callable[[TaskContext], Any]) -> str:
    return table.start("FineTune", digest, LossPoint, work)


async def test_a_task_ends_with_the_answer_of_its_work(table):
    name = start(table, A, at_once)
    state = await table.wait(name, LONG)
    assert (state.done, state.result, state.error) == (True, ANSWER, None)
    assert name == f"operations/finetune-{A}"


async def test_the_answer_is_in_the_store_before_anybody_can_see_it(table, store):
    state = await table.wait(start(table, A, at_once), LONG)
    assert store.get_result(A, LossPoint) == state.result


async def test_equal_requests_share_one_task(table):
    held = Held()
    assert start(table, A, held) == start(table, A, held)
    held.go.set()
    name = start(table, A, held)
    await table.wait(name, LONG)
    assert held.calls == 1


async def test_a_remembered_answer_is_not_computed_again_even_by_another_table(table, store):
    await table.wait(start(table, A, at_once), LONG)
    other = TaskTable(store)
    state = other.get(start(other, A, failing(AssertionError("computed again"))))
    assert state.result == ANSWER
    await other.close()


async def test_a_done_task_whose_answer_left_the_store_is_computed_again(store, tmp_path):
    class Forgetful:
        def put_result(self, request_digest: str, record: Any) -> None: ...

        def get_result(self, request_digest: str, kind: type[Any]) -> None: ...

    table, held = TaskTable(Forgetful()), Held()
    held.go.set()
    for _ in range(2):
        await table.wait(start(table, A, held), LONG)
    assert held.calls == 2
    await table.close()


async def test_progress_is_seen_while_the_work_goes_on(table):
    reported, go = threading.Event(), threading.Event()

    def work(context: TaskContext) -> LossPoint:
        context.report(Progress(stage="train", done=3, total=10, unit="steps"))
        reported.set()
        go.wait(LONG)
        return ANSWER

    name = start(table, A, work)
    assert await asyncio.to_thread(reported.wait, LONG)
    state = table.get(name)
    assert (state.progress.stage, state.progress.done, state.done) == ("train", 3, False)
    assert state.update_time >= state.create_time
    go.set()
    assert (await table.wait(name, LONG)).progress.done == 3


async def test_the_time_left_is_estimated_from_the_pace_of_the_stage(table):
    def work(context: TaskContext) -> LossPoint:
        context.report(Progress(stage="sample", done=500, total=1000))
        time.sleep(0.05)
        context.report(Progress(stage="sample", done=510, total=1000))
        return ANSWER

    progress = (await table.wait(start(table, A, work), LONG)).progress
    # 10 documents took 0.05 s or a little more; 490 are left. What an earlier process had done does not count.
    assert progress.seconds_left is not None
    assert 2.4 <= progress.seconds_left <= 24


async def test_a_given_time_left_is_kept(table):
    def work(context: TaskContext) -> LossPoint:
        for done in (0, 5):
            context.report(Progress(done=done, total=10, seconds_left=42.0))
        return ANSWER

    assert (await table.wait(start(table, A, work), LONG)).progress.seconds_left == 42.0


async def test_reporting_is_cheap(table):
    def work(context: TaskContext) -> LossPoint:
        # Of this thread's own work: on a busy machine it waits for others.
        start_time = time.thread_time()
        for done in range(10_000):
            context.report(Progress(stage="sample", done=done, total=10_000))
        return LossPoint(step=1, loss=time.thread_time() - start_time)

    state = await table.wait(start(table, A, work), LONG)
    assert state.result.loss < 1.0  # measured: 30 to 60 ms for ten thousand


async def test_a_wait_ends_at_its_timeout_with_what_is_known_then(table):
    held = Held()
    name = start(table, A, held)
    state = await table.wait(name, 0.05)
    assert not state.done
    held.go.set()


async def test_many_waiters_are_woken_at_once(table):
    held = Held()
    name = start(table, A, held)
    waiting = [asyncio.create_task(table.wait(name, LONG)) for _ in range(50)]
    await entered(held)
    held.go.set()
    assert all(state.result == ANSWER for state in await asyncio.gather(*waiting))


async def test_a_cancelled_task_ends_as_cancelled(table):
    held = Held()
    name = start(table, A, held)
    await entered(held)
    table.cancel(name)
    state = await table.wait(name, LONG)
    assert isinstance(state.error, Cancelled)


async def test_a_task_that_waits_for_a_worker_is_cancelled_at_once(table):
    held = Held()
    start(table, A, held)
    await entered(held)
    name = start(table, B, failing(AssertionError("must never run")))
    table.cancel(name)
    assert isinstance(table.get(name).error, Cancelled)
    assert table.waiting == 0
    held.go.set()


async def test_cancelling_a_finished_task_changes_nothing(table):
    name = start(table, A, at_once)
    await table.wait(name, LONG)
    table.cancel(name)
    assert table.get(name).result == ANSWER


async def test_a_cancelled_task_can_be_started_again_while_it_is_still_ending(store):
    table = TaskTable(store, workers=2)
    at_work: list[str] = []
    overlaps: list[list[str]] = []
    stopped, let_end = threading.Event(), threading.Event()

    def slow_to_stop(context: TaskContext) -> LossPoint:
        at_work.append("first")
        while not context.stopping:
            time.sleep(0.005)
        stopped.set()
        let_end.wait(LONG)
        at_work.remove("first")
        raise Cancelled("stopped")

    def second(context: TaskContext) -> LossPoint:
        overlaps.append(list(at_work))
        return ANSWER

    name = start(table, A, slow_to_stop)
    table.cancel(name)
    assert start(table, A, second) == name
    waiting = asyncio.create_task(table.wait(name, LONG))
    let_end.set()
    assert (await waiting).result == ANSWER
    # Two attempts at one request never write the same draft at once.
    assert overlaps == [[]]
    await table.close()


@pytest.mark.parametrize("error", [TrainingDiverged("the loss is NaN"), NotFound("no such corpus")])
async def test_a_typed_failure_is_the_outcome_and_can_be_tried_again(table, error):
    name = start(table, A, failing(error))
    assert (await table.wait(name, LONG)).error is error
    assert start(table, A, at_once) == name
    assert (await table.wait(name, LONG)).result == ANSWER


@pytest.mark.parametrize("error", [RuntimeError("secret text"), SystemExit(3), MemoryError()])
async def test_the_text_of_any_other_failure_stays_in_the_log(table, error):
    with capture_logs() as logs:
        state = await table.wait(start(table, A, failing(error)), LONG)
    assert isinstance(state.error, Internal)
    assert "secret" not in state.error.message
    assert [line["exc_info"] for line in logs if line["event"] == "task.failed"] == [error]
    # The worker has survived it.
    assert (await table.wait(start(table, B, at_once), LONG)).result == ANSWER


async def test_a_full_queue_is_busy_and_says_when_to_come_again(table):
    held = Held()
    start(table, A, held)
    await entered(held)
    start(table, B, at_once)
    start(table, C, at_once)
    assert table.waiting == 2
    with pytest.raises(Busy) as caught:
        start(table, "d" * 64, at_once)
    assert caught.value.retry_after > 0
    # What is there already is not refused.
    start(table, B, at_once)
    held.go.set()


async def test_only_the_last_finished_tasks_are_remembered_and_those_at_work_always(table):
    held = Held()
    running = table.start("Generate", A, LossPoint, held)
    await entered(held)
    names = []
    for digit in "12":
        names.append(start(table, digit * 64, at_once))
        table.cancel(names[-1])
    held.go.set()
    await table.wait(running, LONG)
    for digit in "3456":
        names.append(start(table, digit * 64, at_once))
        await table.wait(names[-1], LONG)
    assert [state.name for state in table.list()] == names[:-4:-1]
    with pytest.raises(NotFound):
        table.get(running)


async def test_the_work_is_let_go_once_it_has_ended(table):
    held = Held()
    alive = weakref.ref(held)
    held.go.set()
    name = start(table, A, held)
    await table.wait(name, LONG)
    del held
    gc.collect()
    # Its thread may still be about to leave the work when the answer is there.
    wait_until(lambda: alive() is None)


@pytest.mark.parametrize("error", [TrainingDiverged("NaN"), RuntimeError("broken")])
async def test_a_failure_does_not_keep_what_the_work_held(table, error):
    class Model:
        pass

    models: list[weakref.ref[Model]] = []

    def work(context: TaskContext) -> LossPoint:
        model = Model()
        models.append(weakref.ref(model))
        raise type(error)(*error.args)

    with structlog.testing.capture_logs() as kept:  # as a log handler that keeps its records
        name = start(table, A, work)
        await table.wait(name, LONG)
    gc.collect()
    assert table.get(name).error is not None
    assert [entry["event"] for entry in kept][-1] in {"task.ended", "task.failed"}
    wait_until(lambda: models[0]() is None)


async def test_an_unknown_name_is_not_found(table):
    for call in (table.get, table.cancel, table.forget):
        with pytest.raises(NotFound):
            call("operations/nothing")
    with pytest.raises(NotFound):
        await table.wait("operations/nothing", 1.0)


async def test_a_finished_task_can_be_forgotten_and_one_at_work_cannot(table):
    held = Held()
    name = start(table, A, held)
    with pytest.raises(PreconditionFailed):
        table.forget(name)
    held.go.set()
    await table.wait(name, LONG)
    table.forget(name)
    with pytest.raises(NotFound):
        table.get(name)


async def test_closing_lets_waiters_go_and_stops_the_work(store):
    table, held, never = TaskTable(store), Held(), Held()
    name, queued = start(table, A, held), start(table, B, never)
    await entered(held)
    waiting = [asyncio.create_task(table.wait(each, LONG)) for each in (name, queued)]
    await asyncio.sleep(0)
    await table.close()
    # Not Cancelled: whoever waits may ask again, elsewhere or later.
    assert all(isinstance(state.error, Unavailable) for state in await asyncio.gather(*waiting))
    assert never.calls == 0
    with pytest.raises(Unavailable):
        start(table, C, at_once)
    await table.close()


async def test_work_that_does_not_heed_the_stop_does_not_hold_up_the_end(store):
    table, go, entered_ = TaskTable(store), threading.Event(), threading.Event()

    def deaf(context: TaskContext) -> LossPoint:
        entered_.set()
        go.wait(LONG)
        return ANSWER

    start(table, A, deaf)
    assert await asyncio.to_thread(entered_.wait, LONG)
    with capture_logs() as logs:
        await table.close(grace=0.05)
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["tasks.did_not_stop"]
    go.set()


async def test_the_loop_answers_while_a_task_computes_in_pure_python(table):
    stop = threading.Event()

    def compute(context: TaskContext) -> LossPoint:
        total = 0
        while not stop.is_set():
            total += sum(range(1000))
        return LossPoint(step=1, loss=float(total > 0))

    name = start(table, A, compute)
    for _ in range(20):
        await asyncio.sleep(0)
        table.get(name)
    stop.set()
    assert (await table.wait(name, LONG)).done


def test_the_digest_of_a_request_depends_on_method_request_and_surroundings():
    point = LossPoint(step=1, loss=2.0)
    digest = request_digest("Score", point, {"torch": "2.13.0"})
    assert digest == request_digest("Score", LossPoint(step=1, loss=2.0), {"torch": "2.13.0"})
    others = [("Generate", point, {"torch": "2.13.0"}), ("Score", point, {"torch": "2.14.0"})]
    others.append(("Score", LossPoint(step=2, loss=2.0), {"torch": "2.13.0"}))
    assert len({digest, *(request_digest(*other) for other in others)}) == 4


def test_a_request_id_stands_for_one_request():
    ids = RequestIds(limit=2)
    first = "8c0f1f0e-6d0b-4a3c-9a55-0d0f5a8d3c11"
    ids.check(first, A)
    ids.check(first.upper(), A)
    with pytest.raises(AlreadyExists):
        ids.check(first, B)
    ids.check("", B)
    with pytest.raises(InvalidRequest) as caught:
        ids.check("mine", A)
    assert [problem.field for problem in caught.value.problems] == ["request_id"]


def test_only_the_last_request_ids_are_remembered():
    ids = RequestIds(limit=2)
    names = [f"8c0f1f0e-6d0b-4a3c-9a55-0d0f5a8d3c1{n}" for n in range(3)]
    for name in names:
        ids.check(name, A)
    ids.check(names[0], B)
    with pytest.raises(AlreadyExists):
        ids.check(names[2], B)
