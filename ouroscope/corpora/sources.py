"""Where docstrings are on this machine, and how they are read: with `ast`, never by importing a library.

Importing torch to read its documentation would cost seconds and run its code. `find_spec` on a top-level name only
looks at the import path, so a library is found, parsed as text, and nothing of it runs.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ouroscope.corpora.prose import MIN_PASSAGE_WORDS

_EXCLUDED = frozenset(
    {"test", "tests", "testing", "_testing", "idle_test", "conftest.py", "benchmarks"}  # code for developers
    | {"_vendor", "vendor", "_vendored_packages", "externals", "site-packages", "dist-packages"}  # other libraries
    | {"pydoc_data", "lib2to3", "turtledemo", "ensurepip", "__pycache__"}  # read apart, or not in every Python
)
_STRING = re.compile(
    r"""
    \#[^\n]*  # a comment: its quotes open nothing
    | \"{3} (?P<double> [^"\\]* (?: (?: \\. | "(?!"") ) [^"\\]* )* ) \"{3}
    | '{3} (?P<single> [^'\\]* (?: (?: \\. | '(?!'') ) [^'\\]* )* ) '{3}
    | "[^"\\\n]*(?:\\.[^"\\\n]*)*"
    | '[^'\\\n]*(?:\\.[^'\\\n]*)*'
    """,
    re.VERBOSE | re.DOTALL,
)
_PREFIX = re.compile(r"[ \t]*([rRuU]?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One library whose docstrings are read."""

    name: str
    """Name of the top-level package; also the domain of its documents."""
    distribution: str | None = None
    """Name under which it is installed, where that differs from `name`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file of a library, not yet read."""

    path: Path
    module: str
    """Path below the import root without suffix, for example `networkx/algorithms/cluster`."""

    def docstrings(self) -> Iterator[str]:
        """Yield every documentation string of the file."""
        source = self.path.read_text(encoding="utf-8", errors="replace")
        if '"""' not in source and "'''" not in source and self.module != f"{TOPICS}/topics":
            return iter(())  # a file without a long string has no prose
        return topics_of(source) if self.module == f"{TOPICS}/topics" else docstrings_of(source)


STANDARD_LIBRARY = "python"
TOPICS = "pydoc_data"


def version_of(source: Source) -> str | None:
    """Return the installed version, None when the library is absent."""
    if source.name in (STANDARD_LIBRARY, TOPICS):
        return platform.python_version()
    try:
        return importlib.metadata.version(source.distribution or source.name)
    except importlib.metadata.PackageNotFoundError:
        return None


def files_of(source: Source) -> Iterator[SourceFile]:
    """Yield the files of a library in alphabetical order; none when it is absent."""
    root = _root_of(source)
    if root is None or not (root.is_dir() or root.suffix == ".py"):
        return  # absent, or nothing but compiled code
    prefix = "" if source.name == STANDARD_LIBRARY else f"{root.name}/"
    for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
        relative = path.relative_to(root) if root.is_dir() else Path(path.name)
        if not _EXCLUDED.intersection(relative.parts):
            module = prefix + relative.with_suffix("").as_posix()
            yield SourceFile(path=path, module=module.removesuffix("/__init__"))


def _root_of(source: Source) -> Path | None:
    """Return the folder of a library (or its only file), without importing it."""
    if source.name == STANDARD_LIBRARY:
        return Path(sysconfig.get_paths()["stdlib"])
    try:
        spec = importlib.util.find_spec(source.name)
    except ValueError:  # a half-initialised module of that name is in sys.modules
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None


def docstrings_of(source: str) -> Iterator[str]:
    """Yield the triple-quoted strings of a Python text that begin a line, in order of appearance.

    Those are docstrings, comments on attributes, and the arguments of `add_docstr` and its cousins, by which torch and
    numpy document their compiled functions; templates assigned to a name do not begin a line. The text is cut into
    comments and strings by one regular expression and only the strings go through `ast`: parsing whole files gives
    the same strings in twenty times the time.
    """
    for match in _STRING.finditer(source):
        if len((match["double"] or match["single"] or "").split()) >= MIN_PASSAGE_WORDS:
            before = source[source.rfind("\n", 0, match.start()) + 1 : match.start()]
            if (prefix := _PREFIX.fullmatch(before)) and (text := _literal(prefix[1] + match[0])) is not None:
                yield text


def topics_of(source: str) -> Iterator[str]:
    """Yield the values of the `topics` dictionary of `pydoc_data`: the chapters of the language reference."""
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Dict):
            for value in statement.value.values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value


def _literal(text: str) -> str | None:
    """Return the string that a literal stands for; None for bytes and for what is no plain literal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            return None
    return value if isinstance(value, str) else None
