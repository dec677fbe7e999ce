"""Who starts, hears and ends the processes of a group. The processes here are small programs, no training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from ouroscope.errors import (
    Cancelled,
    CapabilityMissing,
    FieldProblem,
    InvalidRequest,
    OuroscopeError,
    StorageFull,
    TrainingDiverged,
    Unavailable,
)
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTune, LossPoint, Recipe
from ouroscope.store import ArtifactStore
from services.trainer.course import Course
from services.trainer.environment import Environment
from services.trainer.group import exchange, launch
from services.trainer.group.agent import command
from services.trainer.group.hosts import Hosts, hosts_of
from services.trainer.group.launch import ATTEMPTS, Launcher
from services.trainer.group.lifeline import supervising, workers_gone
from services.trainer.told import error_of, told_of

TWO = Recipe(batch_size=2, processes=2)
HOSTS = Hosts(processes=2)


def request(recipe: Recipe = TWO) -> FineTune:
    model, corpus = ArtifactRef(ArtifactKind.MODEL, "0" * 64), ArtifactRef(ArtifactKind.CORPUS, "1" * 64)
    return FineTune(model=model, corpora=(corpus,), recipe=recipe)


WORKER = """
    import json, sys, time
    from pathlib import Path
    from services.trainer.group.lifeline import end_with_supervisor
    folder = Path(sys.argv[1])
    end_with_supervisor(folder)
    (folder / "started").touch()

    def tell(done):
        # By hand: whatever imports torch takes seconds.
        with (folder / "progress.jsonl").open("a") as file:
            file.write(json.dumps({"stage": "train", "done": done}) + chr(10))
"""


@pytest.fixture
def program(tmp_path, root):
    """Make a command of what a worker does after it has begun."""

    def program(lines: str) -> list[str]:
        path = tmp_path / "worker.py"
        path.write_text(textwrap.dedent(WORKER) + textwrap.dedent(lines))
        return [sys.executable, str(path)]

    return program


@pytest.fixture
def group(store, environment, program, monkeypatch):
    """Run a group whose worker is a small program; give what came of it."""
    monkeypatch.setattr(launch, "_LAST_SECONDS", 0.5)
    monkeypatch.setattr(launch, "_STOP_SECONDS", 0.5)

    def group(lines: str, control):
        started = program(lines)
        monkeypatch.setattr(launch, "command", lambda *given, folder, **options: [*started, str(folder)])
        with Launcher(store=store, hosts=HOSTS).trained(request(), environment, control) as found:
            return found

    return group


class Asked:
    """Notes progress, and is asked to stop once `enough` steps are told."""

    def __init__(self, enough: int | None = None) -> None:
        self.told: list[Progress] = []
        self._enough = enough

    def check(self) -> None:
        if any(progress.done == self._enough for progress in self.told):
            raise Cancelled("enough")

    def report(self, progress: Progress) -> None:
        self.told.append(progress)


def left_behind(folder: Path) -> list[str]:
    """Return the commands of children of this process that still run something below `folder`."""
    import psutil

    children = psutil.Process().children(recursive=True)
    commands = [" ".join(child.cmdline()) for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return [command for command in commands if str(folder) in command]


RESULT = """
    import torch
    from services.trainer.group.exchange import tell_result, tell_progress
    from services.trainer.course import Course
    from ouroscope.records.progress import Progress
    tell_progress(folder, Progress(stage="train", done=1, loss=2.5))
    tell_result(folder, Course(losses=[2.5, None]), {"w": torch.ones(2)})
"""


def test_progress_and_result_of_a_group_reach_whoever_asked(group):
    control = Asked()
    course, weights = group(RESULT, control)
    assert course.losses == [2.5, None]
    assert torch.equal(weights["w"], torch.ones(2))
    assert control.told == [Progress(stage="train", done=1, loss=2.5)]


def test_a_group_that_dies_without_a_word_is_started_again_and_then_given_up(group, store):
    started = Asked()
    lines = """
        tell(1)
        (folder / "progress.jsonl").open("a").write("half a li")
        sys.exit(1)
    """
    with pytest.raises(Unavailable, match=f"died {ATTEMPTS} times"):
        group(lines, started)
    assert len(started.told) == ATTEMPTS


def test_a_group_that_cannot_reach_something_is_started_again_and_its_reason_is_told_in_the_end(group, tmp_path):
    attempts = tmp_path / "attempts"
    told = {"reason": "UNAVAILABLE", "message": "the store cannot be reached", "metadata": {}, "problems": []}
    lines = f"""
        with Path({str(attempts)!r}).open("a") as file:
            file.write("x")
        (folder / "error-00000").write_text({json.dumps(told)!r})
    """
    with pytest.raises(Unavailable, match="the store cannot be reached"):
        group(lines, Asked())
    assert attempts.read_text() == "x" * ATTEMPTS


def test_a_group_that_comes_back_after_a_death_ends_well(group, tmp_path):
    died = f"""
        died = Path({str(tmp_path / "died")!r})
        if not died.exists():
            died.touch()
            sys.exit(1)
    """
    course, _ = group(textwrap.dedent(died) + textwrap.dedent(RESULT), Asked())
    assert course.losses == [2.5, None]


def test_a_process_that_hangs_after_another_told_an_error_is_killed_and_the_error_is_raised(group, tmp_path):
    lines = """
        from services.trainer.group.exchange import tell_error
        from ouroscope.errors import TrainingDiverged
        tell_error(folder, 1, TrainingDiverged("the loss left every bound", step="7"))
        time.sleep(60)
    """
    with pytest.raises(TrainingDiverged, match="left every bound") as raised:
        group(lines, Asked())
    assert raised.value.metadata == {"step": "7"}
    assert not left_behind(tmp_path)


def test_a_group_that_does_not_heed_a_request_to_stop_is_killed(group, tmp_path):
    lines = """
        tell(3)
        time.sleep(60)
    """
    with pytest.raises(Cancelled, match="enough"):
        group(lines, Asked(enough=3))
    assert not left_behind(tmp_path)


def test_a_group_that_heeds_a_request_to_stop_gets_the_time_to_keep_what_it_has(group, tmp_path):
    kept = tmp_path / "kept"
    lines = f"""
        tell(3)
        while not (folder / "stop").exists():
            time.sleep(0.01)
        Path({str(kept)!r}).touch()
    """
    with pytest.raises(Cancelled):
        group(lines, Asked(enough=3))
    assert kept.exists()


def test_workers_end_with_a_supervisor_that_is_killed(tmp_path, program, root):
    worker = program("time.sleep(60)")
    supervisor = f"""
        import subprocess, sys, time
        from pathlib import Path
        from services.trainer.group.lifeline import supervising
        with supervising(Path({str(tmp_path)!r})):
            subprocess.Popen({[*worker, str(tmp_path)]!r}, start_new_session=True)
            time.sleep(60)
    """
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(supervisor)], env=environment)
    wait_until((tmp_path / "started").exists)
    assert not workers_gone(tmp_path, 0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert workers_gone(tmp_path, 120)


def test_a_worker_that_nobody_supervises_ends_at_once(tmp_path, program, root):
    with supervising(tmp_path):
        pass
    environment = {**os.environ, "PYTHONPATH": str(root)}
    ended = subprocess.run([*program("time.sleep(60)"), str(tmp_path)], env=environment, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("wrong", [FieldProblem("recipe.steps", "must be at least 1")], file="config.json"),
        StorageFull("no room"),
        TrainingDiverged("left every bound", step="3"),
    ],
)
def test_an_error_comes_back_as_what_it_was(tmp_path, error):
    exchange.tell_error(tmp_path, 1, error)
    again = exchange.told_error(tmp_path)
    assert type(again) is type(error)
    assert (again.message, again.metadata) == (error.message, error.metadata)
    assert getattr(again, "problems", None) == getattr(error, "problems", None)


def test_the_error_that_stopped_the_others_is_told_whichever_process_had_it(tmp_path):
    exchange.tell_error(tmp_path, 0, Unavailable("another process of the group stopped"))
    exchange.tell_error(tmp_path, 1, StorageFull("no room"))
    assert isinstance(exchange.told_error(tmp_path), StorageFull)
    exchange.forget_attempt(tmp_path)
    assert exchange.told_error(tmp_path) is None


def test_every_error_has_its_class_on_the_way_back():
    for kind in OuroscopeError.__subclasses__():
        assert type(error_of(told_of(kind("why")))) is kind


def test_a_line_of_progress_that_is_not_finished_waits(tmp_path):
    reader, path = exchange.ProgressReader(tmp_path), tmp_path / "progress.jsonl"
    assert list(reader.new()) == []
    exchange.tell_progress(tmp_path, Progress(stage="train", done=1))
    line = json.dumps({"stage": "train", "done": 2}) + "\n"
    path.write_text(path.read_text() + line[:9])
    assert [progress.done for progress in reader.new()] == [1]
    assert list(reader.new()) == []
    path.write_text(path.read_text() + line[9:])
    assert [progress.done for progress in reader.new()] == [2]


def test_a_result_that_does_not_fit_is_a_full_disk_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(exchange, "save_file", full)
        with pytest.raises(StorageFull):
            exchange.tell_result(tmp_path, Course(losses=[1.0]), {"w": torch.ones(1)})
    assert exchange.result(tmp_path) is None
    assert not list(tmp_path.iterdir())
    exchange.tell_result(tmp_path, Course(losses=[1.0], heldout=[LossPoint(step=1, loss=2.0)]), {"w": torch.ones(1)})
    course, weights = exchange.result(tmp_path)
    assert (course.losses, course.heldout) == ([1.0], [LossPoint(step=1, loss=2.0)])
    assert torch.equal(weights["w"], torch.ones(1))


def test_a_task_says_all_that_a_worker_needs(environment):
    task = exchange.Task(store="somewhere", request=request(), environment=environment, threads=1, log_level="info")
    assert exchange.Task.decoded(task.encoded()) == task
    assert isinstance(exchange.Task.decoded(task.encoded()).environment, Environment)


def test_more_processes_than_there_are_is_refused_with_their_number(store):
    with pytest.raises(CapabilityMissing, match="at most 2") as refused:
        Launcher(store=store, hosts=HOSTS).check(Recipe(batch_size=4, processes=4))
    assert refused.value.metadata == {"processes": "2"}


def test_machines_that_train_together_take_all_their_processes(store):
    several = Hosts(processes=8, nodes=2, meeting="first:29400")
    Launcher(store=store, hosts=several).check(Recipe(batch_size=8, processes=8))
    with pytest.raises(CapabilityMissing, match="to 1 or to 8"):
        Launcher(store=store, hosts=several).check(Recipe(batch_size=8, processes=4))


def test_a_store_that_other_processes_cannot_see_is_refused():
    with pytest.raises(CapabilityMissing, match="in memory"):
        Launcher(store=ArtifactStore("memory://group"), hosts=HOSTS).check(TWO)


def test_a_batch_that_the_processes_cannot_share_equally_is_refused():
    with pytest.raises(InvalidRequest, match=r"batch_size: must be a multiple of processes \(2\), got 3"):
        Recipe(batch_size=3, processes=2)


def test_machines_that_cannot_share_the_processes_equally_are_refused():
    assert hosts_of(0, 1, "", here=2) == Hosts(processes=2)
    assert hosts_of(0, 3, "first:29400", here=2).local == 2
    with pytest.raises(InvalidRequest, match="OURO_TRAINER_NODES"):
        hosts_of(5, 2, "first:29400", here=2)
    with pytest.raises(InvalidRequest):
        hosts_of(4, 2, "", here=2)


def test_the_machines_differ_in_nothing_but_their_number_and_the_folder(tmp_path):
    first = command("first:29400", nodes=2, node=0, local=4, logs=tmp_path, folder=tmp_path)
    second = command("first:29400", nodes=2, node=1, local=4, logs=tmp_path, folder=None)
    assert [part for part in first if part not in second] == ["--node=0", f"--folder={tmp_path}"]
    assert "--meeting=first:29400" in first


def wait_until(condition, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)
