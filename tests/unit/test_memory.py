"""Memory that is not needed any more goes back, what stays is not looked at, and what is not needed stays out."""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import platform
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ouroscope import memory
from ouroscope.memory import give_back, importing, kept_out

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed")
BLOCK, BLOCKS = 60_000, 2_000
MEBIBYTE = 1 << 20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@contextmanager
def a_heap_with_holes() -> Iterator[None]:
    """Free all blocks of a heap but the last, which keeps what lies below it from going back by itself."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    blocks = [libc.malloc(BLOCK) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    last = blocks.pop()
    for block in blocks:
        libc.free(block)
    yield
    libc.free(last)


@glibc_only
def test_a_heap_of_holes_goes_back_to_the_system() -> None:
    with a_heap_with_holes():
        before = resident_bytes()
        give_back()
        assert before - resident_bytes() > 100 * MEBIBYTE


def test_where_nothing_was_freed_nothing_happens() -> None:
    give_back()
    give_back()


@pytest.fixture
def looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for garbage goes on, whatever a thread of an earlier test imports."""
    monkeypatch.setattr(memory, "_pause", memory._Pause())
    gc.enable()


@pytest.mark.usefixtures("looked_for")
def test_no_garbage_is_looked_for_while_something_is_imported() -> None:
    with importing():
        assert not gc.isenabled()
        with importing():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.usefixtures("looked_for")
def test_of_several_threads_that_import_the_last_one_lets_garbage_be_looked_for() -> None:
    begun, going_on = threading.Barrier(9), threading.Barrier(9)

    def imports() -> None:
        with importing():
            begun.wait(60)
            going_on.wait(60)

    threads = [threading.Thread(target=imports) for _ in range(8)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    assert not gc.isenabled()
    going_on.wait(60)
    for thread in threads:
        thread.join()
    assert gc.isenabled()


@pytest.mark.usefixtures("looked_for")
def test_garbage_is_looked_for_again_where_an_import_fails() -> None:
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()


def test_who_looks_for_no_garbage_is_left_alone(request: pytest.FixtureRequest) -> None:
    request.addfinalizer(gc.enable)
    gc.disable()
    with importing():
        pass
    assert not gc.isenabled()


def test_what_is_kept_out_of_one_thread_is_there_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "somewhere_else.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with kept_out("nowhere", "somewhere_else"):
        with pytest.raises(ModuleNotFoundError, match="kept out"):
            importlib.import_module("somewhere_else")
        with ThreadPoolExecutor(1) as other:
            found = other.submit(importlib.import_module, "somewhere_else").result()
        assert importlib.import_module("somewhere_else") is found
    del sys.modules["somewhere_else"]
    assert importlib.import_module("somewhere_else") is not found
    del sys.modules["somewhere_else"]
