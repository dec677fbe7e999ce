"""One coordinator per home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ouroscope.errors import PreconditionFailed
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
