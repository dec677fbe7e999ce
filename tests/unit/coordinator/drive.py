"""A coordinator with stand-in workers as a process of its own: `python -m tests.unit.coordinator.drive HOME DO PAUSE`.

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
from ouroscope.store import ArtifactStore
from ouroscope.telemetry.logs import configure_logs
from services.coordinator import service
from tests.unit.coordinator.fakes import Team, small_spec, write_dataset

RUN = "runs/small"


async def drive(home: Path, what: str, pause: float) -> None:
    """Do what is asked and tell the run as it is then, with its generations and with what the workers did."""
    team = Team(home / "workers", pause=pause)
    coordinator = await service.start(
        home, ArtifactStore(str(home / "store")), workers=team.workers, recover=what in ("run", "recover")
    )
    async with open_channel(coordinator.address) as channel:
        client = CoordinatorClient(channel)
        if what == "run":
            await client.create_run(small_spec(dataset=write_dataset(home)), "small")
        if what == "resume":
            await client.resume_run(RUN)
        if what == "cancel":
            await client.resume_run(RUN)
            await asyncio.sleep(2.5 * pause)
            await client.cancel_run(RUN)
            await client.resume_run(RUN)
        say("started")
        events = [event async for event in client.watch_run(RUN)]
        run = await client.get_run(RUN)
        generations = [to_plain(one) async for one in client.list_generations(RUN)]
    await coordinator.stop(grace=1.0)
    seen = {"state": run.state.value, "error": run.error, "events": len(events), "cancelled": team.cancelled}
    say({**seen, "generations": generations, "verdicts": to_plain(run.verdicts), "journal": team.journal})


def say(what: object) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run as a process."""
    configure_logs(json=True, level="info")
    home, what, pause = sys.argv[1:]
    try:
        asyncio.run(drive(Path(home), what, float(pause)))
    except OuroscopeError as error:
        say({"refused": error.message, "reason": error.reason})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
