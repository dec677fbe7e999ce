"""All checks in their order. One that fails itself is a finding too, and takes no other with it."""

from __future__ import annotations

import asyncio
import importlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from ouroscope.errors import OuroscopeError
from ouroscope.security.connection import PLAIN, read_connection
from ouroscope.security.settings import SecuritySettings
from ouroscope.settings import load
from ouroscope.store import ArtifactStore
from ouroscope_app.doctor import data, machine, packages, protection, reach, storage
from ouroscope_app.doctor.findings import Finding, Level, fault, ok, warning
from ouroscope_app.home import Home
from ouroscope_app.output import counted

log = structlog.get_logger(__name__)

SETTINGS = {
    "generator": "GeneratorSettings",
    "trainer": "TrainerSettings",
    "analyzer": "AnalyzerSettings",
    "coordinator": "CoordinatorSettings",
}
"""Services, and the classes of their settings in `services.<service>.settings`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What is looked at."""

    home: Home
    environ: Mapping[str, str]
    store: str = ""
    """URL or folder; empty means that of the home."""
    database: str | None = None
    """URL of a PostgreSQL database; None means the file in the home."""
    services: Mapping[str, str]
    """Addresses of services that should be there, by name."""
    ports: Mapping[str, str]
    """Addresses that services take by default, by name."""
    plain: bool = False
    """Whether the services are those of a home on this machine, which speak plain text whatever the variables say."""
    deep: bool = False
    """Whether every file of every stored model is read."""

    @property
    def store_url(self) -> str:
        """Return where artifacts are."""
        return self.store or str(self.home.path / "store")


Check = Callable[[Installation], Iterable[Finding]]


def examine(installation: Installation) -> Iterator[Finding]:
    """Yield what every check finds."""
    for subject, check in CHECKS.items():
        yield from _guarded(subject, check, installation)


def _guarded(subject: str, check: Check, installation: Installation) -> Iterator[Finding]:
    try:
        yield from check(installation)
    except OuroscopeError as error:
        yield fault(subject, error.message, "correct it, and ask again")
    except ImportError as error:
        # Not every machine has every service.
        yield ok(subject, f"not looked at: {error.name or 'a package'} is not installed here")
    except Exception as error:
        # Its text may hold anything, secrets too.
        log.debug("doctor.check_failed", check=subject, exc_info=error)
        told = f"this check itself failed ({type(error).__name__})"
        yield warning(subject, told, "set OURO_LOG=debug for details, and please report it")


def _machine(installation: Installation) -> Iterator[Finding]:
    home, scratch = installation.home.path, Path(tempfile.gettempdir())
    yield machine.python()
    yield machine.memory(machine.read_memory())
    yield machine.room("room in the home", machine.read_room(home))
    if machine.nearest(home).stat().st_dev != scratch.stat().st_dev:
        yield machine.room("room for temporary files", machine.read_room(scratch))


def _packages(_: Installation) -> Iterable[Finding]:
    return packages.read_packages()


def _settings(installation: Installation) -> Iterator[Finding]:
    for name, kind in SETTINGS.items():
        prefix = f"OURO_{name.upper()}"
        count = sum(one.startswith(f"{prefix}_") for one in installation.environ)
        if count:
            yield from _guarded(f"settings of the {name}", _load(name, kind, prefix), installation)


def _load(name: str, kind: str, prefix: str) -> Check:
    def check(installation: Installation) -> Iterator[Finding]:
        module = importlib.import_module(f"services.{name}.settings")
        load(getattr(module, kind), installation.environ, prefix)
        yield ok(f"settings of the {name}", "can be read")

    return check


def _backends(installation: Installation) -> Iterator[Finding]:
    path = installation.environ.get("OURO_GENERATOR_BACKENDS", "")
    if not path:
        return
    from services.generator.declared import read_backends, token_of

    for declared in read_backends(Path(path)):
        subject = f"backend {declared.name}"
        try:
            token_of(declared, installation.environ)
        except OuroscopeError as error:
            yield fault(subject, error.message, "give the generator that variable, from a secret")
        else:
            yield ok(subject, f"{declared.kind.value}, {counted(len(declared.urls), 'replica')}")


def _home(installation: Installation) -> Iterable[Finding]:
    on_server = installation.database is not None
    return data.home_findings(installation.home, machine.read_mounts(), on_server=on_server)


def _database(installation: Installation) -> Iterable[Finding]:
    return asyncio.run(data.database_findings(installation.home.path, installation.database))


def _store(installation: Installation) -> Iterator[Finding]:
    told = {name: installation.environ.get(f"OURO_{name.upper()}_STORE", "") for name in SETTINGS}
    yield storage.same_store({name: url for name, url in told.items() if url})
    if not installation.store and not installation.home.path.exists():
        yield ok(storage.SUBJECT, "none yet; it is made with the home")
        return
    found = list(storage.store_findings(installation.store_url))
    yield from found
    # A store that cannot be reached is waited for; once is enough.
    if not any(one.level is Level.FAULT for one in found):
        yield storage.stored_models(ArtifactStore(installation.store_url), deep=installation.deep)


def _models(_: Installation) -> Iterable[Finding]:
    return storage.shipped_models()


def _protection(installation: Installation) -> Iterator[Finding]:
    environ, now = installation.environ, datetime.now(UTC)
    yield from protection.service_findings(environ, now)
    settings = load(SecuritySettings, environ, "OURO_SECURITY")
    knows = settings.tokens or settings.oidc_issuer or settings.client_ca
    yield from protection.open_doors(environ, protected=bool(settings.certificate and knows))


def _clients(installation: Installation) -> Iterable[Finding]:
    return protection.client_findings(installation.environ, datetime.now(UTC))


def _services(installation: Installation) -> Iterator[Finding]:
    connection = PLAIN if installation.plain else read_connection(installation.environ)
    for name, address in installation.services.items():
        yield reach.service(name, address, connection)
    for name, address in installation.ports.items():
        if name in SETTINGS and name not in installation.services:
            yield reach.default_port(name, address, connection)
        elif name not in SETTINGS:
            yield reach.port(f"port of the {name}", address)


CHECKS: Mapping[str, Check] = {
    "machine": _machine,
    "packages": _packages,
    "settings": _settings,
    "backends": _backends,
    "home": _home,
    "database": _database,
    "artifact store": _store,
    "models": _models,
    "protection": _protection,
    "clients": _clients,
    "services": _services,
}
