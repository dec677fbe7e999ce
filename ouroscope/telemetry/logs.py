"""Logs of a process: events with fields, as JSON lines or for people, to stderr. Libraries' logs take the same form.

Never log the text of a document. Tracebacks come without local variables, which could hold it.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

LEVELS = ("debug", "info", "warning", "error")

# They tell of every request or connection at info; what matters of it is in our own events.
_TALKATIVE = ("httpx", "httpcore", "filelock", "urllib3", "fsspec", "asyncio", "alembic", "sqlalchemy.engine")


def configure_logs(*, json: bool, level: str = "info", stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (stderr); calling it again replaces what was set before.

    Args:
        json: one JSON object a line for machines; otherwise lines for people, in colour on a terminal.
        level: least level that is written: one of `LEVELS`.
        stream: where to write.
    """
    out = stream if stream is not None else sys.stderr
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_fields(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # Loggers are made when modules are imported, before this runs.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_fields(),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(json, out)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of one module; its `bind` adds fields to every line."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


def _fields() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _rendering(json: bool, out: TextIO) -> list[Any]:
    if json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=True)]
    colours = out.isatty()
    return [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)]
