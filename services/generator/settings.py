"""What the environment may say about a generator process: `OURO_GENERATOR_*`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ouroscope.cluster.executor import KINDS
from ouroscope.security.allowed import AllowedSources, read_sources
from ouroscope.settings import boolean, directory, one_of, positive, seconds, variable, whole_number
from ouroscope.telemetry.logs import LEVELS

PREFIX = "OURO_GENERATOR"


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorSettings:
    """Settings of one process."""

    store: str = variable(str, "artifact store: a directory, file://, s3:// or memory://", "ouroscope-data/store")
    address: str = variable(str, "host:port to listen on", "127.0.0.1:50051")
    allow_plaintext: bool = variable(
        boolean,
        "listen where strangers reach it: without TLS, or without asking who they are",
        False,
        formerly="ALLOW_PUBLIC",
    )
    metrics_port: int = variable(whole_number, "port of /metrics; 0 takes a free one", 9465)
    metrics_host: str = variable(str, "address of /metrics", "127.0.0.1")
    backends: Path | None = variable(directory, "YAML file that declares servers, see backends.md", None)
    tasks: Path | None = variable(directory, "folder with tasks of lm-evaluation-harness of your own", None)
    device: str = variable(one_of("auto", "cpu", "cuda", "mps"), "what runs the model", "auto")
    dtype: str = variable(
        one_of("auto", "float32", "bfloat16", "float16"), "number type; auto: float32 on cpu, bfloat16 on cuda", "auto"
    )
    threads: int = variable(whole_number, "processor threads of one operation; 0 takes all it may use", 0)
    executor: str = variable(
        one_of(*KINDS), "where models write and score: this process, or the workers of a Ray cluster", "local"
    )
    ray_address: str = variable(str, "head of the Ray cluster: host:port, or auto; see ray.md", "")
    processes: int = variable(positive, "workers of the Ray cluster, each with a copy of the model", 1)
    kept_models: int = variable(positive, "models kept in memory, the last used ones", 2)
    max_model_bytes: int = variable(positive, "largest model that may be imported, in bytes", 200 * 1024**3)
    queue_limit: int = variable(positive, "operations that may wait", 100)
    sources: AllowedSources | None = variable(
        read_sources,
        "models that requests may name, see security.md; empty: any, where only this machine can ask",
        None,
    )
    log_level: str = variable(one_of(*LEVELS), "least level that is logged", "info")
    log_json: bool = variable(boolean, "logs as JSON lines instead of lines for people", True)
    grace: float = variable(seconds, "seconds that calls get to end after SIGTERM", 10.0)
