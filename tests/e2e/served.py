"""A coordinator and an analyzer at work on a home, as a process: `python -m tests.e2e.served HOME`, until SIGTERM.

What monitors and the gate need of `ouroscope serve all`, on free ports and without torch. The analyzer has no parser:
tests that measure many texts need none.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ouroscope_app.home import Home
from ouroscope_app.live import announced, find_live

ROOT = Path(__file__).resolve().parent.parent.parent
ANY = "127.0.0.1:0"


@contextmanager
def served(home: Path) -> Iterator[str]:
    """Yield the address of a coordinator that works on `home`."""
    process = subprocess.Popen([sys.executable, "-m", "tests.e2e.served", str(home)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 120
        while (live := find_live(Home(home))) is None:
            assert process.poll() is None, "the services did not start"
            assert time.monotonic() < deadline, "waited in vain for the services"
            time.sleep(0.05)
        yield live.coordinator
    finally:
        process.terminate()
        process.wait(60)


async def serve(home: Home) -> None:
    """Serve until a signal."""
    from services.analyzer import service as analyzer
    from services.coordinator import service as coordinator

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    measuring = await analyzer.start(home.store(), ANY)
    workers = dict.fromkeys(("generator", "trainer", "analyzer"), f"127.0.0.1:{measuring.port}")
    driver = await coordinator.start(home.path, home.store(), ANY, metrics_address=ANY, recover=False, **workers)
    metrics = f"http://127.0.0.1:{driver.metrics_port}/metrics"
    with announced(home, f"127.0.0.1:{driver.port}", metrics, driver.page_url):
        await stop.wait()
    await driver.stop()
    await measuring.stop()


if __name__ == "__main__":
    asyncio.run(serve(Home(Path(sys.argv[1])).prepare()))
