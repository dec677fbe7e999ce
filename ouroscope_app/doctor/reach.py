"""The services: whether each answers, serves, and speaks the contract of this program; and whether ports are free."""

from __future__ import annotations

from ouroscope.addresses import check_free, split_address
from ouroscope.errors import NotFound, OuroscopeError
from ouroscope.rpc.probe import SECONDS
from ouroscope.rpc.visit import Visit, visit
from ouroscope.security.connection import Connection
from ouroscope_app.doctor.findings import Finding, fault, ok, warning

_VERSIONS = "run one version of Ouroscope everywhere; workers first, then the coordinator"


def service(name: str, address: str, connection: Connection, seconds: float = SECONDS) -> Finding:
    """Judge a service that should be there.

    Args:
        name: `generator`, `trainer`, `analyzer` or `coordinator`.
        address: `host:port`.
        connection: How it is reached.
        seconds: That it may take to answer.
    """
    subject = f"{name} at {address}"
    try:
        return judge(subject, visit(address, name, connection, seconds))
    except NotFound:
        return fault(subject, f"a server, but no {name}", "correct its address")
    except OuroscopeError as error:
        return fault(subject, error.message, "start it, or correct its address and OURO_CLIENT_*")


def judge(subject: str, found: Visit) -> Finding:
    """Judge what a service said."""
    if not found.serving:
        return fault(subject, "it answers, and does not serve", "look into its log; it starts, or it is being stopped")
    if not found.same_contract:
        return warning(subject, "it serves, in another version than this program", _VERSIONS)
    return ok(subject, "serves, in the version of this program")


def default_port(name: str, address: str, connection: Connection) -> Finding:
    """Judge the port that a service takes by default, where nobody said that one is there."""
    subject = f"port of the {name}"
    if (free := port(subject, address)).level == "ok":
        return free
    # Taken by a service of ours, perhaps one of another home.
    found = service(name, address, connection)
    return ok(subject, f"{address}: the {name} {found.told}") if found.level == "ok" else free


def port(subject: str, address: str) -> Finding:
    """Judge whether a port can be taken."""
    host, number = split_address(address)
    try:
        check_free(host, number, "OURO_<SERVICE>_ADDRESS")
    except OuroscopeError as error:
        told = error.message.partition(";")[0]
        return warning(subject, f"{address}: {told}", "stop what has it, or choose another in the settings")
    return ok(subject, f"{address} is free")
