"""What an operator has declared to make a server serve another directory: a command, or an HTTP call.

Commands are argument lists, never a shell. What a command writes and what a server answers go nowhere: they may hold
secrets, and neither an error nor a log of ours is a place for them. Knows nothing of models.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import httpx
import structlog

from ouroscope.errors import PreconditionFailed, Unavailable
from services.generator.declared import HttpReload

log = structlog.get_logger(__name__)

Result = TypeVar("Result")
Check = Callable[[], None]
"""Called while something is waited for; raises when the work is to stop."""

_STEP = 0.2
"""Seconds between two checks."""


def run_command(arguments: Sequence[str], seconds: float, check: Check) -> None:
    """Run a program to its end, at most `seconds`; it and what it started is killed when the work is to stop.

    Raises:
        PreconditionFailed: there is no such program, or it failed.
        Unavailable: it did not end in time.
    """
    try:
        # A session of its own, so that its children are killed with it.
        process = subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise PreconditionFailed(
            "the command that reloads the server cannot be started; check reload.command of the backend"
        ) from error
    try:
        status = _waited(process, time.monotonic() + seconds, check)
    finally:
        _kill(process)
    log.info("reload.command_ended", status=status)
    if status is None:
        raise Unavailable(f"the command that reloads the server did not end within {seconds:g} seconds and was killed")
    if status != 0:
        raise PreconditionFailed(f"the command that reloads the server failed with status {status}; see its own log")


def call(http: HttpReload, values: Mapping[str, str], seconds: float, check: Check) -> None:
    """Make the declared call, with `{...}` replaced; it is broken off when the work is to stop.

    Raises:
        PreconditionFailed: the other side refused.
        Unavailable: it could not be reached, did not answer in time, or failed.
    """
    url, body = str(filled(http.url, values)), filled(http.json, values)

    async def work() -> int:
        # No redirects: the operator named this address and no other.
        async with (
            httpx.AsyncClient(timeout=None, follow_redirects=False, trust_env=False) as client,
            client.stream(http.method, url, json=body) as response,
        ):
            return response.status_code

    status = watched(work, seconds, check)
    log.info("reload.called", status=status)
    if 400 <= status < 500 and status not in (408, 425, 429):
        raise PreconditionFailed(f"the call that reloads the server was refused with status {status}")
    if not 200 <= status < 300:
        raise Unavailable(f"the call that reloads the server failed with status {status}; try again")


def watched(work: Callable[[], Awaitable[Result]], seconds: float, check: Check) -> Result:
    """Return what `work` gives, which talks to a server; `check` is called meanwhile.

    Raises:
        Unavailable: the server cannot be reached, or `seconds` have passed.
    """
    try:
        return asyncio.run(_watched(work, seconds, check))
    except TimeoutError as error:
        raise Unavailable(f"the server did not answer within {seconds:g} seconds") from error
    except httpx.HTTPError as error:
        raise Unavailable("the server cannot be reached; try again") from error


def filled(value: Any, values: Mapping[str, str]) -> Any:
    """Return a text, or the texts inside of a JSON value, with `{name}` replaced by `values["name"]`.

    Nothing else in braces means anything, so JSON and Go templates pass as they are.

    >>> filled({"model": "{directory}/x", "n": [1, "{other}"]}, {"directory": "/models"})
    {'model': '/models/x', 'n': [1, '{other}']}
    """
    if isinstance(value, str):
        for name, text in values.items():
            value = value.replace(f"{{{name}}}", text)
        return value
    if isinstance(value, Mapping):
        return {key: filled(inner, values) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [filled(inner, values) for inner in value]
    return value


async def _watched(work: Callable[[], Awaitable[Result]], seconds: float, check: Check) -> Result:
    task = asyncio.ensure_future(work())
    try:
        async with asyncio.timeout(seconds):
            while not task.done():
                check()
                await asyncio.wait({task}, timeout=_STEP)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, httpx.HTTPError):
            await task
    return task.result()


def _waited(process: subprocess.Popen[bytes], deadline: float, check: Check) -> int | None:
    """Return the status of a process, or None if it goes on at the deadline."""
    while process.poll() is None:
        check()
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        with suppress(subprocess.TimeoutExpired):
            process.wait(min(_STEP, left))
    return process.returncode


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that has not ended, with its children; what an ended one has left behind may be the server."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
