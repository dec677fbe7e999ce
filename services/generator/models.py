"""Models into the artifact store, and what is known of those that are there. Reads bytes; never runs a model.

A source is the name of an embedded model, a directory on this machine, or an id of the Hugging Face Hub, tried in this
order. Its files are copied to a private place, checked there, and published as they were checked; the name of the
stored model is the digest of its files, so the same weights from two places are one model. An adapter is imported with
the stored base that it was made for, which becomes part of its name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ouroscope import embedded
from ouroscope.adapters import check_adapter_directory, check_fits, lineage_of
from ouroscope.canonical import digest_of
from ouroscope.errors import InvalidRequest, LimitExceeded, NotFound, UntrustedArtifact
from ouroscope.model_files import LINEAGE
from ouroscope.models import ADAPTER_CONFIG, CONFIG, check_model_directory, weight_shapes
from ouroscope.paths import is_folder
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import Capability, ModelInfo
from ouroscope.records.progress import Progress
from ouroscope.security.allowed import EVERYTHING, AllowedSources
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.store.files import storage_errors
from ouroscope.stored_models import BASE, base_of
from ouroscope.tokens import Tokens
from services.generator import hub
from services.generator.meter import Task
from services.generator.plan import ModelShape

_PATHS = ("/", ".", "~")
"""Begin what can be nothing else than a path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model that was found, not yet read."""

    name: str
    """In the caller's words."""
    directory: Path | None
    """Where its files lie; None for a model of the Hub."""
    state: str
    """Changes when its content does: the commit, or what the file system knows of the files."""


def find(source: str, allowed: AllowedSources = EVERYTHING) -> Source:
    """Return what `source` means now. May ask the Hub.

    Raises:
        InvalidRequest: it is empty or cannot be any of the three.
        NotPermitted: it is none of the allowed sources; nothing is said of whether it is there.
        NotFound: there is no such model, or nobody can tell without a network.
    """
    name = source.strip()
    if (path := _directory(name, allowed)) is not None:
        return Source(name=name, directory=path, state=_state_of(path))
    known = ", ".join(embedded.names()) or "none"
    if name.startswith(_PATHS):
        raise NotFound(f"there is no directory {name[:200]!r} on the generator's machine; embedded models: {known}")
    if not hub.is_id(name):
        raise InvalidRequest(
            f"{name[:120]!r} names no model; give an embedded one ({known}), a directory, or owner/name of the Hub"
        )
    allowed.check_hub(name.partition("@")[0])
    try:
        return Source(name=name, directory=None, state=hub.commit_of(name))
    except NotFound as error:
        raise NotFound(f"{error.message} (embedded models: {known})", **error.metadata) from error


def _directory(name: str, allowed: AllowedSources) -> Path | None:
    """Return the directory that a name means, None where it means none.

    Raises:
        NotPermitted: it can be nothing else than a directory, and not one of the allowed ones.
    """
    if name in embedded.names():
        return embedded.model_directory(name)
    if not name.startswith(_PATHS) and not allowed.holds(Path(name)):
        return None  # it may still be the id of a model of the Hub
    path = allowed.path(name)
    return path if name and is_folder(path) else None


def import_model(
    store: ArtifactStore,
    source: Source,
    capabilities: Iterable[Capability],
    task: Task,
    *,
    max_bytes: int,
    base: ArtifactRef | None = None,
) -> ModelInfo:
    """Copy, check and publish a model, or an adapter of the stored model `base`.

    Raises:
        NotFound: the base is not in the store.
        InvalidRequest: a file that a causal language model needs is missing; or it is an adapter and there is no base,
            or the other way round, or the base is an adapter itself.
        UntrustedArtifact: something in it could run code, or the adapter was made for another base.
        LimitExceeded: it has more than `max_bytes` bytes.
    """
    with store.scratch() as folder, storage_errors():
        stage(source, folder, max_bytes, task)
        _check_kind(folder, base)
        draft = _whole(folder, source) if base is None else _adapter(store, folder, source, base)
        task.check()
        task.report(Progress(stage="publish"))
        ref = store.publish(ArtifactKind.MODEL, None, {name: folder / name for name in draft.files}, draft.facts)
    return _info(store, ref, source.name, capabilities)


def stored_model(store: ArtifactStore, ref: ArtifactRef, capabilities: Iterable[Capability]) -> ModelInfo:
    """Return what is known of a stored model.

    Raises:
        NotFound: it is not in the store.
    """
    summary = store.manifest(ref.expect(ArtifactKind.MODEL, "model")).summary
    source = str(summary.get("source") or f"fine-tuned from {summary.get('parent') or 'a model of unknown origin'}")
    return _info(store, ref, source, capabilities)


def stored_shape(store: ArtifactStore, ref: ArtifactRef) -> ModelShape:
    """Return the sizes of a stored model, from its configuration and its manifest alone; of an adapter, its base's."""
    ref = base_of(store, ref) or ref
    manifest = store.manifest(ref)
    told = manifest.summary.get("parameters")
    weights = sum(entry.size for name, entry in manifest.files.items() if name.endswith(".safetensors"))
    # Whoever published it without a count: two bytes per weight is what most files hold.
    parameters = told if type(told) is int and told > 0 else max(1, weights // 2)
    return ModelShape.of(json.loads(store.read(ref, CONFIG)), parameters)


@dataclass(frozen=True, slots=True)
class _Draft:
    """What is about to be published."""

    files: tuple[str, ...]
    facts: dict[str, str | int]


def _whole(folder: Path, source: Source) -> _Draft:
    checked = check_model_directory(folder)
    ModelShape.of(checked.config, checked.parameters)
    Tokens.open(folder)
    return _Draft(checked.files, {"source": source.name, "parameters": checked.parameters})


def _adapter(store: ArtifactStore, folder: Path, source: Source, base: ArtifactRef) -> _Draft:
    if base_of(store, base) is not None:
        raise InvalidRequest("`base` is an adapter itself; give the whole model that it belongs to")
    checked = check_adapter_directory(folder)
    if checked.base not in (None, base):
        raise UntrustedArtifact(
            f"the model is refused: {LINEAGE} says that this is an adapter of {checked.base}, another base"
        )
    check_fits(checked, weight_shapes(store.directory(base)))
    if checked.base is None:
        (folder / LINEAGE).write_bytes(lineage_of(base))
    files = tuple(sorted({*checked.files, LINEAGE}))
    return _Draft(files, {"source": source.name, "parameters": checked.parameters, BASE: str(base)})


def _check_kind(folder: Path, base: ArtifactRef | None) -> None:
    """Check that an adapter comes with a base, and nothing else does."""
    is_adapter = (folder / ADAPTER_CONFIG).is_file()
    if is_adapter and base is None:
        raise InvalidRequest("this is an adapter; give `base`, the stored model that it was made for")
    if base is not None and not is_adapter:
        raise InvalidRequest(f"there is no {ADAPTER_CONFIG}, so this is no adapter of a base; leave `base` out")


def stage(source: Source, folder: Path, max_bytes: int, task: Task) -> None:
    """Put copies of a model's files into the empty `folder`; what arrives there is not checked yet.

    Raises:
        UntrustedArtifact: something in a directory could run code.
        LimitExceeded: it has more than `max_bytes` bytes.
    """
    if source.directory is None:
        task.report(Progress(stage="download"))
        hub.download(source.name, source.state, folder)
        _check_size(list(folder.iterdir()), max_bytes)
        return
    is_adapter = (source.directory / ADAPTER_CONFIG).is_file()
    checked = check_adapter_directory(source.directory) if is_adapter else check_model_directory(source.directory)
    paths = [source.directory / name for name in checked.files]
    _check_size(paths, max_bytes)
    for done, path in enumerate(paths):
        task.check()
        task.report(Progress(stage="copy", done=done, total=len(paths), unit="files"))
        # A link that took a file's place since the check is copied as a link, which the second check refuses.
        shutil.copyfile(path, folder / path.name, follow_symlinks=False)


def _check_size(paths: Sequence[Path], max_bytes: int) -> None:
    size = sum(path.stat().st_size for path in paths)
    if size > max_bytes:
        raise LimitExceeded(
            f"the model has {size} bytes and {max_bytes} are allowed; raise OURO_GENERATOR_MAX_MODEL_BYTES",
            bytes=str(size),
        )


def _info(store: ArtifactStore, ref: ArtifactRef, source: str, capabilities: Iterable[Capability]) -> ModelInfo:
    shape = stored_shape(store, ref)
    return ModelInfo(
        model=ref,
        source=source,
        parameters=shape.parameters,
        context_tokens=shape.context_tokens,
        vocabulary=shape.vocabulary,
        capabilities=tuple(sorted(capabilities, key=list(Capability).index)),
        base=base_of(store, ref),
    )


def _state_of(directory: Path) -> str:
    """Digest what the file system knows of the files, which is quicker than reading gigabytes."""
    stats = [(path.name, path.lstat()) for path in sorted(directory.iterdir())]
    return digest_of([[name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for name, stat in stats])
