"""Where data lives on this machine: one folder, checked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ouroscope.errors import PreconditionFailed
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.store import ArtifactStore

VARIABLE = "OUROSCOPE_HOME"
DEFAULT = "ouroscope-data"
_KINDS = tuple(f"{kind.value.lower()}/" for kind in ArtifactKind)


def is_reference(name: str) -> bool:
    """Return whether a person means what lies in the store, such as corpus/DIGEST; a file of that name comes first."""
    return name.startswith(_KINDS) and not Path(name).exists()


@dataclass(frozen=True, slots=True)
class Home:
    """The data folder: artifacts in `store/`, databases in `state/`."""

    path: Path

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> Home:
        """Return the folder that OUROSCOPE_HOME names, else `./ouroscope-data`."""
        return cls(Path(environ.get(VARIABLE) or DEFAULT).expanduser().absolute())

    def prepare(self) -> Home:
        """Make the folder and prove that it can be written.

        Raises:
            PreconditionFailed: it cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise PreconditionFailed(
                f"cannot write to {self.path} ({error.strerror}); set {VARIABLE} to a folder that you can write"
            ) from error
        return self

    def store(self) -> ArtifactStore:
        """Open the artifact store of this home."""
        return ArtifactStore(str(self.path / "store"))
