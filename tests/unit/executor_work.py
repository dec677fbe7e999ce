"""Work for the tests of executors: functions of a module that a spawned process can import, and a program to kill."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from ouroscope.errors import InvalidRequest
from ouroscope.executor import Processes


def squared(number: int) -> int:
    """The same in any process."""
    return number * number


def slower_first(number: int) -> int:
    """Later items are done before earlier ones."""
    time.sleep(0.2 / (number + 1))
    return number


def refused(number: int) -> int:
    """An error of ours, with what it carries."""
    if number == 3:
        raise InvalidRequest("three is not wanted", [])
    return number


def killed(number: int) -> int:
    """The process ends as if the system had taken its memory."""
    if number == 2:
        os.kill(os.getpid(), 9)
    return number


def marked(folder: str, number: int) -> int:
    """Leave a mark of having been done."""
    (Path(folder) / str(number)).touch()
    return number


def killed_once(folder: str, number: int) -> int:
    """The process of the third item ends, the first time."""
    mark = Path(folder) / "killed"
    if number == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), 9)
    return number


def killed_once_and_noted(folder: str, number: int) -> int:
    """Note every beginning in a file; the process of the first item ends, the first time."""
    with (Path(folder) / "begun").open("a") as begun:
        begun.write(f"{number}\n")
    if number == 0:
        killed_once(folder, 2)
    return number


def held(folder: str, number: int) -> int:
    """Say which process has begun an item, and from the fifth item on wait until there is a file `go`."""
    (Path(folder) / f"{os.getpid()}-{number}").touch()
    while number >= 4 and not (Path(folder) / "go").exists():
        time.sleep(0.05)
    return number


def about_me(_: int) -> tuple[int, frozenset[str], int]:
    """Who does the work: process, loaded packages, threads for arithmetic."""
    import numpy  # noqa: F401
    from threadpoolctl import threadpool_info

    packages = frozenset(name.partition(".")[0] for name in sys.modules)
    return os.getpid(), packages, max((pool["num_threads"] for pool in threadpool_info()), default=1)


def main() -> None:
    """Print the ids of two worker processes that wait, and wait."""
    executor = Processes(2)
    # Asked from a thread that ends: the workers must not end with it.
    found: list[int] = []
    asking = threading.Thread(target=lambda: found.extend(pid for pid, _, _ in executor.map(about_me, range(8))))
    asking.start()
    asking.join()
    found.extend(pid for pid, _, _ in executor.map(about_me, range(8)))
    sys.stdout.write(f"{' '.join(map(str, sorted(set(found))))}\n")
    sys.stdout.flush()
    time.sleep(600)


if __name__ == "__main__":
    main()
