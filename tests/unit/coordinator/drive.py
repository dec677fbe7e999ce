"""A coordinator with stand-in workers as a process of its own.

    python -m tests.unit.coordinator.drive HOME DO PAUSE [DATABASE [WATCH]]

WATCH is the time in seconds between two looks at the lock.
DBOS allows one instance per process, and a test of a kill needs a process to kill. Says on stdout what came of it, as
one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from ouroscope.canonical import to_plain
from ouroscope.client import CoordinatorClient, open_channel
from ouroscope.errors import OuroscopeError
from ouroscope.records.runs import RunSpec
from ouroscope.store import ArtifactStore
from ouroscope.telemetry.logs import configure_logs
from services.coordinator import lock, service
from tests.unit.coordinator.fakes import Team, small_spec, write_dataset

RUN = "runs/small"


def driven_spec(home: Path) -> RunSpec:
    """Return what is run in `home`."""
    return small_spec(generations=2, dataset=write_dataset(home))


async def drive(home: Path, what: str, pause: float, database: str | None = None) -> None:
    """Do what is asked and tell the run as it is then, with its generations and with what the workers did."""
    team = Team(home / "workers", pause=pause)
    store = ArtifactStore(str(home / "store"))
    coordinator = await service.start(home, store, workers=team.workers, recover=what != "resume", database=database)
    async with open_channel(coordinator.address) as channel:
        client = CoordinatorClient(channel)
        if what == "run":
            await client.create_run(driven_spec(home), "small")
        if what == "resume":
            await client.resume_run(RUN)
        say("started")
        events = [event async for event in client.watch_run(RUN)]
        generations = [to_plain(one) async for one in client.list_generations(RUN)]
    await coordinator.stop(grace=1.0)
    say({"state": events[-1].state.value, "generations": generations, "journal": team.journal})


def say(what: object) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run as a process."""
    configure_logs(json=True, level="info")
    home, what, pause, *more = sys.argv[1:]
    lock.WATCH = float(more[1]) if more[1:] else lock.WATCH
    try:
        asyncio.run(drive(Path(home), what, float(pause), *more[:1]))
    except OuroscopeError as error:
        say({"refused": error.message, "reason": error.reason})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
