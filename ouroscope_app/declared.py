"""The option `--backends`: servers that a person declares for the generator of a command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from ouroscope.errors import NotFound
from ouroscope.records.runs import RunSpec
from ouroscope_app.home import Home
from ouroscope_app.live import find_live
from services.generator.declared import IN_PROCESS, DeclaredBackend, read_backends

BACKENDS: str = typer.Option(
    "",
    "--backends",
    metavar="FILE",
    help="YAML file that declares servers which run models; docs/backends.md has every field.",
)


def declared_in(file: str) -> tuple[DeclaredBackend, ...]:
    """Return the servers that a file declares; no file declares none."""
    return read_backends(Path(file).expanduser() if file else None)


def check_declared(home: Home, spec: RunSpec, declared: Sequence[DeclaredBackend]) -> None:
    """Raise NotFound if nobody knows the backend of a run; where somebody serves the home, that generator is asked."""
    names = [IN_PROCESS, *(backend.name for backend in declared)]
    if spec.backend and spec.backend not in names and not find_live(home):
        raise NotFound(
            f"backend: there is no {spec.backend!r}; there are {', '.join(names)}; "
            "declare it in a file and give that as --backends FILE"
        )
