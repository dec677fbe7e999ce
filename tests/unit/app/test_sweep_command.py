"""`ouroscope sweep` and `ouroscope experiments`: what they answer without starting anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ouroscope_app.main import app

SWEPT = """\
# Does it sweep?
name: mine
arms:
  - {name: human, protocol: human}
  - {name: replace, protocol: replace}
sweep:
  grid:
    sampling.temperature: [0.5, 1.0]
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OUROSCOPE_HOME", str(tmp_path / "home"))
    path = tmp_path / "mine.yaml"
    path.write_text(SWEPT)
    return str(path)


def test_a_dry_run_tells_all_runs_together_and_leaves_nothing_behind(file: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["sweep", file, "--dry-run", "--no-calibrate", "--json", "--name", "other"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [spec["name"] for spec in told["specs"]] == ["other-temperature-0-5", "other-temperature-1-0"]
    assert told["plan"]["runs"] == 2
    assert told["plan"]["seconds"] is None
    assert "--no-calibrate" in told["plan"]["no_time_because"]
    assert sum(told["plan"]["disk_bytes"].values()) > 20 * 14_000_000, "a model for each of 20 fine-tunings"
    assert not (tmp_path / "home").exists()


def test_a_dry_run_for_people_says_the_same(file: str) -> None:
    done = CliRunner().invoke(app, ["sweep", file, "--dry-run", "--no-calibrate"])
    assert done.exit_code == 0, done.output
    for said in ("mine: 2 runs", "mine-temperature-0-5", "fine tunings", "memory: about", "time: not estimated"):
        assert said in done.stdout


def test_a_model_that_is_not_here_has_no_estimate_and_says_so(file: str) -> None:
    done = CliRunner().invoke(app, ["sweep", file, "--dry-run", "--set", "model=owner/far-away"])
    assert done.exit_code == 0, done.output
    assert "time: not estimated: the model is not on this machine yet" in done.stdout


def test_a_single_run_of_a_sweep_is_refused_with_the_command_that_does_it(file: str) -> None:
    done = CliRunner().invoke(app, ["run", file])
    assert done.exit_code == 2
    assert "ouroscope sweep" in done.stderr


def test_every_problem_of_a_file_is_a_line_of_its_own(file: str) -> None:
    done = CliRunner().invoke(app, ["sweep", file, "--set", "seeds=0", "--set", "documents=1"])
    assert done.exit_code == 2
    assert [line.split(": ")[0].strip() for line in done.stderr.splitlines()[1:]] == ["--set seeds", "--set documents"]


def test_what_ships_is_listed_with_its_scales() -> None:
    told = {
        one["name"]: one for one in json.loads(CliRunner().invoke(app, ["experiments", "--json"]).stdout)["experiments"]
    }
    assert told["paper-v2"]["scales"] == ["tiny", "paper"]
    assert all(one["scales"] == ["tiny", "paper"] for one in told.values())
