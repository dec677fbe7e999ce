"""What the environment may say about a trainer process: `OURO_TRAINER_*`."""

from __future__ import annotations

from dataclasses import dataclass

from ouroscope.settings import boolean, one_of, positive, seconds, variable, whole_number
from ouroscope.telemetry.logs import LEVELS

PREFIX = "OURO_TRAINER"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSettings:
    """Settings of one process."""

    store: str = variable(str, "artifact store: a directory, file://, s3:// or memory://", "ouroscope-data/store")
    address: str = variable(str, "host:port to listen on", "127.0.0.1:50052")
    allow_public: bool = variable(boolean, "listen where other machines reach it; nobody is asked who they are", False)
    metrics_port: int = variable(whole_number, "port of /metrics; 0 takes a free one", 9466)
    metrics_host: str = variable(str, "address of /metrics", "127.0.0.1")
    device: str = variable(
        one_of("auto", "cpu", "cuda"), "what trains; auto takes an accelerator if there is one", "auto"
    )
    threads: int = variable(whole_number, "processor threads of one operation; 0 takes all it may use", 0)
    queue_limit: int = variable(positive, "operations that may wait", 100)
    log_level: str = variable(one_of(*LEVELS), "least level that is logged", "info")
    log_json: bool = variable(boolean, "logs as JSON lines instead of lines for people", True)
    grace: float = variable(seconds, "seconds that work gets after SIGTERM to keep its last checkpoint", 10.0)
