"""Tokens that the operator gives out: a YAML file of names, roles and digests. The tokens themselves are in no file.

```yaml
tokens:
  - name: ci
    role: analyse
    sha256: 0f4c...        # as `ouroscope token new` prints it
    expires: 2027-06-30    # optional; good through that day, UTC
```

A token has 256 random bits, so a fast digest is enough: nobody can try them all, and each call costs microseconds.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ouroscope.errors import FieldProblem, InvalidRequest, NotAuthenticated, NotFound
from ouroscope.security.callers import Caller
from ouroscope.security.roles import Role
from ouroscope.security.watched import Watched

LARGEST_FILE = 4 * 1024 * 1024
"""Bytes of a token file."""
PREFIX = "ouro_"
"""Begins every token, so that scanners for leaked secrets find it."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEYS = {"name", "role", "sha256", "expires"}


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made."""

    token: str
    """To be told once, to its holder."""
    line: str
    """For the file of the service."""

    def __repr__(self) -> str:
        return "<NewToken>"


def new_token(name: str, role: Role, expires: datetime.date | None = None) -> NewToken:
    """Make a token.

    Raises:
        InvalidRequest: `name` cannot be a name.
    """
    if not _NAME.fullmatch(name):
        told = "must be 1 to 63 of a-z, 0-9, '.', '_', '@' and '-', and begin with a letter or digit"
        raise InvalidRequest(f"the name of a token {told}", [FieldProblem("name", told)])
    token = PREFIX + secrets.token_urlsafe(32)
    until = f", expires: {expires.isoformat()}" if expires else ""
    # Quoted: YAML would read some digits, and names like `on`, as something else.
    return NewToken(token, f'  - {{name: "{name}", role: {role.name.lower()}, sha256: "{_digest(token)}"{until}}}')


class TokenFile:
    """Knows the tokens of one file; a change of the file counts within a second, without a restart."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            NotFound: there is none.
            InvalidRequest: it is not as it should be; every problem is told.
        """
        self._watched = Watched([path], lambda: read_tokens(path), event="tokens")

    def caller_of(self, token: str) -> Caller | None:
        """Return who holds `token`, or None where the file does not have it.

        Raises:
            NotAuthenticated: it has expired.
        """
        caller = self._watched.get().get(_digest(token))
        if caller and caller.expires is not None and _now() >= caller.expires:
            raise NotAuthenticated(f"the token of {caller.name} has expired; ask the operator for a new one")
        return caller

    def age(self) -> object:
        """Return how often the file was read."""
        self._watched.get()
        return self._watched.version


def read_tokens(path: Path) -> Mapping[str, Caller]:
    """Return the callers of a token file by the digest of their token.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is not as it should be.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InvalidRequest(f"the token file has over {LARGEST_FILE} bytes; is it another file?")
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFound("the token file cannot be read; OURO_SECURITY_TOKENS names it") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # Not the text of the error: it quotes the file.
        raise InvalidRequest("the token file is not YAML") from error
    if not isinstance(found, dict) or set(found) != {"tokens"} or not isinstance(found["tokens"], list):
        raise InvalidRequest("the token file must hold one list, `tokens:`")
    problems: list[FieldProblem] = []
    callers = [_caller(f"tokens[{position}]", entry, problems) for position, entry in enumerate(found["tokens"])]
    names = [caller.name for _, caller in filter(None, callers)]
    problems += [FieldProblem("tokens", f"names {name} twice") for name in sorted(set(names)) if names.count(name) > 1]
    if problems:
        told = "; ".join(f"{problem.field} {problem.description}" for problem in problems)
        raise InvalidRequest(f"the token file is not right: {told}", problems)
    return dict(filter(None, callers))


def _caller(where: str, entry: Any, problems: list[FieldProblem]) -> tuple[str, Caller] | None:
    if not isinstance(entry, dict) or not {"name", "role", "sha256"} <= set(entry) <= _KEYS:
        problems.append(FieldProblem(where, "must have name, role and sha256, and may have expires"))
        return None
    name, digest, found = str(entry["name"]), str(entry["sha256"]), len(problems)
    if not _NAME.fullmatch(name):
        problems.append(FieldProblem(f"{where}.name", "must be 1 to 63 of a-z, 0-9, '.', '_', '@' and '-'"))
    if not _DIGEST.fullmatch(digest):
        problems.append(FieldProblem(f"{where}.sha256", "must be 64 hexadecimal digits, never the token itself"))
    role, expires = _role(where, entry["role"], problems), _expiry(where, entry.get("expires"), problems)
    return (digest, Caller(name, role, expires)) if role and len(problems) == found else None


def _role(where: str, told: Any, problems: list[FieldProblem]) -> Role | None:
    try:
        return Role.named(str(told))
    except ValueError as error:
        problems.append(FieldProblem(f"{where}.role", str(error)))
        return None


def _expiry(where: str, told: Any, problems: list[FieldProblem]) -> float | None:
    if told is None:
        return None
    if isinstance(told, datetime.datetime) or not isinstance(told, datetime.date):
        problems.append(FieldProblem(f"{where}.expires", "must be a date, for example 2027-06-30"))
        return None
    end = datetime.datetime.combine(told + datetime.timedelta(days=1), datetime.time(), datetime.UTC)
    return end.timestamp()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _now() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()
