"""Reads what a person wrote as YAML or JSON into plain values and records; what is wrong is told with its line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ouroscope.canonical import from_plain
from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.placed import Placed, parse_yaml, place, plain_of, where_is

Record = TypeVar("Record")

MAX_BYTES = 1_000_000


def read_record(
    kind: type[Record],
    path: Path,
    noun: str,
    example: str,
    further: Callable[[Mapping[str, Any]], Iterable[FieldProblem]] = lambda _: (),
) -> Record:
    """Return the record that a YAML or JSON file holds.

    Args:
        kind: Its class.
        path: The file.
        noun: What it is, for messages: `a policy`.
        example: What it could begin with, and where to see more.
        further: What is wrong with the plain values that no field of the record can see.

    Raises:
        InvalidRequest: it is no such record; every problem has a line of its own and the place where it stands.
    """
    document = read_mapping(path, noun, example)
    plain = plain_of(document)
    problems, record = list(further(plain)), None
    try:
        record = from_plain(kind, plain)
    except InvalidRequest as error:
        problems += problems_of(error)
    if record is None or problems:
        raise refusal(path, [told_with_place(document, problem) for problem in problems], problems)
    return record


def read_mapping(path: Path, noun: str, example: str) -> Placed:
    """Return the mapping in a YAML file, or in a JSON file if its name ends so; see `read_record`.

    Raises:
        InvalidRequest: it is not UTF-8, not YAML or JSON, too long, or not a mapping.
    """
    text = read_text(path, noun)
    json_ = path.suffix == ".json"
    document = place(_json(path, text), str(path)) if json_ else parse_yaml(text, lambda line: f"{path}:{line}")
    if not isinstance(document.value, dict):
        raise InvalidRequest(f"{path} must hold a mapping such as {example}")
    return document


def read_text(path: Path, noun: str) -> str:
    """Return what a file says that a person wrote; `noun` is what it is, for messages: `a specification`.

    Raises:
        InvalidRequest: it is not UTF-8, or too long.
    """
    raw = path.read_bytes()
    if len(raw) > MAX_BYTES:
        raise InvalidRequest(f"{path} is {len(raw):,} bytes; {noun} has at most {MAX_BYTES:,}")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8 text (byte {error.start})") from error


def problems_of(error: InvalidRequest) -> list[FieldProblem]:
    """Return what an error says is wrong, at least one problem."""
    return list(error.problems) or [FieldProblem("", error.message)]


def told_with_place(document: Placed, problem: FieldProblem) -> str:
    """Return one line for one problem: where it stands, the field, what is wrong."""
    said = f"{problem.field}: {problem.description}" if problem.field else problem.description
    return f"{where_is(document, problem.field)}: {' '.join(said.split())}"


def refusal(path: Path, lines: Sequence[str], problems: Sequence[FieldProblem] = ()) -> InvalidRequest:
    """Return the error of a file with something wrong in it, one line for each, after their number if there are more.

    Equal lines are one: one mistake may be met on several ways.
    """
    told = list(dict.fromkeys(lines))
    heading = [f"{path} is not valid, {len(told)} problems:"] if len(told) > 1 else []
    return InvalidRequest("\n".join([*heading, *told]), problems)


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"{path}:{error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path}: too deep, or too long a number") from error
