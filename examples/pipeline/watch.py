"""Report what each generation of a model wrote, from files of any pipeline: a text or a JSON object a line.

    python watch.py [--monitor NAME] [--coordinator HOST:PORT] NUMBER FILE

FILE.txt has a text a line; FILE.jsonl a logged call of a text-generation server a line, as docs/integrations.md lists
them; FILE.jsonl.gz the same, compressed. Prints the verdict and its sentence; ends with status 3 where it is COLLAPSE.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ouroscope.integrations.gateway_logs import GatewayLog
from ouroscope.integrations.pipeline import record_generation
from ouroscope.records.analysis import Verdict


def main() -> int:
    """Report one generation."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--monitor", default="pipeline-example")
    parser.add_argument("--coordinator", default="127.0.0.1:50054")
    parser.add_argument("number", type=int)
    parser.add_argument("file", type=Path)
    chosen = parser.parse_args()
    calls = GatewayLog(chosen.file)
    generation = record_generation(
        chosen.monitor,
        chosen.number,
        chosen.file.read_text(encoding="utf-8").splitlines() if chosen.file.suffix == ".txt" else calls,
        description="" if chosen.file.suffix == ".txt" else calls.description,
        coordinator=chosen.coordinator,
        ensure=True,
    )
    print(generation.verdict.value if generation.verdict else "BASELINE", generation.sentence, sep="\n")
    return 3 if generation.verdict is Verdict.COLLAPSE else 0


if __name__ == "__main__":
    sys.exit(main())
