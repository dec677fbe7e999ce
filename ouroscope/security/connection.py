"""How a client shows who it is and whom it trusts: `OURO_CLIENT_*`, or a `Connection` given to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ouroscope.errors import FieldProblem, InvalidRequest, NotFound
from ouroscope.settings import Secret, boolean, directory, load, variable

PREFIX = "OURO_CLIENT"
LARGEST_TOKEN = 16 * 1024
"""Bytes of a token file of a client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How a channel is opened. The default speaks plain text and shows nothing, for services on the same machine."""

    tls: bool = variable(boolean, "speak TLS; without a CA the authorities that come with gRPC are trusted", False)
    ca: Path | None = variable(
        directory, "certificates in PEM that vouch for the services; with it TLS is spoken", None
    )
    certificate: Path | None = variable(directory, "certificate of this client, for mutual TLS", None)
    key: Path | None = variable(directory, "private key of that certificate, without a password", None)
    server_name: str = variable(str, "name in the certificate of the service, where it is not that of the address", "")
    token: Secret | None = variable(Secret, "bearer token; better a file, which is read again for every call", None)
    token_file: Path | None = variable(directory, "file that holds the bearer token", None)

    def __post_init__(self) -> None:
        problems = []
        if bool(self.certificate) != bool(self.key):
            problems.append(FieldProblem(f"{PREFIX}_KEY", "and the certificate go together; set both or none"))
        if self.token and self.token_file:
            problems.append(FieldProblem(f"{PREFIX}_TOKEN", "and a token file exclude each other"))
        if not self.encrypted and (self.certificate or self.token or self.token_file or self.server_name):
            told = "or OURO_CLIENT_TLS=true is needed: a token is not sent in clear text"
            problems.append(FieldProblem(f"{PREFIX}_CA", told))
        if problems:
            told = "; ".join(f"{problem.field} {problem.description}" for problem in problems)
            raise InvalidRequest(f"the connection is not right: {told}", problems)

    @property
    def encrypted(self) -> bool:
        """Return whether TLS is spoken."""
        return self.tls or self.ca is not None

    @property
    def has_token(self) -> bool:
        """Return whether a bearer token is shown."""
        return self.token is not None or self.token_file is not None

    def read_token(self) -> str:
        """Return the token, from its file as it is now.

        Raises:
            NotFound: the file cannot be read.
            InvalidRequest: it does not hold one token.
        """
        if self.token_file is None:
            return self.token.reveal() if self.token else ""
        try:
            with self.token_file.open(encoding="ascii") as file:
                token = file.read(LARGEST_TOKEN).strip()
        except OSError as error:
            raise NotFound(f"the token file cannot be read: {error.strerror or type(error).__name__}") from error
        except UnicodeDecodeError as error:
            raise InvalidRequest("the token file holds no token") from error
        if not token or any(character.isspace() for character in token):
            raise InvalidRequest("the token file must hold one token")
        return token


PLAIN = Connection()
"""For services of this process."""


def read_connection(environ: Mapping[str, str]) -> Connection:
    """Return how the environment says that services are reached.

    Raises:
        InvalidRequest: it is not right.
    """
    return load(Connection, environ, PREFIX)
