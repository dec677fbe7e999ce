"""One coordinator per home, and what it does when the disk of the home is full."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from ouroscope.errors import PreconditionFailed, StorageFull, Unavailable
from services.coordinator import lock as module
from services.coordinator.connection import FULL, is_full
from services.coordinator.durable import hear_errors
from services.coordinator.lock import HomeLock

HOLD = """
import sys
from pathlib import Path
from services.coordinator.lock import HomeLock
lock = HomeLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


async def test_a_second_coordinator_is_told_who_has_the_home(tmp_path: Path) -> None:
    lock = HomeLock(tmp_path)
    with pytest.raises(PreconditionFailed, match=f"process {os.getpid()}.*use another OUROSCOPE_HOME"):
        HomeLock(tmp_path)
    await lock.release()
    await HomeLock(tmp_path).release()


async def test_the_lock_dies_with_its_process_however_it_ends(tmp_path: Path, root: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(PreconditionFailed, match=str(holder.pid)):
        HomeLock(tmp_path)
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    await HomeLock(tmp_path).release()


def test_a_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PreconditionFailed, match="cannot write to"):
        HomeLock(tmp_path / "file" / "home")


# A full disk


@contextmanager
def two_pages(file: Path) -> Iterator[sa.Connection]:
    """A database that has no room for more: SQLite raises what it does on a full disk."""
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        connection.execute(sa.text("PRAGMA max_page_count = 2"))
        connection.execute(sa.text("CREATE TABLE a (b BLOB)"))
        yield connection
    engine.dispose()


def want_of_room(file: Path) -> sa.exc.OperationalError:
    with two_pages(file) as connection, pytest.raises(sa.exc.OperationalError) as raised:
        connection.execute(sa.text("INSERT INTO a VALUES (zeroblob(100000))"))
    return raised.value


@pytest.fixture
async def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HomeLock]:
    monkeypatch.setattr(module, "WATCH", 0.001)
    (tmp_path / "state").mkdir()
    held = HomeLock(tmp_path)
    yield held
    await held.release()


async def test_only_what_failed_for_want_of_room_in_the_database_can_be_taken_up_again(
    lock: HomeLock, tmp_path: Path
) -> None:
    assert lock.doubt(want_of_room(tmp_path / "a.sqlite"))
    assert lock.doubt(StorageFull(FULL, dependency="database"))
    assert not lock.doubt(StorageFull("the bucket of the artifact store has no room left"))
    assert not lock.doubt(sa.exc.OperationalError("", {}, Exception("database disk image is malformed")))
    assert not lock.doubt(Unavailable("the database of runs does not answer", dependency="database"))


async def test_work_is_taken_up_once_when_there_is_room_and_what_it_lacks_is_said_until_then(
    lock: HomeLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_up, said, room = asyncio.Event(), list[str](), list[bool]()

    def write(_: Path) -> None:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")

    async def back() -> None:
        assert room, "not before there is room"
        assert not taken_up.is_set(), "once"
        taken_up.set()

    monkeypatch.setattr(module, "_write_and_forget", write)
    lock.keep(lambda: None, back, said.append)
    lock.doubt(StorageFull(FULL, dependency="database"))
    while len(said) < 3:
        await asyncio.sleep(0)
    room.append(True)
    await taken_up.wait()
    assert set(said) == {FULL}


async def test_work_that_cannot_be_taken_up_yet_is_tried_again(lock: HomeLock) -> None:
    tried, taken_up = [Unavailable("it cannot be opened"), StorageFull(FULL, dependency="database")], asyncio.Event()

    async def back() -> None:
        if tried:
            raise tried.pop()
        taken_up.set()

    lock.keep(lambda: None, back)
    lock.doubt(StorageFull(FULL, dependency="database"))
    await taken_up.wait()


def test_a_failure_in_the_file_of_workflows_is_heard_and_none_in_another(tmp_path: Path) -> None:
    heard: list[BaseException] = []
    deaf = hear_errors(f"sqlite:///{tmp_path / 'dbos.sqlite'}", heard.append)
    want_of_room(tmp_path / "other.sqlite")
    assert heard == []
    want_of_room(tmp_path / "dbos.sqlite")
    assert [is_full(error) for error in heard] == [True]
    deaf()
    (tmp_path / "dbos.sqlite").unlink()
    want_of_room(tmp_path / "dbos.sqlite")
    assert len(heard) == 1
