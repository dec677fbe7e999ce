"""What the images cost: bytes unpacked, and how long a service takes from nothing until it serves.

    python -m benchmarks.images [--rounds 5] [--folder FOLDER]

With a folder (some GB, root), the images of the Dockerfile are built there as `make images-test` does, and services
start in them; `OURO_IMAGES_FOLDER` of that test may be the same. Without one, services start from this environment, and
no size is told. Either way files are in the cache of the machine from the second round on; the first is told by itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.image_roots import Images

SERVICES = {"analyzer": "service", "coordinator": "service", "generator": "model", "trainer": "model"}
SERVING = b'"rpc.serving"'
"""What a service logs when it answers."""
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Start:
    """One start, until the service serves."""

    wall: float
    cpu: float
    """Seconds; of user and system together."""


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--services", nargs="+", choices=SERVICES, default=["analyzer", "coordinator"])
    arguments = parser.parse_args()
    images = Images(arguments.folder, {"ACCELERATOR": "cpu"}) if arguments.folder else None
    if images:
        print("| image | bytes without the Debian below |\n|---|---|")
        for image in sorted({SERVICES[service] for service in arguments.services}):
            images.build(image)
            print(f"| {image} | {images.size(image):,} |", flush=True)
        print()
    print("| service | first start | wall, median | CPU, median |\n|---|---|---|---|")
    for service in arguments.services:
        first, *others = [started(service, images) for _ in range(arguments.rounds)]
        rest = others or [first]
        wall, cpu = (statistics.median(getattr(one, what) for one in rest) for what in ("wall", "cpu"))
        print(f"| {service} | {first.wall:.2f} s | {wall:.2f} s | {cpu:.2f} s |", flush=True)


def started(service: str, images: Images | None) -> Start:
    """Start a service with an empty home and store, and stop it once it says that it serves."""
    with tempfile.TemporaryDirectory() as home:
        log = Path(home, "log")
        began = time.perf_counter()
        with in_image(service, images, log) if images else in_process(service, home, log) as pid_of:
            while SERVING not in log.read_bytes():
                if time.perf_counter() - began > PATIENCE:
                    raise SystemExit(f"{service} does not serve: {log.read_text()[-2000:]}")
                time.sleep(0.01)
            return Start(time.perf_counter() - began, cpu_of(pid_of()))


@contextmanager
def in_process(service: str, home: str, log: Path) -> Iterator[Callable[[], int]]:
    """Start it from this environment, at free ports."""
    prefix = f"OURO_{service.upper()}"
    given = {f"{prefix}_ADDRESS": "127.0.0.1:0", f"{prefix}_STORE": f"{home}/store"}
    if service == "coordinator":
        given |= {f"{prefix}_{name}_ADDRESS": "127.0.0.1:0" for name in ("METRICS", "PAGE")}
        given[f"{prefix}_HOME"] = home
    else:
        given[f"{prefix}_METRICS_PORT"] = "0"
    with log.open("wb") as told:
        command = [sys.executable, "-m", f"services.{service}"]
        process = subprocess.Popen(command, env={**os.environ, **given}, stdout=told, stderr=told)
        try:
            yield lambda: process.pid
        finally:
            process.terminate()
            process.wait()


@contextmanager
def in_image(service: str, images: Images, log: Path) -> Iterator[Callable[[], int]]:
    """Start it in its image, as a container would."""
    given = {f"OURO_{service.upper()}_STORE": "/data/store"}
    if service == "coordinator":
        given["OURO_COORDINATOR_HOME"] = "/data/home"
    command = ["python", "-m", f"services.{service}"]
    with images.container(SERVICES[service], command, environment=given, log=log) as container:
        yield container.first


def cpu_of(pid: int) -> float:
    """Return the seconds of processors that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
