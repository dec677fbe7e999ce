"""Models of the Hugging Face Hub: which commit a name means, and its files as a plain directory.

Only data files are asked for; what the repository holds besides (pickles, programs) never reaches this machine.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from ouroscope.errors import InvalidRequest, NotFound, OuroscopeError, PreconditionFailed
from ouroscope.models import ADAPTER_CONFIG, CONFIG, INDEX, TOKENIZER_FILES

_FILES = sorted({ADAPTER_CONFIG, CONFIG, INDEX, "generation_config.json", *TOKENIZER_FILES})
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[\w.-]{1,96})?(@[\w./-]{1,128})?")
_SECONDS = 10.0


def is_id(source: str) -> bool:
    """Return whether `source` can be a repository: `name`, `owner/name`, each with `@revision` if wanted."""
    return _ID.fullmatch(source) is not None


def commit_of(source: str) -> str:
    """Return the commit that `owner/name[@revision]` means now, or the one that was downloaded last if offline.

    Raises:
        NotFound: there is no such model, or the Hub cannot be reached and nothing was downloaded earlier.
        PreconditionFailed: the model is there but its owner has to let you in.
    """
    repository, _, revision = source.partition("@")
    try:
        found = HfApi().model_info(repository, revision=revision or None, timeout=_SECONDS).sha
    except Exception as error:  # the client lets errors of its HTTP library through
        if known := _known(source, error):
            raise known from error
        return _cached(source).name
    if found is None:
        raise NotFound(f"the Hub names no commit of {source[:120]!r}; give a revision as owner/name@revision")
    return found


def download(source: str, commit: str, folder: Path) -> None:
    """Put the data files of that commit into `folder`.

    Raises:
        NotFound: the Hub cannot be reached.
    """
    repository = source.partition("@")[0]
    try:
        snapshot = Path(snapshot_download(repository, revision=commit, allow_patterns=[*_FILES, "*.safetensors"]))
    except Exception as error:  # the client lets errors of its HTTP library through
        raise _known(source, error) or _unreachable(source) from error
    for path in sorted(snapshot.iterdir()):
        if path.is_file() and (path.name in _FILES or path.suffix == ".safetensors"):
            # The Hub's cache holds links; what is checked and published are the files.
            shutil.copyfile(path, folder / path.name)


def _cached(source: str) -> Path:
    repository, _, revision = source.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except Exception as error:  # the client lets errors of its HTTP library through
        raise _unreachable(source) from error


def _known(source: str, error: Exception) -> OuroscopeError | None:
    if isinstance(error, GatedRepoError):
        return PreconditionFailed(
            f"{source[:120]!r} is open only to whom its owner accepts; ask there, then set HF_TOKEN for the generator"
        )
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):
        return NotFound(f"the Hugging Face Hub has no model {source[:120]!r}; look for its id, or give a directory")
    if isinstance(error, HFValidationError):
        return InvalidRequest(f"{source[:120]!r} is not the id of a model; write owner/name")
    return None


def _unreachable(source: str) -> NotFound:
    return NotFound(
        f"{source[:120]!r} is not on this machine and the Hugging Face Hub cannot be reached from here; "
        "download it where there is a network and give its directory",
        model=source[:120],
    )
