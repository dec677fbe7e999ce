"""Curves in TensorBoard and MLflow: what a job reports is what they show, and no writer can harm a training."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ouroscope.errors import CapabilityMissing, InvalidRequest
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTune, Recipe
from ouroscope.settings import load
from services.trainer.journal import Journal, following, new_writers
from services.trainer.progress import learning_rate
from services.trainer.settings import PREFIX, TrainerSettings

RECIPE = Recipe(steps=6, batch_size=2, block_tokens=24, heldout_steps=3)


class Kept:
    """A writer in memory."""

    def __init__(self, fails=0):
        self.points, self.closed, self.calls, self._fails = [], False, 0, fails

    def write(self, points):
        self.calls += 1
        if self.calls <= self._fails:
            raise OSError("disk on fire")
        self.points += points

    def close(self):
        self.closed = True


@pytest.fixture
def request_(model, corpus):
    return FineTune(model=model, corpora=(corpus,), recipe=RECIPE, heldout=corpus)


def told(control, losses):
    for number, loss in enumerate(losses, start=1):
        control.report(
            Progress(stage="train", done=number, total=6, loss=loss, heldout_loss=9.0 if number >= 3 else None)
        )


def test_a_writer_is_told_every_step_once_and_what_is_undefined_is_left_out(request_, make_control):
    writer, control = Kept(), make_control()
    with following(control, request_, "job", lambda name, first: writer) as followed:
        followed.report(Progress(stage="read"))
        told(followed, [5.0, None, 4.0, 3.0, 2.0, 1.0])
    assert [point.step for point in writer.points] == [1, 2, 3, 4, 5, 6]
    assert ["train/loss" in point.values for point in writer.points] == [True, False, True, True, True, True]
    # Held-out text is looked at after the third step and the last; between them there is nothing new.
    assert [point.step for point in writer.points if "heldout/loss" in point.values] == [3, 6]
    assert writer.points[4].values["train/learning_rate"] == learning_rate(4, RECIPE)
    assert writer.closed
    assert len(control.reports) == 7


def test_nobody_is_told_where_nobody_asked(request_, make_control):
    control = make_control()
    with following(control, request_, "job", None) as followed:
        assert followed is control
    assert new_writers("") is None


@pytest.mark.parametrize("broken", ["opening", "writing"])
def test_a_writer_that_fails_is_named_once_and_the_training_goes_on(request_, make_control, broken):
    def new_writer(name, first):
        if broken == "opening":
            raise OSError("no such server at secret-host")
        return Kept(fails=99)

    control = make_control()
    with capture_logs() as logs, following(control, request_, "job", new_writer) as followed:
        told(followed, [1.0] * 6)
    assert control.steps == [1, 2, 3, 4, 5, 6]
    assert [entry["event"] for entry in logs] == ["journal.failed"]
    assert "secret" not in str(logs)


def test_a_writer_that_hangs_holds_nobody_up(monkeypatch):
    monkeypatch.setattr("services.trainer.journal._PATIENCE", 0.05)
    monkeypatch.setattr("services.trainer.journal._WAITING", 3)
    go_on, begun = threading.Event(), threading.Event()

    def new_writer(first):
        begun.set()
        go_on.wait(60)
        return Kept()

    journal = Journal(new_writer)
    for step in range(100):
        journal.note(step, {"train/loss": 1.0})
    assert begun.wait(60)
    journal.close()
    go_on.set()


def test_tensorboard_reads_what_a_training_wrote(tune, model, corpus, make_control, tmp_path, request_):
    control = make_control()
    with following(control, request_, "abc123", new_writers(f"tensorboard:{tmp_path}")) as followed:
        tuned = tune(RECIPE, control=followed, heldout=corpus)
    events = EventAccumulator(str(tmp_path / "abc123")).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert losses == [(point.step, pytest.approx(point.loss, rel=1e-6)) for point in tuned.losses]
    heldout = [(event.step, event.value) for event in events.Scalars("heldout/loss")]
    assert heldout == [(point.step, pytest.approx(point.loss, rel=1e-6)) for point in tuned.heldout_losses]


def test_mlflow_knows_what_a_training_wrote_and_a_resumed_one_goes_on_in_the_same_run(
    make_control, tmp_path, request_, monkeypatch
):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    place = (tmp_path / "mlruns").as_uri()
    for losses in ([5.0, 4.0, 3.0], [5.0, 4.0, 3.0, 2.0]):
        with following(make_control(), request_, "abc123", new_writers(f"mlflow:{place}")) as followed:
            told(followed, losses)
    client = mlflow.MlflowClient(tracking_uri=place)
    (experiment,) = [e for e in client.search_experiments() if e.name == "ouroscope-trainer"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "abc123"
    assert {point.step: point.value for point in client.get_metric_history(run.info.run_id, "train/loss")} == {
        1: 5.0,
        2: 4.0,
        3: 3.0,
        4: 2.0,
    }


def test_a_missing_package_is_told_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CapabilityMissing, match="tensorboard is not installed"):
        new_writers("tensorboard:curves")


@pytest.mark.parametrize("text", ["wandb:me", "tensorboard:", "curves"])
def test_what_is_no_place_for_curves_is_refused_by_the_settings_too(text):
    with pytest.raises(InvalidRequest, match="tensorboard:DIRECTORY"):
        new_writers(text)
    with pytest.raises(InvalidRequest, match="OURO_TRAINER_LOG_TO must be tensorboard:DIRECTORY or mlflow:URI"):
        load(TrainerSettings, {"OURO_TRAINER_LOG_TO": text}, PREFIX)
    good = load(TrainerSettings, {"OURO_TRAINER_LOG_TO": "mlflow:http://localhost:5000"}, PREFIX)
    assert replace(good, log_to="") == load(TrainerSettings, {}, PREFIX)
