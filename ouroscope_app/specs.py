"""Run specifications: YAML plus `--set` overrides, read strictly, every problem told at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ouroscope.canonical import from_plain
from ouroscope.embedded import experiment_path
from ouroscope.errors import InvalidRequest, NotFound
from ouroscope.mappings import read_mapping
from ouroscope.records.runs import RunSpec

EXAMPLE = "`name: my-run`, see experiments/quickstart.yaml"


def load_spec(source: str, overrides: Sequence[str] = ()) -> RunSpec:
    """Read the specification at `source` (a path, or the name of a shipped experiment) and apply `key=value` overrides.

    Raises:
        NotFound: there is no such file and no such experiment.
        InvalidRequest: the file is not YAML, or the specification is wrong; all problems are told.
    """
    plain = read_mapping(_find(source), "a specification", EXAMPLE)
    for override in overrides:
        _apply(plain, override)
    return from_plain(RunSpec, plain)


def _find(source: str) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    shipped = experiment_path(source)
    if shipped is None:
        raise NotFound(f"there is no specification {source}; give a YAML file, or `quickstart`")
    return shipped


def _apply(plain: dict[str, Any], override: str) -> None:
    """Set `a.b=value` or `arms.0.real_share=0.5` in `plain`; the value is read as YAML."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise InvalidRequest(f"--set takes key=value, got {override!r}")
    target: Any = plain
    *parents, last = key.split(".")
    for part in parents:
        target = _step(target, part, key)
    _assign(target, last, yaml.safe_load(value), key)


def _step(target: Any, part: str, key: str) -> Any:
    if isinstance(target, list):
        return target[_position(target, part, key)]
    child = target.setdefault(part, {})
    if not isinstance(child, dict | list):
        raise InvalidRequest(f"--set {key}: {part} is a value, not a group of values")
    return child


def _assign(target: Any, last: str, value: Any, key: str) -> None:
    if isinstance(target, list):
        target[_position(target, last, key)] = value
    else:
        target[last] = value


def _position(target: list[Any], part: str, key: str) -> int:
    """Accept a number, or the name of an arm."""
    names = [item.get("name") if isinstance(item, dict) else None for item in target]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(target):
        return int(part)
    raise InvalidRequest(f"--set {key}: there is no {part!r}; use 0 to {len(target) - 1} or a name")
