"""Plain values that remember where they were written, so that a problem found later can be told with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ouroscope.errors import InvalidRequest

MAX_VALUES = 100_000
"""Values in one file; aliases count each time, so that a few lines cannot stand for more than memory holds."""
_MAPPING_TAG = "tag:yaml.org,2002:map"
_SEQUENCE_TAG = "tag:yaml.org,2002:seq"
_MERGE_TAG = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Placed:
    """A value, or a tree of them, and where it was written."""

    value: Any
    """A scalar, a dict of text to Placed, or a list of Placed."""
    where: str
    """`FILE:LINE`, or the option that set it."""


def parse_yaml(text: str, where: Callable[[int], str]) -> Placed:
    """Return the YAML document `text`; `where` tells the place of a line, counted from 1.

    Raises:
        InvalidRequest: it is not YAML, too large, or a key is not text or stands twice in one mapping.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        return _Reader(loader, where).read(node) if node else Placed(None, where(1))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = where(mark.line + 1 if mark else 1)
        raise InvalidRequest(f"{place}: {getattr(error, 'problem', None) or 'not YAML'}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"{where(1)}: too deep, or a value that YAML cannot hold") from error
    finally:
        loader.dispose()


def place(plain: Any, where: str) -> Placed:
    """Return a plain value that was all written in one place."""
    if isinstance(plain, Mapping):
        return Placed({str(key): place(item, where) for key, item in plain.items()}, where)
    if isinstance(plain, list | tuple):
        return Placed([place(item, where) for item in plain], where)
    return Placed(plain, where)


def plain_of(placed: Placed) -> Any:
    """Return the value without its places."""
    if isinstance(placed.value, dict):
        return {key: plain_of(item) for key, item in placed.value.items()}
    if isinstance(placed.value, list):
        return [plain_of(item) for item in placed.value]
    return placed.value


def where_is(placed: Placed, path: str) -> str:
    """Return where a field is written, or else the nearest group around it.

    Args:
        placed: The document.
        path: As problems name it: `arms[1].real_share`, or by a name, `arms.replace.real_share`.
    """
    found = placed
    for counted, named in re.findall(r"\[(\d+)\]|([^.\[\]]+)", path):
        # In brackets a number is a position, whatever the items are called.
        inner = _item(found, int(counted)) if counted else _child(found, named)
        if inner is None:
            break
        found = inner
    return found.where


def position_named(items: list[Placed], part: str) -> int | None:
    """Return the position of the item that `part` means, by its name or by its number; None if there is none."""
    names = [_name(item) for item in items]
    if part in names:
        return names.index(part)
    return int(part) if part.isdecimal() and int(part) < len(items) else None


def _child(placed: Placed, part: str) -> Placed | None:
    if isinstance(placed.value, dict):
        return placed.value.get(part)
    if isinstance(placed.value, list):
        position = position_named(placed.value, part)
        return None if position is None else placed.value[position]
    return None


def _item(placed: Placed, position: int) -> Placed | None:
    return placed.value[position] if isinstance(placed.value, list) and position < len(placed.value) else None


def _name(item: Placed) -> Any:
    name = item.value.get("name") if isinstance(item.value, dict) else None
    return name.value if name else None


class _Reader:
    """Turns the nodes of a document into placed values."""

    def __init__(self, loader: yaml.SafeLoader, where: Callable[[int], str]) -> None:
        self._loader = loader
        self._where = where
        self._read = 0

    def read(self, node: yaml.Node, line: int | None = None) -> Placed:
        """Read one node; `line` is that of its key, where a reader looks first."""
        where = self._where((node.start_mark.line if line is None else line) + 1)
        self._read += 1
        if self._read > MAX_VALUES:
            raise InvalidRequest(f"{where}: more than {MAX_VALUES:,} values, aliases counted each time")
        if isinstance(node, yaml.MappingNode) and node.tag == _MAPPING_TAG:
            return Placed(self._mapping(node), where)
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE_TAG:
            return Placed([self.read(item) for item in node.value], where)
        return Placed(self._loader.construct_object(node, deep=True), where)

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Placed]:
        self._check_keys(node)
        self._loader.flatten_mapping(node)
        return {key.value: self.read(item, key.start_mark.line) for key, item in node.value}

    def _check_keys(self, node: yaml.MappingNode) -> None:
        """Two equal keys are an experiment that somebody believes to be another one."""
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE_TAG:
                continue
            if not isinstance(key, yaml.ScalarNode) or not isinstance(self._loader.construct_object(key), str):
                raise InvalidRequest(f"{self._where(line)}: a key must be text; put it in quotes")
            if key.value in seen:
                raise InvalidRequest(
                    f"{self._where(line)}: {key.value} is given twice, first in line {seen[key.value]}"
                )
            seen[key.value] = line
