"""Reports in the artifact store: `report.json` in canonical form, and fingerprints as safetensors. Measures nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from ouroscope.canonical import canonical_json, digest_of, from_plain
from ouroscope.errors import CorruptArtifact, InvalidRequest
from ouroscope.records.analysis import Report
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.store import ArtifactStore
from services.analyzer.fingerprint import from_bytes, to_bytes
from services.analyzer.side import Side, side_of

REPORT_FILE = "report.json"
FINGERPRINTS_FILE = "fingerprints.safetensors"


def publish(store: ArtifactStore, side: Side, kind: ArtifactKind = ArtifactKind.REPORT) -> Side:
    """Store a side under the digest of its canonical content and return it with its reference.

    The same content gives the same reference; the reference itself is no part of the digest.

    Raises:
        StorageFull: no room is left; nothing was published.
        PreconditionFailed: the store cannot be written.
    """
    report, prints = replace(side.report, report=None), to_bytes(side.fingerprints.values())
    files = {REPORT_FILE: canonical_json(report).encode("ascii"), FINGERPRINTS_FILE: prints}
    digest = digest_of("report", report, hashlib.sha256(prints).hexdigest())
    ref = store.publish(kind, digest, files, _summary(report))
    return replace(side, report=replace(report, report=ref))


def read(store: ArtifactStore, ref: ArtifactRef) -> Side:
    """Return the report, or the frozen baseline, that `ref` names.

    Raises:
        InvalidRequest: `ref` is neither a report nor a baseline.
        NotFound: it is not in the store.
        CorruptArtifact: its bytes are not what was published, or were written by an incompatible version.
    """
    if ref.kind not in (ArtifactKind.REPORT, ArtifactKind.BASELINE):
        raise InvalidRequest(f"{ref} is neither a report nor a baseline; analyse the corpus and give the report")
    data, tensors = store.read(ref, REPORT_FILE), store.read(ref, FINGERPRINTS_FILE)
    try:
        report = from_plain(Report, json.loads(data))
    except (InvalidRequest, ValueError) as error:
        raise CorruptArtifact(
            f"{ref} was written by a version of the analyzer whose reports cannot be read; measure the corpus again"
        ) from error
    return side_of(replace(report, report=ref), from_bytes(tensors))


def _summary(report: Report) -> dict[str, str | int]:
    return {
        "analyzer_version": report.analyzer_version,
        "documents": report.documents,
        "tokens": report.tokens,
        "clusters": report.clusters,
        "prompts": report.prompts,
    }
