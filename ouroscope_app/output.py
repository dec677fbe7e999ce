"""What a person or a program sees: answers on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TextIO, TypeVar

import structlog
import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn

from ouroscope.errors import AlreadyExists, InvalidRequest, NotFound, OuroscopeError, StorageFull

UNLIMITED = 10_000
"""Characters in a line of a pipe or file: nobody looks at it through a window, so nothing is cut or wrapped."""


def _console(stream: TextIO, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else UNLIMITED)


answers = _console(sys.stdout)
"""Answers, for people; on stdout."""
notes = _console(sys.stderr, stderr=True)
"""Progress, hints and errors; on stderr."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

USAGE, FAULT, REFUSED, INTERRUPTED = 2, 1, 3, 130
_USAGE_ERRORS = (InvalidRequest, NotFound, AlreadyExists)


def print_json(document: Any) -> None:
    """Write exactly one JSON document to stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def progress(*columns: ProgressColumn, transient: bool = False) -> Progress:
    """Return a line of progress on stderr; in a pipe or file it writes nothing at all."""
    return Progress(*columns, console=notes, transient=transient, disable=not notes.is_terminal)


def counted(number: int, noun: str) -> str:
    """Write a number of things.

    >>> counted(1, "document"), counted(1200, "document")
    ('1 document', '1,200 documents')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def command(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Turn every error of `function` into one clear line and an exit code: 2 for the caller's input, 1 for a fault."""

    @wraps(function)
    def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except OuroscopeError as error:
            tell(error.message)
            raise typer.Exit(USAGE if isinstance(error, _USAGE_ERRORS) else FAULT) from error
        except OSError as error:
            tell(_os_error(error))
            raise typer.Exit(FAULT) from error
        except KeyboardInterrupt as error:
            notes.print("stopped")
            raise typer.Exit(INTERRUPTED) from error
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            structlog.get_logger(__name__).debug("command.unexpected_error", exc_info=error)
            tell("something failed that should not have; set OURO_LOG=debug for details, and please report it")
            raise typer.Exit(FAULT) from error

    return guarded


def tell(message: str) -> None:
    """Write an error: one line, and one for each problem where a specification has several."""
    first, *more = message.splitlines() or [""]
    notes.print(f"[bold red]error:[/] {_one_line(first)}", soft_wrap=True)
    for line in more:
        notes.print(f"  {_one_line(line)}", soft_wrap=True)


def _one_line(message: str) -> str:
    from rich.markup import escape

    return escape(" ".join(message.split()))


def _os_error(error: OSError) -> str:
    import errno

    if error.errno == errno.ENOSPC:
        return StorageFull("no space left; free some and run the same command again").message
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or type(error).__name__}{where}"
