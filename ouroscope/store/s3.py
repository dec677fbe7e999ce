"""What only S3 knows: how it is spoken to, and what its failures mean. Imports its driver only where it is used.

Address, region and credentials come from the environment as for every other client of S3: AWS_ENDPOINT_URL_S3,
AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, or the role of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ouroscope.errors import OuroscopeError, PreconditionFailed, StorageFull

SCHEMES = ("s3", "s3a")
OPTIONS: Mapping[str, Any] = {
    # Tries of one request; s3fs tries again around them where a connection breaks.
    "config_kwargs": {
        "retries": {"mode": "standard", "max_attempts": 3},
        "connect_timeout": 10,
        "read_timeout": 60,
    },
}

_FULL = frozenset(
    ["QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "EntityTooLarge"]
)
_REFUSED = frozenset(
    ["AccessDenied", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"]
)


@contextmanager
def s3_errors() -> Iterator[None]:
    """Turn what S3 and its driver say into what a caller can act on; an absent object stays FileNotFoundError."""
    # Whoever is here has opened an s3:// store, so the driver is installed.
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise PreconditionFailed("there are no credentials for S3; set AWS_ACCESS_KEY_ID, or give a role") from error
    except (BotoCoreError, ClientError) as error:
        raise _explained(error) or ConnectionError(f"S3: {type(error).__name__}") from error
    except OSError as error:
        raise _explained(error.__cause__) or error from error


def _explained(cause: BaseException | None) -> OuroscopeError | None:
    """Return what an answer of S3 means in our words; None where it means what it would on any file system."""
    answer = getattr(cause, "response", None) or {}
    code = answer.get("Error", {}).get("Code", "")
    if code in _FULL:
        return StorageFull("the bucket of the artifact store has no room left and nothing was published; free some")
    if code == "NoSuchBucket":
        return PreconditionFailed("the bucket of the artifact store does not exist; make it, or name another")
    if code == "RequestTimeTooSkewed":
        return PreconditionFailed("S3 refuses the artifact store: the clock here and its own differ; set both by NTP")
    if code in _REFUSED:
        return PreconditionFailed(f"S3 refuses the artifact store ({code}); check its credentials and their rights")
    return None
