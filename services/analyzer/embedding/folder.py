"""Where an encoder lies: a folder, one that comes with the project, or a model of the Hub. Knows no torch.

Only a folder that holds nothing but data is opened, and of the Hub only data is asked for.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from pathlib import Path

from ouroscope import embedded
from ouroscope.errors import InvalidRequest, NotFound, PreconditionFailed
from ouroscope.models import CONFIG, INDEX, TOKENIZER_FILES, check_model_directory
from services.analyzer.embedding.embedded import Encoder

NONE = "none"
"""In place of a name: no encoder."""

_FILES = sorted({CONFIG, INDEX, *TOKENIZER_FILES})
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[\w.-]{1,96})?(@[\w./-]{1,128})?")
_HINT = "embeddings need torch and transformers: pip install 'ouroscope[embeddings]'"


def load_encoder(name: str = "") -> Encoder | None:
    """Return the encoder of that name; None for `none` or an empty name.

    Args:
        name: a folder in Hugging Face's layout, a model that comes with the project, or `owner/name[@revision]` of the
            Hub. What the folder's files are called and hold, not where it lies, makes its identity.

    Raises:
        PreconditionFailed: a package is missing.
        NotFound: there is no such model, or the Hub cannot be reached.
        InvalidRequest: it is no encoder that can be used.
        UntrustedArtifact: something in it could run code.
    """
    if name in ("", NONE):
        return None
    path = embedded.model_directory(name) if name in embedded.names() else Path(name).expanduser()
    if path.is_dir():
        return _opened(path.resolve(), path.resolve().name)
    if name.startswith(("/", ".", "~")) or not _ID.fullmatch(name):
        raise NotFound(f"there is no encoder {name[:200]!r}: give its folder, or owner/name of the Hugging Face Hub")
    with tempfile.TemporaryDirectory() as folder:
        _download(name, Path(folder))
        return _opened(Path(folder), name)


def _opened(folder: Path, name: str) -> Encoder:
    checked = check_model_directory(folder)
    try:
        from services.analyzer.embedding.encoder import HfEncoder
    except ModuleNotFoundError as error:
        raise PreconditionFailed(_HINT, package=str(error.name)) from error
    return HfEncoder(folder, checked, f"{name} {digest(folder, checked.files)[:12]}")


def digest(folder: Path, files: tuple[str, ...]) -> str:
    """Return the digest of the names and contents of these files."""
    total = hashlib.sha256()
    for name in files:
        with (folder / name).open("rb") as file:
            total.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _download(name: str, folder: Path) -> None:
    """Put the data files of a model of the Hub, or of what was downloaded earlier, into the empty `folder`."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError
    except ModuleNotFoundError as error:
        raise PreconditionFailed(_HINT, package=str(error.name)) from error
    repository, _, revision = name.partition("@")
    wanted = [*_FILES, "*.safetensors"]
    try:
        snapshot = Path(snapshot_download(repository, revision=revision or None, allow_patterns=wanted))
    except HFValidationError as error:
        raise InvalidRequest(f"{name[:120]!r} is not the id of a model; write owner/name") from error
    except Exception as error:  # the client lets errors of its HTTP library through
        raise NotFound(
            f"the encoder {name[:120]!r} is not on this machine, and the Hugging Face Hub has none of that name or "
            "cannot be reached; give the folder of one",
            model=name[:120],
        ) from error
    for path in sorted(snapshot.iterdir()):
        if path.is_file() and (path.name in _FILES or path.suffix == ".safetensors"):
            # The Hub's cache holds links; what is checked and opened are files.
            shutil.copyfile(path, folder / path.name)
