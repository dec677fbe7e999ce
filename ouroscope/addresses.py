"""Addresses to listen on: read them, refuse those that others could reach, and say early why one is not free."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any

from ouroscope.errors import FieldProblem, InvalidRequest, PreconditionFailed


def split_address(address: str) -> tuple[str, int]:
    """Read `host:port` or `[ipv6]:port`; port 0 lets the system choose.

    Raises:
        InvalidRequest: it is not of that form.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535):
        problem = FieldProblem("address", "must be host:port with a port in [0, 65535], for example 127.0.0.1:50051")
        raise InvalidRequest(f"{address[:200]!r} is not an address: {problem.description}", [problem])
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """Write the form that `split_address` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_reach(address: str, *, allow_public: bool, option: str) -> None:
    """Refuse an address that other machines can reach, unless that is allowed or strangers are kept out.

    Raises:
        InvalidRequest: `address` is not an address.
        PreconditionFailed: it is public without `allow_public`.
    """
    if not (allow_public or is_loopback(split_address(address)[0])):
        raise PreconditionFailed(
            f"{address} can be reached by other machines and strangers are not kept out; set up TLS with tokens or "
            f"client certificates (OURO_SECURITY_*), choose 127.0.0.1 with {option}, or say aloud that the network "
            "is trusted: OURO_<SERVICE>_ALLOW_PLAINTEXT=true",
            address=address,
        )


def check_free(host: str, port: int, option: str) -> None:
    """Bind once and let go, so that the reason of a failure is known and told.

    gRPC would only say that it failed, after writing its own lines to stderr.

    Raises:
        PreconditionFailed: the port is taken or forbidden, or the host is not of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise bind_failure(host, port, option, error) from error
    failures = [failure for family, _, _, _, target in found if (failure := _bind_once(family, target))]
    taken = [failure for failure in failures if failure.errno == errno.EADDRINUSE]
    # A name may stand for an address that this machine lacks (localhost without IPv6): one that works is enough.
    if taken or len(failures) == len(found):
        raise bind_failure(host, port, option, (taken or failures)[0])


def _bind_once(family: int, target: Any) -> OSError | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(target)
            # Sockets that are only bound do not exclude each other under SO_REUSEADDR; listening ones do.
            probe.listen(1)
    except OSError as error:
        return error
    return None


def bind_failure(host: str, port: int, option: str, error: OSError | None = None) -> PreconditionFailed:
    """Return the error that tells why nobody can listen on `host:port`; `option` names the setting to change."""
    address = join_address(host, port)
    if error is None or error.errno == errno.EADDRINUSE:
        told = f"port {port} is in use; choose another with {option} (port 0 takes a free one)"
    elif error.errno in {errno.EACCES, errno.EPERM}:
        told = f"port {port} needs rights that this process does not have; choose one above 1023 with {option}"
    else:
        told = (
            f"cannot listen on {address} ({error.strerror or error}); choose an address of this machine with {option}"
        )
    return PreconditionFailed(told, address=address)
