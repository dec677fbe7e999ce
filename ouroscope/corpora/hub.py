"""Text of data sets of the Hugging Face Hub: streamed with the library `datasets`, pinned by a commit, bounded.

A data set is data of strangers: only its tables are read (Parquet, JSON, CSV, text), only the columns of the text and
its summary, and only files of the commit that was named. Nothing of it runs: `datasets` knows no programs in data sets
any more, and an older library is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import yaml

from ouroscope.corpora.streams import Limits, size_of
from ouroscope.errors import (
    CapabilityMissing,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    OuroscopeError,
    PreconditionFailed,
    Unavailable,
    UntrustedArtifact,
)
from ouroscope.records.checks import Problems
from ouroscope.records.documents import Document, Origin

SCHEME = "hf://"
MOST_DOCUMENTS = 20_000
"""Documents that are read where nobody said how many: data sets of the Hub may have billions."""
MOST_BYTES = 1 << 30
"""Bytes of text that are read of one data set."""
FORMATS = ("parquet", "json", "csv", "text")
"""Builders of `datasets` whose files are believed; others unpack archives, or decode media."""
WITHOUT_PROGRAMS = 4
"""First version of `datasets` that runs no program of a data set."""
CARDS = ("README.md", ".huggingface.yaml")
"""Files in which a data set says of which files its configurations are made."""
LARGEST_CARD = 10 << 20
"""Bytes of a card."""
MOST_ENTRIES = 200_000
"""Entries of a card, each repetition counted: references in YAML can make millions of a few."""

_ELSEWHERE = re.compile(r"^[/~\\]|::|://|(^|[/\\])\.\.($|[/\\])")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HubText:
    """Which text of the Hub is meant."""

    source: str
    """`hf://OWNER/NAME`."""
    configuration: str = ""
    """Empty means the only one, or the one that the data set calls its default."""
    split: str = "train"
    revision: str
    """Commit, 40 hexadecimal digits."""

    @property
    def repository(self) -> str:
        """Return `OWNER/NAME`."""
        return self.source.removeprefix(SCHEME)


def is_hub(source: str) -> bool:
    """Return whether a source names a data set of the Hub."""
    return source.startswith(SCHEME)


def check_hub(text: HubText) -> None:
    """Check what can be told without the network.

    Raises:
        InvalidRequest: it is no name of a data set, or not pinned by a commit.
        CapabilityMissing: the library that reads data sets is not installed.
    """
    problems, name = Problems("data set of the Hub"), text.repository
    problems.check(_REPOSITORY.fullmatch(name) is not None, "source", "write hf://OWNER/NAME")
    problems.check(bool(text.split.strip()), "split", "name one, for example train")
    problems.check(
        _COMMIT.fullmatch(text.revision) is not None,
        "revision",
        "give the commit, 40 hexadecimal digits: a branch or a tag may move, and the run could not be repeated. The "
        f"newest one is HfApi().dataset_info({name[:120]!r}).sha of the Python library huggingface_hub, and stands on "
        "the page of the data set under Files, History",
    )
    problems.raise_any()
    _check_library()


def hub_documents(
    text: HubText, *, text_field: str = "text", summary_field: str = "", documents: int = 0
) -> Iterator[Document]:
    """Yield the first documents of a split that have text, in the order of its files; ids say their place in it.

    Args:
        text: Which data set.
        text_field: Column of the text.
        summary_field: Column of `Document.summary`; empty means none.
        documents: Documents to read at most; 0 means `MOST_DOCUMENTS`.

    Raises:
        InvalidRequest: see `check_hub`; there is no such configuration, split or column, nothing has text, or a text
            has no summary where one is asked for.
        NotFound: the Hub has no such data set or commit.
        PreconditionFailed: its owner has to let you in.
        UntrustedArtifact: it has files of other kinds, or names files that are not its own.
        LimitExceeded: a document, or all of them together, are too large.
        Unavailable: the Hub cannot be reached.
    """
    check_hub(text)
    with _hub_errors(text):
        rows = _rows(text, [text_field, summary_field] if summary_field else [text_field])
        yield from islice(_documents(rows, text, text_field, summary_field), documents or MOST_DOCUMENTS)


def _check_library() -> None:
    """Look for the library without importing it, which takes seconds: requests are checked where nothing may wait."""
    try:
        installed = version("datasets")
    except PackageNotFoundError as error:
        raise CapabilityMissing("data sets of the Hub need: pip install 'ouroscope[datasets]'") from error
    if int(installed.partition(".")[0]) < WITHOUT_PROGRAMS:
        told = f"datasets {installed} runs programs of data sets"
        raise CapabilityMissing(f"{told}: pip install --upgrade 'ouroscope[datasets]'")


def _rows(text: HubText, fields: list[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a split with these columns only, where the columns are known beforehand."""
    _look_up(text)
    _check_cards(text)
    stream = _opened(text)
    if (names := stream.column_names) is not None:
        _check_columns(text, fields, names)
        stream = stream.select_columns(fields).decode(False)
    rows = iter(stream)
    first = list(islice(rows, 1))
    for row in first:
        _check_columns(text, fields, row)
    return chain(first, rows)


def _look_up(text: HubText) -> None:
    """Ask the Hub once, so that one that does not answer is known within seconds."""
    from huggingface_hub import HfApi

    HfApi().dataset_info(text.repository, revision=text.revision, timeout=_SECONDS)


def _check_cards(text: HubText) -> None:
    """Refuse cards that name files elsewhere before anything follows them: the library would ask for any address."""
    for name in CARDS:
        card = _card(text, name)
        if sum(1 for _ in islice(_entries_in(card), MOST_ENTRIES + 1)) > MOST_ENTRIES:
            raise UntrustedArtifact(f"{text.source} has a card of over {MOST_ENTRIES:,} entries; it is not read")
        configurations = card.get("configs") if isinstance(card, dict) else None
        elsewhere = [path for path in _entries_in(configurations) if isinstance(path, str) and _ELSEWHERE.search(path)]
        if elsewhere:
            raise UntrustedArtifact(f"{text.source} names files that are not its own; they are not read")


def _card(text: HubText, name: str) -> object:
    """Return what a card says, as plain data; None where there is no card."""
    from huggingface_hub import DatasetCard, hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        path = hf_hub_download(text.repository, name, repo_type="dataset", revision=text.revision)
    except RemoteEntryNotFoundError:
        return None
    if Path(path).stat().st_size > LARGEST_CARD:
        raise UntrustedArtifact(f"{text.source} has a card of over {size_of(LARGEST_CARD)}; it is not read")
    # With the parser that `datasets` has: what one of two parsers overlooks, the other may follow.
    card = name.endswith(".md")
    return DatasetCard.load(path).data.to_dict() if card else yaml.safe_load(Path(path).read_text("utf-8"))


def _entries_in(plain: object) -> Iterator[object]:
    """Yield everything that plain data is made of, at every depth; without end where it holds itself."""
    # A list of what is left, since a hostile card may nest deeper than calls can.
    left = [plain]
    while left:
        yield (current := left.pop())
        if isinstance(current, dict | list):
            left.extend(current.values() if isinstance(current, dict) else current)


def _opened(text: HubText) -> Any:
    """Return the stream of the split, of files that are believed."""
    builder = _builder(text)
    _check_files(text, builder)
    streams = builder.as_streaming_dataset()
    if text.split not in streams:
        raise InvalidRequest(f"{text.source} has no split {text.split[:80]!r}; it has {_listed(streams)}")
    return streams[text.split]


def _builder(text: HubText) -> Any:
    import datasets

    # With the scheme, or a folder of that name here would be read instead.
    path = f"hf://datasets/{text.repository}"
    try:
        return datasets.load_dataset_builder(path, text.configuration or None, revision=text.revision)
    except ValueError as error:
        names = datasets.get_dataset_config_names(path, revision=text.revision)
        if text.configuration in names:
            raise
        told = f"no configuration {text.configuration[:80]!r}" if text.configuration else "several configurations"
        raise InvalidRequest(f"{text.source} has {told}; name one of {_listed(names)}") from error


def _check_files(text: HubText, builder: Any) -> None:
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in FORMATS:
        told = f"{text.source} has files of the kind {kind!r}; only {', '.join(FORMATS)} are read"
        raise UntrustedArtifact(told)
    own = f"hf://datasets/{text.repository}@{text.revision}/"
    files = chain.from_iterable((builder.config.data_files or {}).values())
    if not all(str(file).startswith(own) for file in files):
        raise UntrustedArtifact(f"{text.source} names files that are not its own; they are not read")


def _check_columns(text: HubText, fields: Iterable[str], names: Collection[str]) -> None:
    for field in fields:
        if field not in names:
            raise InvalidRequest(f"{text.source} has no field {field[:80]!r}; its fields are {_listed(names)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(str(name)[:40] for name in names)[:20]) or "none"


def _documents(
    rows: Iterable[Mapping[str, Any]], text: HubText, text_field: str, summary_field: str
) -> Iterator[Document]:
    size = 0
    for number, row in enumerate(rows):
        found = _cell(text, text_field, number, row.get(text_field))
        summary = _cell(text, summary_field, number, row.get(summary_field)) if summary_field else None
        size += len(f"{found}{summary or ''}".encode("utf-8", "replace"))
        if size > MOST_BYTES:
            raise LimitExceeded(f"{text.source} has over {size_of(MOST_BYTES)} of text; lower documents")
        if not found.strip():
            continue
        if summary is not None and not summary.strip():
            told = f"the field {summary_field[:80]!r} in row {number} of {text.source} is empty"
            raise InvalidRequest(f"{told}; take a data set in which every document has a summary")
        yield Document(id=f"{text.repository}:{number}", text=found, origin=Origin.HUMAN, summary=summary)


def _cell(text: HubText, text_field: str, number: int, found: object) -> str:
    """Return the text of a row; nothing is an empty one."""
    if found is not None and not isinstance(found, str):
        raise InvalidRequest(f"the field {text_field[:80]!r} of {text.source} does not hold text")
    if found and len(found) > Limits().document_bytes:
        told = f"row {number} of {text.source} is longer than {size_of(Limits().document_bytes)}"
        raise LimitExceeded(f"{told}; lower documents, or bring a file of your own")
    return found or ""


@contextmanager
def _hub_errors(text: HubText) -> Iterator[None]:
    """Turn whatever `datasets` and its HTTP library raise into one typed sentence."""
    try:
        yield
    except OuroscopeError:
        raise
    except Exception as error:  # both let through errors of the libraries below them
        raise _known(text, error) from error


def _known(text: HubText, error: Exception) -> OuroscopeError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    name = text.source[:120]
    if isinstance(error, GatedRepoError):
        return PreconditionFailed(
            f"{name} is open only to whom its owner accepts; ask there, then set HF_TOKEN for the coordinator"
        )
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):
        return NotFound(f"the Hugging Face Hub has no data set {name} with the commit {text.revision}; look for both")
    if isinstance(error, ValueError | TypeError | LookupError | RuntimeError | FileNotFoundError | _library_error()):
        return InvalidRequest(f"{name} cannot be read as a table of texts; look at its configurations and files")
    return Unavailable(f"the Hugging Face Hub cannot be reached, or broke off while {name} was read")


def _library_error() -> type[Exception]:
    from datasets.exceptions import DatasetsError

    return cast(type[Exception], DatasetsError)
