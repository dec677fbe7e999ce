"""Choosing documents of stored corpora in two passes: look at each, then write those that are taken.

Between the passes a few numbers per document are held and no text. Knows no transport.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import FieldProblem, InvalidRequest, PreconditionFailed
from ouroscope.records.selection import ORIGIN, SelectDocuments, Selected, SelectionRule, SelectionSpec
from ouroscope.store.artifacts import ArtifactStore
from services.analyzer.selection.candidate import Candidate
from services.analyzer.selection.composition import composition
from services.analyzer.selection.reading import PoolReader
from services.analyzer.selection.rules import RULES
from services.analyzer.selection.taking import take
from services.analyzer.selection.verifier import verifier_threshold
from services.analyzer.selection.writing import taken_documents
from services.analyzer.watch import Watch

log = structlog.get_logger(__name__)


def check_known(request: SelectDocuments) -> None:
    """Raise InvalidRequest if a source lacks what the rule cannot do without, whatever its documents are."""
    spec = request.selection
    if spec.rule is not SelectionRule.DETECTOR or spec.scorer == ORIGIN:
        return
    lacking = [f"sources[{number}].detections" for number, one in enumerate(request.sources) if one.detections is None]
    problems = [FieldProblem(field, "the rule DETECTOR needs what its scorer says of the corpus") for field in lacking]
    if problems:
        raise InvalidRequest("; ".join(f"{one.field}: {one.description}" for one in problems), problems)


def select_documents(store: ArtifactStore, request: SelectDocuments, watch: Watch) -> Selected:
    """Choose documents of a pool, publish them as a corpus, and say what both are made of.

    The same request always gives the same corpus.

    Raises:
        PreconditionFailed: nothing is left to choose, or the rule needs to know what is not known of a document.
        LimitExceeded: the pool is too large to be chosen from at once.
        NotFound, CorruptArtifact: something cannot be read.
        StorageFull: no room is left; nothing was published.
    """
    pool = PoolReader(store, request, watch).read()
    copies = _choose(pool, request)
    positions = {one.position: times for one, times in zip(pool, copies, strict=True) if times}
    summary = {"selection": request.selection.rule.value}
    corpus = write_corpus(store, taken_documents(store, request, positions, watch), summary=summary)
    _tell(request.selection, len(pool), sum(copies))
    return Selected(corpus=corpus, pool=composition(pool, [1] * len(pool)), chosen=composition(pool, copies))


def _choose(pool: Sequence[Candidate], request: SelectDocuments) -> list[int]:
    """Return how often each candidate is taken; at least one is."""
    spec = request.selection
    if not pool:
        raise PreconditionFailed("human_free left no document of the pool; add synthetic corpora or leave it out")
    entries = RULES[spec.rule](pool, spec, request.seed)
    if not entries:
        raise PreconditionFailed(f"the rule {spec.rule.value} left none of the {len(pool)} documents of the pool")
    return take(pool, entries, request.documents or len(pool), within_domains=spec.within_domains)


def _tell(spec: SelectionSpec, pool: int, chosen: int) -> None:
    log.info("selection.made", rule=spec.rule.value, pool=pool, chosen=chosen)
    if spec.rule is SelectionRule.VERIFIER:
        most, wrong = verifier_threshold(spec.keep_right, spec.keep_wrong), 1 - spec.right_share
        if wrong >= most:
            # Such a verifier leads away from the truth, the further the more data there are.
            log.warning("selection.verifier_too_weak", wrong=wrong, at_most=most)
