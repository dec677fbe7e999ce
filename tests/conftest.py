"""Shared fixtures: programs that tests need. A missing one is a skip for users and a failure in CI."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.log_events import kept_logs
from tests.postgres import PostgresServer

if TYPE_CHECKING:
    from tests.object_store import ObjectStore

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"
POSTGRESQL = Path("/usr/lib/postgresql")
"""Debian keeps the programs of each version in a folder of its own, off the PATH."""

# Progress bars and telemetry of libraries have no place in test output; no test may reach a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Several tests run side by side; each with all processors would wait at every barrier for the others.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# Speed lives in benchmarks: on a busy machine a law that holds would fail for being slow.
settings.register_profile("ouroscope", deadline=None)
settings.load_profile("ouroscope")


def pytest_collection() -> None:
    """Look for no garbage while everything is imported: there is none."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Keep what is there by now out of every later collection of garbage.

    The modules of torch and its relatives are a million objects. Libraries ask for a collection with every training,
    which would look at all of them.
    """
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands and processes set up logs for good; no test may leave that to the next."""
    with kept_logs():
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Find a program on this machine; a missing one skips the test for a user and fails it in CI."""

    def find(name: str) -> str:
        local = [ROOT / ".venv/node/node_modules/.bin" / name, *sorted(POSTGRESQL.glob(f"*/bin/{name}"))]
        found = shutil.which(name) or next((str(path) for path in local if path.exists()), None)
        if found is None:
            message = f"the program {name} is not installed"
            pytest.fail(message) if IN_CI else pytest.skip(message)
        return found

    return find


@pytest.fixture(scope="session")
def postgresql(program: Callable[[str], str]) -> Iterator[PostgresServer]:
    """A real server for the tests of one worker; each test asks it for a database of its own."""
    server = PostgresServer(Path(program("initdb")).resolve().parent)
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """A server that speaks S3, for the tests of one worker; each test asks it for a bucket of its own."""
    missing = [name for name in ("moto", "s3fs") if importlib.util.find_spec(name) is None]
    if missing:
        message = f"{' and '.join(missing)} not installed; install ouroscope[dev]"
        pytest.fail(message) if IN_CI else pytest.skip(message)
    from tests.object_store import ObjectStore

    server = ObjectStore()
    yield server
    server.stop()


@pytest.fixture
def s3(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty store in a bucket; whoever opens it finds the server in the environment, as in production."""
    import s3fs

    from tests.object_store import CREDENTIALS

    # Connections are shared by all stores of equal options, wherever their server is.
    s3fs.S3FileSystem.clear_instance_cache()
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": object_store.endpoint}.items():
        monkeypatch.setenv(name, value)
    return f"s3://{object_store.bucket()}/store"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB; where this user may not mount one, the test is skipped."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here: that takes root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder where the packages of examples/node are installed; without them: as for a missing program."""
    folder = ROOT / ".venv/node/node_modules"
    if not (folder / "@grpc/grpc-js").is_dir() or not (folder / "@grpc/proto-loader").is_dir():
        message = "@grpc/grpc-js and @grpc/proto-loader are not installed in .venv/node"
        pytest.fail(message) if IN_CI else pytest.skip(message)
    return folder
