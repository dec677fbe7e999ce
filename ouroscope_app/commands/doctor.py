"""`ouroscope doctor`: whether an installation is sound, and what to do where it is not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict

import typer
from rich.text import Text

from ouroscope_app.columns import table
from ouroscope_app.commands.serve import PORTS, WEB_PORTS
from ouroscope_app.commands.store import DATABASE, JSON, STORE
from ouroscope_app.doctor.examination import Installation, examine
from ouroscope_app.doctor.findings import Finding, Level
from ouroscope_app.home import Home
from ouroscope_app.live import find_live
from ouroscope_app.output import FAULT, answers, command, counted, print_json

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAULT: "bold red"}


def _address(name: str) -> str:
    told: str = typer.Option(
        "", f"--{name}", envvar=f"OURO_COORDINATOR_{name.upper()}", help=f"host:port of a {name} that should be there."
    )
    return told


@command
def doctor(
    generator: str = _address("generator"),
    trainer: str = _address("trainer"),
    analyzer: str = _address("analyzer"),
    coordinator: str = typer.Option("", "--coordinator", help="host:port of a coordinator that should be there."),
    store: str = STORE,
    deep: bool = typer.Option(False, "--deep", help="Read every file of every stored model; may take long."),
    json_: bool = JSON,
) -> None:
    """Look at this installation: machine, packages, settings, home, database, store, models, certificates, services.

    Each line is ok, a warning or a fault, with what to do. Exit status 1 if there is a fault. It reads the variables
    that the services read, so run it where they run, with their environment. It changes nothing: a small file in the
    home and in the store is written and removed.
    """
    named = {"generator": generator, "trainer": trainer, "analyzer": analyzer, "coordinator": coordinator}
    found = list(examine(_installation({name: address for name, address in named.items() if address}, store, deep)))
    if json_:
        print_json({"findings": [asdict(one) for one in found], **_counts(found)})
    else:
        _show(found)
    if any(one.level is Level.FAULT for one in found):
        raise typer.Exit(FAULT)


def _installation(named: Mapping[str, str], store: str, deep: bool) -> Installation:
    home = Home.find(os.environ)
    live = find_live(home)
    ports = {name: f"127.0.0.1:{port}" for name, port in {**PORTS, **WEB_PORTS}.items()}
    # What drives this home was found by its file: its ports are taken, as they should be.
    at_work = {"coordinator": live.coordinator} if live and not named else {}
    return Installation(
        home=home,
        environ=os.environ,
        store=store,
        database=os.environ.get(DATABASE) or None,
        services={**at_work, **named},
        ports={} if named or live else ports,
        plain=bool(at_work),
        deep=deep,
    )


def _show(found: list[Finding]) -> None:
    shown = table(["", "what", "found", "what to do"], frozenset())
    for one in found:
        level = Text(one.level.value, style=_COLOURS[one.level])
        shown.add_row(level, Text(one.subject), Text(one.told), Text(one.remedy))
    answers.print(shown)
    counts = _counts(found)
    answers.print(f"{counted(counts['faults'], 'fault')}, {counted(counts['warnings'], 'warning')}")


def _counts(found: list[Finding]) -> dict[str, int]:
    levels = [one.level for one in found]
    return {"faults": levels.count(Level.FAULT), "warnings": levels.count(Level.WARNING)}
