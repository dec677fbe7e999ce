"""Settings of a process: declared as a frozen dataclass, read once from the environment, all problems told at once.

Nobody else reads the environment. Knows no particular setting; every service declares its own.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ouroscope.errors import FieldProblem, InvalidRequest, OuroscopeError

T = TypeVar("T")

_MARK = "ouroscope.variable"


class Secret:
    """A value that no log, error or repr shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, for the one place that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "<SECRET>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class _Variable:
    parser: Callable[[str], Any]
    help: str
    formerly: str = ""


def variable(parser: Callable[[str], Any], help: str, default: Any = dataclasses.MISSING, *, formerly: str = "") -> Any:
    """Declare a setting: how its text is read, what it is for, and its value where the environment says nothing.

    Args:
        parser: turns the text into a value; raises ValueError (or one of our errors) with what would be right.
        help: one line for people.
        default: a value, not a text; without one the variable is required.
        formerly: an older name, without the prefix, that still works where the new one is not set.

    >>> @dataclass(frozen=True, kw_only=True)
    ... class Settings:
    ...     batch_size: int = variable(positive, "documents sampled together", 8)
    >>> load(Settings, {"OURO_GENERATOR_BATCH_SIZE": "16"}, prefix="OURO_GENERATOR")
    Settings(batch_size=16)
    """
    return dataclasses.field(default=default, metadata={_MARK: _Variable(parser, help, formerly)})


def load(settings: type[T], environ: Mapping[str, str], prefix: str) -> T:
    """Build `settings` from the variables `{prefix}_{FIELD}` of `environ`.

    Raises:
        InvalidRequest: with every problem: a value that cannot be read, a required variable that is missing, and a
            variable under the prefix that no field declares (a typing mistake would otherwise be silent).
    """
    values: dict[str, Any] = {}
    problems: list[FieldProblem] = []
    names = {f"{prefix}_{field.name.upper()}": field for field in _fields(settings)}
    older = {name: f"{prefix}_{_of(field).formerly}" for name, field in names.items() if _of(field).formerly}
    for name, field in names.items():
        told = name if name in environ else older.get(name, name)
        if told in environ:
            values[field.name] = _read(field, told, environ[told], problems)
        elif field.default is dataclasses.MISSING:
            problems.append(FieldProblem(name, f"is required: {_of(field).help}"))
    known = {*names, *older.values()}
    unknown = sorted(name for name in environ if name.startswith(f"{prefix}_") and name not in known)
    problems += [FieldProblem(name, _did_you_mean(name, list(names))) for name in unknown]
    if problems:
        told = "; ".join(f"{problem.field} {problem.description}" for problem in problems)
        raise InvalidRequest(f"the environment is not right: {told}", problems)
    return settings(**values)


@dataclass(frozen=True, slots=True)
class Described:
    """One setting, for `--help` and the documentation."""

    name: str
    """Name of the variable."""
    help: str
    default: str | None
    """As text; None where it is required."""


def describe(settings: type[Any], prefix: str) -> tuple[Described, ...]:
    """Return every variable that `load` reads, in the order of the fields."""
    return tuple(
        Described(f"{prefix}_{field.name.upper()}", _of(field).help, _default_text(field))
        for field in _fields(settings)
    )


def whole_number(text: str) -> int:
    """Read an int of at least 0."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("must be a whole number, 0 or more")
    return int(text)


def positive(text: str) -> int:
    """Read an int of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise ValueError("must be a whole number, 1 or more")
    return int(text)


def seconds(text: str) -> float:
    """Read a number of seconds of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return value


def boolean(text: str) -> bool:
    """Read true or false (also 1, 0, yes, no, on, off)."""
    if text.lower() in {"true", "1", "yes", "on"}:
        return True
    if text.lower() in {"false", "0", "no", "off"}:
        return False
    raise ValueError("must be true or false")


def one_of(*choices: str) -> Callable[[str], str]:
    """Make a parser that accepts only `choices`."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


def directory(text: str) -> Path:
    """Read a path; it need not exist yet."""
    if not text:
        raise ValueError("must be a path")
    return Path(text)


def _fields(settings: type[Any]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(settings) if _MARK in field.metadata]


def _of(field: dataclasses.Field[Any]) -> _Variable:
    declared: _Variable = field.metadata[_MARK]
    return declared


def _read(field: dataclasses.Field[Any], name: str, text: str, problems: list[FieldProblem]) -> Any:
    try:
        return _of(field).parser(text)
    except (ValueError, OuroscopeError) as error:
        # What would be right, as the parser says; not what was given, which may be a secret.
        problems.append(FieldProblem(name, str(error)))
    return None


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"is not known; did you mean {close[0]}?" if close else f"is not known; there are {', '.join(known)}"


def _default_text(field: dataclasses.Field[Any]) -> str | None:
    if field.default is dataclasses.MISSING:
        return None
    return "" if field.default is None else str(field.default)
