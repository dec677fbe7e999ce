"""What every command does alike: exit codes, one line for an error, nothing on stderr that nobody reads."""

from __future__ import annotations

import io
import sys

import pytest
import typer
from rich.console import Console
from rich.progress import TextColumn

from ouroscope.errors import AlreadyExists, CapabilityMissing, InvalidRequest, NotFound, OuroscopeError
from ouroscope_app import output
from ouroscope_app.output import command, progress


def exit_code(error: BaseException) -> int:
    @command
    def fails() -> None:
        raise error

    with pytest.raises(typer.Exit) as left:
        fails()
    return left.value.exit_code


@pytest.mark.parametrize("error", [InvalidRequest("no"), NotFound("no"), AlreadyExists("no")])
def test_a_wrong_value_is_2(error: OuroscopeError) -> None:
    assert exit_code(error) == 2


def test_what_this_installation_cannot_do_is_1() -> None:
    assert exit_code(CapabilityMissing("no")) == 1


def test_an_interrupt_says_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(output, "notes", Console(file=stream))
    assert exit_code(KeyboardInterrupt()) == 130
    assert stream.getvalue() == "stopped\n"


def test_progress_writes_nothing_into_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(output, "notes", Console(file=stream))
    with progress(TextColumn("{task.description}"), transient=True) as bar:
        bar.add_task("reading")
    assert stream.getvalue() == ""


def test_importing_the_commands_does_not_import_torch_or_spacy() -> None:
    import subprocess

    code = "import sys, ouroscope_app.main; sys.exit(bool({'torch', 'spacy', 'scipy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
