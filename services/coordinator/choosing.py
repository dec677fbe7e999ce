"""From the portions of a protocol to the corpora that the next model is trained on: editing, drawing, selecting.

Whole corpora are passed on as they are. Everything else is work of the analyzer (which documents) and of the generator
(what a model expects of them, ToEdit, a detector); references travel, texts stay in the store. Where an arm selects,
its pool is scored by M_j whatever the rule: the surplexity of what was chosen is told beside that of the pool. The draw
of a protocol is not scored. A classifier is asked for DETECTOR only, real continuations for VERIFIER.
Every answer is found again by the digest of its request, so a corpus that stays in the pool is asked about once per
model. Asked one after the other: the generator has one device.
"""

from __future__ import annotations

from dataclasses import replace

from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Classify, Edit, Score
from ouroscope.records.selection import ORIGIN, SelectDocuments, SelectionRule, SelectionSource, SelectionSpec
from ouroscope.seeds import derive_seed
from services.coordinator.choices import Choice, Chosen, told
from services.coordinator.workers import OnProgress, Workers


async def choose(wanted: Choice, workers: Workers, tell: OnProgress) -> Chosen:
    """Edit, draw and select as the arm wants it; the order of portions, corpora and weights stays."""
    parts = [await _part(wanted, place, workers, tell) for place in range(len(wanted.portions))]
    return Chosen(
        corpora=tuple(corpus for part in parts for corpus in part.corpora),
        weights=told(weight for part in parts for weight in part.weights),
        selections=tuple(selected for part in parts for selected in part.selections),
    )


async def _part(wanted: Choice, place: int, workers: Workers, tell: OnProgress) -> Chosen:
    portion = wanted.portions[place]
    pool = [await _edited(wanted, corpus, workers, tell) for corpus in portion.pool]
    if wanted.selection is None and portion.documents is None:
        return Chosen(corpora=tuple(pool), weights=(portion.weight,) * len(pool))
    selection = wanted.selection or SelectionSpec()
    request = SelectDocuments(
        sources=tuple([await _source(wanted, selection, corpus, workers, tell) for corpus in pool]),
        selection=selection,
        documents=round(selection.growth * (portion.documents or wanted.documents)),
        seed=derive_seed(wanted.seed, "portion", place),
    )
    selected = await workers.analyzer.select_documents(request, tell)
    return Chosen(corpora=(selected.corpus,), weights=(portion.weight,), selections=(selected,))


async def _edited(wanted: Choice, corpus: ArtifactRef, workers: Workers, tell: OnProgress) -> ArtifactRef:
    """Return what M_j makes of a corpus: where the arm edits, human text is edited, and what models wrote stays."""
    if wanted.edit is None or corpus in dict(wanted.written):
        return corpus
    request = Edit(
        model=wanted.model,
        corpus=corpus,
        threshold=wanted.edit.threshold,
        top_k=wanted.edit.top_k,
        generation=wanted.generation,
        seed=derive_seed(wanted.seed, "edit"),
    )
    return (await workers.generator.edit(request, tell)).corpus


async def _source(
    wanted: Choice, selection: SelectionSpec, corpus: ArtifactRef, workers: Workers, tell: OnProgress
) -> SelectionSource:
    """Return a corpus with what the rule needs to know of its documents."""
    if wanted.selection is None:
        return SelectionSource(corpus=corpus)
    asked = Score(model=wanted.model, documents=corpus, max_tokens=wanted.max_tokens, backend=wanted.backend)
    known = SelectionSource(corpus=corpus, predictions=(await workers.generator.score(asked, tell)).predictions)
    if selection.rule is SelectionRule.DETECTOR and selection.scorer != ORIGIN:
        judged = await workers.generator.classify(Classify(classifier=selection.scorer, corpus=corpus), tell)
        return replace(known, detections=judged.detections)
    if selection.rule is SelectionRule.VERIFIER:
        return replace(known, reference=dict(wanted.written).get(corpus))
    return known
