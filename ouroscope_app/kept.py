"""Baselines by name, as the commands see them: what is wrong with a name is said in words of the command line."""

from __future__ import annotations

from ouroscope.errors import AlreadyExists, NotFound
from ouroscope.records.analysis import BaselineInfo
from ouroscope.store import ArtifactStore
from services.analyzer import baselines


def full_name(name: str) -> str:
    """Accept `mine` and `baselines/mine`.

    >>> full_name("mine"), full_name("baselines/mine")
    ('baselines/mine', 'baselines/mine')
    """
    return f"{baselines.SPACE}/{name.removeprefix(f'{baselines.SPACE}/')}"


def find(store: ArtifactStore, name: str) -> BaselineInfo:
    """Return what is known of `baselines/{baseline}`.

    Raises:
        InvalidRequest: `name` is not the name of a baseline.
        NotFound: there is none of that name.
    """
    try:
        return baselines.get(store, name)
    except NotFound as error:
        raise NotFound(f"there is no {name[:80]}; `ouroscope baselines list` tells which there are") from error


def check_free(store: ArtifactStore, name: str) -> None:
    """Raise unless a baseline can be kept under `baselines/{baseline}`; asked before the work, not after it.

    Raises:
        InvalidRequest: `name` is not the name of a baseline.
        AlreadyExists: it is taken.
    """
    try:
        baselines.get(store, name)
    except NotFound:
        return
    raise AlreadyExists(
        f"{name} exists already; take another name, or free it by `ouroscope baselines delete {name.partition('/')[2]}`"
    )
