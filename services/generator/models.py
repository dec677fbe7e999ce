"""Models into the artifact store, and what is known of those that are there. Reads bytes; never runs a model.

A source is the name of an embedded model, a directory on this machine, or an id of the Hugging Face Hub, tried in this
order. Its files are copied to a private place, checked there, and published as they were checked; the name of the
stored model is the digest of its files, so the same weights from two places are one model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ouroscope import embedded
from ouroscope.canonical import digest_of
from ouroscope.errors import InvalidRequest, LimitExceeded, NotFound
from ouroscope.models import CONFIG, CheckedModel, check_model_directory
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import Capability, ModelInfo
from ouroscope.records.progress import Progress
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.store.files import storage_errors
from ouroscope.tokens import Tokens
from services.generator import hub
from services.generator.meter import Task
from services.generator.plan import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model that was found, not yet read."""

    name: str
    """In the caller's words."""
    directory: Path | None
    """Where its files lie; None for a model of the Hub."""
    state: str
    """Changes when its content does: the commit, or what the file system knows of the files."""


def find(source: str) -> Source:
    """Return what `source` means now. May ask the Hub.

    Raises:
        InvalidRequest: it is empty or cannot be any of the three.
        NotFound: there is no such model, or nobody can tell without a network.
    """
    name = source.strip()
    path = embedded.model_directory(name) if name in embedded.names() else Path(name).expanduser()
    if name and path.is_dir():
        return Source(name=name, directory=path, state=_state_of(path))
    known = ", ".join(embedded.names()) or "none"
    if name.startswith(("/", ".", "~")):
        raise NotFound(f"there is no directory {name[:200]!r} on the generator's machine; embedded models: {known}")
    if not hub.is_id(name):
        raise InvalidRequest(
            f"{name[:120]!r} names no model; give an embedded one ({known}), a directory, or owner/name of the Hub"
        )
    try:
        return Source(name=name, directory=None, state=hub.commit_of(name))
    except NotFound as error:
        raise NotFound(f"{error.message} (embedded models: {known})", **error.metadata) from error


def import_model(
    store: ArtifactStore, source: Source, capabilities: Iterable[Capability], task: Task, *, max_bytes: int
) -> ModelInfo:
    """Copy, check and publish a model.

    Raises:
        InvalidRequest: a file that a causal language model needs is missing.
        UntrustedArtifact: something in it could run code.
        LimitExceeded: it has more than `max_bytes` bytes.
    """
    with store.scratch() as folder, storage_errors():
        _stage(source, folder, max_bytes, task)
        checked = check_model_directory(folder)
        shape = ModelShape.of(checked.config, checked.parameters)
        Tokens.open(folder)
        task.check()
        task.report(Progress(stage="publish"))
        facts: dict[str, str | int] = {"source": source.name, "parameters": checked.parameters}
        ref = store.publish(ArtifactKind.MODEL, None, {name: folder / name for name in checked.files}, facts)
    return _info(ref, source.name, shape, capabilities)


def stored_model(store: ArtifactStore, ref: ArtifactRef, capabilities: Iterable[Capability]) -> ModelInfo:
    """Return what is known of a stored model.

    Raises:
        NotFound: it is not in the store.
    """
    summary = store.manifest(ref.expect(ArtifactKind.MODEL, "model")).summary
    source = str(summary.get("source") or f"fine-tuned from {summary.get('parent') or 'a model of unknown origin'}")
    return _info(ref, source, stored_shape(store, ref), capabilities)


def stored_shape(store: ArtifactStore, ref: ArtifactRef) -> ModelShape:
    """Return the sizes of a stored model, from its configuration and its manifest alone."""
    manifest = store.manifest(ref.expect(ArtifactKind.MODEL, "model"))
    told = manifest.summary.get("parameters")
    weights = sum(entry.size for name, entry in manifest.files.items() if name.endswith(".safetensors"))
    # Whoever published it without a count: two bytes per weight is what most files hold.
    parameters = told if type(told) is int and told > 0 else max(1, weights // 2)
    return ModelShape.of(json.loads(store.read(ref, CONFIG)), parameters)


def _stage(source: Source, folder: Path, max_bytes: int, task: Task) -> None:
    """Put copies of the model's files into the empty `folder`."""
    if source.directory is None:
        task.report(Progress(stage="download"))
        hub.download(source.name, source.state, folder)
        _check_size(list(folder.iterdir()), max_bytes)
        return
    checked: CheckedModel = check_model_directory(source.directory)
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


def _info(ref: ArtifactRef, source: str, shape: ModelShape, capabilities: Iterable[Capability]) -> ModelInfo:
    return ModelInfo(
        model=ref,
        source=source,
        parameters=shape.parameters,
        context_tokens=shape.context_tokens,
        vocabulary=shape.vocabulary,
        capabilities=tuple(sorted(capabilities, key=list(Capability).index)),
    )


def _state_of(directory: Path) -> str:
    """Digest what the file system knows of the files, which is quicker than reading gigabytes."""
    stats = [(path.name, path.lstat()) for path in sorted(directory.iterdir())]
    return digest_of([[name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for name, stat in stats])
