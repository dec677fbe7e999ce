"""What `make run` costs: wall time, peak memory, and how much of the time is not work of a model or of the analyzer.

    python benchmarks/loop.py [--spec quickstart] [--set key=value ...]

Runs the command line in a process of its own with a fresh home, then reads the stage times that the run recorded.
The arms run side by side, so the stages of one arm wait for the workers that serve the other; `overhead` is what is
left of each generation's wall time after its stages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter


def main() -> None:
    """Run once and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", default="quickstart")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    overrides = [part for override in arguments.overrides for part in ("--set", override)]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "OUROSCOPE_HOME": home}
        began = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "ouroscope_app",
            "run",
            arguments.spec,
            *overrides,
            "--name",
            "bench",
            "--json",
        ]
        subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        wall = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        shown = subprocess.run(
            [sys.executable, "-m", "ouroscope_app", "runs", "show", "bench", "--json"],
            env=environment,
            capture_output=True,
            check=True,
        )
    report(json.loads(shown.stdout)["generations"], wall, peak)


def report(generations: list[dict[str, object]], wall: float, peak: float) -> None:
    """Print what was measured as Markdown."""
    seconds: Counter[str] = Counter()
    for generation in generations:
        for stage in generation["stages"]:  # type: ignore[attr-defined]  # plain JSON
            seconds[stage["stage"]] += stage["seconds"]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores\n")
    print(f"| wall | {wall:.0f} s |\n|---|---|\n| peak memory | {peak:,.0f} MiB |")
    for stage, spent in seconds.most_common():
        print(f"| {stage}, all lanes | {spent:.1f} s |")
    print(f"| overhead / all stages | {seconds['overhead'] / max(sum(seconds.values()), 1e-9):.1%} |")


if __name__ == "__main__":
    main()
