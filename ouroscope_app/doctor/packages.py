"""Packages: whether what is installed is what this version of Ouroscope asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import metadata

from packaging.requirements import Requirement

from ouroscope_app.doctor.findings import Finding, fault, ok, warning

DISTRIBUTION = "ouroscope"
_NOT_FOR_USERS = frozenset({"dev", "all"})

Installed = Callable[[str], str | None]
"""Returns the version of a distribution, None where there is none."""


def read_packages() -> list[Finding]:
    """Judge the packages of this Python."""
    try:
        required, extras = (
            metadata.requires(DISTRIBUTION) or [],
            metadata.metadata(DISTRIBUTION).get_all("Provides-Extra"),
        )
    except metadata.PackageNotFoundError:
        told = "Ouroscope itself is not installed, only found beside this program"
        return [warning("packages", told, "pip install it, so that pip knows what it needs")]
    return list(packages(required, extras or [], installed_version))


def installed_version(name: str) -> str | None:
    """Return the version of an installed distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def packages(required: Iterable[str], extras: Iterable[str], installed: Installed) -> Iterator[Finding]:
    """Judge packages: those that everything needs, then those of the extras.

    Args:
        required: As the metadata of a distribution has it, with markers.
        extras: Names of all extras.
        installed: What is there.
    """
    wanted = [Requirement(text) for text in required]
    core = [one for one in wanted if _applies(one, "")]
    if wrong := [_told(one, installed) for one in core if not _is_met(one, installed)]:
        yield fault("packages", "; ".join(wrong), "install Ouroscope anew: pip install --upgrade ouroscope")
    else:
        yield ok("packages", f"all {len(core)} that everything needs")
    named = sorted(set(extras) - _NOT_FOR_USERS)
    yield _extras(
        {name: [one for one in wanted if one not in core and _applies(one, name)] for name in named}, installed
    )


def _extras(wanted: dict[str, list[Requirement]], installed: Installed) -> Finding:
    """Judge what the extras want: a package that is not there is nobody's fault, one of another version may fail."""
    every = [one for requirements in wanted.values() for one in requirements]
    if wrong := {_told(one, installed) for one in every if installed(one.name) and not _is_met(one, installed)}:
        return warning(
            "extras", "; ".join(sorted(wrong)), "install the extras that you use anew, all in one pip command"
        )
    whole = [name for name, requirements in wanted.items() if all(_is_met(one, installed) for one in requirements)]
    gone = ", ".join(name for name in wanted if name not in whole)
    told = f"installed: {', '.join(whole) or 'none'}"
    return ok("extras", f"{told}; not, or not whole: {gone}" if gone else told)


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _is_met(requirement: Requirement, installed: Installed) -> bool:
    version = installed(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _told(requirement: Requirement, installed: Installed) -> str:
    version = installed(requirement.name)
    return f"{requirement.name} {version or 'is not installed'}, wanted {requirement.specifier or 'any'}"
