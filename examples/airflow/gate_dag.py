"""A gate before training in Apache Airflow 3: `train` runs only if the corpus passes, then its text is recorded.

Put it into the folder of your DAGs; `ouroscope` has to be on the PATH of the workers. How the gate answers is in
docs/gate.md. A refusal fails the task at once, since asking again cannot help; a fault is tried again.
"""

from __future__ import annotations

import subprocess
from datetime import datetime, timedelta

from airflow.exceptions import AirflowFailException
from airflow.sdk import dag, task

COORDINATOR = "ouroscope-coordinator:50054"

GATE = [
    "ouroscope", "gate",
    "--baseline", "monitors/news",
    "--candidate", "data/next.jsonl",
    "--coordinator", COORDINATOR,
    "--junit", "gate.xml",
]  # fmt: skip

RECORD = [
    "ouroscope", "monitors", "record", "news", "{number}", "data/written.jsonl",
    "--coordinator", COORDINATOR,
    "--description", "trained by airflow",
    "--fail-on", "collapse",
]  # fmt: skip

REFUSED, WRONG_CALL = 3, 2


def run(command: list[str]) -> None:
    """Run a command of Ouroscope; what it says goes to the log of the task."""
    done = subprocess.run(command, check=False)
    if done.returncode in (REFUSED, WRONG_CALL):
        raise AirflowFailException(f"{' '.join(command[:2])} exited with {done.returncode}; see above")
    done.check_returncode()


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, params={"generation": 1}, tags=["ouroscope"])
def gated_retraining() -> None:
    """Ask, train, record."""

    @task(retries=2, retry_delay=timedelta(minutes=5))
    def gate() -> None:
        run(GATE)

    @task
    def train() -> None:
        """Put your training here; let the new model write data/written.jsonl at its end."""

    # Recording twice is harmless: the same content under the same number is recorded once.
    @task(retries=2, retry_delay=timedelta(minutes=5))
    def record(number: str) -> None:
        run([part.format(number=number) for part in RECORD])

    gate() >> train() >> record("{{ params.generation }}")


gated_retraining()
