"""Changes of a document: one value by its path, or a whole layer over it. Pure; a changed document is another one."""

from __future__ import annotations

from collections.abc import Sequence

from ouroscope.errors import InvalidRequest
from ouroscope.placed import Placed, parse_yaml, position_named

EVERY = "*"
"""Means every item of a list: `arms.*.real_share`."""


def overridden(document: Placed, overrides: Sequence[str]) -> Placed:
    """Return `document` with every `key=value` of `--set` in place; values are read as YAML.

    Raises:
        InvalidRequest: an override is no `key=value`, or its key leads nowhere.
    """
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise InvalidRequest(f"--set takes key=value, got {override!r}")
        document = assigned(document, key, _option_value(value, f"--set {key}"), f"--set {key}")
    return document


def _option_value(text: str, where: str) -> Placed:
    return parse_yaml(text, lambda _: where)


def assigned(document: Placed, path: str, value: Placed, where: str) -> Placed:
    """Return `document` with `value` at `path`: keys, positions, names of items, or `*` for all, between dots.

    Raises:
        InvalidRequest: the path leads nowhere; told with `where`.
    """
    return _assign(document, path.split("."), value, where)


def merged(document: Placed, layer: Placed) -> Placed:
    """Return `document` with `layer` over it: mappings key by key, everything else replaced.

    A mapping over a list changes its items by name, number or `*`, as in `arms: {human: {real_share: 0.5}}`.
    """
    if not isinstance(layer.value, dict):
        return layer
    if isinstance(document.value, list):
        return _merged_items(document, layer)
    if not isinstance(document.value, dict):
        return layer
    both = dict(document.value)
    for key, item in layer.value.items():
        both[key] = merged(both[key], item) if key in both else item
    return Placed(both, layer.where)


def _merged_items(document: Placed, layer: Placed) -> Placed:
    items = list(document.value)
    for part, item in layer.value.items():
        for position in _positions(items, part, item.where):
            items[position] = merged(items[position], item)
    return Placed(items, document.where)


def _assign(target: Placed, parts: Sequence[str], value: Placed, where: str) -> Placed:
    if not parts:
        return value
    part, rest = parts[0], parts[1:]
    if isinstance(target.value, list):
        items = list(target.value)
        for position in _positions(items, part, where):
            items[position] = _assign(items[position], rest, value, where)
        return Placed(items, target.where)
    child = target.value.get(part, Placed(None, where))
    if rest and child.value is None:
        child = Placed({}, where)
    if rest and not isinstance(child.value, dict | list):
        raise InvalidRequest(f"{where}: {part} is a value, not a group of values")
    return Placed({**target.value, part: _assign(child, rest, value, where)}, target.where)


def _positions(items: list[Placed], part: str, where: str) -> Sequence[int]:
    if part == EVERY:
        return range(len(items))
    position = position_named(items, part)
    if position is None:
        raise InvalidRequest(f"{where}: there is no {part!r}; use 0 to {len(items) - 1}, a name, or * for all")
    return (position,)
