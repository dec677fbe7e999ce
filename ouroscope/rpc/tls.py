"""TLS of gRPC servers and channels, from certificates that are renewed without a restart."""

from __future__ import annotations

import time
from typing import Any

import grpc
import structlog

from ouroscope.errors import OuroscopeError
from ouroscope.security.certificates import Identity, TlsFiles, read_identity, read_pem
from ouroscope.security.connection import Connection
from ouroscope.security.watched import Watched

log = structlog.get_logger(__name__)

HOUR = 3600.0


def server_credentials(tls: Watched[Identity], *, mutual: bool) -> grpc.ServerCredentials:
    """Return credentials that look at every handshake which certificate there is now.

    A client that is connected keeps its connection until it is told to connect anew, see `max_connection_age`.
    """
    configuration: Any = _configuration(tls.get())
    told, alarm = [tls.get()], _Alarm()

    def fetch() -> Any:
        # Called in threads of gRPC's core, which knows no exception of ours.
        identity = tls.get()
        if identity is told[0]:
            alarm.sound(identity)
            return None
        told[0] = identity
        return _configuration(identity)

    return grpc.dynamic_ssl_server_credentials(configuration, fetch, require_client_authentication=mutual)


def channel_credentials(connection: Connection) -> grpc.ChannelCredentials:
    """Return the credentials of a channel that speaks TLS.

    Raises:
        NotFound: a file cannot be read.
        InvalidRequest: a file is not what it should be.
        PreconditionFailed: the certificate of the client has expired: a service would only hang up.
        CapabilityMissing: a client certificate needs the library that reads it.
    """
    authority = read_pem(connection.ca, "certificate of the authority") if connection.ca else None
    chain = key = None
    if connection.certificate and connection.key:
        identity = read_identity(TlsFiles(connection.certificate, connection.key))
        chain, key = identity.certificate, identity.key
    encrypted = grpc.ssl_channel_credentials(authority, key, chain)
    if not connection.has_token:
        return encrypted
    # Read once here, so that a file that is not there is told at once and not by the first call.
    connection.read_token()
    return grpc.composite_channel_credentials(encrypted, grpc.metadata_call_credentials(_Bearer(connection), "bearer"))


class _Alarm:
    """Tells the log, at most once an hour, that a certificate has run out while it was in use."""

    def __init__(self) -> None:
        self._told = float("-inf")

    def sound(self, identity: Identity) -> None:
        now = time.time()
        if now >= identity.expires.timestamp() and now - self._told >= HOUR:
            self._told = now
            log.error("tls.expired", expires=identity.expires.isoformat())


class _Bearer(grpc.AuthMetadataPlugin):
    """Shows the token of a connection with every call; a new one in its file counts for the next call."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __call__(self, context: Any, callback: Any) -> None:
        try:
            token = self._connection.read_token()
        except OuroscopeError as error:
            log.error("client.no_token", error=error.message, reason=error.reason)
            callback((), error)
            return
        callback((("authorization", f"Bearer {token}"),), None)


def _configuration(identity: Identity) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(identity.key, identity.certificate)], root_certificates=identity.authority
    )
