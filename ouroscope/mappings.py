"""Reads what a person wrote as YAML or JSON into plain values; what is wrong with the file is said with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from ouroscope.errors import InvalidRequest

MAX_BYTES = 1_000_000


def read_mapping(path: Path, noun: str, example: str) -> dict[str, Any]:
    """Return the mapping in a YAML file, or in a JSON file if its name ends so.

    Args:
        path: The file.
        noun: What it is, for messages: `a specification`.
        example: What it could begin with, and where to see more.

    Raises:
        InvalidRequest: it is not UTF-8, not YAML or JSON, too long, or not a mapping.
    """
    text = read_text(path, noun)
    plain = _json(path, text) if path.suffix == ".json" else _yaml(path, text)
    if not isinstance(plain, dict):
        raise InvalidRequest(f"{path} must hold a mapping such as {example}")
    return plain


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


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"{path}, line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path}: too deep, or too long a number") from error


def _yaml(path: Path, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InvalidRequest(f"{path}{line}: {getattr(error, 'problem', None) or 'not YAML'}") from error
