"""What the environment may say about an analyzer process: `OURO_ANALYZER_*`."""

from __future__ import annotations

from dataclasses import dataclass

from ouroscope.cluster.executor import KINDS
from ouroscope.settings import boolean, one_of, positive, seconds, variable, whole_number
from ouroscope.telemetry.logs import LEVELS
from services.analyzer.parsing.sources import SHIPPED
from services.analyzer.session import Limits
from services.analyzer.streams import LIMIT

PREFIX = "OURO_ANALYZER"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzerSettings:
    """Settings of one process."""

    store: str = variable(str, "artifact store: a directory, file://, s3:// or memory://", "ouroscope-data/store")
    address: str = variable(str, "host:port to listen on", "127.0.0.1:50053")
    allow_plaintext: bool = variable(
        boolean,
        "listen where strangers reach it: without TLS, or without asking who they are",
        False,
        formerly="ALLOW_PUBLIC",
    )
    metrics_port: int = variable(whole_number, "port of /metrics; 0 takes a free one", 9467)
    metrics_host: str = variable(str, "address of /metrics", "127.0.0.1")
    human_spread: str = variable(str, "calibration table to use instead of the one that comes with the project", "")
    parser: str = variable(str, "spaCy pipeline: en_ouro_sm, an installed package, a folder, or none", SHIPPED)
    processes: int = variable(positive, "processes that parse; 1 is the analyzer's own, or one worker on ray", 1)
    executor: str = variable(
        one_of(*KINDS), "where corpora are read and parsed: this machine, or a Ray cluster", "local"
    )
    ray_address: str = variable(str, "head of the Ray cluster: host:port, or auto; see ray.md", "")
    encoder: str = variable(str, "model for embeddings: a folder, owner/name[@revision] of the Hub, or none", "none")
    workers: int = variable(positive, "corpora and streams measured at the same time, each kind", 2)
    queue_limit: int = variable(positive, "operations that may wait", 100)
    max_streams: int = variable(positive, "streams measured side by side; more are told to come back later", LIMIT)
    max_documents: int = variable(positive, "documents in one stream", Limits().documents)
    max_bytes: int = variable(positive, "bytes of documents in one stream", Limits().bytes)
    max_tokens: int = variable(positive, "words of documents in one stream", Limits().tokens)
    max_records: int = variable(positive, "next-token records and scored texts in one stream", Limits().records)
    max_counting: int = variable(positive, "bytes that counts of one whole corpus may be allowed", Limits().counting)
    log_level: str = variable(one_of(*LEVELS), "least level that is logged", "info")
    log_json: bool = variable(boolean, "logs as JSON lines instead of lines for people", True)
    grace: float = variable(seconds, "seconds that calls get to end after SIGTERM", 10.0)

    @property
    def limits(self) -> Limits:
        """Return how much one stream may hold, and counts may take."""
        return Limits(
            documents=self.max_documents,
            bytes=self.max_bytes,
            tokens=self.max_tokens,
            records=self.max_records,
            counting=self.max_counting,
        )
