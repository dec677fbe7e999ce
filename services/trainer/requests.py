"""What a request must be before anything is done for it. Needs no torch, so that the edge can ask."""

from __future__ import annotations

from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.training import CheckRecipe, FineTune

METHOD = "FineTune"
"""Name of the call, part of the digest of its requests."""


def check_request(request: FineTune) -> FineTune:
    """Return `request` if its references are to the right kinds of things.

    Raises:
        InvalidRequest: `model` is no model, or one of `corpora` no corpus.
    """
    request.model.expect(ArtifactKind.MODEL, "model")
    for corpus in request.corpora:
        corpus.expect(ArtifactKind.CORPUS, "corpora")
    return request


def check_question(request: CheckRecipe) -> CheckRecipe:
    """Return `request` if its reference is to a model.

    Raises:
        InvalidRequest: it is not.
    """
    request.model.expect(ArtifactKind.MODEL, "model")
    return request
