"""Choosing a backend by name, and what is made by which: on backends that need no server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ouroscope.errors import CapabilityMissing, NotFound, Unavailable
from ouroscope.operations.requests import request_digest
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import (
    BackendInfo,
    Capability,
    ChatFormat,
    Generate,
    PromptUnit,
    SamplingSpec,
    Score,
    Served,
    Verification,
)
from ouroscope.store.artifacts import ArtifactStore
from services.generator import backends as registry
from services.generator.backends import Backends
from services.generator.classifying import check_classifies
from services.generator.declared import ServerKind
from services.generator.editing import check_edits
from services.generator.in_process.backend import HfBackend
from services.generator.jobs import Jobs
from services.generator.service import _servers
from services.generator.tasks import check_tasks
from tests.unit.generator.servers_setup import declared

BOTH = frozenset({Capability.GENERATE, Capability.SCORE})
ALL = BOTH | {Capability.LEAST_LENGTH, Capability.TOP_K, Capability.CHAT, Capability.EXACT_TOKENS}


@dataclass
class Other:
    """A backend that lets the one in this process do its work under a name of its own."""

    inner: Any = None
    name: str = "pool"
    kind: str = "vllm"
    able: frozenset[Capability] = ALL
    problem: str = ""
    trouble: Exception | None = None
    version: str = "1"
    held: list[str] = field(default_factory=list)

    @property
    def capabilities(self) -> frozenset[Capability]:
        if self.trouble is not None:
            raise self.trouble
        return self.able

    @contextmanager
    def hold(self, check: Callable[[], None]) -> Iterator[None]:
        check()
        self.held.append("held")
        yield
        self.held.append("released")

    def fingerprint(self) -> Mapping[str, str]:
        return {"version": self.version}

    def batch_size(self, model: ArtifactRef, new_tokens: int) -> int:
        return 3

    def open(self, model: ArtifactRef) -> Any:
        self.held.append("opened")
        opened = self.inner.open(model)
        opened.served = Served(
            backend=self.name, kind=self.kind, model="ouro-1", verification=Verification.REPORTED, reproducible=False
        )
        return opened

    def close(self) -> None:
        self.held.append("closed")


@pytest.fixture
def pool(store: ArtifactStore) -> Other:
    return Other(HfBackend(store, device="cpu", threads=1))


@pytest.fixture
def jobs(store: ArtifactStore, backend: HfBackend, pool: Other) -> Jobs:
    return Jobs(store=store, backends=Backends(backend, [pool]), max_model_bytes=2**30)


def test_the_empty_name_and_its_own_mean_the_backend_in_this_process(backend: HfBackend) -> None:
    found = Backends(backend, [Other()])  # type: ignore[list-item]  # opens nothing
    assert found.named("") is found.named("transformers") is backend


def test_an_unknown_name_is_told_with_those_that_there_are(backend: HfBackend) -> None:
    with pytest.raises(NotFound, match=r"no backend 'pol'; there are transformers, pool; .*--backends"):
        Backends(backend, [Other()]).named("pol")  # type: ignore[list-item]  # opens nothing


def test_a_capability_that_is_missing_is_told_with_the_reason_and_with_who_has_it(backend: HfBackend) -> None:
    mute = Other(able=ALL - {Capability.SCORE}, problem="the server ignores `logprobs`")
    gone = Other(name="gone", trouble=Unavailable("it cannot be reached"))
    found = Backends(backend, [mute, gone])  # type: ignore[list-item]  # opens nothing
    assert found.require("pool", Capability.GENERATE) is mute
    told = "'pool' cannot score: the server ignores `logprobs`; those that can: 'transformers'"
    with pytest.raises(CapabilityMissing, match=told):
        found.require("pool", Capability.SCORE)


@pytest.mark.parametrize(
    ("sampling", "needs"),
    [
        (SamplingSpec(), {Capability.TOP_K}),
        (SamplingSpec(temperature=0), set()),
        (SamplingSpec(top_k=0, min_new_tokens=1), set()),
        (SamplingSpec(top_k=0, min_new_tokens=2, chat=ChatFormat()), {Capability.LEAST_LENGTH, Capability.CHAT}),
    ],
)
def test_a_request_needs_only_what_would_change_its_answer(sampling: SamplingSpec, needs: set[Capability]) -> None:
    assert sampling.needs == needs


def test_prompts_counted_in_tokens_need_them_read_exactly(model_ref: ArtifactRef, prompts: ArtifactRef) -> None:
    request = Score(model=model_ref, prompts=prompts)
    assert request.needs == {Capability.EXACT_TOKENS}
    assert (
        replace(request, prompt_unit=PromptUnit.WORDS).needs == Score(model=model_ref, heldout=prompts).needs == set()
    )


def test_what_is_not_honoured_is_refused_before_it_queues_with_all_that_would_help(
    jobs: Jobs, pool: Other, model_ref: ArtifactRef, prompts: ArtifactRef
) -> None:
    pool.able = BOTH
    wanted = Generate(model=model_ref, prompts=prompts, sampling=SamplingSpec(min_new_tokens=4), backend="pool")
    with pytest.raises(CapabilityMissing, match=r"sampling\.min_new_tokens: set 0.*sampling\.top_k: set 0"):
        jobs.generate(wanted)
    with pytest.raises(CapabilityMissing, match="prompt_unit: set WORDS"):
        jobs.score(Score(model=model_ref, prompts=prompts, backend="pool"))
    pool.able = BOTH | wanted.sampling.needs
    jobs.generate(wanted)


@pytest.mark.parametrize("capability", [Capability.EDIT, Capability.CLASSIFY, Capability.EVALUATE_TASKS])
def test_work_on_whole_models_needs_the_capability_and_no_name(capability: Capability) -> None:
    checks = {
        Capability.EDIT: check_edits,
        Capability.CLASSIFY: check_classifies,
        Capability.EVALUATE_TASKS: check_tasks,
    }
    for able in (frozenset(Capability), frozenset(Capability) - {capability}):
        other: Any = Other(kind="one of tomorrow", able=able)
        with nullcontext() if capability in able else pytest.raises(CapabilityMissing, match="own process"):
            checks[capability](other)


def test_a_list_of_backends_says_what_each_can_do_and_why_one_cannot_be_asked(backend: HfBackend) -> None:
    gone = Other(name="gone", kind="tgi", trouble=Unavailable("it cannot be reached"))
    found = Backends(backend, [Other(), gone], {"pool": "adapters", "gone": "reload"})  # type: ignore[list-item]
    assert found.infos() == (
        BackendInfo(name="transformers", kind="transformers", capabilities=tuple(Capability)),
        BackendInfo(
            name="pool",
            kind="vllm",
            capabilities=tuple(each for each in Capability if each in ALL),
            weights="adapters",
        ),
        BackendInfo(name="gone", kind="tgi", problem="it cannot be reached", weights="reload"),
    )


def test_a_server_that_hangs_is_not_waited_for(backend: HfBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    class Hanging(Other):
        @property
        def capabilities(self) -> frozenset[Capability]:
            release.wait(30)
            return ALL

    monkeypatch.setattr(registry, "_PATIENCE", 0.05)
    found = Backends(backend, [Hanging()])  # type: ignore[list-item]  # opens nothing
    assert [info.problem for info in found.infos()] == ["", "no answer within 0.05 seconds"]
    release.set()


def test_what_a_backend_makes_is_recorded_with_it_and_made_while_it_is_held(
    jobs: Jobs, store: ArtifactStore, pool: Other, model_ref: ArtifactRef, prompts: ArtifactRef, noting_task: Any
) -> None:
    sampling = SamplingSpec(max_new_tokens=4, seed=77)
    _, work = jobs.generate(Generate(model=model_ref, prompts=prompts, sampling=sampling, backend="pool"))
    made = work(noting_task())
    assert made.served is not None
    assert (made.served.backend, made.served.verification) == ("pool", Verification.REPORTED)
    facts = store.manifest(made.corpus).summary
    kept = {name: facts[name] for name in ("backend", "backend_kind", "served_model", "verification", "reproducible")}
    assert list(kept.values()) == ["pool", "vllm", "ouro-1", "REPORTED", False]
    _, work = jobs.score(Score(model=model_ref, heldout=made.corpus, backend="pool"))
    scored = work(noting_task())
    assert scored.served == made.served
    assert store.manifest(scored.predictions).summary["backend"] == "pool"
    assert pool.held == ["held", "opened", "released"] * 2


@pytest.mark.parametrize(("name", "together"), [("pool", True), ("", False)])
def test_servers_take_several_pieces_of_work_at_once_and_this_process_one(
    jobs: Jobs, model_ref: ArtifactRef, prompts: ArtifactRef, noting_task: Any, name: str, together: bool
) -> None:
    begun, meeting = threading.Barrier(2), threading.Barrier(2)
    met: list[bool] = []

    def work(seed: int) -> None:
        sampling = SamplingSpec(max_new_tokens=2, seed=seed, batch_size=8)
        request = Generate(model=model_ref, prompts=prompts, sampling=sampling, backend=name)
        task = noting_task()
        task.report = lambda _: met or met.append(_meet(meeting, 20 if together else 0.5))
        begun.wait(20)
        jobs.generate(request)[1](task)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (901, 902)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(met) == together


def _meet(meeting: threading.Barrier, seconds: float) -> bool:
    try:
        meeting.wait(seconds)
    except threading.BrokenBarrierError:
        return False
    return True


def test_the_digest_of_a_request_depends_on_the_backend_and_on_what_it_is(
    jobs: Jobs, pool: Other, model_ref: ArtifactRef, prompts: ArtifactRef
) -> None:
    def digest(name: str) -> str:
        request = Generate(model=model_ref, prompts=prompts, sampling=SamplingSpec(batch_size=3), backend=name)
        return request_digest("Generate", jobs.generate(request)[0], jobs.fingerprint)

    own, served = digest(""), digest("pool")
    assert digest("transformers") == own != served == digest("pool")
    pool.version = "2"
    assert digest("pool") != served


def test_a_backend_that_lacks_a_capability_is_refused_before_the_work(
    jobs: Jobs, pool: Other, model_ref: ArtifactRef, prompts: ArtifactRef
) -> None:
    pool.able = frozenset({Capability.GENERATE})
    with pytest.raises(CapabilityMissing, match="'transformers'"):
        jobs.score(Score(model=model_ref, heldout=prompts, backend="pool"))
    with pytest.raises(NotFound, match="no backend 'nowhere'"):
        jobs.generate(Generate(model=model_ref, prompts=prompts, sampling=SamplingSpec(), backend="nowhere"))


def test_a_server_without_its_token_says_so_and_hides_no_other(
    store: ArtifactStore, model_ref: ArtifactRef, backend: HfBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OURO_TEST_TOKEN", raising=False)
    open_one = declared(("http://127.0.0.1:9",), model_ref, ServerKind.VLLM)
    secret = replace(open_one, name="secret", token_variable="OURO_TEST_TOKEN")
    found = Backends(backend, _servers(store, [secret, open_one]))
    try:
        assert [each.name for each in found.all] == ["transformers", "secret", "pool"]
        assert "OURO_TEST_TOKEN, which is not set" in found.named("secret").problem
        with pytest.raises(CapabilityMissing, match="OURO_TEST_TOKEN"):
            Backends(backend, found.declared[:1]).require("secret", Capability.GENERATE)
    finally:
        asyncio.run(found.close())
