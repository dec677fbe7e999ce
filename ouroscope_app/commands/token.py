"""`ouroscope token`: make tokens for callers of the services."""

from __future__ import annotations

import datetime
import sys
from typing import TYPE_CHECKING

import typer

from ouroscope.errors import InvalidRequest
from ouroscope_app.output import command, notes

if TYPE_CHECKING:
    from ouroscope.security.roles import Role

app = typer.Typer(help="Make bearer tokens for callers of the services.", no_args_is_help=True)


@app.command("new")
@command
def new(
    name: str = typer.Argument(help="Who will hold it: a person, a pipeline. Logs and limits use this name."),
    role: str = typer.Option("read", "--role", help="What it may do: read, analyse, run or admin."),
    expires: str = typer.Option("", "--expires", help="Last day that it is good, for example 2027-06-30 (UTC)."),
) -> None:
    """Make a token: it is printed once on stdout, and the line for the token file on stderr.

    `ouroscope token new ci --role analyse > ci.token` keeps it out of the terminal. The file that
    `OURO_SECURITY_TOKENS` names gets the line under `tokens:`; services read it again within a second.
    """
    from ouroscope.security.tokens import new_token

    made = new_token(name, _role(role), _day(expires))
    sys.stdout.write(f"{made.token}\n")
    notes.print("line for the token file of the services, under `tokens:`", markup=False)
    notes.print(made.line, markup=False, soft_wrap=True)


def _role(text: str) -> Role:
    from ouroscope.security.roles import Role

    try:
        return Role.named(text)
    except ValueError as error:
        raise InvalidRequest(f"--role {error}") from error


def _day(text: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text) if text else None
    except ValueError as error:
        raise InvalidRequest("--expires must be a date, for example 2027-06-30") from error
