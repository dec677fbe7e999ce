"""Kills one service in the middle of each of many runs, and looks whether anything was lost.

    python -m benchmarks.kills [--cases 200] [--result benchmarks/kills.json] [--seed 0] [--folder FOLDER]

The four services run as processes of their own under a supervisor that starts again what has ended. In every case a
small run is started, one service, drawn at random, gets SIGKILL at a random moment of it, and the run has to finish as
the same run does in an undisturbed home: the same digests in every generation, the same artifacts in the store and no
other, no generation twice, no process left behind. The first half of the cases keeps its runs in SQLite, the other half
in PostgreSQL, which takes a server on this machine. What was done is kept after every case: the same command goes on.
A run that was over before the kill does not count; its case is done again with another seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import structlog
from rich.progress import Progress

from benchmarks.supervised import Supervisor, add_all, end_cleanly, supervised, until
from ouroscope.canonical import to_plain
from ouroscope.client import CoordinatorClient, open_channel
from ouroscope.errors import OuroscopeError
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.runs import Generation, Run, RunSpec
from ouroscope.security.connection import PLAIN
from ouroscope.store import ArtifactStore
from ouroscope_app.embedded import embedded_services, threads_each
from ouroscope_app.home import Home
from ouroscope_app.specs import load_spec
from tests.e2e.specs import write_small_spec
from tests.postgres import PostgresServer

PATIENCE = 900.0
"""Seconds after which a run that has not ended counts as lost."""
GONE = 30.0
"""Seconds that processes of a killed one get to notice it."""
POLL = 0.2
SMALLER = (
    "generations=1",
    "documents=20",
    "evaluation.samples=0",
    "recipe.steps=2",
    "arms=[{name: human, protocol: human, real_share: 0.25}, {name: replace, protocol: replace, real_share: 0.25}]",
)
_KEPT = ("number", "state", "model", "corpus", "human", "samples", "predictions", "report", "human_report", "training")
_PROGRAMS = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is done to one run."""

    number: int
    database: str
    service: str
    moment: float
    """Of the time that the undisturbed run took."""

    def seed(self, attempt: int) -> int:
        """Return the seed of the run; runs of one home must not find each other's answers."""
        return 1000 * self.number + attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a run left: everything that has to be the same whatever happened meanwhile."""

    generations: dict[str, Any]
    artifacts: list[str]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a case. It is `good` if there is no fault."""

    case: Case
    killed_at: str
    """Where the run was: stages of its lanes, or empty before the first."""
    seconds: float
    attempts: int
    faults: list[str]


def cases(count: int, seed: int) -> list[Case]:
    """Return the cases of a campaign; they depend on nothing but these two numbers."""
    return [_case(number, count, random.Random(f"{seed}/{number}")) for number in range(count)]


def _case(number: int, count: int, draw: random.Random) -> Case:
    database = "sqlite" if number < (count + 1) // 2 else "postgresql"
    service = draw.choice(("generator", "trainer", "analyzer", "coordinator"))
    return Case(number=number, database=database, service=service, moment=draw.random())


def differences(expected: Left, found: Left) -> list[str]:
    """Return in words what is not as in the undisturbed run."""
    told = []
    for name in sorted(expected.generations.keys() | found.generations.keys()):
        if expected.generations.get(name) != found.generations.get(name):
            told.append(f"{name} is not that of the undisturbed run")
    missing = set(expected.artifacts) - set(found.artifacts)
    extra = set(found.artifacts) - set(expected.artifacts)
    told += [f"{one} is missing" for one in sorted(missing)]
    return told + [f"{one} is one too many" for one in sorted(extra)]


class World:
    """A home with a coordinator at work on it, and what its store held before a run."""

    def __init__(self, address: str, store: ArtifactStore) -> None:
        self.address = address
        self._store = store

    def artifacts(self) -> set[str]:
        """Return the references of all that is published."""
        return {str(ref) for kind in ArtifactKind for ref in self._store.list(kind)}

    async def create(self, spec: RunSpec, name: str) -> str:
        """Start a run and return its full name."""
        async with open_channel(self.address, PLAIN) as channel:
            return (await CoordinatorClient(channel).create_run(spec, name)).name

    async def look(self, run: str) -> Run | None:
        """Return the run; None while the coordinator is away."""
        with suppress(OuroscopeError):
            async with open_channel(self.address, PLAIN) as channel:
                return await CoordinatorClient(channel).get_run(run)
        return None

    async def ended(self, run: str) -> Run:
        """Return the run once it has ended.

        Raises:
            TimeoutError: it does not.
        """
        async with asyncio.timeout(PATIENCE):
            while (found := await self.look(run)) is None or not found.state.ended:
                await asyncio.sleep(POLL)
        return found

    async def generations(self, run: str) -> list[Generation]:
        """Return all generations of a run."""
        async with open_channel(self.address, PLAIN) as channel:
            return [one async for one in CoordinatorClient(channel).list_generations(run)]


def left(generations: list[Generation], artifacts: set[str], before: set[str], seconds: float) -> Left:
    """Gather what a run has left; the name of the run itself is no part of it."""
    kept = {one.name.split("/", 2)[2]: {key: to_plain(getattr(one, key)) for key in _KEPT} for one in generations}
    return Left(generations=kept, artifacts=sorted(artifacts - before), seconds=seconds)


async def undisturbed(world: World, spec: RunSpec, name: str) -> Left:
    """Do a run as it should be."""
    before, began = world.artifacts(), time.monotonic()
    run = await world.ended(await world.create(spec, name))
    if run.state.value != "SUCCEEDED":
        raise SystemExit(f"the undisturbed run ended as {run.state.value}: {run.error}")
    return left(await world.generations(run.name), world.artifacts(), before, time.monotonic() - began)


async def disturbed(
    world: World, supervisor: Supervisor, case: Case, spec: RunSpec, name: str, expected: Left
) -> Outcome | None:
    """Do a run with a kill in it; None if it was over before."""
    before, began = world.artifacts(), time.monotonic()
    run = await world.create(spec, name)
    await asyncio.sleep(max(0.0, case.moment * expected.seconds - (time.monotonic() - began)))
    seen = await world.look(run)
    if seen is None or seen.state.ended:
        return None
    killed_at = ", ".join(f"{one.name.split('/')[3]}: {one.stages[-1].stage}" for one in await _begun(world, run))
    orphans = supervisor.services[case.service].kill()
    faults: list[str] = []
    try:
        found = await world.ended(run)
        if found.state.value != "SUCCEEDED":
            faults.append(f"the run ended as {found.state.value}: {found.error}")
        await supervisor.serving()
        generations = await world.generations(run)
        faults += differences(expected, left(generations, world.artifacts(), before, 0.0))
        faults += _twice(generations)
        await until(lambda: not any(_lives(one) for one in orphans), GONE)
    except TimeoutError:
        faults.append("the run, a service or a process of the killed one did not end in time")
    took = time.monotonic() - began
    return Outcome(case=case, killed_at=killed_at, seconds=round(took, 1), attempts=1, faults=faults)


async def _begun(world: World, run: str) -> list[Generation]:
    with suppress(OuroscopeError):
        return [one for one in await world.generations(run) if one.stages]
    return []


def _twice(generations: list[Generation]) -> list[str]:
    names = [one.name for one in generations]
    return [f"{name} is there twice" for name in sorted({name for name in names if names.count(name) > 1})]


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@dataclass(slots=True)
class Campaign:
    """What was done so far, as the file of results has it."""

    file: Path
    seed: int
    outcomes: list[Outcome]

    @classmethod
    def read(cls, file: Path, seed: int) -> Campaign:
        """Go on with a file, or begin one."""
        told = json.loads(file.read_text()) if file.exists() else {"seed": seed, "outcomes": []}
        if told["seed"] != seed:
            raise SystemExit(f"{file} is of seed {told['seed']}; use another file")
        return cls(file, seed, [Outcome(**{**one, "case": Case(**one["case"])}) for one in told["outcomes"]])

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome."""
        self.outcomes.append(outcome)
        text = json.dumps({"seed": self.seed, "outcomes": [asdict(one) for one in self.outcomes]}, indent=1)
        part = self.file.with_suffix(".part")
        part.write_text(text + "\n")
        part.replace(self.file)

    def open(self, planned: list[Case]) -> list[Case]:
        """Return the cases that are still to be done."""
        done = {one.case.number for one in self.outcomes}
        return [case for case in planned if case.number not in done]


@asynccontextmanager
async def reference_world(folder: Path) -> AsyncIterator[World]:
    """The services in this process, and nobody who disturbs them."""
    home = Home(folder / "undisturbed").prepare()
    async with embedded_services(home) as places:
        yield World(places.coordinator, home.store())


@asynccontextmanager
async def broken_world(folder: Path, database: str) -> AsyncIterator[tuple[World, Supervisor]]:
    """Services as processes, on SQLite or PostgreSQL."""
    async with AsyncExitStack() as stack:
        url, home = "", folder / database
        if database == "postgresql":
            server = PostgresServer(_postgresql())
            stack.callback(server.remove)
            server.start()
            url = server.database()
        supervisor = await stack.enter_async_context(supervised(home / "logs"))
        address = add_all(supervisor, home, threads_each(), url)
        await supervisor.serving()
        yield World(address, ArtifactStore(str(home / "store"))), supervisor


def _postgresql() -> Path:
    found = sorted(_PROGRAMS.glob("*/bin/initdb"))
    if not found:
        raise SystemExit("PostgreSQL is not installed; half of the cases need it")
    return found[-1].parent


async def run_campaign(campaign: Campaign, planned: list[Case], folder: Path) -> None:
    """Do the cases that are open, each database with one set of processes."""
    base = load_spec(str(write_small_spec(folder)), SMALLER)
    todo = campaign.open(planned)
    with Progress(disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("kills", total=len(planned), completed=len(planned) - len(todo))
        for database in ("sqlite", "postgresql"):
            its = [case for case in todo if case.database == database]
            if not its:
                continue
            # Each has an undisturbed home of its own: a first run publishes what later ones find there.
            async with (
                reference_world(folder / f"beside-{database}") as reference,
                broken_world(folder, database) as (world, supervisor),
            ):
                for case in its:
                    campaign.add(await attempts(reference, world, supervisor, case, base))
                    bar.advance(task)
                left_over = await asyncio.to_thread(supervisor.stop)
                if left_over:
                    raise SystemExit("left behind: " + "; ".join(left_over))


async def attempts(reference: World, world: World, supervisor: Supervisor, case: Case, base: RunSpec) -> Outcome:
    """Repeat a case with new seeds until the kill comes in time."""
    attempt = 0
    while True:
        seed = case.seed(attempt)
        spec = replace(base, seed=seed)
        name = f"case-{seed}"
        expected = await undisturbed(reference, spec, name)
        outcome = await disturbed(world, supervisor, case, spec, name, expected)
        attempt += 1
        if outcome is not None:
            return replace(outcome, attempts=attempt)
        # Another run is needed, and an earlier moment, since this machine is quicker now.
        case = replace(case, moment=0.9 * case.moment)


def main() -> None:
    """Run the campaign and print its sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--result", type=Path, default=Path("benchmarks/kills.json"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default="", help="where homes and logs of the services lie; otherwise they go")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    end_cleanly()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    campaign = Campaign.read(options.result, options.seed)
    with nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory() as folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        # Homes of its own for every start: a case that was broken off has left its run in the last ones.
        place = Path(tempfile.mkdtemp(dir=folder, prefix="campaign-"))
        asyncio.run(run_campaign(campaign, cases(options.cases, options.seed), place))
    report(campaign.outcomes)


def report(outcomes: list[Outcome]) -> None:
    """Print what became of the cases."""
    good = sum(not one.faults for one in outcomes)
    for database in ("sqlite", "postgresql"):
        its = [one for one in outcomes if one.case.database == database]
        print(f"{database}: {sum(not one.faults for one in its)} of {len(its)} runs as if undisturbed")
    print(f"{good} of {len(outcomes)}")
    for one in outcomes:
        for fault in one.faults:
            print(f"case {one.case.number} ({one.case.service}, {one.killed_at or 'before the first stage'}): {fault}")
    if good < len(outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
