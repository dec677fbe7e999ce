"""Looks at paths that somebody typed: whatever cannot be a path, or cannot be looked at, is not there."""

from __future__ import annotations

import os
from pathlib import Path


def is_there(path: Path) -> bool:
    """Return whether there is a file or folder; `Path.exists` raises where a name is too long or a folder is closed."""
    return os.path.exists(path)  # noqa: PTH110  # see above


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; `Path.is_dir` raises where a name is too long or the folder above is closed."""
    return os.path.isdir(path)  # noqa: PTH112  # see above


def expanded(text: str) -> Path:
    """Return a path with `~` and `~user` replaced; where nobody is called so, the path as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  # Path.expanduser raises there
