"""What a person names as a candidate or a generation, as a client takes it: streamed, or named in the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypedDict

from ouroscope.corpora.readers import read_documents
from ouroscope.errors import InvalidRequest
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.predictions import NextToken, ScoredText
from ouroscope_app.expectations import expectations_in
from ouroscope_app.home import is_reference


class ClientInputs(TypedDict):
    """Arguments of `MonitorClient.gate` and `MonitorClient.record_generation`."""

    documents: Iterable[Document]
    next_tokens: Iterable[NextToken]
    texts: Iterable[ScoredText]
    artifacts: Sequence[ArtifactRef]


def inputs_named(
    names: Sequence[str], predictions: str, text_field: str, more: Sequence[Iterable[Document]] = ()
) -> ClientInputs:
    """Return what files and references name.

    Args:
        names: Files, directories, `-`, or references such as corpus/DIGEST in the store of the coordinator.
        predictions: A file of what the model expects, predictions/DIGEST, or nothing.
        text_field: Field of the text in structured files.
        more: Documents from elsewhere.

    Raises:
        NotFound: a file does not exist.
        InvalidRequest: files and references are mixed.
    """
    given = [name for name in (*names, predictions) if name]
    references = [name for name in given if is_reference(name)]
    if references and (len(references) < len(given) or more):
        raise InvalidRequest(f"{references[0]} lies in the store and something else in a file; name only one kind")
    documents = [] if references else [*(read_documents(name, text_field=text_field) for name in names), *more]
    expected = expectations_in("" if references else predictions)
    return {
        "documents": chain.from_iterable(documents),
        "next_tokens": expected.next_tokens,
        "texts": expected.texts,
        "artifacts": tuple(ArtifactRef.parse(name) for name in references),
    }
