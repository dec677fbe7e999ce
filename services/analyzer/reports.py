"""Reports with their fingerprints and answers in the artifact store. Measures nothing."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from ouroscope.canonical import canonical_json, digest_of
from ouroscope.records.analysis import Report
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.reports import REPORT_FILE, read_report
from ouroscope.store import ArtifactStore
from services.analyzer import answers
from services.analyzer.answers import Answer
from services.analyzer.fingerprint import from_bytes, to_bytes
from services.analyzer.side import Side, side_of

FINGERPRINTS_FILE = "fingerprints.safetensors"
ANSWERS_FILE = "answers.json"
"""Only where the report has prompts."""


def publish(store: ArtifactStore, side: Side, kind: ArtifactKind = ArtifactKind.REPORT) -> Side:
    """Store a side under the digest of its canonical content and return it with its reference.

    The same content gives the same reference; the reference itself is no part of the digest.

    Raises:
        StorageFull: no room is left; nothing was published.
        PreconditionFailed: the store cannot be written.
    """
    report, prints = replace(side.report, report=None), to_bytes(side.fingerprints.values())
    files = {REPORT_FILE: canonical_json(report).encode("ascii"), FINGERPRINTS_FILE: prints}
    if side.answers:
        files[ANSWERS_FILE] = answers.to_bytes(side.answers)
    beside = [hashlib.sha256(data).hexdigest() for name, data in files.items() if name != REPORT_FILE]
    digest = digest_of("report", report, *beside)
    ref = store.publish(kind, digest, files, _summary(report))
    return replace(side, report=replace(report, report=ref))


def read(store: ArtifactStore, ref: ArtifactRef) -> Side:
    """Return the report, or the frozen baseline, that `ref` names.

    Raises:
        InvalidRequest: `ref` is neither a report nor a baseline.
        NotFound: it is not in the store.
        CorruptArtifact: its bytes are not what was published, or were written by an incompatible version.
    """
    report = read_report(store, ref)
    return side_of(report, from_bytes(store.read(ref, FINGERPRINTS_FILE)), _read_answers(store, ref))


def _read_answers(store: ArtifactStore, ref: ArtifactRef) -> tuple[Answer, ...]:
    kept = ANSWERS_FILE in store.manifest(ref).files
    return answers.from_bytes(store.read(ref, ANSWERS_FILE)) if kept else ()


def _summary(report: Report) -> dict[str, str | int]:
    return {
        "analyzer_version": report.analyzer_version,
        "documents": report.documents,
        "tokens": report.tokens,
        "clusters": report.clusters,
        "prompts": report.prompts,
    }
