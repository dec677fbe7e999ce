"""The parser of an analyzer: a pipeline by name, spread over an executor. Loads nothing before the first text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np

from ouroscope.errors import PreconditionFailed
from ouroscope.executor import Executor, InProcess
from ouroscope.records.progress import Progress
from services.analyzer.parsing.parsed import PARSED, Need, Parsed, join
from services.analyzer.parsing.pieces import batches, pieces
from services.analyzer.parsing.pipeline import Piece, Pipeline
from services.analyzer.parsing.sources import SHIPPED, Source, find, here
from services.analyzer.rungs import RungSample

NONE = "none"
"""In place of a name: no parser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """A pipeline that can be asked for trees."""

    source: Source
    executor: Executor = field(default_factory=InProcess)

    @property
    def identity(self) -> str:
        """Return its name, version and digest; what two pipelines make cannot be compared."""
        return self.source.identity

    @property
    def able(self) -> frozenset[Need]:
        """Return which needs it meets."""
        return self.source.able

    def parse(
        self,
        rung: RungSample,
        needs: frozenset[Need],
        on_progress: Callable[[Progress], None] = lambda _: None,
        check: Callable[[], None] = lambda: None,
    ) -> Parsed:
        """Return the tokens of all documents of `rung`, each parsed once, up to its last word that belongs to it.

        Batches follow from the sample alone, so the answer does not depend on how many processes work.

        Raises:
            PreconditionFailed: the pipeline cannot be used here.
        """
        work = functools.partial(parse_batch, self.source, needs & self.able)
        cut = batches(pieces(rung.texts, rung.used_D, rung.places_D))
        found = []
        with closing(self.executor.map(work, cut)) as answers:
            for parsed in answers:
                check()
                found.append(parsed)
                if len(parsed):
                    done = int(np.searchsorted(rung.places_D, parsed.document_T[-1], side="right"))
                    on_progress(Progress(stage="parsing", done=done, total=len(rung.texts), unit="documents"))
        return join(found)

    def try_out(self) -> None:
        """Load the pipeline where it will work, and let it parse a word.

        Raises:
            PreconditionFailed: the pipeline cannot be used here.
        """
        work = functools.partial(parse_batch, self.source, PARSED & self.able)
        for _ in self.executor.map(work, [(Piece(0, "word", (0,), 0),)]):
            pass


def load_parser(name: str = SHIPPED, executor: Executor | None = None) -> Parser | None:
    """Return the parser of that name or path; None for `none` or an empty name.

    Raises:
        PreconditionFailed: there is no such pipeline, or no spaCy.
    """
    if name in ("", NONE):
        return None
    if find_spec("spacy") is None:
        raise PreconditionFailed("spaCy is not installed: `pip install 'ouroscope[analyzer]'`, or `none` for no parser")
    return Parser(source=find(name), executor=executor or InProcess())


def parse_batch(source: Source, needs: frozenset[Need], batch: Iterable[Piece]) -> Parsed:
    """Parse one batch with the pipeline of this process, which is loaded once."""
    return join(_pipeline(source).parse(tuple(batch), needs))


@functools.lru_cache(maxsize=2)
def _pipeline(source: Source) -> Pipeline:
    return Pipeline(here(source))
