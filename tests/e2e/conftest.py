"""The command line as a person runs it, with a home of its own: in real processes, or in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ouroscope_app.main import app
from tests.log_events import kept_logs

Ouroscope = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "OUROSCOPE_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1"}


@pytest.fixture
def ouroscope(environment: dict[str, str], tmp_path: Path) -> Ouroscope:
    def run(*arguments: str, stdin: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ouroscope_app", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env={**environment, **environ},
            cwd=tmp_path,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def inside(environment: dict[str, str], tmp_path: Path) -> Ouroscope:
    """Commands in this process, for what they say and write: the same code without a start of Python for each.

    What escapes a command fails the test; a process of its own is for ports, pipes, signals and the end of a process.
    """

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return here({**environment, **environ}, tmp_path, *arguments)

    return run


def here(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Carry out a command in this process, as if it had been started in `folder` with this environment."""
    with kept_logs(), pytest.MonkeyPatch.context() as there:
        there.chdir(folder)
        for name, value in environment.items():
            there.setenv(name, value)
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
