"""From the URL of a store to the files behind it."""

from __future__ import annotations

from pathlib import Path

import fsspec

from ouroscope.errors import CapabilityMissing, InvalidRequest
from ouroscope.store import s3
from ouroscope.store.files import Files
from ouroscope.store.local import LocalFiles
from ouroscope.store.objects import ObjectFiles


def open_files(url: str) -> Files:
    """See ArtifactStore."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalFiles(Path(url).expanduser())
    if scheme in ("file", "local"):
        return LocalFiles(Path(rest))
    if "@" in rest.partition("/")[0]:
        # Not quoted. Addresses are told to other processes, in logs and in errors.
        raise InvalidRequest(
            "the address of a store holds a key or a password; give those in the environment (AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY), or by a role of the machine"
        )
    try:
        # Listings must not be remembered: another process may have published since.
        system, root = fsspec.core.url_to_fs(
            url, use_listings_cache=False, **(s3.OPTIONS if scheme in s3.SCHEMES else {})
        )
    except ImportError as error:
        raise CapabilityMissing(
            f"stores of the kind {scheme}:// need a package that is not installed ({error})"
        ) from error
    except ValueError as error:
        raise InvalidRequest(
            f"{scheme}:// is not a kind of store; use a directory, file://, memory:// or s3://"
        ) from error
    return ObjectFiles(system, root)
