"""What the environment may say about a trainer process: `OURO_TRAINER_*`."""

from __future__ import annotations

from dataclasses import dataclass

from ouroscope.settings import boolean, one_of, positive, seconds, variable, whole_number
from ouroscope.telemetry.logs import LEVELS

PREFIX = "OURO_TRAINER"


def log_target(text: str) -> str:
    """Read where curves of trainings go."""
    kind, _, place = text.partition(":")
    if text and (kind not in {"tensorboard", "mlflow"} or not place):
        raise ValueError("must be tensorboard:DIRECTORY or mlflow:URI")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSettings:
    """Settings of one process."""

    store: str = variable(str, "artifact store: a directory, file://, s3:// or memory://", "ouroscope-data/store")
    address: str = variable(str, "host:port to listen on", "127.0.0.1:50052")
    allow_plaintext: bool = variable(
        boolean,
        "listen where strangers reach it: without TLS, or without asking who they are",
        False,
        formerly="ALLOW_PUBLIC",
    )
    metrics_port: int = variable(whole_number, "port of /metrics; 0 takes a free one", 9466)
    metrics_host: str = variable(str, "address of /metrics", "127.0.0.1")
    device: str = variable(
        one_of("auto", "cpu", "cuda"), "what trains; auto takes an accelerator if there is one", "auto"
    )
    threads: int = variable(whole_number, "processor threads of one operation; 0 takes all it may use", 0)
    max_processes: int = variable(
        whole_number, "most processes of one training, on all machines; 0 takes all processors, or all GPUs", 0
    )
    nodes: int = variable(positive, "machines that train together; see docs/training.md", 1)
    node_rank: int = variable(whole_number, "number of this machine among them; the trainer's own is 0", 0)
    meeting: str = variable(str, "host:port of the first machine, where the others find it; only with several", "")
    jobs: str = variable(
        str, "file with the Job of Kubernetes that carries out a request; empty trains in this process", ""
    )
    queue_limit: int = variable(positive, "operations that may wait", 100)
    log_to: str = variable(
        log_target, "where curves of trainings go: tensorboard:DIRECTORY or mlflow:URI; empty is nowhere", ""
    )
    log_level: str = variable(one_of(*LEVELS), "least level that is logged", "info")
    log_json: bool = variable(boolean, "logs as JSON lines instead of lines for people", True)
    grace: float = variable(seconds, "seconds that work gets after SIGTERM to keep its last checkpoint", 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettings:
    """Settings of the program of a Job, which carries out one request."""

    request: str = variable(str, "the request, as canonical JSON")
    answer: str = variable(str, "digest under which the answer is remembered in the store")
    store: str = variable(str, "artifact store: a directory, file:// or s3://, that of the trainer")
    device: str = variable(one_of("auto", "cpu", "cuda"), "as of the trainer", "auto")
    threads: int = variable(whole_number, "as of the trainer", 0)
    max_processes: int = variable(whole_number, "as of the trainer", 0)
    log_to: str = variable(log_target, "as of the trainer", "")
    log_level: str = variable(one_of(*LEVELS), "least level that is logged", "info")
    log_json: bool = variable(boolean, "logs as JSON lines instead of lines for people", True)
    grace: float = variable(seconds, "seconds that work gets after SIGTERM to keep its last checkpoint", 10.0)
