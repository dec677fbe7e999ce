"""Write the dashboards: `python deploy/grafana/generate.py`, into `dashboards` beside this file or the folder given.

Dashboards are code: change the modules beside this file, run it, commit both. A test looks for drift, and whether every
metric, label and recorded series that a query names is really exported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from health import services
from in_depth import monitor, run
from overview import overview

DASHBOARDS = {"overview.json": overview, "run.json": run, "monitor.json": monitor, "services.json": services}


def main() -> None:
    """Write the dashboards."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "dashboards"
    folder.mkdir(exist_ok=True)
    for name, make in DASHBOARDS.items():
        text = json.dumps(make(), indent=1, ensure_ascii=False)
        (folder / name).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
