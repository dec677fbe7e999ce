"""Which pipeline is meant by a name, and what can be read off its files. Knows spaCy's file format, does not import it.

Nothing of a pipeline is loaded or run here, so a name can be checked when a process starts and a caller who wants no
trees never waits for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as BadConfig
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ouroscope.embedded import pipeline_directory
from ouroscope.errors import PreconditionFailed
from ouroscope.paths import is_folder
from services.analyzer.parsing.parsed import Need

SHIPPED = "en_ouro_sm"
"""The pipeline that comes with the project."""

_TRANSFORMERS = frozenset({"transformer", "curated_transformer"})
_SHARED = _TRANSFORMERS | {"tok2vec"}
# What other components listen to.
_MAKERS = {
    Need.POS: frozenset({"tagger", "morphologizer", "attribute_ruler"}),
    Need.LEMMA: frozenset({"lemmatizer", "trainable_lemmatizer"}),
    Need.TREE: frozenset({"parser", "experimental_biaffine_parser"}),
}
# Factories of the components that make what a metric may need; nothing else of a pipeline runs.
_RULES = frozenset({"lemmatizer"})
# Factories that look at parts of speech.
_FILES = ("meta.json", "config.cfg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A pipeline on disk."""

    identity: str
    """Name, version and digest; what two pipelines make cannot be compared."""
    path: Path
    package: str = ""
    """The installed package that it lies in, if it does."""
    factories: tuple[tuple[str, str], ...]
    """Name and factory of each component, in the order in which they run."""

    @property
    def able(self) -> frozenset[Need]:
        """Return what it can make. Lemmas always: where none are made, word forms stand in for them."""
        made = {need for need, makers in _MAKERS.items() if any(factory in makers for _, factory in self.factories)}
        return frozenset(made | {Need.LEMMA})

    @property
    def is_transformer(self) -> bool:
        """Return whether it needs torch."""
        return any(factory in _TRANSFORMERS for _, factory in self.factories)

    def components(self, needs: frozenset[Need]) -> tuple[str, ...]:
        """Return the names of the components that must run to meet `needs`."""
        makers = frozenset[str]().union(*(_MAKERS.get(need, ()) for need in needs))
        if any(factory in makers & _RULES for _, factory in self.factories):
            makers |= _MAKERS[Need.POS]
        if not any(factory in makers for _, factory in self.factories):
            return ()
        return tuple(name for name, factory in self.factories if factory in makers | _SHARED)

    def idle(self, needs: frozenset[Need]) -> tuple[str, ...]:
        """Return the names of the components that need not run."""
        running = self.components(needs)
        return tuple(name for name, _ in self.factories if name not in running)


def find(name: str) -> Source:
    """Return the pipeline that is called `name` or lies there: ours, a folder, or an installed package.

    Raises:
        PreconditionFailed: there is none; the message says how to get one.
    """
    if (own := pipeline_directory(name)) is not None:
        return read(own)
    if is_folder(Path(name)):
        return read(Path(name).resolve())
    package = name.replace("-", "_")
    if (folder := _data_of_package(package)) is not None:
        return read(folder, package)
    raise PreconditionFailed(
        f"there is no spaCy pipeline {name[:200]!r}: give the folder of one or install it (`python -m spacy download "
        f"{name[:80]}`); {SHIPPED} comes with the project, and `none` measures without a parser",
        parser=name[:200],
    )


def here(source: Source) -> Source:
    """Return the same pipeline as it lies on this machine, which may be another than the one where it was named.

    Raises:
        PreconditionFailed: it is not here, or what has its name here is another.
    """
    found = read(source.path, source.package) if is_folder(source.path) else find(source.identity.split(" ")[0])
    if found.identity != source.identity:
        raise PreconditionFailed(
            f"the pipeline {source.identity!r} is another one on a machine that is to parse ({found.identity!r}); "
            "install the same on all",
            parser=source.identity,
        )
    return found


def _data_of_package(name: str) -> Path | None:
    """Return where an installed package has the files of a pipeline, without running any code of it."""
    try:
        spec = find_spec(name) if name.isidentifier() else None
    except ValueError:
        return None
    roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec else []
    return next((file.parent for root in roots for file in sorted(root.glob("*/config.cfg"))), None)


def read(path: Path, package: str = "") -> Source:
    """Read what the files in `path` say of the pipeline there.

    Raises:
        PreconditionFailed: these are not the files of one.
    """
    try:
        meta, factories = json.loads((path / "meta.json").read_text("utf-8")), _factories(path / "config.cfg")
        identity = f"{meta['lang']}_{meta['name']} {meta['version']} {_digest(path)[:12]}"
    except (OSError, ValueError, KeyError, TypeError, BadConfig) as error:
        raise PreconditionFailed(
            f"{path.name!r} is not a spaCy pipeline: it needs {' and '.join(_FILES)} as spaCy writes them to disk",
            parser=path.name,
        ) from error
    return Source(identity=identity, path=path, package=package, factories=factories)


def _factories(config: Path) -> tuple[tuple[str, str], ...]:
    parser = ConfigParser(interpolation=None)
    parser.read_string(config.read_text("utf-8"))
    sections: Mapping[str, Any] = parser
    names = json.loads(sections["nlp"]["pipeline"])
    return tuple((name, json.loads(sections[f"components.{name}"]["factory"])) for name in names)


def _digest(path: Path) -> str:
    """Return a digest of everything that decides what the pipeline answers."""
    total = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file() and not _is_aside(file.relative_to(path))):
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").digest()
        total.update(file.relative_to(path).as_posix().encode() + b"\0" + digest)
    return total.hexdigest()


def _is_aside(file: Path) -> bool:
    """Return whether a file only tells of the pipeline; its name and version are in the identity anyway."""
    return file.suffix == ".md" or file.name.startswith(("LICENSE", "meta.json")) or "__pycache__" in file.parts
