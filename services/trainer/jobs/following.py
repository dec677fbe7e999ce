"""One request, one Job: it is found or made, followed to its end, and its answer taken from the store.

Holds no state of its own. Who asks again, after a restart of the trainer too, finds the Job by the digest of the
request and follows it on; so the trainer may be stopped at any time and nothing is lost. Only who cancels ends the Job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from ouroscope.errors import AlreadyExists, Cancelled, OuroscopeError, PreconditionFailed, Unavailable
from ouroscope.kubernetes import ApiServer
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTune, FineTuned
from ouroscope.store.artifacts import ArtifactStore
from services.trainer.jobs import seen
from services.trainer.jobs.asking import REQUEST_SECONDS, Asking, Taken
from services.trainer.jobs.lines import Told, told_in
from services.trainer.jobs.template import Asked, Template

if TYPE_CHECKING:
    from services.trainer.finetune import Control

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long what is waited for, in seconds."""

    poll: float = 3.0
    """Between two looks at a Job."""
    patience: float = 600.0
    """For an API server that does not answer."""
    stuck: float = 300.0
    """For an image or a container that cannot be had: a registry may be away for a while."""
    answer: float = 60.0
    """For the answer of a Job that has ended: volumes of a network show new files late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """Fine-tuning as Jobs."""

    api: ApiServer
    template: Template
    store: ArtifactStore
    times: Times = field(default_factory=Times)

    def train(self, request: FineTune, context: Control) -> FineTuned:
        """Have a request carried out by a Job, and return its answer.

        Raises:
            Cancelled: `context` said so, and the Job is deleted; or somebody else has deleted it.
            Unavailable: `context` said so, and the Job goes on; or the API server does not answer.
            AlreadyExists: a Job that is not ours has its name.
            PreconditionFailed, LimitExceeded: the Job cannot begin, or failed as often as it may.
            OuroscopeError: what ended the training.
        """
        return asyncio.run(self._trained(self.template.asked(request), context))

    async def _trained(self, asked: Asked, context: Control) -> FineTuned:
        times = self.times
        async with self.api.client(REQUEST_SECONDS) as client:
            asking = Asking(api=self.api, client=client, check=context.check, poll=times.poll, patience=times.patience)
            return await _One(jobs=self, asked=asked, asking=asking, report=context.report).trained()


@dataclass(slots=True, kw_only=True)
class _One:
    """One request on its way."""

    jobs: Jobs
    asked: Asked
    asking: Asking
    report: Callable[[Progress], None]
    hindered_since: float | None = None

    async def trained(self) -> FineTuned:
        try:
            return await self._followed(await self._begun())
        except Cancelled:
            if not self._is_wanted():
                await self._end()
            raise

    async def _begun(self) -> seen.Object:
        """Return the Job of this request, which is there or is made now."""
        while True:
            there = await self.asking.job(self.asked.name)
            if there is None:
                made = await self._made()
                if made is not None:
                    return made
            elif not self.asked.is_of(there):
                raise AlreadyExists(
                    f"there is a Job {self.asked.name!r} that is not one of this trainer; delete it, or give the "
                    "template another name"
                )
            elif not seen.is_leaving(there) and await self._is_followed_on(there):
                return there
            await self.asking.pause()

    async def _made(self) -> seen.Object | None:
        """Make the Job, unless another one has its name now or had it and still works on the same checkpoint."""
        if seen.at_work(await self.asking.pods(self.asked.name)):
            self.report(Progress(stage="wait for an earlier pod to end"))
            return None
        try:
            made = await self.asking.create(self.asked.job)
        except Taken:
            return None
        log.info("job.made", job=self.asked.name)
        return made

    async def _is_followed_on(self, there: seen.Object) -> bool:
        """Return whether a Job that is there will do; one that will not is deleted, so that work begins anew."""
        ended = bool(seen.outcome(there))
        # What failed or was refused is tried again when it is asked for again, as everywhere.
        if self.asked.answers(there) and (not ended or await self._answer() is not None):
            return True
        log.info("job.replaced", job=self.asked.name, ended=ended)
        await self.asking.delete(there)
        return False

    async def _followed(self, job: seen.Object) -> FineTuned:
        log.info("job.followed", job=self.asked.name)
        while True:
            now = await self.asking.job(self.asked.name)
            if now is None or seen.uid_of(now) != seen.uid_of(job) or seen.is_leaving(now):
                return await self._gone()
            ended = seen.outcome(now)
            if ended:
                log.info("job.ended", job=self.asked.name, outcome=ended)
                return await (self._completed(now) if ended == "Complete" else self._failed(now))
            await self._look(now)
            await self.asking.pause()

    async def _look(self, job: seen.Object) -> None:
        """Tell how far it is; a Job that cannot begin is given up after a while."""
        pods = [] if seen.is_waiting(job) else seen.at_work(await self._pods(job))
        if not pods:
            self.report(Progress(stage="wait for quota" if seen.is_waiting(job) else "wait for its pod"))
        elif not seen.has_begun(pods[-1]):
            self.report(Progress(stage=seen.stage(pods[-1])))
            await self._give_up_if_stuck(job, seen.hindrance(pods[-1]))
            return
        elif progress := told_in(await self.asking.log(pods[-1])).progress:
            self.report(progress)
        self.hindered_since = None

    async def _give_up_if_stuck(self, job: seen.Object, word: str) -> None:
        now = time.monotonic()
        # Between two tries nothing hinders it for a moment.
        if word and self.hindered_since is None:
            self.hindered_since = now
        if word and self.hindered_since is not None and now - self.hindered_since >= self.jobs.times.stuck:
            await self.asking.delete(job)
            raise seen.cannot_begin(self.asked.name, word)

    async def _completed(self, job: seen.Object) -> FineTuned:
        """Return the answer; the log knows why there is none, where there is none."""
        told = await self._told(job)
        until = time.monotonic() + self.jobs.times.answer
        while (tuned := await self._answer()) is None:
            if told.error:
                raise told.error
            if time.monotonic() > until:
                return await self._without_answer(job, told)
            await self.asking.pause()
        return tuned

    async def _without_answer(self, job: seen.Object, told: Told) -> FineTuned:
        if told.published:
            raise PreconditionFailed(
                f"Job {self.asked.name!r} has published {told.published}, and the store of this trainer does not have "
                "its answer; both must see one store"
            )
        await self.asking.delete(job)
        raise Unavailable(f"Job {self.asked.name!r} has ended and left no answer and no log; ask again")

    async def _failed(self, job: seen.Object) -> FineTuned:
        if (tuned := await self._answer()) is not None:
            return tuned
        told = await self._told(job)
        raise seen.failure(self.asked.name, job, await self._pods(job), told.error)

    async def _gone(self) -> FineTuned:
        if (tuned := await self._answer()) is not None:
            return tuned
        raise Cancelled(f"Job {self.asked.name!r} was deleted; what it had reached is kept: ask again to go on")

    async def _told(self, job: seen.Object) -> Told:
        pod = seen.newest(await self._pods(job))
        return told_in(await self.asking.log(pod)) if pod else Told()

    async def _pods(self, job: seen.Object) -> list[seen.Object]:
        return await self.asking.pods(self.asked.name, seen.uid_of(job))

    async def _answer(self) -> FineTuned | None:
        return await asyncio.to_thread(self.jobs.store.get_result, self.asked.answer, FineTuned)

    def _is_wanted(self) -> bool:
        """Return whether somebody still waits: otherwise it is they who cancelled, and not whoever deleted the Job."""
        try:
            self.asking.check()
        except OuroscopeError:
            return False
        return True

    async def _end(self) -> None:
        """Delete the Job, whose pod keeps a checkpoint. It may be there although no answer said so."""
        asking = replace(self.asking, check=lambda: None, patience=_LAST)
        try:
            there = await asking.job(self.asked.name)
            if there and self.asked.is_of(there):
                await asking.delete(there)
        except OuroscopeError as error:
            log.error("job.not_deleted", job=self.asked.name, error=error.message)


_LAST = 60.0
"""Seconds for which it is tried to end a Job that nobody wants any more."""
