"""What an analyzer may have beyond arithmetic: a parser, an encoder of meanings. Any may be missing, with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from ouroscope.cluster.executor import RAY, open_executor
from ouroscope.executor import Executor
from services.analyzer.embedding.embedded import Encoder
from services.analyzer.embedding.folder import load_encoder
from services.analyzer.parsing.parsed import PARSED, Need
from services.analyzer.parsing.parser import Parser, load_parser
from services.analyzer.parsing.sources import SHIPPED

NO_PARSER = (
    "there is no parser here: name a spaCy pipeline by OURO_ANALYZER_PARSER or --parser "
    "(en_ouro_sm comes with the project)"
)
NO_ENCODER = (
    "there is no encoder here: name a model for embeddings by OURO_ANALYZER_ENCODER or --encoder (extra `embeddings`)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The tools of one analyzer."""

    parser: Parser | None = None
    encoder: Encoder | None = None
    readers: Executor | None = None
    """Where corpora are read, shard by shard; None reads them in this process."""

    @property
    def lacking(self) -> Mapping[Need, str]:
        """Return which needs cannot be met here, each with the reason."""
        blind = {} if self.encoder else {Need.EMBEDDING: NO_ENCODER}
        if self.parser is None:
            return {**dict.fromkeys(PARSED, NO_PARSER), **blind}
        unable = {need: f"{self.parser.identity} makes no {need.value}" for need in PARSED - self.parser.able}
        return {**unable, **blind}

    @property
    def identities(self) -> Mapping[str, str]:
        """Return what else than the request changes an answer."""
        return {
            "parser": f"{self.parser.identity}, spaCy {version('spacy')}" if self.parser else "",
            "encoder": f"{self.encoder.identity}, {self.encoder.libraries}" if self.encoder else "",
        }

    def close(self) -> None:
        """End the processes that parse, if there are any, and leave the cluster."""
        if self.parser:
            self.parser.executor.close()
        if self.readers:
            self.readers.close()


def open_tools(
    parser: str = SHIPPED, processes: int = 1, encoder: str = "", executor: str = "local", ray_address: str = ""
) -> Tools:
    """Return the tools of these names; close them in the end.

    Args:
        parser: a spaCy pipeline by name or folder, or `none`.
        processes: how many parse; 1 of this machine is this one.
        encoder: a model for embeddings by folder or id of the Hub; empty or `none` for no embeddings.
        executor: `local`, or `ray` to read and parse on a cluster.
        ray_address: `host:port` of the head of that cluster, or `auto`.

    Raises:
        PreconditionFailed: there is no such parser, or a package is missing.
        NotFound: there is no such encoder; see `load_encoder`.
        InvalidRequest, CapabilityMissing: there is no such executor; see `open_executor`.
    """
    # The encoder first: nothing has to be closed if there is none.
    found = load_encoder(encoder)
    working = open_executor(executor, processes, ray_address)
    readers = working if executor == RAY else None
    return Tools(parser=load_parser(parser, working), encoder=found, readers=readers)
