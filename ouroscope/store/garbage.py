"""What in a store nobody needs any more. Says what it is and removes it when told so; decides nothing by itself.

An artifact is needed if a root is it (the caller knows roots: the database of runs), if it has a name, if a remembered
answer that is still kept names it, or if an artifact that is needed names it: in the summary of its manifest (an
adapter its base) or in a JSON file (a report its corpus). What is younger than the policy says is needed in any case,
since its worker may not have told anybody of it yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from ouroscope.errors import CorruptArtifact, NotFound
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.store.keys import prefix_of, result_key
from ouroscope.store.manifest import MANIFEST
from ouroscope.store.opening import open_files
from ouroscope.store.verification import artifacts_in

LARGEST_JSON = 16 << 20
"""Bytes of a JSON file that is searched for references; records that hold some are far smaller."""
_REFERENCE = re.compile(rf"\b(?:{'|'.join(kind.value.lower() for kind in ArtifactKind)})/[0-9a-f]{{64}}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long what nobody refers to is kept."""

    artifacts: timedelta = timedelta(days=7)
    """Age under which an artifact is never garbage."""
    drafts: timedelta = timedelta(days=7)
    """Age of the newest file of a draft under which its work may still go on."""
    answers: timedelta = timedelta(days=90)
    """How long a remembered answer keeps its artifacts; older ones are garbage unless all they name is needed."""


class Progress(Protocol):
    """Told how far a search is."""

    def __call__(self, done: int, total: int) -> None:
        """So many of all artifacts have been looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What can go."""

    artifacts: tuple[ArtifactRef, ...] = ()
    drafts: tuple[str, ...] = ()
    """Keys of drafts."""
    answers: tuple[str, ...] = ()
    """Digests of requests whose answers are remembered."""
    leftovers: tuple[str, ...] = ()
    """Folders of attempts to publish that never came to their manifest."""
    bytes: int = 0
    """What the artifacts take."""


def references_in_text(text: str) -> set[ArtifactRef]:
    """Return everything in a text that looks like a reference; one too many only keeps an artifact longer."""
    return {ArtifactRef.parse(found) for found in _REFERENCE.findall(text)}


class Collector:
    """Finds garbage in one store."""

    def __init__(self, store: ArtifactStore, now: datetime, policy: Policy) -> None:
        self._store = store
        self._files = open_files(store.url)
        self._now = now
        self._policy = policy

    def find(self, roots: Iterable[ArtifactRef], needed_since: datetime | None, tell: Progress) -> Garbage:
        """Return what can go.

        Args:
            roots: What is needed.
            needed_since: When the oldest run that is at work began: what was written since is needed too.
            tell: Told of progress.

        Raises:
            CorruptArtifact: a name is damaged, so nobody knows what it keeps.
        """
        since = needed_since or self._now
        all_ = artifacts_in(self._store)
        young = [ref for ref in all_ if self._is_young(f"{prefix_of(ref)}/{MANIFEST}", self._policy.artifacts, since)]
        answers = dict(self._answers())
        kept = {key for key in answers if self._is_young(result_key(key), self._policy.answers, since)}
        answered = (ref for key in kept for ref in answers[key])
        live = self._closure({*roots, *young, *self._named(), *answered}, len(all_), tell)
        dead = tuple(ref for ref in all_ if ref not in live)
        return Garbage(
            artifacts=dead,
            drafts=tuple(self._old_drafts(since)),
            answers=tuple(sorted(key for key in answers if key not in kept and not answers[key] <= live)),
            leftovers=tuple(self._leftovers(since)),
            bytes=sum(map(self._size, dead)),
        )

    def remove(self, garbage: Garbage) -> None:
        """Remove what was found. Answers go first: nobody finds an artifact by them that is about to go."""
        for key in garbage.answers:
            self._files.remove(result_key(key))
        for ref in garbage.artifacts:
            self._store.delete(ref)
        for key in garbage.drafts:
            self._files.remove(f"drafts/{key}")
        for folder in garbage.leftovers:
            self._files.remove(folder)

    def _is_young(self, key: str, keep: timedelta, since: datetime) -> bool:
        written = self._files.written(key)
        return written is None or written >= min(self._now - keep, since)

    def _named(self) -> Iterator[ArtifactRef]:
        for space in sorted({key.split("/")[0] for key in self._files.list("names")}):
            yield from (named.ref for named in self._store.list_names(space))

    def _answers(self) -> Iterator[tuple[str, set[ArtifactRef]]]:
        for key in self._files.list("results"):
            digest = key.rpartition("/")[2].removesuffix(".json")
            yield digest, references_in_text(self._text(f"results/{key}"))

    def _closure(self, first: set[ArtifactRef], total: int, tell: Progress) -> set[ArtifactRef]:
        live: set[ArtifactRef] = set()
        waiting = list(first)
        while waiting:
            ref = waiting.pop()
            if ref not in live:
                live.add(ref)
                waiting += self._names_of(ref)
                tell(min(len(live), total), total)
        return live

    def _names_of(self, ref: ArtifactRef) -> set[ArtifactRef]:
        """Return what an artifact names; nothing where it is not in this store, or damaged beyond telling."""
        try:
            manifest = self._store.manifest(ref)
            texts = [str(value) for value in manifest.summary.values()]
            for name, entry in manifest.files.items():
                if name.endswith(".json") and entry.size <= LARGEST_JSON:
                    texts.append(self._store.read(ref, name).decode(errors="replace"))
        except (NotFound, CorruptArtifact):
            return set()
        return references_in_text("\n".join(texts))

    def _old_drafts(self, since: datetime) -> Iterator[str]:
        yield from self._old("drafts", 1, self._policy.drafts, since)

    def _leftovers(self, since: datetime) -> Iterator[str]:
        """Attempts beside no manifest, or beside one that counts another attempt; only object stores have them."""
        for kind in ArtifactKind:
            top = kind.value.lower()
            for folder in self._old(top, 3, self._policy.artifacts, since):
                _, digest, place = folder.split("/")
                if not self._counts(ArtifactRef(kind, digest), place):
                    yield f"{top}/{folder}"

    def _counts(self, ref: ArtifactRef, place: str) -> bool:
        try:
            return self._store.manifest(ref).place in ("", place)
        except NotFound:
            return False
        except CorruptArtifact:
            return True

    def _old(self, top: str, depth: int, keep: timedelta, since: datetime) -> Iterator[str]:
        """Yield the folders at a depth below `top` in which nothing is young."""
        folders: dict[str, list[str]] = {}
        for key in self._files.list(top):
            parts = key.split("/")
            if len(parts) > depth:
                folders.setdefault("/".join(parts[:depth]), []).append(f"{top}/{key}")
        for folder, keys in sorted(folders.items()):
            if not any(self._is_young(key, keep, since) for key in keys):
                yield folder

    def _size(self, ref: ArtifactRef) -> int:
        try:
            return sum(entry.size for entry in self._store.manifest(ref).files.values())
        except (NotFound, CorruptArtifact):
            return 0

    def _text(self, key: str) -> str:
        try:
            return self._files.read(key).decode(errors="replace")
        except FileNotFoundError:
            return ""
