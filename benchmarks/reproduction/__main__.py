"""Keep what came of an experiment: `python -m benchmarks.reproduction collect EXPERIMENT RUN...`.

Reads the runs of the data folder (`OUROSCOPE_HOME`) and writes `kept/EXPERIMENT.json`; `make docs` then writes
docs/reproduction.md from all results.
"""

from __future__ import annotations

import argparse
import os
import platform

from benchmarks.reproduction.results import results_of, write_results
from ouroscope.executor import processors
from ouroscope.records.runs import Run
from ouroscope_app.history import find_run, generations_of
from ouroscope_app.home import Home
from services.analyzer.catalogue import CATALOGUE
from services.coordinator.report.loading import Artifacts
from services.coordinator.study.loading import load_study


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reproduction", description=__doc__)
    parser.add_argument("what", choices=["collect"])
    parser.add_argument("experiment")
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--command", default="", help="How the runs were made.")
    asked = parser.parse_args()
    home = Home.find(os.environ)
    runs = [find_run(home, name) for name in asked.runs]
    study = load_study(Artifacts(home.store()), [(run, generations_of(home, run)) for run in runs], CATALOGUE)
    results = results_of(
        study,
        experiment=asked.experiment,
        command=asked.command or f"ouroscope sweep {asked.experiment} --scale tiny",
        machine=f"{processors()} cores, {platform.machine()}, Python {platform.python_version()}",
        settings="; ".join(dict.fromkeys(_settings(run) for run in runs)),
    )
    write_results(results)


def _settings(run: Run) -> str:
    spec = run.spec
    return (
        f"{spec.model}, {spec.seeds} seeds, {spec.generations} generations of {spec.documents} documents of "
        f"{spec.document_tokens} tokens, {spec.recipe.steps} steps of {spec.recipe.batch_size} x "
        f"{spec.recipe.block_tokens} tokens, learning rate {spec.recipe.learning_rate:g}"
    )


if __name__ == "__main__":
    main()
