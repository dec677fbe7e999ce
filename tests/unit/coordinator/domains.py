"""Domains of human text for tests."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from ouroscope.records.runs import DomainSpec


def texts_of(seed: int, count: int, words: int = 12) -> list[str]:
    """Return texts that have nothing in common."""
    draw = random.Random(seed)
    known = ["".join(draw.choices("abcdefghijklmnop", k=6)) for _ in range(3000)]
    return [" ".join(draw.choices(known, k=words)) for _ in range(count)]


def write_domain(folder: Path, name: str, texts: list[str], **changes: Any) -> DomainSpec:
    """Write texts as a file, all under the same file name, and return the domain."""
    path = folder / name / "texts.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(json.dumps({"text": text, "group": f"g{n // 5}"}) for n, text in enumerate(texts)))
    return DomainSpec(name=name, source=str(path), **changes)


def quiet(_: Any) -> None:
    """Report to nobody."""
