"""One plain form of every record: for digests, remembered results, database rows, `--json` and YAML specifications.

Works by reflection over the fields of dataclasses, so a new record needs no line here. Knows nothing of files, of YAML
or of the wire.

Reading is strict, since a misspelt key that is silently ignored is a wrong experiment: whatever is unknown, missing,
of the wrong type or impossible is told, all of it at once, each with the path of its field.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import itertools
import json
import math
import re
import typing
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.shapes import UNLESS_DEFAULT, Shape, shapes_of

Record = TypeVar("Record")

_MOST_TRIED = 64
"""Records that are tried where values are bad."""
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    datetime: "an ISO 8601 time",
    dict: "a mapping",
}


def canonical_json(value: object) -> str:
    """Return `value` as JSON in the one spelling that digests are taken of: sorted keys, no spaces, ASCII.

    An int in a field of type float is written as a float, so a record and its copy that came over the wire agree.

    Raises:
        InvalidRequest: a number is not finite. JSON has no word for it, and a value that is undefined has a reason.
        TypeError: something in it is neither a record nor plain.

    >>> canonical_json({"b": (1, 2.0), "a": None})
    '{"a":null,"b":[1,2.0]}'
    """
    return json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"))


def digest_of(*parts: object) -> str:
    """Return the SHA-256 of the canonical JSON of the list of `parts`, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(parts).encode("ascii")).hexdigest()


def to_plain(value: Any) -> Any:
    """Return `value` as dicts, lists and scalars: enums by value, references as `kind/digest`, times as ISO in UTC.

    Raises:
        InvalidRequest: a number is not finite.
        TypeError: something in it is neither a record nor plain.
    """
    if value is None or isinstance(value, str | bool) or type(value) is int:
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, ArtifactRef):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _record_to_plain(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {_key(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no plain form")


def from_plain(kind: type[Record], plain: object) -> Record:
    """Build a record of class `kind` from what `to_plain`, JSON or YAML gave.

    A field that is left out takes its default. An enum is recognised in any case. An int serves where a float is
    wanted; nothing else is converted, except that `5e-4` is a number, which YAML 1.1 readers take for text.

    Raises:
        InvalidRequest: with every problem found and the path of its field, for example `arms[1].real_share`.
    """
    problems: list[FieldProblem] = []
    record = _read_record(kind, plain, "", problems)
    if problems:
        told = "; ".join(f"{p.field}: {p.description}" if p.field else p.description for p in problems)
        raise InvalidRequest(f"{_spoken(kind)} is not valid: {told}", problems)
    return typing.cast(Record, record)


def _record_to_plain(record: Any) -> dict[str, Any]:
    floats = _float_fields(typing.cast(Any, type(record)))
    plain = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.metadata == UNLESS_DEFAULT and value == field.default:
            continue
        plain[field.name] = _floats_to_plain(value) if field.name in floats else to_plain(value)
    return plain


def _floats_to_plain(value: Any) -> Any:
    """Return a float, several, or None; quicker than `to_plain`, since some records hold a hundred each."""
    if not isinstance(value, tuple):
        return None if value is None else _finite(float(value))
    numbers = list(map(float, value))
    return numbers if all(map(math.isfinite, numbers)) else list(map(_finite, numbers))


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise InvalidRequest(f"{value} is not a finite number and cannot be stored")
    return float(value)


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key must be text, got {type(key).__name__}")
    return key


@cache
def _float_fields(kind: Any) -> frozenset[str]:
    return frozenset(name for name, shape in shapes_of(kind).items() if shape.element is float)


class _Bad:
    """Stands for a value that could not be read; its problem is noted already."""


_BAD = _Bad()


def _read_record(kind: type[Any], plain: object, path: str, problems: list[FieldProblem]) -> Any:
    if not isinstance(plain, Mapping):
        problems.append(FieldProblem(path, f"must be a mapping of the fields of {_spoken(kind)}, got {_told(plain)}"))
        return _BAD
    shapes = shapes_of(kind)
    before = len(problems)
    problems.extend(_unknown_keys(plain, shapes, path))
    given = {
        name: _read_field(shape, plain[name], _join(path, name), problems)
        for name, shape in shapes.items()
        if name in plain
    }
    bad = {name for name, value in given.items() if _is_bad(value)}
    for field in dataclasses.fields(kind):
        if field.name not in given and _default(field) is dataclasses.MISSING:
            problems.append(FieldProblem(_join(path, field.name), "is required"))
            bad.add(field.name)
    record = _build(kind, given, bad, path, problems)
    return record if len(problems) == before else _BAD


def _build(kind: type[Any], given: dict[str, Any], bad: set[str], path: str, problems: list[FieldProblem]) -> Any:
    """Let the record check itself. Harmless values stand in for what is bad, so that the rest shows its problems.

    Where one of several words is wanted and none was given, only what would be wrong with each of them is told.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    choices = [_stand_ins(fields[name], shapes_of(kind)[name], given.get(name)) for name in bad]
    tried = [
        _tried(kind, {**given, **dict(zip(bad, values, strict=True))}, bad)
        for values in itertools.islice(itertools.product(*choices), _MOST_TRIED)
    ]
    record, told = tried[0]
    own = [problem for problem in told if all(problem in others for _, others in tried)]
    problems.extend(FieldProblem(_join(path, problem.field), problem.description) for problem in own)
    return record


def _tried(kind: type[Any], given: dict[str, Any], bad: set[str]) -> tuple[Any, list[FieldProblem]]:
    """Return the record, and what is wrong with it beside what is bad already."""
    if any(value is _BAD for value in given.values()):
        return _BAD, []
    try:
        return kind(**given), []
    except InvalidRequest as error:
        found = error.problems or (FieldProblem("", error.message),)
        # What is said of a stand-in was not the caller's doing.
        own = [p for p in found if re.split(r"[.\[]", p.field)[0] not in bad and (p.field or not bad)]
        return _BAD, own


def _stand_ins(field: dataclasses.Field[Any], shape: Shape, value: Any) -> list[Any]:
    """Return what may stand in for a bad value, at least one."""
    default = _default(field)
    if isinstance(shape.element, type) and issubclass(shape.element, Enum) and not shape.many:
        return [*([None] if shape.optional else []), *shape.element]
    if default is not dataclasses.MISSING:
        return [default() if field.default is dataclasses.MISSING else default]
    if shape.many:
        return [tuple(item for item in value if item is not _BAD) if isinstance(value, tuple) else ()]
    return [shape.element() if shape.element in (str, int, float, bool) else _BAD]


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default is not dataclasses.MISSING else field.default_factory


def _is_bad(value: Any) -> bool:
    return value is _BAD or (isinstance(value, tuple) and any(item is _BAD for item in value))


def _unknown_keys(plain: Mapping[Any, object], known: Iterable[str], path: str) -> list[FieldProblem]:
    names = list(known)
    return [
        FieldProblem(_join(path, str(key)), f"is not known{_did_you_mean(str(key), names)}")
        for key in plain
        if key not in names
    ]


def _did_you_mean(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word.lower(), [c.lower() for c in choices], n=1, cutoff=0.6)
    if close:
        return f"; did you mean {next(c for c in choices if c.lower() == close[0])}?"
    return f"; known are {', '.join(choices)}"


def _read_field(shape: Shape, value: object, path: str, problems: list[FieldProblem]) -> Any:
    if value is None and shape.optional:
        return None
    if not shape.many:
        return _read_one(shape.element, value, path, problems)
    if not isinstance(value, list | tuple):
        problems.append(FieldProblem(path, f"must be a list, got {_told(value)}"))
        return _BAD
    return tuple(_read_one(shape.element, item, f"{path}[{i}]", problems) for i, item in enumerate(value))


def _read_one(element: Any, value: object, path: str, problems: list[FieldProblem]) -> Any:
    if element is not ArtifactRef and dataclasses.is_dataclass(element):
        return _read_record(typing.cast(type[Any], element), value, path, problems)
    try:
        return _read_scalar(element, value)
    except InvalidRequest as error:
        problems.append(FieldProblem(path, error.message))
        return _BAD


def _read_scalar(element: Any, value: object) -> Any:
    if element is ArtifactRef and isinstance(value, str | ArtifactRef):
        return ArtifactRef.parse(str(value))
    if isinstance(element, type) and issubclass(element, Enum):
        return _read_enum(element, value)
    if element is float:
        return _read_float(value)
    if element is datetime:
        return _read_time(value)
    # A field of free form, as dict[str, Any]: its content is somebody else's.
    element = typing.get_origin(element) or element
    # bool is an int to Python, not to a reader.
    if isinstance(element, type) and isinstance(value, element) and (element is bool or not isinstance(value, bool)):
        return value
    raise InvalidRequest(f"must be {_NAMES.get(element, 'a reference such as corpus/<digest>')}, got {_told(value)}")


def _read_enum(element: type[Enum], value: object) -> Enum:
    if isinstance(value, element):
        return value
    members = {member.value.upper(): member for member in element}
    if isinstance(value, str) and value.upper() in members:
        return members[value.upper()]
    choices = [member.value for member in element]
    hint = _did_you_mean(value, choices) if isinstance(value, str) else f"; known are {', '.join(choices)}"
    raise InvalidRequest(f"{_told(value)} is not a {_spoken(element)}{hint}")


def _read_float(value: object) -> float:
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"must be a number, got {_told(value)}")
    try:
        return _finite(float(value))
    except (OverflowError, InvalidRequest):
        raise InvalidRequest(f"must be a finite number, got {_told(value)}") from None


def _read_time(value: object) -> datetime:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        time = None
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise InvalidRequest(f"must be an ISO 8601 time with its zone, got {_told(value)}")
    return time.astimezone(UTC)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _told(value: object) -> str:
    """Return `value` as it may stand in a message: short, and never the content of a document."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _spoken(kind: type[Any]) -> str:
    """Return the name of a class as words: RunSpec becomes `run spec`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__).lower()
