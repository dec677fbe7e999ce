"""Tokens that a generator really shows to servers, and secrets on a Ray cluster: in no list of processes or log.

Services alone, and the processes of a training group, are in `test_process_lists.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest
import yaml

from benchmarks.supervised import Supervisor, free_ports, supervised
from ouroscope.client import GeneratorClient, open_channel
from ouroscope.cluster.executor import RayExecutor
from ouroscope.corpora.stored import write_corpus
from ouroscope.embedded import model_directory
from ouroscope.errors import PreconditionFailed
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.generation import Generate, PreparePrompts, SamplingSpec, WindowSpec
from ouroscope.security.connection import PLAIN
from ouroscope.store import ArtifactStore
from tests.ray_cluster import ray_cluster
from tests.servers.language import Language
from tests.servers.stand_in import Fault, StandIn, serving
from tests.servers.tgi import TgiStandIn, serving_tgi
from tests.unit import executor_work as work

pytestmark = [pytest.mark.proof, pytest.mark.timeout(600)]

SECRET = "xyzzy-marked-secret"
HELD = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "POOL_TOKEN", "OURO_CLIENT_TOKEN")
TEXTS = [f"The serpent swallowed its tail {number} times before it noticed the taste." for number in range(20)]
WINDOW = WindowSpec(document_tokens=8, prefix_tokens=4, count=3, seed=1)


@pytest.fixture
async def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Supervisor]:
    """What starts services that hold secrets and log everything."""
    for name in HELD:
        monkeypatch.setenv(name, SECRET)
    async with supervised(tmp_path / "logs") as supervisor:
        yield supervisor


async def begun(services: Supervisor, name: str, store: ArtifactStore, **settings: str) -> str:
    """Start one and return its address once it answers."""
    common = {"STORE": store.url, "METRICS_PORT": "0", "LOG_LEVEL": "debug", "THREADS": "1", "DEVICE": "cpu"}
    address = services.add(name, {**common, **settings}, free_ports(1)[0]).address
    await services.serving()
    return address


def shown(services: Supervisor) -> list[str]:
    """Return the command lines of all processes there are now; each has the secret."""
    found = []
    for process in services.marked():
        # One that was seen may have ended.
        with suppress(psutil.NoSuchProcess):
            line, held = " ".join(process.cmdline()), process.environ().values()
            assert SECRET in held, line
            found.append(line)
    return found


def logged(services: Supervisor, name: str) -> str:
    told = services.services[name].log.read_text()
    assert '"debug"' in told
    return told


@pytest.fixture
def model(store: ArtifactStore) -> ArtifactRef:
    files = {path.name: path for path in model_directory("ouro-tiny").iterdir() if path.is_file()}
    return store.publish(ArtifactKind.MODEL, None, files)


@pytest.fixture
def corpus(store: ArtifactStore) -> ArtifactRef:
    return write_corpus(store, [Document(id=str(n), text=text) for n, text in enumerate(TEXTS)])


@pytest.fixture
def servers(tmp_path: Path, model: ArtifactRef) -> Iterator[tuple[Path, StandIn, TgiStandIn]]:
    """A server of each kind that wants the token, and the file that declares them."""
    language = Language(model_directory("ouro-tiny"))
    vllm, tgi = StandIn({"tiny": language}), TgiStandIn(language, model_id="tiny", max_total_tokens=512)
    vllm.token = SECRET
    with serving(vllm) as one, serving_tgi(tgi) as other:
        common = {"token_variable": "POOL_TOKEN", "weights": "fixed", "base": str(model), "served_name": "tiny"}
        backends = [
            {"name": kind, "kind": kind, "urls": [url], **common} for kind, url in (("vllm", one), ("tgi", other))
        ]
        file = tmp_path / "backends.yaml"
        file.write_text(yaml.safe_dump({"backends": backends}))
        yield file, vllm, tgi


async def test_a_generator_shows_its_servers_their_tokens_and_nobody_else(
    services: Supervisor,
    store: ArtifactStore,
    model: ArtifactRef,
    corpus: ArtifactRef,
    servers: tuple[Path, StandIn, TgiStandIn],
) -> None:
    file, vllm, tgi = servers
    lines, told = [], []

    def look(number: int) -> None:
        lines.extend(shown(services))

    vllm.before = tgi.before = look
    address = await begun(services, "generator", store, BACKENDS=str(file))
    async with open_channel(address, PLAIN) as channel:
        client = GeneratorClient(channel)
        prompts = (await client.prepare_prompts(PreparePrompts(model=model, corpus=corpus, window=WINDOW))).corpus
        sampling = SamplingSpec(min_new_tokens=0, max_new_tokens=4)
        for backend in ("vllm", "tgi"):
            written = await client.generate(Generate(model=model, prompts=prompts, sampling=sampling, backend=backend))
            told.append(repr(store.manifest(written.corpus)))
        vllm.always = Fault.FORBIDDEN
        with pytest.raises(PreconditionFailed) as refused:
            await client.generate(Generate(model=model, prompts=corpus, sampling=sampling, backend="vllm"))
        told += [f"{refused.value!r} {refused.value.metadata}", repr(await client.list_backends())]
    assert tgi.authorizations == {f"Bearer {SECRET}"}
    assert len(vllm.asked) >= 2
    assert lines
    assert SECRET not in "\n".join([*lines, *told, logged(services, "generator")])


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Ray
def test_no_process_of_a_ray_cluster_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in HELD:
        monkeypatch.setenv(name, SECRET)
    with ray_cluster(nodes=1) as cluster, closing(RayExecutor(cluster.address, 1, connect_seconds=300.0)) as executor:
        workers = {pid for pid, _, _ in executor.map(work.about_me, range(4))}
        family = {process.pid: process for process in psutil.Process().children(recursive=True)}
        lines = []
        for process in family.values():
            with suppress(psutil.NoSuchProcess):
                lines.append(" ".join(process.cmdline()))
        assert workers
        assert workers <= family.keys()
        assert all(SECRET in family[pid].environ().values() for pid in workers)
    assert any("raylet" in line for line in lines)
    assert SECRET not in "\n".join(lines)
