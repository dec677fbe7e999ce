"""Reports in the artifact store, as everybody reads them: `report.json` in canonical form. Knows no fingerprints."""

from __future__ import annotations

import json
from dataclasses import replace

from ouroscope.canonical import from_plain
from ouroscope.errors import CorruptArtifact, InvalidRequest
from ouroscope.records.analysis import Report
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.store import ArtifactStore

REPORT_FILE = "report.json"


def read_report(store: ArtifactStore, ref: ArtifactRef) -> Report:
    """Return the report, or the report of the frozen baseline, that `ref` names.

    Raises:
        InvalidRequest: `ref` is neither a report nor a baseline.
        NotFound: it is not in the store.
        CorruptArtifact: its bytes are not what was published, or were written by an incompatible version.
    """
    if ref.kind not in (ArtifactKind.REPORT, ArtifactKind.BASELINE):
        raise InvalidRequest(f"{ref} is neither a report nor a baseline; analyse the corpus and give the report")
    data = store.read(ref, REPORT_FILE)
    try:
        report = from_plain(Report, json.loads(data))
    except (InvalidRequest, ValueError) as error:
        raise CorruptArtifact(
            f"{ref} was written by a version of the analyzer whose reports cannot be read; measure the corpus again"
        ) from error
    return replace(report, report=ref)
