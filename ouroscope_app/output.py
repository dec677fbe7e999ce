"""What a person or a program sees: answers on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import structlog
import typer
from rich.console import Console

from ouroscope.errors import InvalidRequest, NotFound, OuroscopeError, StorageFull

answers = Console(highlight=False)
"""Answers, for people; on stdout."""
notes = Console(stderr=True, highlight=False)
"""Progress, hints and errors; on stderr."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

USAGE, FAULT, INTERRUPTED = 2, 1, 130
_USAGE_ERRORS = (InvalidRequest, NotFound)


def print_json(document: Any) -> None:
    """Write exactly one JSON document to stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


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
            raise typer.Exit(INTERRUPTED) from error
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            structlog.get_logger(__name__).debug("command.unexpected_error", exc_info=error)
            tell("something failed that should not have; set OURO_LOG=debug for details, and please report it")
            raise typer.Exit(FAULT) from error

    return guarded


def tell(message: str) -> None:
    """Write one line of error."""
    notes.print(f"[bold red]error:[/] {_one_line(message)}", soft_wrap=True)


def _one_line(message: str) -> str:
    from rich.markup import escape

    return escape(" ".join(message.split()))


def _os_error(error: OSError) -> str:
    import errno

    if error.errno == errno.ENOSPC:
        return StorageFull("no space left; free some and run the same command again").message
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or type(error).__name__}{where}"
