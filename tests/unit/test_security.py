"""Tokens, roles, limits, certificates and connections, each without a wire."""

from __future__ import annotations

import datetime
import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ouroscope.errors import (
    Busy,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    PreconditionFailed,
    Unavailable,
)
from ouroscope.security.callers import Access, Caller, check_role, read_bearer
from ouroscope.security.certificates import TlsFiles, read_identity
from ouroscope.security.connection import PLAIN, Connection, read_connection
from ouroscope.security.fetched_keys import FetchedKeys
from ouroscope.security.identity_provider import IdentityProvider, Provider
from ouroscope.security.limits import Bucket, Limits, Meter, Use
from ouroscope.security.roles import Role, required_role
from ouroscope.security.settings import SecuritySettings, read_security, secured
from ouroscope.security.tokens import TokenFile, new_token, read_tokens
from ouroscope.security.watched import Watched
from ouroscope.settings import Secret
from tests.certificates import Authority


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# Tokens


def write_tokens(path: Path, *lines: str) -> Path:
    path.write_text("tokens:\n" + "\n".join(lines) + "\n")
    return path


def test_a_token_is_told_once_and_its_file_has_only_its_digest(tmp_path: Path) -> None:
    made = new_token("ci", Role.ANALYSE)
    path = write_tokens(tmp_path / "tokens.yaml", made.line)
    assert made.token not in path.read_text()
    assert made.token not in repr(made)
    assert TokenFile(path).caller_of(made.token) == Caller("ci", Role.ANALYSE)
    assert TokenFile(path).caller_of(made.token + "x") is None


def test_two_tokens_are_never_the_same() -> None:
    assert len({new_token("ci", Role.READ).token for _ in range(100)}) == 100


@pytest.mark.parametrize("name", ["", "CI", "a b", "a" * 64, "a: b", "-a", "a\nb"])
def test_a_name_that_could_break_the_file_or_a_log_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="name of a token"):
        new_token(name, Role.READ)


def test_a_token_is_good_through_its_last_day_and_not_after(tmp_path: Path) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    good, gone = new_token("good", Role.READ, today), new_token("gone", Role.READ, today - datetime.timedelta(days=1))
    file = TokenFile(write_tokens(tmp_path / "tokens.yaml", good.line, gone.line))
    assert file.caller_of(good.token)
    with pytest.raises(NotAuthenticated, match="the token of gone has expired"):
        file.caller_of(gone.token)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tokens: [", "not YAML"),
        ("tokens: {}", "one list"),
        ("[]", "one list"),
        ("tokens: [x]", "must have name, role and sha256"),
        ("tokens: [{name: a, role: read, sha256: secret}]", "64 hexadecimal digits, never the token itself"),
        (f"tokens: [{{name: a, role: root, sha256: {'0' * 64}}}]", "must be one of read, analyse, run, admin"),
        (f"tokens: [{{name: a, role: read, sha256: {'0' * 64}, expires: soon}}]", "must be a date"),
        (f"tokens: [{{name: a, role: read, sha256: {'0' * 64}, rolle: x}}]", "must have name, role and sha256"),
        (
            f"tokens: [{{name: a, role: read, sha256: {'a' * 64}}}, {{name: a, role: run, sha256: {'b' * 64}}}]",
            "names a twice",
        ),
    ],
)
def test_a_token_file_that_is_not_right_is_told_and_not_quoted(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=told) as caught:
        read_tokens(path)
    assert "secret" not in caught.value.message


def test_a_missing_token_file_is_told_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        read_tokens(tmp_path / "none.yaml")
    assert str(tmp_path) not in caught.value.message


# Files that change


def test_what_changes_is_read_again_and_what_is_broken_is_told_and_not_used(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "value"
    path.write_text("1")

    def read() -> int:
        try:
            return int(path.read_text())
        except ValueError as error:
            raise InvalidRequest("no number") from error

    watched = Watched([path], read, event="value", every=1.0, clock=clock)
    path.write_text("22")
    assert watched.get() == 1, "looked again too soon"
    clock.now += 1
    assert watched.get() == 22
    path.write_text("broken")
    clock.now += 1
    with capture_logs() as logs:
        assert watched.get() == 22
        clock.now += 1
        assert watched.get() == 22
    assert [one["event"] for one in logs] == ["value.not_renewed"], "told once, not at every look"
    path.write_text("333")
    clock.now += 1
    assert watched.get() == 333


def test_a_link_that_is_swapped_is_a_change(tmp_path: Path) -> None:
    # How Kubernetes renews a mounted secret.
    clock = Clock()
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "value").write_text(name)
    (tmp_path / "data").symlink_to("old")
    path = tmp_path / "data" / "value"
    watched = Watched([path], path.read_text, event="value", clock=clock)
    (tmp_path / "swap").symlink_to("new")
    (tmp_path / "swap").replace(tmp_path / "data")
    clock.now += 2
    assert watched.get() == "new"


# Access


class Known:
    """Knows one token and counts how often it is asked."""

    def __init__(self, token: str, caller: Caller) -> None:
        self.token, self.caller, self.asked, self.version = token, caller, 0, 0

    def caller_of(self, token: str) -> Caller | None:
        self.asked += 1
        return self.caller if token == self.token else None

    def age(self) -> object:
        return self.version


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "Bearer ä", "x" * 20_000])
def test_a_header_without_one_bearer_token_is_refused(header: str | None) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        read_bearer(header)
    assert "abc" not in caught.value.message


def test_a_token_is_looked_up_once_until_it_expires_or_tokens_change() -> None:
    known = Known("t", Caller("ci", Role.READ, expires=50.0))
    access = Access([known])
    assert access.known("Bearer t", 0.0) is None
    assert access.caller_of("Bearer t") == access.known("Bearer t", 49.0) == known.caller
    assert access.known("Bearer t", 50.0) is None, "expired"
    known.version += 1
    assert access.known("Bearer t", 49.0) is None, "the tokens changed"
    assert known.asked == 1


def test_a_stranger_is_not_remembered_as_anybody() -> None:
    access = Access([Known("t", Caller("ci", Role.READ))])
    with pytest.raises(NotAuthenticated):
        access.caller_of("Bearer u")
    assert access.known("Bearer u", 0.0) is None


def test_a_role_may_do_what_lower_roles_may_and_nothing_else() -> None:
    for role in Role:
        for needed in Role:
            if role >= needed:
                check_role(Caller("a", role), needed, "Method")
            else:
                with pytest.raises(NotPermitted, match=needed.name.lower()):
                    check_role(Caller("a", role), needed, "Method")


def test_what_is_in_no_table_needs_the_highest_role() -> None:
    assert required_role("ouroscope.v1.AnalyzerService", "AddedTomorrow") is Role.ADMIN
    assert required_role("somebody.Else", "Method") is Role.ADMIN
    assert required_role("grpc.health.v1.Health", "Check") is None


# Identity provider


ISSUER, AUDIENCE = "https://id.example", "ouroscope"
SIGNING = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwks(*keys: tuple[str, Any]) -> str:
    kinds = {True: jwt.algorithms.RSAAlgorithm, False: jwt.algorithms.ECAlgorithm}
    return json.dumps(
        {
            "keys": [
                {**kinds[isinstance(key, rsa.RSAPublicKey)].to_jwk(key, as_dict=True), "kid": kid, "use": "sig"}
                for kid, key in keys
            ]
        }
    )


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(jwks(("k1", SIGNING.public_key())))
    return path


def claims(**changed: Any) -> dict[str, Any]:
    base = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": time.time() + 600, "ouroscope_role": "run"}
    return {key: value for key, value in {**base, **changed}.items() if value is not None}


def signed(key: Any = SIGNING, algorithm: str = "RS256", kid: str | None = "k1", **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm, headers={"kid": kid} if kid else {})


def provider(keys: Path | str, claim: str = "ouroscope_role") -> IdentityProvider:
    return IdentityProvider(Provider(issuer=ISSUER, audience=AUDIENCE, keys=str(keys), role_claim=claim))


def test_a_token_of_the_provider_names_its_caller_and_role(keys_file: Path) -> None:
    caller = provider(keys_file).caller_of(signed())
    assert caller
    assert (caller.name, caller.role) == ("oidc:alice", Role.RUN)
    assert caller.expires


def test_a_subject_cannot_write_lines_into_a_log_or_be_taken_for_another_caller(keys_file: Path) -> None:
    caller = provider(keys_file).caller_of(signed(sub="ci\nadmin\x1b[2J"))
    assert caller
    assert caller.name == "oidc:ci?admin?[2J"


def test_what_is_no_jwt_is_left_to_others(keys_file: Path) -> None:
    assert provider(keys_file).caller_of("ouro_abc") is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"exp": 1000}, "has expired"),
        ({"nbf": 4_000_000_000}, "not good yet"),
        ({"aud": "another"}, "another service"),
        ({"iss": "https://evil.example"}, "another identity provider"),
        ({"sub": None}, "lacks one of the claims"),
        ({"exp": None}, "lacks one of the claims"),
        ({"ouroscope_role": None}, "has no role"),
        ({"ouroscope_role": "root"}, "has no role"),
        ({"ouroscope_role": {"run": 1}}, "has no role"),
        ({"kid": "k2"}, "key that the identity provider does not show"),
        ({"kid": None}, "key that the identity provider does not show"),
    ],
)
def test_a_token_that_is_not_good_is_refused_with_the_reason(
    keys_file: Path, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(NotAuthenticated, match=told):
        provider(keys_file).caller_of(signed(**changed))


def test_a_token_signed_by_somebody_else_is_refused(keys_file: Path) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(NotAuthenticated, match="is not one of the identity provider"):
        provider(keys_file).caller_of(signed(other))


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_a_token_signed_without_a_private_key_is_refused(keys_file: Path, algorithm: str) -> None:
    key = None if algorithm == "none" else "0" * 32
    with pytest.raises(NotAuthenticated):
        provider(keys_file).caller_of(signed(key, algorithm))


@pytest.fixture(scope="module")
def lasting_provider(tmp_path_factory: pytest.TempPathFactory) -> IdentityProvider:
    path = tmp_path_factory.mktemp("keys") / "jwks.json"
    path.write_text(jwks(("k1", SIGNING.public_key())))
    return provider(path)


@given(st.text("abcABC012._-", max_size=40))
def test_no_text_is_taken_for_a_token_of_the_provider(lasting_provider: IdentityProvider, text: str) -> None:
    with suppress(NotAuthenticated):
        assert lasting_provider.caller_of(text) is None


def test_the_highest_role_of_a_list_counts_and_dots_lead_into_nested_claims(keys_file: Path) -> None:
    token = signed(realm_access={"roles": ["offline", "read", "admin", "run"]})
    caller = provider(keys_file, "realm_access.roles").caller_of(token)
    assert caller
    assert caller.role is Role.ADMIN


def test_keys_are_rotated_without_a_restart(keys_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ouroscope.security import identity_provider

    monkeypatch.setattr(identity_provider, "Watched", lambda *args, **kw: Watched(*args, **kw, every=0.0))
    found, newer = provider(keys_file), ec.generate_private_key(ec.SECP256R1())
    before = found.age()
    keys_file.write_text(jwks(("k2", newer.public_key())))
    assert found.caller_of(signed(newer, "ES256", "k2"))
    assert found.age() != before, "what was known of tokens counts no more"
    with pytest.raises(NotAuthenticated):
        found.caller_of(signed())


class Shown:
    """A provider that shows keys, or does not answer; counts how often it is asked."""

    def __init__(self, *ids: str) -> None:
        self.ids, self.asked, self.up = ids, 0, True

    def __call__(self) -> dict[str, Any]:
        self.asked += 1
        if not self.up:
            raise OSError
        return dict.fromkeys(self.ids, SIGNING)


def test_keys_at_a_url_are_asked_for_seldom_and_kept_while_the_provider_is_down() -> None:
    clock, shown = Clock(), Shown("a")
    keys = FetchedKeys(shown, (OSError,), clock)
    assert keys.get("a")
    assert [keys.get(f"made up {n}") for n in range(100)] == [None] * 100
    assert shown.asked == 1, "a storm at the provider"
    clock.now += 31
    shown.ids = ("a", "b")
    assert keys.get("b"), "a new key is found"
    shown.up = False
    clock.now += 3000
    assert keys.get("a"), "kept while the provider is down"
    clock.now += 3000
    with pytest.raises(Unavailable):
        keys.get("a")
    shown.up = True
    clock.now += 31
    assert keys.get("a")


def test_keys_come_over_http_from_the_provider_itself(tmp_path: Path) -> None:
    body = jwks(("k1", SIGNING.public_key())).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        found = provider(f"http://127.0.0.1:{server.server_port}/jwks")
        caller = found.caller_of(signed())
        server.shutdown()
    assert caller
    assert caller.role is Role.RUN


def test_a_provider_that_does_not_answer_is_no_refusal_of_the_token(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be fetched"):
        provider("http://127.0.0.1:1/jwks").caller_of(signed())


@pytest.mark.parametrize("keys", ["http://id.example/jwks", "ftp://id.example/jwks"])
def test_keys_do_not_come_over_an_open_line(keys: str) -> None:
    with pytest.raises(InvalidRequest, match="https"):
        provider(keys)


def test_a_file_without_keys_is_told(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    for text in ("", "[]", "{}", '{"keys": []}', '{"keys": [1]}'):
        path.write_text(text)
        with pytest.raises(InvalidRequest, match="no JWKS"):
            provider(path)


# Limits


@given(st.floats(0.1, 100), st.lists(st.tuples(st.floats(0, 5), st.floats(0, 50)), max_size=50))
def test_a_bucket_gives_no_more_than_its_rate_and_one_burst(rate: float, asked: list[tuple[float, float]]) -> None:
    clock, given_, last = Clock(), 0.0, 0.0
    bucket, start = Bucket(rate, clock), clock.now
    for pause, amount in asked:
        clock.now += pause
        if bucket.wait() == 0:
            bucket.take(amount)
            given_ += amount
            last = max(last, amount)
    # What is large is let through once, and paid for afterwards.
    assert given_ <= max(2 * rate, 1) + rate * (clock.now - start) + last + 1e-6


def test_after_the_wait_that_was_told_there_is_enough() -> None:
    clock = Clock()
    bucket = Bucket(4.0, clock)
    bucket.take(20.0)
    clock.now += bucket.wait(1.0) + 1e-9
    assert bucket.wait(1.0) == 0


def test_a_caller_that_asks_too_often_is_told_when_to_ask_again() -> None:
    clock = Clock()
    meter = Meter(Limits(calls_per_second=1.0), clock)
    for _ in range(2):
        meter.use_of("ci").admit()
    with pytest.raises(Busy) as caught:
        meter.use_of("ci").admit()
    meter.use_of("other").admit()
    clock.now += caught.value.retry_after
    meter.use_of("ci").admit()


def test_calls_at_a_time_are_counted_and_let_go_of() -> None:
    use = Use(Limits(concurrent_calls=1), Clock())
    with use.held():
        with pytest.raises(Busy, match="at a time"), use.held():
            pass
        assert use.running == 1
    with use.held():
        pass


def test_bytes_are_paid_for_before_the_next_call() -> None:
    clock = Clock()
    use = Use(Limits(bytes_per_second=100.0), clock)
    use.received(1000)
    with pytest.raises(Busy, match="bytes"):
        use.admit()
    clock.now += use.owed() + 1e-9
    use.admit()


# Certificates


def test_a_certificate_is_read_with_its_end(tmp_path: Path) -> None:
    identity = read_identity(Authority("ca").issue("server").write(tmp_path))
    assert identity.expires > datetime.datetime.now(datetime.UTC)
    assert "PRIVATE" not in repr(identity)


@pytest.mark.parametrize(
    ("begins", "ends", "cause"), [(-8, -1, "CERTIFICATE_EXPIRED"), (1, 5, "CERTIFICATE_NOT_YET_VALID")]
)
def test_a_certificate_out_of_its_time_is_refused(tmp_path: Path, begins: float, ends: float, cause: str) -> None:
    files = Authority("ca").issue("server", begins=begins, ends=ends).write(tmp_path)
    with pytest.raises(PreconditionFailed) as caught:
        read_identity(files)
    assert caught.value.metadata["cause"] == cause


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority("ca")
    files = authority.issue("one").write(tmp_path)
    files.key.write_bytes(authority.issue("two").key)
    with pytest.raises(InvalidRequest, match="belongs to another certificate"):
        read_identity(files)


@pytest.mark.parametrize("content", [b"", b"text", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path, content: bytes) -> None:
    files = Authority("ca").issue("server").write(tmp_path)
    files.certificate.write_bytes(content)
    with pytest.raises(InvalidRequest):
        read_identity(files)


def test_a_missing_file_is_told_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        read_identity(TlsFiles(tmp_path / "a.crt", tmp_path / "a.key"))
    assert str(tmp_path) not in caught.value.message


# Settings


def test_nothing_is_asked_and_nothing_is_limited_by_default() -> None:
    security = read_security({})
    assert (security.tls, security.access, security.protects) == (None, None, False)
    assert not security.limits
    assert read_connection({}) == PLAIN


def test_settings_that_go_together_are_told(tmp_path: Path) -> None:
    for settings, told in (
        (SecuritySettings(certificate=tmp_path), "OURO_SECURITY_KEY"),
        (SecuritySettings(client_ca=tmp_path), "OURO_SECURITY_CLIENT_CA"),
        (SecuritySettings(oidc_issuer=ISSUER), "OURO_SECURITY_OIDC_ISSUER"),
    ):
        with pytest.raises(InvalidRequest, match=told):
            secured(settings)


def test_tls_alone_does_not_keep_strangers_out_and_tokens_alone_are_not_private(tmp_path: Path) -> None:
    authority = Authority("ca")
    files = authority.issue("server").write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    tokens = write_tokens(tmp_path / "tokens.yaml", new_token("ci", Role.READ).line)
    tls = {"certificate": files.certificate, "key": files.key}
    assert not secured(SecuritySettings(**tls)).protects
    assert not secured(SecuritySettings(tokens=tokens)).protects
    assert secured(SecuritySettings(**tls, tokens=tokens)).protects
    assert secured(SecuritySettings(**tls, client_ca=tmp_path / "ca.crt")).protects


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ({"token": Secret("canary")}, "not sent in clear text"),
        ({"tls": True, "token": Secret("canary"), "token_file": Path("t")}, "exclude each other"),
        ({"tls": True, "certificate": Path("c")}, "go together"),
        ({"server_name": "x"}, "OURO_CLIENT_CA"),
    ],
)
def test_a_connection_that_cannot_be_meant_is_told(given_: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told) as caught:
        Connection(**given_)
    assert "canary" not in caught.value.message


def test_a_token_file_is_read_anew_and_holds_one_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    connection = Connection(tls=True, token_file=path)
    with pytest.raises(NotFound):
        connection.read_token()
    path.write_text("one\n")
    assert connection.read_token() == "one"
    path.write_text("two")
    assert connection.read_token() == "two"
    for text in ("", "a b", "a\nb", "ä"):
        path.write_text(text)
        with pytest.raises(InvalidRequest):
            connection.read_token()


def test_a_line_of_a_new_token_is_yaml_with_all_it_needs() -> None:
    made = new_token("team@example", Role.ADMIN, datetime.date(2027, 6, 30))
    (entry,) = yaml.safe_load(f"tokens:\n{made.line}")["tokens"]
    assert (entry["name"], entry["role"], entry["expires"]) == ("team@example", "admin", datetime.date(2027, 6, 30))
