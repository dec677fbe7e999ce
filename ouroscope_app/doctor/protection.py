"""What protects the services: certificates, tokens, an identity provider, limits, and what callers may name."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from ouroscope.addresses import is_loopback, split_address
from ouroscope.errors import OuroscopeError
from ouroscope.security.allowed import ANY
from ouroscope.security.callers import Caller
from ouroscope.security.certificates import SOON, TlsFiles, authorities, read_identity
from ouroscope.security.connection import Connection, read_connection
from ouroscope.security.identity_provider import IdentityProvider
from ouroscope.security.settings import PREFIX, SecuritySettings, provider_of
from ouroscope.security.tokens import read_tokens
from ouroscope.settings import load
from ouroscope_app.doctor.findings import Finding, fault, ok, warning

_GUIDE = "see docs/security.md"
_RENEW = "renew it: services take a new one up without a restart"


def service_findings(environ: Mapping[str, str], now: datetime) -> Iterator[Finding]:
    """Judge what `OURO_SECURITY_*` names.

    Raises:
        InvalidRequest: the variables are not right.
    """
    settings = load(SecuritySettings, environ, PREFIX)
    if settings.certificate and settings.key:
        files = TlsFiles(settings.certificate, settings.key, settings.client_ca)
        yield from certificate("certificate of the services", files, now)
    else:
        yield ok("certificate of the services", "none: right where only this machine calls")
    if settings.tokens:
        yield tokens_in(settings.tokens, now)
    if settings.oidc_issuer:
        yield _provider(settings)
    if (settings.tokens or settings.oidc_issuer) and not settings.calls_per_second and not settings.concurrent_calls:
        told = "none: one caller may take a service from all others"
        yield warning("limits of callers", told, f"set {PREFIX}_CONCURRENT_CALLS and {PREFIX}_CALLS_PER_SECOND")


def client_findings(environ: Mapping[str, str], now: datetime) -> Iterator[Finding]:
    """Judge what `OURO_CLIENT_*` names: how this machine, and the coordinator on it, reaches services.

    Raises:
        InvalidRequest: the variables are not right.
    """
    connection: Connection = read_connection(environ)
    if connection.certificate and connection.key:
        yield from certificate("certificate of clients", TlsFiles(connection.certificate, connection.key), now)
    if connection.ca:
        yield from _authority("authority that clients trust", connection.ca, now)
    if connection.token_file:
        yield _client_token(connection)


def certificate(subject: str, files: TlsFiles, now: datetime) -> Iterator[Finding]:
    """Judge a certificate, its key, and the authority beside them."""
    try:
        identity = read_identity(files, now)
    except OuroscopeError as error:
        yield fault(subject, error.message, f"{_RENEW}; {_GUIDE}")
    else:
        yield _until(subject, identity.expires, now)
    yield from _readable(f"key of the {subject}", files.key)
    if files.authority:
        yield from _authority("authority of clients", files.authority, now)


def _until(subject: str, expires: datetime, now: datetime) -> Finding:
    told = f"good until {expires:%Y-%m-%d %H:%M} UTC"
    if expires <= now:
        return fault(subject, f"it has expired at {expires:%Y-%m-%d %H:%M} UTC", _RENEW)
    return warning(subject, told, _RENEW) if expires - now < SOON else ok(subject, told)


def _readable(subject: str, path: Path) -> Iterator[Finding]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # told already: it cannot be read
    if mode & stat.S_IROTH:
        yield warning(subject, "everybody on this machine may read it", "chmod 600, and give it to the service's user")


def _authority(subject: str, path: Path, now: datetime) -> Iterator[Finding]:
    try:
        ends = authorities(path)
    except OuroscopeError as error:
        yield fault(subject, error.message, _GUIDE)
        return
    # Old and new lie in one file while an authority is exchanged: one that is good is enough.
    yield _until(subject, max(ends), now)


def tokens_in(path: Path, now: datetime) -> Finding:
    """Judge a file of tokens."""
    try:
        callers = read_tokens(path)
    except OuroscopeError as error:
        return fault("tokens", error.message, f"correct the file; {_GUIDE}")
    return judge_tokens(list(callers.values()), now)


def judge_tokens(callers: list[Caller], now: datetime) -> Finding:
    """Judge callers by when their tokens end."""
    ended = sorted(caller.name for caller in callers if _ends_before(caller, now))
    soon = sorted(caller.name for caller in callers if _ends_before(caller, now + SOON) and caller.name not in ended)
    if not callers:
        return warning("tokens", "the file has none, so nobody may call", "make some with `ouroscope token new`")
    if ended or soon:
        told = "; ".join(
            f"{what}: {', '.join(names)}" for what, names in (("expired", ended), ("soon to expire", soon)) if names
        )
        return warning("tokens", told, "make new ones with `ouroscope token new`, take old lines away")
    return ok("tokens", f"{len(callers)} callers")


def _ends_before(caller: Caller, when: datetime) -> bool:
    return caller.expires is not None and datetime.fromtimestamp(caller.expires, UTC) <= when


def _provider(settings: SecuritySettings) -> Finding:
    try:
        IdentityProvider(provider_of(settings)).check()
    except OuroscopeError as error:
        return fault("identity provider", error.message, f"correct {PREFIX}_OIDC_KEYS, or let the network through")
    return ok("identity provider", "it shows its keys")


def _client_token(connection: Connection) -> Finding:
    try:
        connection.read_token()
    except OuroscopeError as error:
        return fault("token of clients", error.message, "let OURO_CLIENT_TOKEN_FILE name a file that holds one token")
    return ok("token of clients", "its file holds one")


def open_doors(environ: Mapping[str, str], *, protected: bool) -> Iterator[Finding]:
    """Tell of services that strangers reach, and of what they may name there."""
    for name in ("GENERATOR", "TRAINER", "ANALYZER", "COORDINATOR"):
        address = environ.get(f"OURO_{name}_ADDRESS", "")
        if not address or is_loopback(split_address(address)[0]):
            continue
        if not protected:
            told = f"{name.lower()} at {address}: no TLS, or nobody is asked who they are"
            yield warning("open door", told, f"set up TLS and tokens, unless the network is trusted; {_GUIDE}")
        if ANY in environ.get(f"OURO_{name}_SOURCES", "").replace(",", " ").split():
            told = f"callers of the {name.lower()} may name every file that it can read"
            yield warning("sources", told, f"list folders and owners in OURO_{name}_SOURCES; {_GUIDE}")
