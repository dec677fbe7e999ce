"""HTTP endpoints behind the same certificate and the same tokens as gRPC: metrics and pages."""

from __future__ import annotations

import base64
import binascii
import ssl
import time
from typing import Any

import structlog

from ouroscope.security.callers import Access, Caller, check_role
from ouroscope.security.certificates import Identity, TlsFiles
from ouroscope.security.roles import Role
from ouroscope.security.watched import Watched

log = structlog.get_logger(__name__)

CHALLENGE = 'Basic realm="ouroscope", charset="UTF-8"'
"""Lets a browser ask for the token; any user name does."""


def https_context(tls: Watched[Identity], *, mutual: bool) -> ssl.SSLContext:
    """Return a context that looks at every handshake which certificate there is now."""
    first = tls.get()
    context = _context(first.files, mutual)
    made = [(first, context)]

    def renew(connection: Any, name: str | None, of: ssl.SSLContext) -> None:
        identity = tls.get()
        if identity is not made[0][0]:
            try:
                made[0] = (identity, _context(identity.files, mutual))
            except OSError:  # ssl's errors too: the files change again
                log.warning("tls.not_renewed", endpoint="https")
        connection.context = made[0][1]

    context.sni_callback = renew
    return context


def check_reader(access: Access, header: str | None) -> Caller:
    """Return who asks with this `Authorization` header: a bearer token, or the token as the password of Basic.

    May read files and ask the identity provider.

    Raises:
        NotAuthenticated: there is no token, or it is not good.
        NotPermitted: its holder may not read.
    """
    text = _as_bearer(header)
    caller = access.known(text, time.time()) or access.caller_of(text)
    check_role(caller, Role.READ, "this address")
    return caller


def _as_bearer(header: str | None) -> str | None:
    kind, _, value = (header or "").partition(" ")
    if kind.lower() != "basic":
        return header
    try:
        _, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return f"Bearer {password}"


def _context(files: TlsFiles, mutual: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.authority if mutual else None)
    context.load_cert_chain(files.certificate, files.key)
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
