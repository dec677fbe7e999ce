"""Servers that are made to serve another directory, and servers that never change, on real ports."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ouroscope.errors import Cancelled, OuroscopeError, PreconditionFailed, Unavailable
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import Verification
from ouroscope.store.artifacts import ArtifactStore
from services.generator.declared import DeclaredBackend, HttpReload, ReloadHook, ServerKind, Weights
from services.generator.handover.export import Exports, name_of
from services.generator.handover.fixed import FixedWeights
from services.generator.handover.reload import ReloadedWeights
from services.generator.servers.transport import Transport
from tests.servers.changing import ReloadedServer
from tests.servers.running import running
from tests.servers.waiting import wait_until
from tests.unit.generator.handover_setup import publish_adapter, write_adapter


def quiet() -> None:
    """Nobody wants to stop."""


def stop() -> None:
    """Somebody does."""
    raise Cancelled("the test asked for it")


@pytest.fixture
def server() -> ReloadedServer:
    return ReloadedServer()


@pytest.fixture
def url(server: ReloadedServer) -> Iterator[str]:
    with running(server.app) as address:
        yield address


@pytest.fixture
def transport(url: str) -> Iterator[Transport]:
    opened = Transport("pool", [url], attempts=2, first_wait=0.01)
    yield opened
    opened.close()


@pytest.fixture
def make(store: ArtifactStore, transport: Transport, url: str, tmp_path: Path) -> Callable[..., ReloadedWeights]:
    """Return weights that a hook brings; without one, the server's own route is called."""

    def weights(kind: ServerKind = ServerKind.TGI, **hook: Any) -> ReloadedWeights:
        called = HttpReload(url=f"{url}/serve/{{name}}", json={"model": "{directory}", "keep": ["{other}", 1]})
        asked = ReloadHook(**({"http": called} if not {"command", "http"} & set(hook) else {}), **hook)
        declared = DeclaredBackend(
            name="pool",
            kind=kind,
            urls=(url,),
            weights=Weights.RELOAD,
            directory=str(tmp_path / "shared"),
            server_directory="/models",
            reload=asked,
        )
        exports = Exports(store, tmp_path / "shared", server_directory="/models", kept=1)
        return ReloadedWeights(declared, asked, store, exports, transport, {}, poll=0.05)

    return weights


@pytest.fixture(scope="module")
def other_ref(store: ArtifactStore, model_directory: Path) -> ArtifactRef:
    files = {path.name: path for path in model_directory.iterdir()} | {"ouroscope.json": b'{"number": 1}'}
    return store.publish(ArtifactKind.MODEL, None, files, {})


def test_a_called_server_serves_the_directory_that_carries_the_digest(
    make: Callable[..., ReloadedWeights], server: ReloadedServer, model_ref: ArtifactRef, tmp_path: Path
) -> None:
    weights = make()
    served = weights.ensure(model_ref, quiet)
    weights.verify(model_ref)
    name = name_of(model_ref)
    assert (served.model, served.verification) == (name, Verification.REPORTED)
    assert server.told == [(name, {"model": f"/models/{name}", "keep": ["{other}", 1]})]
    assert (tmp_path / "shared" / name / "model.safetensors").is_file()


def test_a_server_that_serves_it_already_is_left_alone(
    make: Callable[..., ReloadedWeights], server: ReloadedServer, model_ref: ArtifactRef
) -> None:
    make().ensure(model_ref, quiet)
    make().ensure(model_ref, quiet)  # another generator, or this one after a restart
    assert len(server.told) == 1


def test_a_server_that_loads_for_a_while_is_waited_for(
    make: Callable[..., ReloadedWeights], server: ReloadedServer, model_ref: ArtifactRef
) -> None:
    server.loading = 3
    make().ensure(model_ref, quiet)
    assert server.down == 0


def test_vllm_is_asked_by_the_name_it_gives_itself_and_verified_by_its_path(
    make: Callable[..., ReloadedWeights], server: ReloadedServer, model_ref: ArtifactRef
) -> None:
    server.name = "llama"
    with capture_logs() as logs:
        served = make(ServerKind.VLLM).ensure(model_ref, quiet)
    assert served.model == "llama"
    # This one has no such route, which is tolerated: it was started anew.
    assert "prefix_cache.not_reset" in {each["event"] for each in logs}


def test_a_server_that_comes_back_with_other_weights_is_found_out_and_both_are_named(
    make: Callable[..., ReloadedWeights], server: ReloadedServer, model_ref: ArtifactRef, other_ref: ArtifactRef
) -> None:
    weights = make()
    weights.ensure(model_ref, quiet)
    server.serves = f"/models/{name_of(other_ref)}"
    with pytest.raises(PreconditionFailed) as caught:
        weights.verify(model_ref)
    assert name_of(model_ref) in caught.value.message
    assert name_of(other_ref) in caught.value.message
    weights.ensure(model_ref, quiet)
    weights.verify(model_ref)


def test_only_the_last_models_stay_in_the_directory(
    make: Callable[..., ReloadedWeights], model_ref: ArtifactRef, other_ref: ArtifactRef, tmp_path: Path
) -> None:
    weights = make()
    for ref in (model_ref, other_ref):
        weights.ensure(ref, quiet)
    assert [path.name for path in (tmp_path / "shared").glob("ouro-*")] == [name_of(other_ref)]


def test_an_adapter_is_refused_with_what_to_do(
    make: Callable[..., ReloadedWeights],
    server: ReloadedServer,
    store: ArtifactStore,
    model_ref: ArtifactRef,
    model_directory: Path,
    tmp_path: Path,
) -> None:
    adapter = publish_adapter(store, model_ref, write_adapter(model_directory, tmp_path / "adapter", 5))
    with pytest.raises(PreconditionFailed, match="keep_adapter"):
        make().ensure(adapter, quiet)
    assert server.told == []


def test_a_server_that_is_never_ready_is_given_up_after_the_declared_time(
    make: Callable[..., ReloadedWeights], server: ReloadedServer, model_ref: ArtifactRef
) -> None:
    server.loading = 10**6
    with pytest.raises(Unavailable, match="ready_seconds"):
        make(ready_seconds=5.0).ensure(model_ref, quiet)


def test_every_replica_has_to_serve_it(
    make: Callable[..., ReloadedWeights], server: ReloadedServer, url: str, model_ref: ArtifactRef
) -> None:
    with running(ReloadedServer().app) as forgotten:
        both = Transport("pool", [url, forgotten], attempts=2, first_wait=0.01)
        weights = make(ready_seconds=5.0)
        weights._transport = both
        with pytest.raises(Unavailable, match="ready_seconds"):
            weights.ensure(model_ref, quiet)
        assert server.serves.endswith(name_of(model_ref))
        with pytest.raises(PreconditionFailed, match="'gpt2' and not"):
            weights.verify(model_ref)
        both.close()


@pytest.mark.parametrize(("status", "error"), [(400, PreconditionFailed), (307, Unavailable), (500, Unavailable)])
def test_a_call_that_fails_is_a_typed_error_without_the_servers_words(
    make: Callable[..., ReloadedWeights],
    server: ReloadedServer,
    model_ref: ArtifactRef,
    status: int,
    error: type[OuroscopeError],
) -> None:
    server.status = status
    with capture_logs() as logs, pytest.raises(error, match=str(status)) as caught:
        make().ensure(model_ref, quiet)
    assert "secret" not in caught.value.message + repr(logs)


def test_a_call_to_nobody_is_unavailable(make: Callable[..., ReloadedWeights], model_ref: ArtifactRef) -> None:
    with pytest.raises(Unavailable):
        make(http=HttpReload(url="http://127.0.0.1:9/serve")).ensure(model_ref, quiet)


def test_stopping_breaks_off_the_waiting(
    make: Callable[..., ReloadedWeights], server: ReloadedServer, model_ref: ArtifactRef
) -> None:
    server.loading = 10**6

    def check() -> None:
        if server.told:
            stop()

    with pytest.raises(Cancelled):
        make().ensure(model_ref, check)


def python(tmp_path: Path, code: str) -> tuple[str, ...]:
    """Return a command that runs `code`, with the words of the hook as its arguments."""
    script = tmp_path / "reload.py"
    script.write_text(code)
    return (sys.executable, str(script), "{directory}", "{name}", "$(touch hacked); {other}")


def test_a_command_gets_directory_and_name_and_meets_no_shell(
    make: Callable[..., ReloadedWeights],
    server: ReloadedServer,
    url: str,
    model_ref: ArtifactRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code = f"""
import json, sys, urllib.request
print("a secret of the command", file=sys.stderr)
body = json.dumps({{"model": sys.argv[1], "rest": sys.argv[2:]}}).encode()
urllib.request.urlopen(urllib.request.Request("{url}/serve/x", body))
"""
    make(command=python(tmp_path, code)).ensure(model_ref, quiet)
    name = name_of(model_ref)
    assert server.told == [("x", {"model": f"/models/{name}", "rest": [name, "$(touch hacked); {other}"]})]
    assert not (tmp_path / "hacked").exists()


def test_a_command_that_fails_is_a_typed_error_without_its_words(
    make: Callable[..., ReloadedWeights], model_ref: ArtifactRef, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with capture_logs() as logs, pytest.raises(PreconditionFailed, match="status 3") as caught:
        make(command=python(tmp_path, "raise SystemExit(print('a secret') or 3)")).ensure(model_ref, quiet)
    told = capfd.readouterr()
    assert "secret" not in caught.value.message + repr(logs) + told.out + told.err


def test_a_command_that_is_not_there_is_a_typed_error(
    make: Callable[..., ReloadedWeights], model_ref: ArtifactRef
) -> None:
    with pytest.raises(PreconditionFailed, match=r"reload\.command"):
        make(command=("/nowhere/reload",)).ensure(model_ref, quiet)


_FOREVER = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open("pids.new", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename("pids.new", "pids")
time.sleep(600)
"""


def test_a_command_that_does_not_end_is_killed_with_its_children(
    make: Callable[..., ReloadedWeights], model_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unavailable, match="was killed"):
        make(command=python(tmp_path, _FOREVER), ready_seconds=1).ensure(model_ref, quiet)
    # On a busy machine it was killed before it could say who it is.
    wait_until(lambda: not any(map(is_alive, started(tmp_path))))


def test_a_command_is_killed_with_its_children_when_the_work_is_stopped(
    make: Callable[..., ReloadedWeights], model_ref: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Cancelled):
        make(command=python(tmp_path, _FOREVER)).ensure(
            model_ref, lambda: stop() if (tmp_path / "pids").exists() else None
        )
    assert len(started(tmp_path)) == 2
    wait_until(lambda: not any(map(is_alive, started(tmp_path))))


def test_a_command_that_somebody_kills_is_a_failure(
    make: Callable[..., ReloadedWeights], model_ref: ArtifactRef, tmp_path: Path
) -> None:
    with pytest.raises(PreconditionFailed, match=f"status -{signal.SIGKILL.value}"):
        make(command=python(tmp_path, "import os; os.kill(os.getpid(), 9)")).ensure(model_ref, quiet)


def test_two_who_write_hold_the_server_one_after_the_other(make: Callable[..., ReloadedWeights]) -> None:
    first, second, order = make(), make(), []
    waited = threading.Event()

    def other() -> None:
        with second.hold(waited.set):
            order.append("second")

    with first.hold(quiet):
        thread = threading.Thread(target=other)
        thread.start()
        assert waited.wait(30)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_who_waits_for_a_turn_may_stop(make: Callable[..., ReloadedWeights]) -> None:
    with make().hold(quiet), pytest.raises(Cancelled), make().hold(stop):
        pass
    with make().hold(stop):
        """Nobody has to wait, so nobody is asked."""


def test_a_fixed_server_serves_what_the_operator_says_and_nothing_else(
    server: ReloadedServer, url: str, transport: Transport, model_ref: ArtifactRef, other_ref: ArtifactRef
) -> None:
    declared = DeclaredBackend(
        name="pool",
        kind=ServerKind.OPENAI,
        urls=(url,),
        weights=Weights.FIXED,
        base=model_ref,
        served_name="llama",
    )
    weights = FixedWeights(declared, model_ref, transport)
    server.name = "llama"
    served = weights.ensure(model_ref, quiet)
    weights.verify(model_ref)
    assert (served.model, served.verification) == ("llama", Verification.DECLARED)
    with pytest.raises(PreconditionFailed) as caught:
        weights.ensure(other_ref, quiet)
    assert str(model_ref) in caught.value.message
    assert str(other_ref) in caught.value.message
    server.name = "mistral"
    with pytest.raises(PreconditionFailed, match="'llama'"):
        weights.verify(model_ref)


def test_answers_that_are_none_are_no_verification(
    server: ReloadedServer, make: Callable[..., ReloadedWeights], model_ref: ArtifactRef
) -> None:
    server.serves = ["no name"]  # type: ignore[assignment]
    for kind in (ServerKind.TGI, ServerKind.VLLM):
        with pytest.raises(Unavailable):
            make(kind).verify(model_ref)


def started(folder: Path) -> list[int]:
    """Return the processes that say who they are."""
    file = folder / "pids"
    return list(map(int, file.read_text().split())) if file.exists() else []


def is_alive(process: int) -> bool:
    """Return whether a process runs; one that only waits to be noticed does not."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
