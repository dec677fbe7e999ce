"""The program of a Job: one request, carried out as the trainer itself would: `python -m services.trainer.task`.

What it publishes goes into the store, and so does the answer; on stdout it tells how far it is (see jobs/lines.py).
Ends with 0 once there is nothing more to try, be it with a model or with an error that would come back, and with
another status where it is worth while to begin it again: it then goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

import structlog

from ouroscope.canonical import from_plain
from ouroscope.errors import InvalidRequest, OuroscopeError, Unavailable
from ouroscope.operations.requests import request_digest
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTune, FineTuned
from ouroscope.settings import load
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.telemetry.logs import configure_logs
from ouroscope.telemetry.tracing import start_tracing
from services.trainer.group.hosts import hosts_of
from services.trainer.jobs.lines import error_line, progress_line, published_line
from services.trainer.requests import METHOD, check_request
from services.trainer.settings import PREFIX, TaskSettings
from services.trainer.work import work_here

log = structlog.get_logger(__name__)

TRY_AGAIN = 75
"""Exit status of work that was interrupted (EX_TEMPFAIL)."""
_EVERY = 1.0
"""Least seconds between two words on the same stage: a log is no place for every step."""

Say = Callable[[str], None]


class Interrupted:
    """What the machine wants of the work, and what is heard of it."""

    def __init__(self, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._signalled = False
        self._last: tuple[str, float] | None = None

    def heed(self, grace: float) -> None:
        """Stop at SIGTERM and SIGINT: after `grace` seconds whatever is at work then."""

        def note(number: int, frame: FrameType | None) -> None:
            self._signalled = True
            last = threading.Timer(grace, os._exit, (TRY_AGAIN,))
            last.daemon = True
            last.start()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, note)

    def check(self) -> None:
        """Do nothing, unless the work should end.

        Raises:
            Unavailable: the pod is to end.
        """
        if self._signalled:
            raise Unavailable("the pod was told to end; what was reached is kept")

    def report(self, progress: Progress, /) -> None:
        """Say how far the work is, unless that was said just now."""
        now, last = self._clock(), self._last
        over = progress.total and progress.done >= progress.total
        if over or last is None or last[0] != progress.stage or now - last[1] >= _EVERY:
            self._last = (progress.stage, now)
            self._say(progress_line(progress))


def main() -> int:
    """Carry the request of the environment out; return the exit status."""
    configure_logs(json=True)
    try:
        settings = load(TaskSettings, os.environ, PREFIX)
        configure_logs(json=settings.log_json, level=settings.log_level)
        stop_tracing = start_tracing("ouroscope-trainer", os.environ)
        try:
            return _carried_out(settings)
        finally:
            stop_tracing()
    except Unavailable as error:
        return _ended(error, TRY_AGAIN)
    except OuroscopeError as error:
        return _ended(error, 0)
    except Exception as unknown:  # nobody above would write it as a line of the log
        log.error("task.failed", exc_info=unknown)
        return 1


def _carried_out(settings: TaskSettings) -> int:
    orders = Interrupted(_say)
    orders.heed(settings.grace)
    request, store = _request(settings.request), ArtifactStore(settings.store)
    tuned = store.get_result(settings.answer, FineTuned) or _trained(store, request, settings, orders)
    # Before anybody hears of it: whoever follows the Job looks here.
    store.put_result(settings.answer, tuned)
    _say(published_line(str(tuned.model)))
    return 0


def _trained(store: ArtifactStore, request: FineTune, settings: TaskSettings, orders: Interrupted) -> FineTuned:
    orders.report(Progress(stage="import"))
    hosts = partial(hosts_of, settings.max_processes, 1, "")
    work = work_here(store, settings.threads, settings.device, settings.log_to, hosts)
    # A trainer that works in its own process, or one with another template, may have done the same before.
    own = request_digest(METHOD, request, work.fingerprint)
    tuned = store.get_result(own, FineTuned)
    if tuned is None:
        orders.check()
        tuned = work.train(request, orders)
        store.put_result(own, tuned)
    return tuned


def _request(text: str) -> FineTune:
    try:
        plain = json.loads(text)
    except ValueError:
        raise InvalidRequest(f"{PREFIX}_REQUEST is no JSON") from None
    return check_request(from_plain(FineTune, plain))


def _ended(error: OuroscopeError, status: int) -> int:
    log.error("task.ended", error=error.message, reason=error.reason, status=status)
    _say(error_line(error))
    return status


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
