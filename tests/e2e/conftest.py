"""The command line as a person runs it: real processes, a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
