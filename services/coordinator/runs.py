"""What can be asked about runs: made, looked at, watched, stopped, gone on with. Records in and out, no transport."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from ouroscope.errors import AlreadyExists, FieldProblem, InvalidRequest, NotFound
from ouroscope.records.runs import Arm, Generation, Run, RunEvent, RunSpec, RunState, is_name
from ouroscope.rpc.paging import page_size, read_token, write_token
from ouroscope.security.allowed import EVERYTHING, AllowedSources
from services.coordinator import plan
from services.coordinator.board import Board
from services.coordinator.database import History
from services.coordinator.dataset.sources import check_source
from services.coordinator.plan import Lane, parse_lane
from services.coordinator.requests import read_request_id
from services.coordinator.rows import place_of
from services.coordinator.workflows import Engine

LONGEST_NAME = 63
LARGEST_PAGE_OF_GENERATIONS = 25
"""With two comparisons each, more could pass the 4 MiB that gRPC clients accept by default."""


class Runs:
    """The runs of one home. Lists come in pages: the items and the token of the next page, empty on the last."""

    def __init__(
        self,
        history: History,
        engine: Engine,
        board: Board,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_suffix: Callable[[], str] = lambda: uuid.uuid4().hex[:8],
        allowed: AllowedSources = EVERYTHING,
    ) -> None:
        self._history = history
        self._engine = engine
        self._board = board
        self._now = now
        self._new_suffix = new_suffix
        self._allowed = allowed

    async def create(self, spec: RunSpec, run_id: str = "", request_id: str = "") -> Run:
        """Start a run and return it; the same `request_id` again returns the run that it made.

        Raises:
            InvalidRequest: the specification cannot be run, or a name is none.
            NotFound: the data set is not there.
            NotPermitted: the data set is none of the allowed sources.
            AlreadyExists: there is a run of that name, or the request_id was used for another request.
        """
        plan.validate(spec)
        check_source(spec.dataset, self._allowed)
        key = read_request_id(request_id)
        if key is not None and (made := await self._history.run_of_request(key)):
            return _same_request(made, spec, run_id)
        run_id = run_id or f"{spec.name[: LONGEST_NAME - 9].rstrip('-')}-{self._new_suffix()}"
        if not is_name(run_id):
            problem = FieldProblem("run_id", "use lower-case letters, digits and hyphens, at most 63")
            raise InvalidRequest(f"{run_id[:80]!r} cannot name a run: {problem.description}", (problem,))
        now = self._now()
        total = plan.generations_total(spec)
        name = f"runs/{run_id}"
        run = Run(
            name=name, spec=spec, state=RunState.PENDING, create_time=now, update_time=now, generations_total=total
        )
        await self._history.create_run(run_id, run, key)
        await self._engine.start(run_id, spec)
        return run

    async def get(self, name: str) -> Run:
        """Return the run `runs/{run}`."""
        return await self._history.run(run_id_of(name))

    async def page(self, size: int, token: str) -> tuple[list[Run], str]:
        """Return a page of runs, the newest first."""
        size, after = page_size(size), _read_place(token, 2)
        found = await self._history.runs(size + 1, None if after is None else (str(after[0]), str(after[1])))
        return found[:size], _next_token(place_of(found[size - 1])) if len(found) > size else ""

    async def watch(self, name: str) -> AsyncIterator[RunEvent]:
        """Yield the generations that are finished, then what happens until the run ends, and its end."""
        # Before the tables are read, so that nothing falls between them and the news.
        watcher = self._board.subscribe((await self.get(name)).name)
        for kept in await self._history.generations(run_id_of(name)):
            if kept.generation.state is RunState.SUCCEEDED:
                yield self._event(await self.get(name), kept.lane, kept.generation)
        if watcher is None:
            yield self._event(await self.get(name))
            return
        async for event in self._board.events(watcher):
            yield event

    async def cancel(self, name: str) -> Run:
        """Stop a run; what was finished stays. One that has ended is returned as it is."""
        return await self._engine.cancel(run_id_of(name))

    async def resume(self, name: str) -> Run:
        """Go on with a run that was cancelled, failed or interrupted."""
        return await self._engine.resume(run_id_of(name))

    async def delete(self, name: str) -> None:
        """Forget a run that has ended."""
        await self._engine.delete(run_id_of(name))

    async def arms(self, parent: str, size: int, token: str) -> tuple[list[Arm], str]:
        """Return a page of the arms of a run, in the order of its specification."""
        run, size, after = await self.get(parent), page_size(size), _read_place(token, 1)
        start = 0 if after is None else int(after[0])
        verdicts = {verdict.arm: verdict for verdict in run.verdicts}
        arms = [
            Arm(name=f"{run.name}/arms/{arm.name}", spec=arm, verdict=verdicts.get(arm.name)) for arm in run.spec.arms
        ]
        return arms[start : start + size], _next_token((start + size,)) if len(arms) > start + size else ""

    async def arm(self, name: str) -> Arm:
        """Return the arm `runs/{run}/arms/{arm}`."""
        run_id, arm, seed, _ = parse_lane(name)
        if arm is None or seed is not None:
            raise InvalidRequest(f"{name[:200]!r} is not the name of an arm; write runs/RUN/arms/ARM")
        run = await self._history.run(run_id)
        found = [one for one in (await self.arms(run.name, 1000, ""))[0] if one.spec.name == arm]
        if not found:
            raise NotFound(f"run {run_id!r} has no arm {arm!r}; it has {', '.join(a.name for a in run.spec.arms)}")
        return found[0]

    async def generations(self, parent: str, size: int, token: str) -> tuple[list[Generation], str]:
        """Return a page of the generations of a run, an arm or a seed, in order of arm, seed and number."""
        run_id, arm, seed, number = parse_lane(parent)
        if number is not None:
            raise InvalidRequest(f"{parent[:200]!r} is a generation, not something that has generations")
        await self._history.run(run_id)
        size, after = min(page_size(size), LARGEST_PAGE_OF_GENERATIONS), _read_place(token, 3)
        behind = None if after is None else (str(after[0]), int(after[1]), int(after[2]))
        found = await self._history.generations(run_id, arm, seed, limit=size + 1, after=behind)
        shown = found[:size]
        more = len(found) > size
        last = (shown[-1].lane.arm, shown[-1].lane.seed, shown[-1].generation.number) if shown else ()
        return [kept.generation for kept in shown], _next_token(last) if more else ""

    async def generation(self, name: str) -> Generation:
        """Return the generation `runs/{run}/arms/{arm}/seeds/{seed}/generations/{n}`."""
        run_id, arm, seed, number = parse_lane(name)
        if arm is None or seed is None or number is None:
            raise InvalidRequest(f"{name[:200]!r} is not the name of a generation")
        await self._history.run(run_id)
        return (await self._history.generation(Lane(run_id, arm, seed), number)).generation

    def _event(self, run: Run, lane: Lane | None = None, finished: Generation | None = None) -> RunEvent:
        newest = self._board.newest(run.name)
        done = run.generations_done / max(1, run.generations_total)
        return RunEvent(
            run=run.name,
            time=self._now(),
            state=run.state,
            arm=lane.arm if lane else None,
            seed=lane.seed if lane else None,
            generation=finished.number if finished else None,
            run_done=newest.run_done if newest else done,
            seconds_left=newest.seconds_left if newest else None,
            message=run.error,
            finished_generation=finished,
        )


def run_id_of(name: str) -> str:
    """Return the id in `runs/{run}`.

    Raises:
        InvalidRequest: it is not the name of a run.
    """
    run_id, *rest = parse_lane(name)
    if any(part is not None for part in rest):
        raise InvalidRequest(f"{name[:200]!r} is not the name of a run; write runs/RUN")
    return run_id


def _same_request(made: Run, spec: RunSpec, run_id: str) -> Run:
    if made.spec != spec or run_id not in ("", made.name.removeprefix("runs/")):
        raise AlreadyExists(f"the request_id was used for {made.name}; make a new one", run=made.name)
    return made


def _next_token(place: tuple[str | int, ...]) -> str:
    return write_token(json.dumps(place))


def _read_place(token: str, length: int) -> list[str | int] | None:
    key = read_token(token)
    if key is None:
        return None
    try:
        place = json.loads(key)
    except ValueError:
        place = None
    if not isinstance(place, list) or len(place) != length:
        raise InvalidRequest("page_token is of another list; start again without it")
    return place
