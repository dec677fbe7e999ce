"""The four services as one process with metrics and a page, and one run that is watched there from its beginning.

The run is small and its policy strict: trained on its own cold text, a model is surer of itself after two turns.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from ouroscope.client import CoordinatorClient, open_channel
from ouroscope.records.documents import Document
from ouroscope.records.runs import RunState
from ouroscope.telemetry.logs import configure_logs
from ouroscope_app.embedded import embedded_services
from ouroscope_app.home import Home
from ouroscope_app.specs import load_spec
from tests.e2e.specs import write_small_spec

ROOT = Path(__file__).resolve().parents[2]
RUN = "live"
SERIES_STAY = 15.0
"""Seconds for which the series of an ended run are told."""
COLLAPSING = {
    "documents": 40,
    "document_tokens": 48,
    "sampling": {"temperature": 0.5},
    "recipe": {"steps": 20, "batch_size": 2, "block_tokens": 64, "learning_rate": 0.003},
    "evaluation": {
        **{"prompts": 32, "prompt_length": 8, "heldout_documents": 20, "max_tokens": 48, "last_n": 8, "samples": 1}
    },
    "policy": {"margin": 1.0, "far_bound": 1.5},
}


@dataclass
class Coordinator:
    """Where the services are, and what they are asked for."""

    page: str
    address: str
    metrics: str
    spec: Path
    begun: bool = False

    def begin(self) -> None:
        """Ask for the run, once."""
        if not self.begun:
            asyncio.run(self._create())
        self.begun = True

    def state_at_end(self) -> RunState:
        """Return how the run ended."""
        return asyncio.run(self._watch())

    def documents(self) -> list[Document]:
        """Return real sentences."""
        lines = (self.spec.parent / "corpus.jsonl").read_text().splitlines()
        return [Document(id=str(number), text=json.loads(line)["text"]) for number, line in enumerate(lines)]

    async def _create(self) -> None:
        async with open_channel(self.address) as channel:
            await CoordinatorClient(channel).create_run(load_spec(str(self.spec)), RUN)

    async def _watch(self) -> RunState:
        async with open_channel(self.address) as channel:
            states = [event.state async for event in CoordinatorClient(channel).watch_run(f"runs/{RUN}")]
        return states[-1]


@contextmanager
def watched(folder: Path) -> Iterator[Coordinator]:
    """Start the services with a home in `folder`; they end with the block, and well."""
    spec = write_small_spec(folder)
    spec.write_text(yaml.safe_dump(yaml.safe_load(spec.read_text()) | COLLAPSING))
    command = [sys.executable, "-m", "tests.e2e.watched", str(folder / "home")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            at = json.loads(process.stdout.readline())
            yield Coordinator(at["page"], at["coordinator"], urlsplit(at["metrics"]).netloc, spec)
        finally:
            process.terminate()
        assert process.wait(120) == 0, "drains on SIGTERM, the page with it"


async def serve(home: Home) -> None:
    """Serve until a signal."""
    configure_logs(json=True, level="warning")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with embedded_services(home, metrics_grace=SERIES_STAY) as at:
        sys.stdout.write(json.dumps({"page": at.page, "coordinator": at.coordinator, "metrics": at.metrics}) + "\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(Home(Path(sys.argv[1])).prepare()))
