"""What the environment says about the security of a process that serves: `OURO_SECURITY_*`.

The same names in every service, so that one secret and one set of variables do for a whole cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.security.callers import Access, Authenticator
from ouroscope.security.certificates import Identity, TlsFiles, watch_identity
from ouroscope.security.identity_provider import IdentityProvider, Provider
from ouroscope.security.limits import Limits
from ouroscope.security.tokens import TokenFile
from ouroscope.security.watched import Watched
from ouroscope.settings import directory, load, seconds, variable, whole_number

PREFIX = "OURO_SECURITY"


def _rate(text: str) -> float:
    try:
        return seconds(text)
    except ValueError:
        raise ValueError("must be a number, 0 or more") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuritySettings:
    """Settings of a process that serves."""

    certificate: Path | None = variable(directory, "certificate in PEM; with it every port speaks TLS", None)
    key: Path | None = variable(directory, "private key of the certificate, without a password", None)
    client_ca: Path | None = variable(
        directory, "authorities of clients; with it a client needs a certificate (mutual TLS)", None
    )
    tokens: Path | None = variable(directory, "YAML file of tokens, made with `ouroscope token new`", None)
    oidc_issuer: str = variable(str, "issuer of JWTs that are accepted too", "")
    oidc_audience: str = variable(str, "audience that such a JWT must be for", "")
    oidc_keys: str = variable(str, "keys of the issuer (JWKS): a file or an https:// URL", "")
    oidc_role_claim: str = variable(
        str, "claim with the role; dots lead into nested claims", Provider.__dataclass_fields__["role_claim"].default
    )
    calls_per_second: float = variable(_rate, "calls that one caller may begin in a second; 0: no limit", 0.0)
    concurrent_calls: int = variable(whole_number, "calls that one caller may have at a time; 0: no limit", 0)
    bytes_per_second: float = variable(_rate, "bytes of requests of one caller in a second; 0: no limit", 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """How one process is protected. The default is no protection at all, for addresses of this machine."""

    tls: Watched[Identity] | None = None
    mutual: bool = False
    """Whether a client needs a certificate."""
    access: Access | None = None
    """Decides by bearer tokens; None lets everybody do everything."""
    limits: Limits = Limits()  # noqa: RUF009  # frozen

    @property
    def guards(self) -> bool:
        """Return whether calls are looked at one by one: who makes them, how many, what administrators do."""
        return self.access is not None or bool(self.limits) or self.mutual

    @property
    def asks(self) -> bool:
        """Return whether anything is asked of callers: they may then come from elsewhere, through a proxy too."""
        return self.tls is not None or self.access is not None

    @property
    def protects(self) -> bool:
        """Return whether strangers may reach it: nothing is in clear text, and callers are known."""
        return self.tls is not None and (self.mutual or self.access is not None)


def read_security(environ: Mapping[str, str]) -> Security:
    """Return the protection that the environment asks for.

    Raises:
        InvalidRequest: the settings, the token file or a certificate are not right.
        NotFound: a file is not there.
        PreconditionFailed: the certificate has expired.
        CapabilityMissing: a library is not installed.
    """
    return secured(load(SecuritySettings, environ, PREFIX))


def secured(settings: SecuritySettings) -> Security:
    """Read the files that `settings` name; errors as in `read_security`."""
    _check(settings)
    files = None
    if settings.certificate and settings.key:
        files = TlsFiles(settings.certificate, settings.key, settings.client_ca)
    authenticators: list[Authenticator] = []
    if settings.tokens:
        authenticators.append(TokenFile(settings.tokens))
    if settings.oidc_issuer:
        authenticators.append(IdentityProvider(provider_of(settings)))
    return Security(
        tls=watch_identity(files) if files else None,
        mutual=settings.client_ca is not None,
        access=Access(authenticators) if authenticators else None,
        limits=Limits(
            calls_per_second=settings.calls_per_second,
            concurrent_calls=settings.concurrent_calls,
            bytes_per_second=settings.bytes_per_second,
        ),
    )


def provider_of(settings: SecuritySettings) -> Provider:
    """Return what the settings say about an identity provider."""
    return Provider(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        keys=settings.oidc_keys,
        role_claim=settings.oidc_role_claim,
    )


def _check(settings: SecuritySettings) -> None:
    problems = []
    if bool(settings.certificate) != bool(settings.key):
        problems.append(FieldProblem(f"{PREFIX}_KEY", "and the certificate go together; set both or none"))
    if settings.client_ca and not settings.certificate:
        problems.append(FieldProblem(f"{PREFIX}_CLIENT_CA", "needs a certificate of the service"))
    oidc = (settings.oidc_issuer, settings.oidc_audience, settings.oidc_keys)
    if any(oidc) and not all(oidc):
        problems.append(FieldProblem(f"{PREFIX}_OIDC_ISSUER", "audience and keys go together; set all three or none"))
    if problems:
        told = "; ".join(f"{problem.field} {problem.description}" for problem in problems)
        raise InvalidRequest(f"the environment is not right: {told}", problems)
