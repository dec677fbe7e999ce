"""`ouroscope token`: the token goes to stdout alone, its line to stderr."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ouroscope.security.roles import Role
from ouroscope.security.tokens import TokenFile
from ouroscope_app.main import app


def test_what_is_printed_makes_a_file_that_knows_the_token(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["token", "new", "ci", "--role", "analyse"])
    assert result.exit_code == 0
    token = result.stdout.strip()
    assert token not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("  - ")]
    path = tmp_path / "tokens.yaml"
    path.write_text(f"tokens:\n{line}\n")
    caller = TokenFile(path).caller_of(token)
    assert caller
    assert (caller.name, caller.role) == ("ci", Role.ANALYSE)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ci", "--role", "root"], "must be one of read, analyse, run, admin"),
        (["CI"], "the name of a token must be"),
        (["ci", "--expires", "soon"], "must be a date"),
    ],
)
def test_what_cannot_be_meant_makes_no_token(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(app, ["token", "new", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
