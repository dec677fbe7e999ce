"""References to what lies in the artifact store. They travel; text and weights stay."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from ouroscope.errors import InvalidRequest

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtifactKind(Enum):
    """What an artifact holds."""

    CORPUS = "CORPUS"
    PREDICTIONS = "PREDICTIONS"
    MODEL = "MODEL"
    REPORT = "REPORT"
    BASELINE = "BASELINE"


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """Name of one stored artifact: its kind and the digest of its canonical content."""

    kind: ArtifactKind
    digest: str
    """SHA-256 in 64 lower-case hexadecimal digits."""

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest):
            raise InvalidRequest(f"a digest is 64 hexadecimal digits, got {self.digest[:80]!r}")

    def __str__(self) -> str:
        return f"{self.kind.value.lower()}/{self.digest}"

    @classmethod
    def parse(cls, text: str) -> ArtifactRef:
        """Read `kind/digest`, the form that `str` gives.

        >>> str(ArtifactRef.parse("corpus/" + "0" * 64))[:12]
        'corpus/00000'
        """
        kind, _, digest = text.partition("/")
        if kind.upper() not in ArtifactKind.__members__:
            raise InvalidRequest(f"{text[:80]!r} is not a reference; write it as corpus/<digest>, model/<digest>, ...")
        return cls(ArtifactKind[kind.upper()], digest)

    def expect(self, kind: ArtifactKind, field: str) -> ArtifactRef:
        """Return self if it is of `kind`; otherwise say which field is wrong."""
        if self.kind is not kind:
            raise InvalidRequest(f"{field} must refer to a {kind.value.lower()}, got {self}")
        return self
