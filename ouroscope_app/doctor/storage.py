"""The artifact store: whether it does what is asked of it, and whether its models, and those that ship, are whole."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from ouroscope import embedded
from ouroscope.errors import OuroscopeError
from ouroscope.models import check_model_directory
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.store import ArtifactStore
from ouroscope.store.files import Files
from ouroscope.store.keys import place_of
from ouroscope.store.opening import open_files
from ouroscope.store.verification import Verifier
from ouroscope_app.doctor.findings import Finding, fault, ok, warning
from ouroscope_app.doctor.machine import clock

SUBJECT = "artifact store"
_REPAIR = "see docs/operations.md, The artifact store"
_TWICE = (
    "it lets two writers make one file: it does not honour If-None-Match",
    "take a store that does, or a newer version of this one: names would be given twice",
)


def store_findings(url: str) -> Iterator[Finding]:
    """Try a store with a small file of our own, which is removed again."""
    if url.startswith("memory://"):
        yield warning(SUBJECT, "it is in the memory of one process", "let it be a folder or s3://bucket/prefix")
        return
    files, top = open_files(url), f"doctor-{uuid.uuid4().hex}"
    try:
        yield from _tried(files, top)
    except (OuroscopeError, FileNotFoundError) as error:
        told = error.message if isinstance(error, OuroscopeError) else "what was written is not there"
        yield fault(SUBJECT, told, _REPAIR)
    finally:
        _forget(files, top)


def _tried(files: Files, top: str) -> Iterator[Finding]:
    key, here = f"{top}/probe", datetime.now(UTC)
    files.create(key, b"first")
    second, found, listed = files.create(key, b"second"), files.read(key), files.list(top)
    if second or found != b"first":
        yield fault(SUBJECT, *_TWICE)
    elif listed != ["probe"]:
        yield fault(SUBJECT, "it does not list what was just written", "take one whose reads see every write")
    else:
        yield ok(SUBJECT, "it can be written, read and listed, and makes no file twice")
    if there := files.written(key):
        yield clock("clock of the store", here, there)


def _forget(files: Files, top: str) -> None:
    """Remove what was tried; a store that cannot was told of already."""
    try:
        files.remove(top)
    except (OuroscopeError, FileNotFoundError):
        return


def same_store(told: Mapping[str, str]) -> Finding:
    """Judge whether all services see one store, by what each was told; `told` has those that were."""
    if len(set(told.values())) > 1:
        names = ", ".join(sorted(told))
        return fault("stores", f"{names} name different ones", "let all services of one installation name one store")
    return ok("stores", "all services name the same one" if told else "that of the home")


def shipped_models() -> Iterator[Finding]:
    """Judge the models that ship with the program."""
    for name in embedded.names():
        try:
            checked = check_model_directory(embedded.model_directory(name))
        except OuroscopeError as error:
            yield fault(f"model {name}", error.message, "install Ouroscope anew")
        else:
            yield ok(f"model {name}", f"whole, {checked.parameters:,} weights")


def stored_models(store: ArtifactStore, *, deep: bool) -> Finding:
    """Judge the models of a store: that all files are there, and if `deep` that each is what was published."""
    refs, verifier, files = list(store.list(ArtifactKind.MODEL)), Verifier(store), open_files(store.url)
    problems = [verifier.check(ref).problems if deep else _lacking(store, files, ref) for ref in refs]
    bad = [f"{ref.digest[:12]}: {'; '.join(told)}" for ref, told in zip(refs, problems, strict=True) if told]
    if bad:
        told = f"{len(bad)} of {len(refs)} damaged: {', '.join(bad[:3])}"
        return fault("stored models", told, "delete each and repeat the work that made it, or restore it from a backup")
    if not refs:
        return ok("stored models", "none yet")
    read = "read and whole" if deep else "with all their files; --deep reads them"
    return ok("stored models", f"{len(refs)} {read}")


def _lacking(store: ArtifactStore, files: Files, ref: ArtifactRef) -> tuple[str, ...]:
    try:
        manifest = store.manifest(ref)
    except OuroscopeError as error:
        return (error.message,)
    lacking = set(manifest.files) - set(files.list(place_of(manifest)))
    return tuple(f"{name} is gone" for name in sorted(lacking))
