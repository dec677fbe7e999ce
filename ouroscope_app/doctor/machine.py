"""The machine: Python, memory, room on disks, kinds of file systems, the clock. Judgements are pure."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from datetime import datetime, timedelta
from pathlib import Path

from rich.filesize import decimal

from ouroscope_app.doctor.findings import Finding, fault, ok, warning

OLDEST_PYTHON = (3, 11)
GB = 10**9
LITTLE_MEMORY = 4 * GB
"""Bytes below which the generator or the trainer may be killed with models that people use."""
NO_ROOM, LITTLE_ROOM = 1 * GB, 10 * GB
SKEW, WRONG = timedelta(seconds=30), timedelta(minutes=5)
"""Tokens of an identity provider allow the first; S3 and certificates fail beyond a little more than the second."""

_MOUNTS = Path("/proc/self/mounts")
_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_FAR = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "virtiofs"})


def python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """Judge the version of Python."""
    told = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if version < OLDEST_PYTHON:
        return fault("Python", told, f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    return ok("Python", told)


def read_memory() -> int:
    """Return the bytes of memory that this process may use: those of the machine, or of its control group."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(_GROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no such group, or `max`
        return machine


def memory(size: int) -> Finding:
    """Judge how much memory there is, in bytes."""
    if size < LITTLE_MEMORY:
        return warning("memory", decimal(size), "enough for the embedded model alone; give more for larger ones")
    return ok("memory", decimal(size))


def read_room(path: Path) -> int:
    """Return the free bytes of the disk that `path` lies on, or would lie on."""
    return shutil.disk_usage(nearest(path)).free


def room(subject: str, free: int) -> Finding:
    """Judge the room on a disk, in bytes."""
    told, remedy = f"{decimal(free)} free", "free some, with `ouroscope store gc` too, or take a larger disk"
    if free < NO_ROOM:
        return fault(subject, told, remedy)
    return warning(subject, told, remedy) if free < LITTLE_ROOM else ok(subject, told)


def nearest(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    return next(one for one in (path, *path.parents) if one.exists())


def read_mounts() -> str:
    """Return the table of mounted file systems; empty where the system has none that can be read."""
    try:
        return _MOUNTS.read_text(errors="replace")
    except OSError:
        return ""


def kind_of(path: Path, mounts: str) -> str:
    r"""Return the kind of the file system that an absolute path lies on, by the table of mounts; empty if unknown.

    >>> kind_of(Path("/data/home"), "/dev/sda1 / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0")
    'nfs4'
    """
    found = [line.split(" ") for line in mounts.splitlines() if line.count(" ") >= 3]
    holding = [(_unescaped(place), kind) for _, place, kind, *_ in found if path.is_relative_to(_unescaped(place))]
    # Of two mounts on one place the later covers the earlier.
    return max(enumerate(holding), key=lambda one: (len(one[1][0]), one[0]))[1][1] if holding else ""


def is_far(kind: str) -> bool:
    """Return whether a kind of file system is, or may be, that of another machine."""
    return kind in _FAR or kind.startswith("fuse.")


def clock(subject: str, here: datetime, there: datetime) -> Finding:
    """Judge the clock of this machine by another one; both with their zones."""
    skew = abs(here - there)
    told = f"{skew.total_seconds():.0f} s apart from the clock here"
    remedy = "set both clocks by NTP: tokens, certificates and S3 fail where clocks differ"
    if skew > WRONG:
        return fault(subject, told, remedy)
    return warning(subject, told, remedy) if skew > SKEW else ok(subject, told)


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
