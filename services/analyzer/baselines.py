"""Named baselines: the numbers of a report, frozen under a name. Keeps nobody's text, and no word of it either."""

from __future__ import annotations

from dataclasses import replace

from ouroscope.errors import FieldProblem, InvalidRequest, NotFound
from ouroscope.records.analysis import BaselineInfo, WholeCorpus
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.runs import is_name
from ouroscope.store import ArtifactStore
from services.analyzer import reports
from services.analyzer.answers import nameless

SPACE = "baselines"
"""Space of names in the store, and the first part of resource names."""


def create(store: ArtifactStore, baseline_id: str, report: ArtifactRef) -> BaselineInfo:
    """Freeze `report` under `baselines/{baseline_id}`; doing it again with the same report changes nothing.

    The drawing of the network, repeated texts, frequent words and edges are left out, since they are words of the text,
    and the ids of prompts, since nobody knows what they are made of.

    Raises:
        InvalidRequest: `baseline_id` is not a name, or `report` is not a report.
        NotFound: there is no such report.
        AlreadyExists: the name belongs to another baseline.
    """
    _check_id(baseline_id, "baseline_id")
    side = reports.read(store, report.expect(ArtifactKind.REPORT, "report"))
    wordless = replace(side.report, drawing=None, repeated_texts=(), whole_corpus=_wordless(side.report.whole_corpus))
    numbers = replace(side, report=wordless, answers=nameless(side.answers))
    frozen = reports.publish(store, numbers, ArtifactKind.BASELINE)
    assert frozen.report.report is not None
    store.put_name(SPACE, baseline_id, frozen.report.report)
    return get(store, f"{SPACE}/{baseline_id}")


def _wordless(whole: WholeCorpus | None) -> WholeCorpus | None:
    return whole and replace(whole, frequent_words=(), frequent_edges=())


def get(store: ArtifactStore, name: str) -> BaselineInfo:
    """Return what is known of `baselines/{baseline}`.

    Raises:
        InvalidRequest: `name` is not the name of a baseline.
        NotFound: there is none of that name.
    """
    baseline_id = _id_of(name)
    return _info(store, baseline_id, _find(store, baseline_id))


def page(store: ArtifactStore, after: str, size: int) -> tuple[tuple[BaselineInfo, ...], str]:
    """Return up to `size` baselines in order of name, from the one after `after`, and the last id if more follow.

    `after` is the id of a baseline, or empty for the first page; it need not exist any more.
    """
    names = [named for named in store.list_names(SPACE) if named.name > after]
    shown = names[:size]
    more = shown[-1].name if len(names) > size else ""
    return tuple(_info(store, named.name, named.ref) for named in shown), more


def delete(store: ArtifactStore, name: str) -> None:
    """Free the name `baselines/{baseline}`; comparisons that were made stay as they are.

    Raises:
        InvalidRequest: `name` is not the name of a baseline.
        NotFound: there is none of that name.
    """
    baseline_id = _id_of(name)
    _find(store, baseline_id)
    store.delete_name(SPACE, baseline_id)


def _find(store: ArtifactStore, baseline_id: str) -> ArtifactRef:
    try:
        return store.get_name(SPACE, baseline_id).ref
    except NotFound as error:
        raise NotFound(
            f"there is no baseline {baseline_id!r}; ListBaselines tells which there are", baseline=baseline_id
        ) from error


def _info(store: ArtifactStore, baseline_id: str, ref: ArtifactRef) -> BaselineInfo:
    summary = store.manifest(ref).summary
    return BaselineInfo(
        name=f"{SPACE}/{baseline_id}",
        baseline=ref,
        analyzer_version=str(summary["analyzer_version"]),
        documents=_whole(summary["documents"]),
        tokens=_whole(summary["tokens"]),
        clusters=_whole(summary["clusters"]),
    )


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _id_of(name: str) -> str:
    space, _, baseline_id = name.partition("/")
    if space != SPACE:
        raise _not_a_name("name", f"must be {SPACE}/ and a name, got {name[:80]!r}")
    return _check_id(baseline_id, "name")


def _check_id(baseline_id: str, field: str) -> str:
    if not is_name(baseline_id):
        raise _not_a_name(field, f"use lower-case letters, digits and hyphens, at most 63; got {baseline_id[:80]!r}")
    return baseline_id


def _not_a_name(field: str, description: str) -> InvalidRequest:
    problem = FieldProblem(field, description)
    return InvalidRequest(f"the name of a baseline is not valid: {field}: {description}", [problem])
