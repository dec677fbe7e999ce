"""Shared fixtures: programs that tests need. A missing one is a skip for users and a failure in CI."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"

# Progress bars and telemetry of libraries have no place in test output; no test may reach a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Several tests run side by side; each with all processors would wait at every barrier for the others.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# Speed lives in benchmarks: on a busy machine a law that holds would fail for being slow.
settings.register_profile("ouroscope", deadline=None)
settings.load_profile("ouroscope")


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands and processes set up logs for good; no test may leave that to the next."""
    root = logging.getLogger()
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**configuration)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Find a program on this machine; a missing one skips the test for a user and fails it in CI."""

    def find(name: str) -> str:
        local = ROOT / ".venv/node/node_modules/.bin" / name
        found = shutil.which(name) or (str(local) if local.exists() else None)
        if found is None:
            message = f"the program {name} is not installed"
            pytest.fail(message) if IN_CI else pytest.skip(message)
        return found

    return find


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder where the packages of examples/node are installed; without them: as for a missing program."""
    folder = ROOT / ".venv/node/node_modules"
    if not (folder / "@grpc/grpc-js").is_dir() or not (folder / "@grpc/proto-loader").is_dir():
        message = "@grpc/grpc-js and @grpc/proto-loader are not installed in .venv/node"
        pytest.fail(message) if IN_CI else pytest.skip(message)
    return folder
