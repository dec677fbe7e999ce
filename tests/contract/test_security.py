"""TLS, tokens, roles and limits on real servers and real ports."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from google.longrunning import operations_pb2_grpc
from google.protobuf import descriptor_pool
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from starlette.responses import PlainTextResponse
from structlog.testing import capture_logs

from ouroscope.client import AnalyzerClient, Connection, MonitorClient, SyncAnalyzer, open_channel
from ouroscope.client.calls import call, stream
from ouroscope.errors import (
    Busy,
    Internal,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    OuroscopeError,
    PreconditionFailed,
    Unavailable,
)
from ouroscope.records.documents import Document
from ouroscope.rpc.errors import error_from_rpc, rpc_errors
from ouroscope.rpc.probe import is_serving
from ouroscope.rpc.server import RunningServer, serve
from ouroscope.security import watched
from ouroscope.security.connection import PLAIN
from ouroscope.security.roles import PUBLIC, REQUIRED, Role
from ouroscope.security.settings import Security, SecuritySettings, secured
from ouroscope.security.tokens import TokenFile, new_token
from ouroscope.settings import Secret
from ouroscope.telemetry.http import start_metrics_endpoint
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.v1 import (
    analyzer_pb2_grpc,
    coordinator_pb2,
    coordinator_pb2_grpc,
    externalscaler_pb2_grpc,
    generator_pb2_grpc,
    monitor_pb2_grpc,
    run_pb2,
    trainer_pb2_grpc,
)
from services.analyzer import service as analyzer
from services.coordinator import service as coordinator
from services.coordinator.page.server import start_page_server
from tests.certificates import Authority
from tests.log_events import event

COORDINATOR = "ouroscope.v1.CoordinatorService"
CANARY = "ouro_CANARY-that-must-be-seen-nowhere"


@pytest.fixture(autouse=True)
def looked_at_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at before every use, so that no test has to wait."""
    monkeypatch.setattr(watched.Watched.__init__, "__kwdefaults__", {"every": 0.0, "clock": lambda: 0.0})


class Coordinator(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Answers with what it was asked; counts what it has read."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = asyncio.Event()
        self.entered = asyncio.Event()

    async def GetRun(self, request: Any, context: Any) -> Any:
        async with rpc_errors(context):
            self.calls += 1
            return run_pb2.Run(name=request.name)

    async def DeleteRun(self, request: Any, context: Any) -> Any:
        async with rpc_errors(context):
            if request.name == "runs/none":
                raise PreconditionFailed("no such run")
            return Empty()

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async with rpc_errors(context):
            self.entered.set()
            yield run_pb2.RunEvent(run=request.name)
            await self.go.wait()


@dataclass
class Place:
    """Files of an operator: an authority, a certificate, tokens by role."""

    folder: Path
    authority: Authority
    tokens: dict[str, str]

    def settings(self, *, mutual: bool = False, tokens: bool = True, **more: Any) -> SecuritySettings:
        return SecuritySettings(
            certificate=self.folder / "server/tls.crt",
            key=self.folder / "server/tls.key",
            client_ca=self.folder / "ca.crt" if mutual else None,
            tokens=self.folder / "tokens.yaml" if tokens else None,
            **more,
        )

    def connection(self, role: str = "", **more: Any) -> Connection:
        token = Secret(self.tokens[role]) if role else None
        return Connection(ca=self.folder / "ca.crt", token=token, **more)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    authority = Authority("ca")
    made = {role.name.lower(): new_token(role.name.lower(), role) for role in Role}
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    authority.issue("server").write(tmp_path / "server")
    (tmp_path / "tokens.yaml").write_text("tokens:\n" + "\n".join(one.line for one in made.values()) + "\n")
    return Place(tmp_path, authority, {name: one.token for name, one in made.items()})


Start = Callable[..., Awaitable[RunningServer]]


@pytest.fixture
def servicer() -> Coordinator:
    return Coordinator()


@pytest.fixture
async def start(servicer: Coordinator) -> AsyncIterator[Start]:
    running: list[RunningServer] = []

    def add(server: grpc.aio.Server) -> Sequence[str]:
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(servicer, server)
        return (COORDINATOR,)

    async def begin(settings: SecuritySettings | None = None, address: str = "127.0.0.1:0", **more: Any) -> Any:
        security = secured(settings) if settings else Security()
        running.append(await serve(add, address, security=security, **more))
        return running[-1]

    yield begin
    for server in running:
        await server.stop(grace=0.0)


async def ask(address: str, connection: Connection, name: str = "runs/a") -> Any:
    async with open_channel(address, connection) as channel:
        stub: Any = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        return await call(stub.GetRun, coordinator_pb2.GetRunRequest(name=name), 10.0)


async def refused(kind: type[OuroscopeError], address: str, connection: Connection) -> OuroscopeError:
    with pytest.raises(kind) as caught:
        await ask(address, connection)
    return caught.value


# TLS


async def test_a_service_with_a_certificate_answers_those_who_trust_its_authority(start, place) -> None:
    server = await start(place.settings(tokens=False))
    assert (await ask(server.address, place.connection())).name == "runs/a"


async def test_who_trusts_another_authority_is_told_so(start, place, tmp_path) -> None:
    server = await start(place.settings(tokens=False))
    (tmp_path / "other.crt").write_bytes(Authority("other").pem)
    error = await refused(Unavailable, server.address, Connection(ca=tmp_path / "other.crt"))
    assert error.metadata["cause"] == "NOT_TRUSTED"


async def test_plain_text_to_a_service_with_tls_says_what_may_be_wrong(start, place) -> None:
    server = await start(place.settings(tokens=False))
    assert "OURO_CLIENT_CA" in (await refused(Unavailable, server.address, Connection())).message


async def test_tls_to_a_service_in_plain_text_says_what_is_wrong(start, place) -> None:
    server = await start()
    assert (await refused(Unavailable, server.address, place.connection())).metadata["cause"] == "NOT_TLS"


async def test_a_certificate_for_another_name_is_refused_unless_that_name_is_expected(start, place) -> None:
    place.authority.issue("server", hosts=("ouroscope.example",)).write(place.folder / "server")
    server = await start(place.settings(tokens=False))
    assert (await refused(Unavailable, server.address, place.connection())).metadata["cause"] == "WRONG_NAME"
    assert await ask(server.address, place.connection(server_name="ouroscope.example"))


async def test_a_certificate_is_renewed_without_a_restart(start, place, tmp_path) -> None:
    server = await start(place.settings(tokens=False))
    await ask(server.address, place.connection())
    newer = Authority("newer")
    newer.issue("server").write(place.folder / "server")
    (tmp_path / "newer.crt").write_bytes(newer.pem)
    assert await ask(server.address, Connection(ca=tmp_path / "newer.crt"))
    assert (await refused(Unavailable, server.address, place.connection())).metadata["cause"] == "NOT_TRUSTED"


async def test_half_a_renewal_leaves_the_old_certificate_at_work(start, place) -> None:
    server = await start(place.settings(tokens=False))
    (place.folder / "server/tls.crt").write_bytes(place.authority.issue("server").certificate)
    with capture_logs() as logs:
        assert await ask(server.address, place.connection())
    assert [one["event"] for one in logs if one["event"].startswith("tls")] == ["tls.not_renewed"]


async def test_a_certificate_that_has_expired_is_named_as_the_cause_on_both_sides(start, place) -> None:
    expired = place.authority.issue("server", begins=-8, ends=-1)
    settings = place.settings(tokens=False)
    security = secured(settings)
    server = await start(settings)
    # It ran out while the service was running, which keeps what it has.
    expired.write(place.folder / "server")
    assert await ask(server.address, place.connection())
    with pytest.raises(PreconditionFailed, match="has expired") as caught:
        await start(settings)
    assert caught.value.metadata["cause"] == "CERTIFICATE_EXPIRED"
    assert security.tls is not None


async def test_a_certificate_that_runs_out_at_work_is_told_to_both_sides_and_a_renewal_heals_it(start, place) -> None:
    server = await start(place.settings(tokens=False))
    assert await ask(server.address, place.connection())
    # Only now one that soon runs out: on a busy machine it would have done so before the first call.
    seconds = 2 / (24 * 3600)
    place.authority.issue("server", ends=seconds).write(place.folder / "server")

    async def failure() -> Unavailable:
        while True:
            try:
                await ask(server.address, place.connection())
            except Unavailable as error:
                return error
            await asyncio.sleep(0.2)

    with capture_logs() as logs:
        error = await asyncio.wait_for(failure(), 120.0)
    assert error.metadata["cause"] == "CERTIFICATE_EXPIRED"
    assert "tls.expired" in [one["event"] for one in logs]
    place.authority.issue("server").write(place.folder / "server")
    assert await ask(server.address, place.connection())


async def test_a_client_is_told_that_the_certificate_of_a_service_has_expired(place) -> None:
    # A service that does not look at its own certificate, as others do not.
    expired = place.authority.issue("server", begins=-8, ends=-1)
    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(expired.key, expired.certificate)]))
    await server.start()
    try:
        error = await refused(Unavailable, f"127.0.0.1:{port}", place.connection())
    finally:
        await server.stop(None)
    assert error.metadata["cause"] == "CERTIFICATE_EXPIRED"
    assert "has expired" in error.message


async def test_mutual_tls_lets_in_those_that_the_authority_vouches_for(start, place, tmp_path) -> None:
    server = await start(place.settings(mutual=True, tokens=False))
    known = place.authority.issue("client").write(tmp_path / "known")
    stranger = Authority("other").issue("client").write(tmp_path / "stranger")
    assert await ask(server.address, place.connection(certificate=known.certificate, key=known.key))
    await refused(Unavailable, server.address, place.connection())
    await refused(Unavailable, server.address, place.connection(certificate=stranger.certificate, key=stranger.key))


async def test_a_client_certificate_that_has_expired_is_told_before_anything_is_sent(start, place, tmp_path) -> None:
    server = await start(place.settings(mutual=True, tokens=False))
    files = place.authority.issue("client", ends=-1).write(tmp_path / "client")
    await refused(PreconditionFailed, server.address, place.connection(certificate=files.certificate, key=files.key))


async def test_a_client_renews_its_certificate_and_its_authority_on_an_open_channel(start, place, tmp_path) -> None:
    """A coordinator lives for longer than the certificate that it shows its workers."""
    server = await start(place.settings(mutual=True, tokens=False))
    files = place.authority.issue("client").write(tmp_path / "client")
    (tmp_path / "trusted.crt").write_bytes(place.authority.pem)
    connection = Connection(ca=tmp_path / "trusted.crt", certificate=files.certificate, key=files.key)
    async with open_channel(server.address, connection) as channel:
        stub: Any = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        request = coordinator_pb2.GetRunRequest(name="runs/a")
        assert await call(stub.GetRun, request, 10.0)
        watching = stub.WatchRun(coordinator_pb2.WatchRunRequest(name="runs/a"), timeout=30.0)
        await watching.read()
        newer = Authority("newer")
        newer.issue("server").write(place.folder / "server")
        (place.folder / "ca.crt").write_bytes(newer.pem)
        # Only a new connection that shows and trusts the new ones can be made now.
        newer.issue("client").write(tmp_path / "client")
        (tmp_path / "trusted.crt").write_bytes(newer.pem)
        assert await call(stub.GetRun, request, 10.0)
        other = await start(place.settings(mutual=True, tokens=False))
        assert await ask(other.address, connection)
        watching.cancel()


async def test_the_probe_speaks_tls(start, place) -> None:
    server = await start(place.settings())
    assert await asyncio.to_thread(is_serving, server.address, 5.0, place.connection())
    assert not await asyncio.to_thread(is_serving, server.address, 1.0)


# Reach


@pytest.mark.parametrize("protected", ["nothing", "tls", "tokens"])
async def test_a_public_address_is_refused_where_strangers_are_not_kept_out(start, place, protected) -> None:
    settings = {
        "nothing": None,
        "tls": place.settings(tokens=False),
        "tokens": SecuritySettings(tokens=place.folder / "tokens.yaml"),
    }[protected]
    with pytest.raises(PreconditionFailed, match="ALLOW_PLAINTEXT"):
        await start(settings, "0.0.0.0:0")
    assert await start(settings, "0.0.0.0:0", allow_public=True)


@pytest.mark.parametrize("mutual", [False, True])
async def test_a_public_address_is_fine_with_tls_and_known_callers(start, place, mutual) -> None:
    assert await start(place.settings(mutual=mutual, tokens=not mutual), "0.0.0.0:0")


# Tokens and roles


async def test_who_shows_a_token_is_answered_and_who_shows_none_is_not(start, place, servicer) -> None:
    server = await start(place.settings())
    assert await ask(server.address, place.connection("read"))
    error = await refused(NotAuthenticated, server.address, place.connection())
    assert "OURO_CLIENT_TOKEN_FILE" in error.message
    wrong = Connection(ca=place.folder / "ca.crt", token=Secret(CANARY))
    assert CANARY not in (await refused(NotAuthenticated, server.address, wrong)).message
    assert servicer.calls == 1


async def test_a_token_is_withdrawn_and_given_out_without_a_restart(start, place, tmp_path) -> None:
    server, made = await start(place.settings()), new_token("later", Role.READ)
    token = tmp_path / "token"
    token.write_text(made.token)
    connection = Connection(ca=place.folder / "ca.crt", token_file=token)
    await refused(NotAuthenticated, server.address, connection)
    (place.folder / "tokens.yaml").write_text(f"tokens:\n{made.line}\n")
    assert await ask(server.address, connection)
    await refused(NotAuthenticated, server.address, place.connection("read"))


async def test_a_renewed_token_file_counts_on_an_open_channel(start, place, tmp_path) -> None:
    server, token = await start(place.settings()), tmp_path / "token"
    token.write_text(place.tokens["read"])
    async with open_channel(server.address, Connection(ca=place.folder / "ca.crt", token_file=token)) as channel:
        stub: Any = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        delete = functools.partial(call, stub.DeleteRun, coordinator_pb2.DeleteRunRequest(name="runs/a"), 10.0)
        with pytest.raises(NotPermitted):
            await delete()
        token.write_text(place.tokens["admin"])
        await delete()


async def test_health_and_reflection_need_no_token(start, place) -> None:
    server = await start(place.settings())
    async with open_channel(server.address, place.connection()) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10.0)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


CONTRACT = ("analyzer", "coordinator", "generator", "monitor", "trainer", "externalscaler")


def contract() -> set[tuple[str, str]]:
    """Return every method that services of this project can have."""
    pool = descriptor_pool.Default()
    services = [
        service
        for file in CONTRACT
        for service in pool.FindFileByName(f"ouroscope/v1/{file}.proto").services_by_name.values()
    ]
    services.append(pool.FindServiceByName("google.longrunning.Operations"))
    return {(service.full_name, method.name) for service in services for method in service.methods}


async def served_by(address: str, connection: Connection) -> set[str]:
    """Ask a server which services it has."""
    async with open_channel(address, connection) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = stub.ServerReflectionInfo(timeout=10.0)
        await asked.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await asked.read()
        asked.cancel()
        return {service.name for service in answer.list_services_response.service}


def test_every_method_of_the_contract_is_in_the_table_and_nothing_else_is() -> None:
    assert set(REQUIRED) == contract()
    assert not {service for service, _ in contract()} & PUBLIC


@pytest.fixture
async def all_services(place: Place) -> AsyncIterator[RunningServer]:
    """A server that has every service, with handlers that answer nothing."""

    def add(server: grpc.aio.Server) -> Sequence[str]:
        for module in (analyzer_pb2_grpc, coordinator_pb2_grpc, generator_pb2_grpc, monitor_pb2_grpc, trainer_pb2_grpc):
            for name in [name for name in vars(module) if name.endswith("ServiceServicer")]:
                getattr(module, f"add_{name}_to_server")(getattr(module, name)(), server)
        scaler = externalscaler_pb2_grpc.ExternalScalerServicer()
        externalscaler_pb2_grpc.add_ExternalScalerServicer_to_server(scaler, server)
        operations_pb2_grpc.add_OperationsServicer_to_server(operations_pb2_grpc.OperationsServicer(), server)
        return tuple({service for service, _ in contract()})

    running = await serve(add, "127.0.0.1:0", security=secured(place.settings()))
    yield running
    await running.stop(grace=0.0)


async def code_of(channel: grpc.aio.Channel, service: str, method: str) -> grpc.StatusCode:
    try:
        await channel.unary_unary(f"/{service}/{method}")(b"", timeout=10.0)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_every_method_of_every_service_is_guarded_by_its_role(all_services, place) -> None:
    address = all_services.address
    shown = await served_by(address, place.connection())
    assert shown - PUBLIC == {service for service, _ in REQUIRED}
    channels: dict[Role | None, grpc.aio.Channel] = {None: open_channel(address, place.connection())}
    channels |= {role: open_channel(address, place.connection(role.name.lower())) for role in Role}
    refused_ = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
    for (service, method), needed in REQUIRED.items():
        assert await code_of(channels[None], service, method) is grpc.StatusCode.UNAUTHENTICATED
        for role in Role:
            code = await code_of(channels[role], service, method)
            if role < needed:
                assert code is grpc.StatusCode.PERMISSION_DENIED, (service, method, role)
            else:
                assert code not in refused_, (service, method, role)
    for channel in channels.values():
        await channel.close()


async def test_a_service_that_a_real_server_has_is_in_the_table_or_public(store) -> None:
    running = await analyzer.start(store)
    try:
        shown = await served_by(running.address, PLAIN)
    finally:
        await running.stop(grace=0.0)
    assert shown <= PUBLIC | {service for service, _ in REQUIRED}
    assert shown & PUBLIC


@pytest.mark.parametrize("role", ["", "read"])
async def test_a_refusal_does_not_wait_for_the_request(start, place, role) -> None:
    server = await start(place.settings())
    kind = NotPermitted if role else NotAuthenticated
    async with open_channel(server.address, place.connection(role)) as channel:
        # Nothing is ever sent; who read first would wait until the deadline.
        running: Any = channel.stream_unary(f"/{COORDINATOR}/DeleteRun")(timeout=20.0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running
    assert type(error_from_rpc(caught.value)) is kind


async def test_a_refusal_of_a_stream_of_answers_is_typed(start, place) -> None:
    server = await start(place.settings())
    async with open_channel(server.address, place.connection()) as channel:
        stub: Any = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        with pytest.raises(NotAuthenticated):
            async for _ in stream(stub.WatchRun, coordinator_pb2.WatchRunRequest(name="runs/a"), 10.0):
                pass


@pytest.mark.parametrize(
    "path", ["/", "/a", "a/b", "//", f"//{COORDINATOR}/GetRun", f"/{COORDINATOR}/GetRun/x", "/ä/b"]
)
@pytest.mark.parametrize("role", ["", "admin"])
async def test_a_path_that_is_none_is_answered_and_leads_nowhere(start, place, servicer, path, role) -> None:
    server = await start(place.settings())
    async with open_channel(server.address, place.connection(role)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(path)(b"", timeout=10.0)
    told = {grpc.StatusCode.UNIMPLEMENTED} if role else {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}
    assert caught.value.code() in told
    assert servicer.calls == 0


async def test_an_access_that_breaks_is_closed_and_tells_nothing(start, place, servicer, monkeypatch) -> None:
    server = await start(place.settings())
    monkeypatch.setattr(TokenFile, "caller_of", lambda *_: 1 / 0)
    error = await refused(Internal, server.address, place.connection("admin"))
    assert "zero" not in error.message
    assert servicer.calls == 0


async def test_a_token_of_an_identity_provider_opens_what_its_role_may(start, place) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    shown = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    (place.folder / "jwks.json").write_text(json.dumps({"keys": [{**shown, "kid": "k", "use": "sig"}]}))
    server = await start(
        place.settings(
            oidc_issuer="https://id.example", oidc_audience="ouroscope", oidc_keys=str(place.folder / "jwks.json")
        )
    )

    def holder(seconds: float) -> Connection:
        claims = {"iss": "https://id.example", "aud": "ouroscope", "sub": "alice", "ouroscope_role": "read"}
        token = jwt.encode({**claims, "exp": time.time() + seconds}, key, "RS256", headers={"kid": "k"})
        return Connection(ca=place.folder / "ca.crt", token=Secret(token))

    assert await ask(server.address, holder(600))
    assert "has expired" in (await refused(NotAuthenticated, server.address, holder(-600))).message
    assert await ask(server.address, place.connection("read")), "tokens of the file hold beside it"


async def test_what_is_refused_is_counted(start, place) -> None:
    metrics = ServiceMetrics()
    server = await start(place.settings(), metrics=metrics)
    await refused(NotAuthenticated, server.address, place.connection())
    labels = {"grpc_service": COORDINATOR, "grpc_method": "GetRun", "grpc_code": "UNAUTHENTICATED"}
    assert metrics.registry.get_sample_value("grpc_server_handled_total", labels) == 1


# Audit


async def test_what_administrators_do_is_noted_with_its_outcome(start, place) -> None:
    server = await start(place.settings())
    with capture_logs() as logs:
        async with open_channel(server.address, place.connection("admin")) as channel:
            stub: Any = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
            await call(stub.DeleteRun, coordinator_pb2.DeleteRunRequest(name="runs/a"), 10.0)
            with pytest.raises(PreconditionFailed):
                await call(stub.DeleteRun, coordinator_pb2.DeleteRunRequest(name="runs/none"), 10.0)
            await call(stub.GetRun, coordinator_pb2.GetRunRequest(name="runs/a"), 10.0)
    noted = [one for one in logs if one["event"] == "audit.call"]
    assert [(one["caller"], one["method"], one["resource"], one["outcome"]) for one in noted] == [
        ("admin", "DeleteRun", "runs/a", "OK"),
        ("admin", "DeleteRun", "runs/none", "FAILED_PRECONDITION"),
    ]


async def test_with_certificates_alone_what_administrators_may_do_is_noted_by_the_name_in_theirs(
    start, place, tmp_path
) -> None:
    server = await start(place.settings(mutual=True, tokens=False))
    shown = place.authority.issue("client", hosts=("pipeline.example",)).write(tmp_path / "shown")
    connection = place.connection(certificate=shown.certificate, key=shown.key)
    with capture_logs() as logs:
        async with open_channel(server.address, connection) as channel:
            stub: Any = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
            await call(stub.DeleteRun, coordinator_pb2.DeleteRunRequest(name="runs/a"), 10.0)
    (noted,) = [one for one in logs if one["event"] == "audit.call"]
    assert (noted["caller"], noted["resource"]) == ("certificate:pipeline.example", "runs/a")


async def test_who_tries_what_is_not_allowed_is_noted(start, place) -> None:
    server = await start(place.settings())
    with capture_logs() as logs:
        async with open_channel(server.address, place.connection("read")) as channel:
            stub: Any = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
            with pytest.raises(NotPermitted):
                await call(stub.DeleteRun, coordinator_pb2.DeleteRunRequest(name="runs/a"), 10.0)
    (noted,) = [one for one in logs if one["event"] == "security.refused"]
    assert (noted["caller"], noted["method"], noted["reason"]) == ("read", "DeleteRun", "NOT_PERMITTED")


async def test_what_is_refused_is_noted_without_the_token(start, place) -> None:
    server = await start(place.settings())
    with capture_logs() as logs:
        await refused(NotAuthenticated, server.address, Connection(ca=place.folder / "ca.crt", token=Secret(CANARY)))
    assert [(one["method"], one["reason"]) for one in logs if one["event"] == "security.refused"] == [
        ("GetRun", "NOT_AUTHENTICATED")
    ]
    assert CANARY not in repr(logs)


# Limits


async def test_a_caller_that_asks_too_often_is_told_when_to_ask_again_and_others_are_not(start, place) -> None:
    server = await start(place.settings(calls_per_second=0.5))
    assert await ask(server.address, place.connection("read"))
    error = await refused(Busy, server.address, place.connection("read"))
    assert isinstance(error, Busy)
    assert 0 < error.retry_after <= 2
    assert await ask(server.address, place.connection("run"))


async def test_calls_at_a_time_are_limited_and_freed_when_they_end(start, place, servicer) -> None:
    server = await start(place.settings(concurrent_calls=1))
    async with open_channel(server.address, place.connection("read")) as channel:
        stub: Any = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        watching = stub.WatchRun(coordinator_pb2.WatchRunRequest(name="runs/a"), timeout=30.0)
        await watching.read()
        await refused(Busy, server.address, place.connection("read"))
        servicer.go.set()
        assert await watching.read() is grpc.aio.EOF
        assert await ask(server.address, place.connection("read"))


async def test_limits_hold_without_tokens_for_everybody_together(start) -> None:
    server = await start(SecuritySettings(calls_per_second=0.5))
    assert await ask(server.address, PLAIN)
    await refused(Busy, server.address, PLAIN)


async def test_a_stream_is_slowed_down_and_stays_whole(place, store, monkeypatch) -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("ouroscope.rpc.guard.sleep", note)
    security = secured(place.settings(bytes_per_second=1000.0))
    running = await analyzer.start(store, security=security)
    documents = [Document(id=str(n), text="the cat sat on the mat " * 100) for n in range(200)]
    try:
        async with AnalyzerClient.connect(running.address, connection=place.connection("analyse")) as client:
            assert (await client.analyze(documents, metrics=["types"])).documents == 200
            assert max(waits) > 100, "460 kB at 1 kB in a second"
            # This time nothing was really waited for, so all of it is still owed.
            with pytest.raises(Busy):
                await client.list_baselines().__anext__()
    finally:
        await running.stop(grace=0.0)


# HTTP


def fetch(url: str, place: Place, authorization: str = "") -> tuple[int, str]:
    context = ssl.create_default_context(cafile=place.folder / "ca.crt")
    request = urllib.request.Request(url, headers={"Authorization": authorization} if authorization else {})
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def basic(token: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{token}".encode()).decode()


def test_metrics_in_plain_text_stay_on_this_machine_unless_said_aloud(place) -> None:
    registry = ServiceMetrics().registry
    with pytest.raises(PreconditionFailed, match="strangers are not kept out"):
        start_metrics_endpoint(registry, 0, host="0.0.0.0")
    for protected in ({"allow_public": True}, {"security": secured(place.settings())}):
        start_metrics_endpoint(registry, 0, host="0.0.0.0", **protected).close()


def test_metrics_speak_tls_and_want_a_token(place) -> None:
    endpoint = start_metrics_endpoint(ServiceMetrics().registry, 0, security=secured(place.settings()))
    try:
        assert endpoint.url.startswith("https://")
        assert fetch(endpoint.url, place)[0] == 401
        assert fetch(endpoint.url, place, f"Bearer {CANARY}")[0] == 401
        assert fetch(endpoint.url, place, f"Bearer {place.tokens['read']}")[0] == 200
        renewed = place.authority.issue("renewed")
        renewed.write(place.folder / "server")
        assert fetch(endpoint.url, place, basic(place.tokens["read"]))[0] == 200
        assert renewed.certificate.decode().split() == ssl.get_server_certificate(("127.0.0.1", endpoint.port)).split()
    finally:
        endpoint.close()


async def test_the_page_speaks_tls_and_wants_a_token(place) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("shown")(scope, receive, send)

    server = start_page_server(app, "127.0.0.1:0", security=secured(place.settings()))
    try:
        assert server.url.startswith("https://")
        assert (await asyncio.to_thread(fetch, server.url, place))[0] == 401
        answers = [
            await asyncio.to_thread(fetch, server.url, place, header)
            for header in (f"Bearer {place.tokens['read']}", basic(place.tokens["read"]))
        ]
        assert answers == [(200, "shown")] * 2
        assert (await asyncio.to_thread(fetch, server.url, place, "Basic !"))[0] == 401
    finally:
        await server.close()


# Whole processes


def environment(place: Place, **more: str) -> dict[str, str]:
    told = {
        "OURO_SECURITY_CERTIFICATE": "server/tls.crt",
        "OURO_SECURITY_KEY": "server/tls.key",
        "OURO_SECURITY_TOKENS": "tokens.yaml",
    }
    return {**{name: str(place.folder / path) for name, path in told.items()}, **more}


async def test_an_analyzer_as_a_process_shows_no_secret_in_good_times_and_bad(process, place, monkeypatch) -> None:
    """Through calls that succeed and fail: the token is in no log, no error, no argument of the process."""
    for name, value in environment(place).items():
        monkeypatch.setenv(name, value)
    running = process()
    address = (await asyncio.to_thread(event, running, "rpc.serving"))["address"]
    good = place.connection("analyse")
    wrong = Connection(ca=place.folder / "ca.crt", token=Secret(CANARY))
    told = []
    async with AnalyzerClient.connect(address, connection=good) as client:
        assert (await client.analyze([Document(id="1", text="the cat sat")], metrics=["types"])).documents == 1
        for failing in (client.delete_baseline("baselines/x"), client.get_baseline("baselines/x")):
            with pytest.raises(OuroscopeError) as caught:
                await failing
            told.append(f"{caught.value!r} {caught.value.metadata}")
    async with AnalyzerClient.connect(address, connection=place.connection("admin")) as client:
        with pytest.raises(NotFound):
            await client.delete_baseline("baselines/x")
    async with AnalyzerClient.connect(address, connection=wrong) as client:
        with pytest.raises(NotAuthenticated) as refusal:
            await client.get_baseline("baselines/x")
        told.append(repr(refusal.value))
    arguments = Path(f"/proc/{running.pid}/cmdline").read_bytes().decode()
    running.terminate()
    assert running.stderr
    logs = await asyncio.to_thread(running.stderr.read)
    assert "security.refused" in logs
    (noted,) = [json.loads(line) for line in logs.splitlines() if '"audit.call"' in line]
    assert (noted["caller"], noted["resource"], noted["outcome"]) == ("admin", "baselines/x", "NOT_FOUND")
    assert noted["timestamp"]
    for secret in (CANARY, *place.tokens.values(), (place.folder / "server/tls.key").read_text().splitlines()[1]):
        for text in (logs, arguments, *told, repr(good), repr(wrong)):
            assert secret not in text


def test_a_process_with_an_expired_certificate_says_so_and_ends(process, place, monkeypatch) -> None:
    place.authority.issue("server", ends=-1).write(place.folder / "server")
    for name, value in environment(place).items():
        monkeypatch.setenv(name, value)
    found = event(process(), "process.not_started")
    assert "certificate has expired" in found["error"]


def command_line(place: Place, *arguments: str) -> str:
    (place.folder / "token").write_text(place.tokens["read"])
    told = {"OURO_CLIENT_CA": str(place.folder / "ca.crt"), "OURO_CLIENT_TOKEN_FILE": str(place.folder / "token")}
    home = {"OUROSCOPE_HOME": str(place.folder / "nobody")}
    ran = subprocess.run(
        [sys.executable, "-m", "ouroscope_app", *arguments],
        env={**os.environ, **told, **home},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ran.stdout


def test_a_blocking_client_that_cannot_be_made_leaves_no_thread(tmp_path) -> None:
    with pytest.raises(NotFound):
        SyncAnalyzer("127.0.0.1:1", connection=Connection(ca=tmp_path / "none.crt"))
    assert not [one for one in threading.enumerate() if one.name == "ouroscope-client"]


async def test_a_coordinator_reaches_its_workers_by_mutual_tls_and_its_token(place, store, tmp_path) -> None:
    worker = await analyzer.start(store, security=secured(place.settings(mutual=True)))
    files = place.authority.issue("coordinator").write(tmp_path / "client")
    shown = place.connection("analyse", certificate=files.certificate, key=files.key)
    running = await coordinator.start(
        tmp_path / "home", store, analyzer=worker.address, connection=shown, security=secured(place.settings())
    )
    try:
        assert running.metrics_url.startswith("https://")
        async with MonitorClient.connect(running.address, connection=place.connection("run")) as monitors:
            await monitors.create_monitor("news")
            documents = [Document(id=str(n), text=f"the cat number {n} sat") for n in range(30)]
            recorded = await monitors.record_generation("monitors/news", 0, documents)
        assert recorded.name.startswith("monitors/news/")
        listed = await asyncio.to_thread(command_line, place, "monitors", "list", "--coordinator", running.address)
        assert "news" in listed
    finally:
        await running.stop(grace=0.0)
        await worker.stop(grace=0.0)
