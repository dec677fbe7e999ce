"""Tokens of an identity provider (OpenID Connect): signed JWTs, checked by PyJWT against the provider's keys.

Keys come from a file or a URL that the operator names, never from anything that a token says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ouroscope.errors import CapabilityMissing, InvalidRequest, NotAuthenticated, NotFound
from ouroscope.security.callers import Caller
from ouroscope.security.fetched_keys import FetchedKeys
from ouroscope.security.roles import Role
from ouroscope.security.watched import Watched

if TYPE_CHECKING:
    from jwt import PyJWK

# Signatures only that need a private key: with HS256 whoever can check a token could make one.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY = 30.0
"""Seconds that clocks may differ."""
FETCH_SECONDS = 10.0
LARGEST_FILE = 1024 * 1024
LONGEST_NAME = 200
"""Characters of a subject that are used as the name of a caller."""

Find = Callable[[str], "PyJWK | None"]
"""Finds the key of an identifier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What the operator says about an identity provider."""

    issuer: str
    audience: str
    """What the provider calls this installation."""
    keys: str
    """JWKS: a file or an https:// URL."""
    role_claim: str = "ouroscope_role"
    """Claim that holds a role or a list with one; dots lead into nested claims: `realm_access.roles`."""


class IdentityProvider:
    """Knows the callers that one provider vouches for."""

    def __init__(self, provider: Provider) -> None:
        """Prepare to check tokens; keys at a URL are asked for with the first token.

        Raises:
            CapabilityMissing: PyJWT is not installed.
            NotFound: the file with the keys cannot be read.
            InvalidRequest: it holds no keys, or the URL is not https.
        """
        try:
            import jwt
        except ModuleNotFoundError as error:
            raise CapabilityMissing(
                "checking tokens of an identity provider needs PyJWT: pip install 'ouroscope[security]'"
            ) from error
        self._jwt = jwt
        self._provider = provider
        self._find, self.age = self._from_url() if "://" in provider.keys else self._from_file()

    def caller_of(self, token: str) -> Caller | None:
        """Return who the provider says holds `token`, or None where it is no JWT.

        Raises:
            NotAuthenticated: it is one and not good: expired, for somebody else, signed by somebody else, no role.
            Unavailable: the keys of the provider cannot be fetched now.
        """
        if token.count(".") != 2:
            return None
        claims = self._claims(token)
        role = _role(claims, self._provider.role_claim)
        if role is None:
            names = ", ".join(role.name.lower() for role in Role)
            raise NotAuthenticated(
                f"the token has no role: its claim {self._provider.role_claim} names none of {names}"
            )
        return Caller(_name(str(claims["sub"])), role, float(claims["exp"]) + LEEWAY)

    def check(self) -> None:
        """See that there are keys, without a token.

        Raises:
            Unavailable: the provider does not answer with keys.
        """
        self._find("")

    def _claims(self, token: str) -> Mapping[str, Any]:
        jwt = self._jwt
        try:
            key = self._find(str(jwt.get_unverified_header(token).get("kid", "")))
            if key is None:
                raise NotAuthenticated("the token is signed with a key that the identity provider does not show")
            found: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._provider.audience,
                issuer=self._provider.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "sub", "aud", "iss"]},
            )
        except jwt.PyJWTError as error:
            raise NotAuthenticated(_reason(jwt, error)) from error
        return found

    def _from_url(self) -> tuple[Find, Callable[[], object]]:
        if not self._provider.keys.startswith(("https://", "http://127.0.0.1:")):
            raise InvalidRequest("the keys of an identity provider must come from a file or an https:// URL")
        jwt = self._jwt
        client = jwt.PyJWKClient(self._provider.keys, cache_jwk_set=False, timeout=FETCH_SECONDS)

        def fetch() -> Mapping[str, PyJWK]:
            return _by_id(client.get_jwk_set().keys)

        return FetchedKeys(fetch, (jwt.PyJWTError, OSError, ValueError)).get, lambda: None

    def _from_file(self) -> tuple[Find, Callable[[], object]]:
        path = Path(self._provider.keys)
        watched = Watched([path], lambda: self._read(path), event="oidc_keys")

        def age() -> object:
            watched.get()
            return watched.version

        return (lambda key_id: watched.get().get(key_id)), age

    def _read(self, path: Path) -> Mapping[str, PyJWK]:
        try:
            with path.open("rb") as file:
                raw = file.read(LARGEST_FILE)
            return _by_id(self._jwt.PyJWKSet.from_dict(json.loads(raw)).keys)
        except OSError as error:
            raise NotFound("the file with the keys of the identity provider cannot be read") from error
        except (ValueError, AttributeError, TypeError, self._jwt.PyJWTError) as error:
            raise InvalidRequest("the file with the keys of the identity provider holds no JWKS") from error


def _by_id(keys: Iterable[PyJWK]) -> Mapping[str, PyJWK]:
    return {key.key_id: key for key in keys if key.key_id}


def _name(subject: str) -> str:
    """Return a name that no token of a file can have, and that cannot write lines of its own into a log."""
    return "oidc:" + "".join(c if c.isprintable() else "?" for c in subject[:LONGEST_NAME])


def _role(claims: Mapping[str, Any], claim: str) -> Role | None:
    """Return the highest role that a claim names."""
    found: Any = claims
    for part in claim.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    told = found if isinstance(found, list) else [found]
    known = {role.name.lower(): role for role in Role}
    return max((known[name] for name in told if isinstance(name, str) and name in known), default=None)


def _reason(jwt: Any, error: Exception) -> str:
    """Say why a token is refused in our own words: the text of the library may quote the token."""
    for kind, told in (
        (jwt.ExpiredSignatureError, "the token has expired; ask the identity provider for a new one"),
        (jwt.ImmatureSignatureError, "the token is not good yet; are the clocks right?"),
        (jwt.InvalidAudienceError, "the token was made for another service"),
        (jwt.InvalidIssuerError, "the token comes from another identity provider"),
        (jwt.MissingRequiredClaimError, "the token lacks one of the claims exp, sub, aud and iss"),
    ):
        if isinstance(error, kind):
            return told
    return "the token is not one of the identity provider"
