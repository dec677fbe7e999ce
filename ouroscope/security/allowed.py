"""Which sources of text and models a caller may name: what the operator lists, and nothing that a link leads out to.

A path in a request is read by a service, with the rights of the service; a name on the Hub makes it fetch something.
So where strangers can reach a service, callers may name what is embedded, and beyond that what `OURO_*_SOURCES` lists.
Knows neither models nor data sets.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from ouroscope.addresses import is_loopback, split_address
from ouroscope.errors import NotPermitted
from ouroscope.paths import expanded

ANY = "any"
EMBEDDED = "embedded"
HUB = "hf://"
RIGHT = "must list, with commas, absolute folders, hf://OWNER/NAME (`*` stands for anything), embedded, or any"

_PATTERN = re.compile(r"[\w*][\w.*-]{0,95}(/[\w.*-]{1,96})?", re.ASCII)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Not blocking: a pipe that nobody writes to would hold the thread that opens it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class AllowedSources:
    """What callers may name beside what is embedded. The default is nothing."""

    folders: tuple[Path, ...] = ()
    """Files below these may be read; links are followed, and count as what they lead to."""
    hub: tuple[str, ...] = ()
    """Patterns of repositories of the Hugging Face Hub, `OWNER/NAME`."""
    everything: bool = False

    def path(self, text: str) -> Path:
        """Return the path that a caller names; it need not exist.

        Raises:
            NotPermitted: it is not below an allowed folder. Nothing is said of what is there.
        """
        if self.everything:
            return expanded(text)
        if not self.holds(Path(text)):
            raise refused(text)
        return Path(text)

    def holds(self, path: Path) -> bool:
        """Return whether what `path` leads to, links followed, may be read."""
        return self.everything or self.folder_of(path) is not None

    def folder_of(self, path: Path) -> Path | None:
        """Return the allowed folder, with all links followed, that `path` leads into; None where it leads elsewhere."""
        try:
            real = Path(os.path.realpath(path))
        except ValueError:  # a zero byte
            return None
        folders = (Path(os.path.realpath(folder)) for folder in self.folders)
        return next((folder for folder in folders if real.is_relative_to(folder)), None)

    def open(self, path: Path) -> BinaryIO:
        """Open a file for reading, whatever its links have been changed to since it was looked at.

        Raises:
            NotPermitted: it leads out of the allowed folders, or is no plain file.
            OSError: as `open` does.
        """
        if self.everything:
            return path.open("rb")
        folder = self.folder_of(path)
        if folder is None:
            raise refused(path.name)
        handle = _opened_below(folder, Path(os.path.realpath(path)).relative_to(folder).parts)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise refused(path.name)
        return os.fdopen(handle, "rb")

    def check_hub(self, repository: str) -> None:
        """Check a repository of the Hub, `OWNER/NAME`.

        Raises:
            NotPermitted: it is not allowed.
        """
        if not (self.everything or any(fnmatchcase(repository, pattern) for pattern in self.hub)):
            raise refused(HUB + repository)


EVERYTHING = AllowedSources(everything=True)
"""For callers who could read the same files without the service."""


def read_sources(text: str) -> AllowedSources | None:
    """Read a list such as `/data/corpora, hf://allenai/*`; an empty one says nothing.

    Raises:
        ValueError: it is none; the text says what would be right.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        return None
    folders = tuple(Path(name) for name in names if name.startswith("/"))
    hub = tuple(name.removeprefix(HUB) for name in names if name.startswith(HUB))
    others = {name for name in names if not name.startswith(("/", HUB))}
    if not others <= {ANY, EMBEDDED} or not all(map(_PATTERN.fullmatch, hub)):
        raise ValueError(RIGHT)
    return AllowedSources(folders=folders, hub=hub, everything=ANY in others)


def sources_for(told: AllowedSources | None, address: str, *, asks: bool) -> AllowedSources:
    """Return what callers may name: what the operator says, else everything where only this machine can call.

    Args:
        told: What the operator says; None where nothing is said.
        address: Where the service listens.
        asks: Whether it speaks TLS or asks who calls; then callers may come from elsewhere, through a proxy too.
    """
    if told is not None:
        return told
    return EVERYTHING if is_loopback(split_address(address)[0]) and not asks else AllowedSources()


def refused(source: str) -> NotPermitted:
    """Return the error for a source that may not be named."""
    return NotPermitted(
        f"the source {source[:200]!r} may not be named here; name an embedded one, or ask the operator to list it in "
        "OURO_GENERATOR_SOURCES (models) or OURO_COORDINATOR_SOURCES (text)",
        cause="SOURCE_NOT_ALLOWED",
    )


def _opened_below(folder: Path, parts: tuple[str, ...]) -> int:
    """Open a file step by step without following any link: one that was put in the way since leads nowhere."""
    if not parts:
        return os.open(folder, _FILE)
    handle = os.open(folder, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        return os.open(parts[-1], _FILE, dir_fd=handle)
    finally:
        os.close(handle)
