"""Certificates of a server and of a client: read from files, checked before use, read again when they change.

What is checked are mistakes that TLS itself tells badly or to the wrong side: a key that belongs to another
certificate, a certificate that has expired. Who trusts whom is left to TLS.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from ouroscope.errors import CapabilityMissing, InvalidRequest, NotFound, PreconditionFailed
from ouroscope.security.watched import Watched

log = structlog.get_logger(__name__)

SOON = datetime.timedelta(days=14)
"""Before its end a certificate is warned of."""
LARGEST_FILE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificate of one side lies, in PEM."""

    certificate: Path
    """With the certificates that lead to the authority, its own first."""
    key: Path
    """Private, without a password."""
    authority: Path | None = None
    """Certificates of the authorities that the other side must be vouched for by; for a server: mutual TLS."""

    @property
    def all(self) -> Sequence[Path]:
        """Return the files that there are."""
        return [path for path in (self.certificate, self.key, self.authority) if path]


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its key, and whom it trusts."""

    certificate: bytes
    key: bytes
    authority: bytes | None
    expires: datetime.datetime
    files: TlsFiles

    def __repr__(self) -> str:
        return f"<Identity until {self.expires:%Y-%m-%d}>"


def read_identity(files: TlsFiles, now: datetime.datetime | None = None) -> Identity:
    """Read a certificate and its key.

    Raises:
        CapabilityMissing: the library that reads certificates is not installed.
        NotFound: a file cannot be read.
        InvalidRequest: a file is not what it should be, or the key belongs to another certificate.
        PreconditionFailed: the certificate has expired, or is not valid yet.
    """
    certificate, key = read_pem(files.certificate, "certificate"), read_pem(files.key, "key of the certificate")
    authority = read_pem(files.authority, "certificate of the authority") if files.authority else None
    first = check_pair(certificate, key)
    check_validity(first, now or datetime.datetime.now(datetime.UTC))
    return Identity(certificate, key, authority, first.not_valid_after_utc, files)


def watch_identity(files: TlsFiles) -> Watched[Identity]:
    """Read a certificate now, and again whenever its files change; errors of the first time are raised."""

    def read() -> Identity:
        identity = read_identity(files)
        left = identity.expires - datetime.datetime.now(datetime.UTC)
        tell = log.warning if left < SOON else log.info
        tell("tls.certificate", expires=identity.expires.isoformat(), days_left=left.days)
        return identity

    return Watched(files.all, read, event="tls")


def read_pem(path: Path, what: str) -> bytes:
    """Return the content of a file.

    Raises:
        NotFound: it cannot be read.
        InvalidRequest: it is not PEM.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise NotFound(f"the {what} {path.name[:100]!r} cannot be read: {reason}") from error
    if len(raw) > LARGEST_FILE or b"-----BEGIN " not in raw:
        raise InvalidRequest(f"the {what} {path.name[:100]!r} is not a PEM file")
    return raw


def authorities(path: Path) -> Sequence[datetime.datetime]:
    """Return when each certificate of a file of authorities ends; at least one.

    Raises:
        CapabilityMissing: the library that reads certificates is not installed.
        NotFound: the file cannot be read.
        InvalidRequest: it is no file of certificates.
    """
    raw, x509 = read_pem(path, "certificate of the authority"), _library()
    try:
        return [one.not_valid_after_utc for one in x509.load_pem_x509_certificates(raw)]
    except ValueError as error:
        raise InvalidRequest("the certificate of the authority cannot be read") from error


def _library() -> Any:
    try:
        from cryptography import x509
    except ModuleNotFoundError as error:
        raise CapabilityMissing("TLS needs the library cryptography: pip install 'ouroscope[security]'") from error
    return x509


def check_pair(certificate: bytes, key: bytes) -> Any:
    """Return the first certificate of a PEM file, having seen that `key` is its key.

    Raises:
        CapabilityMissing: the library is not installed.
        InvalidRequest: they do not belong together, or one cannot be read.
    """
    x509 = _library()
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        first = x509.load_pem_x509_certificates(certificate)[0]
        same = first.public_key() == load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError) as error:
        # Not the text of the error, which could quote a key.
        raise InvalidRequest("the certificate or its key cannot be read; the key must have no password") from error
    if not same:
        raise InvalidRequest("the key belongs to another certificate")
    return first


def check_validity(certificate: Any, now: datetime.datetime) -> None:
    """Refuse a certificate that nobody would accept.

    Raises:
        PreconditionFailed: it has expired, or is not valid yet.
    """
    if now >= certificate.not_valid_after_utc:
        told = f"the certificate has expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it"
        raise PreconditionFailed(told, cause="CERTIFICATE_EXPIRED")
    if now < certificate.not_valid_before_utc:
        told = f"the certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise PreconditionFailed(f"{told}; is the clock right?", cause="CERTIFICATE_NOT_YET_VALID")
