"""Bytes that strangers give us, as lines of text: bounded in memory, and every fault told in one sentence.

Knows files, pipes, gzip and UTF-8; knows nothing of documents.
"""

from __future__ import annotations

import gzip
import io
import itertools
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from ouroscope.errors import InvalidRequest, LimitExceeded, NotFound, PreconditionFailed, Unavailable
from ouroscope.records.checks import Problems

GZIP_MAGIC = b"\x1f\x8b"
_BUFFER = 1 << 16
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of an input is believed."""

    document_bytes: int = 10 << 20
    """Bytes of one line, of one row, or of one file that is a document; at least 1."""
    decompressed_bytes: int = 4 << 30
    """Bytes that one compressed file may grow to, at least 1: a decompression bomb must not run for days."""

    def __post_init__(self) -> None:
        problems = Problems("limits")
        problems.check(self.document_bytes >= 1, "document_bytes", "must be at least 1")
        problems.check(self.decompressed_bytes >= 1, "decompressed_bytes", "must be at least 1")
        problems.raise_any()


@contextmanager
def input_errors(name: str) -> Iterator[None]:
    """Turn whatever goes wrong while `name` is opened or read into one typed sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"{name} does not exist; check the path") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidRequest(f"{name} is not a whole gzip file ({error}); compress it again") from error
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise PreconditionFailed(f"{name} cannot be read ({error.strerror}); check its path, owner and mode") from error
    except OSError as error:
        raise Unavailable(f"reading {name} failed ({error.strerror or type(error).__name__}); try again") from error


class _Counted(io.RawIOBase):
    """What comes out of a decompressor, up to a limit."""

    def __init__(self, source: BinaryIO, name: str, limit: int) -> None:
        self._source, self._name, self._limit, self._left = source, name, limit, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(min(len(buffer), self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            told = f"{self._name} grows beyond {size_of(self._limit)} when decompressed"
            raise LimitExceeded(f"{told}; split it, or decompress it yourself")
        buffer[: len(data)] = data
        return len(data)


class _Rejoined(io.RawIOBase):
    """A stream from which something was read already."""

    def __init__(self, first: bytes, rest: BinaryIO) -> None:
        self._first, self._rest = first, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._first[: len(buffer)] or self._rest.read(len(buffer))
        self._first = self._first[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def decompressed(stream: BinaryIO, name: str, limits: Limits) -> BinaryIO:
    """Return what a gzip stream holds, as a stream.

    Reading from it raises LimitExceeded beyond `limits.decompressed_bytes`; a damaged file raises what `input_errors`
    expects.
    """
    unpacked = cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))
    return io.BufferedReader(_Counted(unpacked, name, limits.decompressed_bytes), _BUFFER)


def unzipped(stream: BinaryIO, name: str, limits: Limits) -> BinaryIO:
    """Return what a stream holds if it begins as gzip does, otherwise the stream itself."""
    first, stream = peek(stream, len(GZIP_MAGIC))
    return decompressed(stream, name, limits) if first == GZIP_MAGIC else stream


def peek(stream: BinaryIO, size: int) -> tuple[bytes, BinaryIO]:
    """Return the first `size` bytes of a stream (fewer only at its end), and a stream that still has them."""
    first = stream.read(size)
    if stream.seekable():
        stream.seek(-len(first), io.SEEK_CUR)
        return first, stream
    return first, io.BufferedReader(_Rejoined(first, stream), _BUFFER)


@contextmanager
def seekable(stream: BinaryIO) -> Iterator[BinaryIO]:
    """Give a stream in which one can go back; what comes from a pipe is kept in a file meanwhile."""
    if stream.seekable():
        yield stream
    else:
        with tempfile.TemporaryFile(prefix="ouroscope-") as file:
            shutil.copyfileobj(stream, file)
            file.seek(0)
            yield cast(BinaryIO, file)


def lines_of(stream: BinaryIO, name: str, limits: Limits) -> Iterator[str]:
    """Yield the lines of a stream with their ends; never holds more than one.

    Raises:
        LimitExceeded: a line is longer than a document may be.
        InvalidRequest: it is not UTF-8 text; says at which byte.
    """
    offset = 0
    for number in itertools.count(1):
        raw = stream.readline(limits.document_bytes + 1)
        if not raw:
            return
        if len(raw) > limits.document_bytes:
            told = f"line {number} of {name} is longer than {size_of(limits.document_bytes)}"
            raise LimitExceeded(f"{told}; write one document per line, or split it")
        yield _decoded(raw, name, offset)
        offset += len(raw)


def text_of(stream: BinaryIO, name: str, limits: Limits) -> str:
    """Return a whole stream as text. Raises as `lines_of` does."""
    raw = stream.read(limits.document_bytes + 1)
    if len(raw) > limits.document_bytes:
        raise LimitExceeded(
            f"{name} is larger than {size_of(limits.document_bytes)}, too much for one document; split it"
        )
    return _decoded(raw, name, 0)


def _decoded(raw: bytes, name: str, offset: int) -> str:
    if offset == 0 and raw.startswith(_UTF16):
        raise InvalidRequest(f"{name} is UTF-16; save it as UTF-8")
    if b"\0" in raw:
        raise InvalidRequest(f"{name} is a binary file (byte {offset + raw.index(0)} is 0); give UTF-8 text")
    start = len(_BOM) if offset == 0 and raw.startswith(_BOM) else 0
    try:
        return raw[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        place = offset + start + error.start
        told = f"{name} is not UTF-8 text: byte {place} (0x{raw[start + error.start]:02x}) cannot be decoded"
        raise InvalidRequest(f"{told}; convert it, for example with iconv") from error


def size_of(count: int) -> str:
    """Return a number of bytes as people read it.

    >>> size_of(10 << 20)
    '10 MiB'
    """
    for exponent, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << exponent:
            return f"{count / (1 << exponent):.4g} {unit}"
    return f"{count} bytes"
