"""Executors answer in order, bound what is under way, pass errors on, and leave no process behind."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import threading
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress

import psutil
import pytest

from ouroscope.errors import InvalidRequest, Unavailable
from ouroscope.executor import InProcess, Processes, executor_of
from tests.unit import executor_work as work


@pytest.fixture(scope="module")
def processes():
    with closing(Processes(2)) as executor:
        yield executor


@pytest.fixture(params=["in process", "processes"])
def executor(request, processes):
    return InProcess() if request.param == "in process" else processes


def test_answers_come_in_the_order_of_the_items(executor):
    assert list(executor.map(work.slower_first, range(8))) == list(range(8))


def test_there_may_be_no_item(executor):
    assert list(executor.map(work.squared, ())) == []


def test_an_error_of_the_work_is_raised_with_what_it_carries(executor):
    answers = executor.map(work.refused, range(8))
    assert list(itertools.islice(answers, 3)) == [0, 1, 2]
    with pytest.raises(InvalidRequest, match="three") as error:
        next(answers)
    assert error.value.reason == InvalidRequest.reason
    assert list(executor.map(work.squared, range(3))) == [0, 1, 4]


def test_items_are_taken_as_answers_are(executor):
    taken = itertools.count()
    with closing(executor.map(work.squared, (next(taken) for _ in itertools.repeat(None)))) as answers:
        for _ in range(100):
            next(answers)
    assert next(taken) <= 100 + 2 * 2


def test_a_reader_who_leaves_early_stops_the_work(executor, tmp_path):
    with closing(executor.map(functools.partial(work.marked, str(tmp_path)), range(1_000))) as answers:
        next(answers)
    assert list(executor.map(work.squared, range(2))) == [0, 1]
    assert len(list(tmp_path.iterdir())) < 10


def test_any_number_of_threads_may_ask(executor):
    found = {}

    def ask(first: int) -> None:
        found[first] = list(executor.map(work.squared, range(first, first + 20)))

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {first: [number * number for number in range(first, first + 20)] for first in range(8)}


def test_processes_are_started_once_and_have_one_thread_for_arithmetic_each(processes):
    before = {child.pid for child in psutil.Process().children()}
    about = list(processes.map(work.about_me, range(12)))
    assert {pid for pid, _, _ in about} <= before | {child.pid for child in psutil.Process().children()}
    assert len({pid for pid, _, _ in about}) <= 2
    assert {threads for _, _, threads in about} == {1}


def test_no_worker_has_what_the_service_around_it_has(processes):
    for _, packages, _ in processes.map(work.about_me, range(4)):
        assert not packages & {"grpc", "torch", "pyarrow", "services"}


def test_a_lost_process_is_an_error_that_can_be_tried_again():
    with closing(Processes(2)) as executor:
        with pytest.raises(Unavailable, match="worker process was lost"):
            list(executor.map(work.killed, range(8)))
        assert list(executor.map(work.squared, range(4))) == [0, 1, 4, 9]


def test_a_process_that_was_lost_while_it_had_nothing_to_do_is_not_missed():
    with closing(Processes(1)) as executor:
        ((pid, _, _),) = executor.map(work.about_me, range(1))
        psutil.Process(pid).kill()
        with suppress(BrokenProcessPool):
            while True:  # until the pool has noticed
                executor._pool.submit(int).result()
        assert list(executor.map(work.squared, range(4))) == [0, 1, 4, 9]


def test_threads_that_lose_one_process_together_all_go_on():
    with closing(Processes(1)) as executor:
        lost = []

        def ask() -> None:
            try:
                list(executor.map(work.killed, range(3)))
            except Unavailable as error:
                lost.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(lost) == 4
        assert list(executor.map(work.squared, range(2))) == [0, 1]


def test_a_closed_executor_is_unavailable():
    executor = Processes(1)
    answers = executor.map(work.squared, range(100))
    assert next(answers) == 0
    executor.close()
    with pytest.raises(Unavailable, match="shutting down"):
        list(answers)
    with pytest.raises(Unavailable, match="shutting down"):
        list(executor.map(work.squared, range(2)))
    executor.close()


def test_workers_outlive_the_thread_that_asked_and_end_with_a_killed_parent():
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.executor_work"], stdout=subprocess.PIPE, text=True, cwd=_root()
    )
    try:
        assert parent.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(workers) in (1, 2)
        assert all(worker.is_running() for worker in workers)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert psutil.wait_procs(workers, timeout=60)[1] == []


def test_one_process_is_this_one():
    assert isinstance(executor_of(1), InProcess)
    with closing(executor_of(2)) as executor:
        assert isinstance(executor, Processes)


def _root() -> str:
    from pathlib import Path

    return str(Path(__file__).parents[2])
