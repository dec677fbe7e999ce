"""Who makes a call, and what tells it from a bearer token."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ouroscope.errors import NotAuthenticated, NotPermitted
from ouroscope.security.roles import Role

LONGEST_TOKEN = 16 * 1024
"""Characters of a bearer token; gRPC refuses longer headers before us."""
REMEMBERED = 1024
"""Tokens whose caller is known without a second look."""

_BEARER = re.compile(r"bearer +([\x21-\x7e]+) *", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call."""

    name: str
    """For logs and limits: the name in the token file, or the subject of the identity provider. Never a secret."""
    role: Role
    expires: float | None = None
    """Seconds since the epoch after which the token is no longer good; None: never."""


class Authenticator(Protocol):
    """Knows the callers of one kind of token."""

    def caller_of(self, token: str) -> Caller | None:
        """Return who holds `token`, or None where it is not of this kind; may read files and ask a server.

        Raises:
            NotAuthenticated: it is of this kind and not good, with the reason.
        """

    def age(self) -> object:
        """Return something that changes when tokens may mean something else."""


class Access:
    """Decides from the bearer token of a call whether it may be made."""

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self._authenticators = tuple(authenticators)
        self._known: OrderedDict[bytes, Caller] = OrderedDict()
        self._ages: tuple[object, ...] = ()
        self._lock = threading.Lock()

    def known(self, header: str | None, now: float) -> Caller | None:
        """Return who sent this header if that was found out before and still holds; never waits."""
        ages = tuple(one.age() for one in self._authenticators)
        with self._lock:
            if ages != self._ages:
                self._ages = ages
                self._known.clear()
            caller = self._known.get(_key(header)) if header else None
        return caller if caller and (caller.expires is None or now < caller.expires) else None

    def caller_of(self, header: str | None) -> Caller:
        """Return who sent this `authorization` header.

        Raises:
            NotAuthenticated: there is none, or its token is not good.
        """
        token = read_bearer(header)
        for one in self._authenticators:
            if caller := one.caller_of(token):
                self._remember(token_key=_key(header), caller=caller)
                return caller
        raise NotAuthenticated("this token is not known here; it may have been withdrawn, so ask the operator for one")

    def _remember(self, token_key: bytes, caller: Caller) -> None:
        # By digest: a dump of the memory or of this object must not show tokens.
        with self._lock:
            self._known[token_key] = caller
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)


def read_bearer(header: str | None) -> str:
    """Return the token of an `authorization` header.

    Raises:
        NotAuthenticated: there is no header, or it holds no bearer token.
    """
    if not header:
        raise NotAuthenticated(
            "this service wants to know who calls; send a bearer token: OURO_CLIENT_TOKEN_FILE names a file with it"
        )
    found = _BEARER.fullmatch(header) if len(header) <= LONGEST_TOKEN else None
    if found is None:
        raise NotAuthenticated("the authorization header must be `Bearer TOKEN`")
    return found[1]


def check_role(caller: Caller, needed: Role, action: str) -> None:
    """Refuse what `caller` may not do.

    Raises:
        NotPermitted: its role is too low.
    """
    if caller.role < needed:
        has, wants = caller.role.name.lower(), needed.name.lower()
        raise NotPermitted(
            f"{action} needs the role {wants} and {caller.name} has the role {has}; ask the operator for another token",
            needed=wants,
            role=has,
        )


def _key(header: str | None) -> bytes:
    return hashlib.sha256((header or "").encode("utf-8", "replace")).digest()
