"""Memory that is not needed any more goes back to the system; what stays is not looked at for garbage."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ouroscope.memory import give_back, importing

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


def test_no_garbage_is_looked_for_while_something_is_imported() -> None:
    with importing():
        assert not gc.isenabled()
        with importing():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


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
