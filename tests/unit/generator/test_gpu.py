"""Generation, scoring and adapters on an accelerator of NVIDIA or AMD. Elsewhere these tests are skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from structlog.testing import capture_logs
from transformers import AutoModelForCausalLM

from ouroscope import embedded
from ouroscope.errors import OuroscopeError
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Capability, SamplingSpec
from ouroscope.store.artifacts import ArtifactStore
from services.generator.backend import Prompt
from services.generator.in_process.backend import HfBackend
from services.generator.in_process.model import HfModel
from services.generator.models import find, import_model
from services.generator.sliding import judge_sliding

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]

PROMPTS = [Prompt(f"p{i}", "Return the value of the argument that is given by name"[: 8 + i]) for i in range(40)]


@pytest.fixture(scope="module")
def ref(store: ArtifactStore) -> ArtifactRef:
    class Quiet:
        def check(self) -> None: ...

        def report(self, progress: object) -> None: ...

    return import_model(store, find("ouro-tiny"), [], Quiet(), max_bytes=10**9).model


@pytest.fixture(scope="module", params=["bfloat16", "float32"])
def on_gpu(request: pytest.FixtureRequest, store: ArtifactStore, ref: ArtifactRef) -> HfModel:
    return HfBackend(store, device="cuda", dtype=request.param).open(ref)


@pytest.fixture(scope="module")
def on_cpu(store: ArtifactStore, ref: ArtifactRef) -> HfModel:
    return HfBackend(store, device="cpu", threads=1).open(ref)


@pytest.fixture(autouse=True)
def _memory_is_given_back() -> Iterator[None]:
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def texts(model: HfModel, batch_size: int, **sampling: Any) -> list[str]:
    spec = SamplingSpec(min_new_tokens=24, max_new_tokens=24, **sampling)
    return [each.text for each in model.write(PROMPTS, spec, batch_size, lambda _: None).continuations]


def alike(ones: list[str], others: list[str]) -> float:
    """Return the mean share of text that is the same, in [0, 1]."""
    pairs = zip(ones, others, strict=True)
    return sum(SequenceMatcher(None, one, other).ratio() for one, other in pairs) / len(ones)


def test_the_accelerator_is_taken_by_itself_in_the_type_that_it_computes_in(
    store: ArtifactStore, ref: ArtifactRef
) -> None:
    backend = HfBackend(store)
    weight = next(backend.open(ref).loaded.model.parameters())
    assert weight.device.type == "cuda"
    wanted = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    assert weight.dtype is wanted
    assert backend.fingerprint()["device"] == torch.cuda.get_device_name()


def test_equal_text_is_not_promised(store: ArtifactStore) -> None:
    assert Capability.REPRODUCIBLE not in HfBackend(store, device="cuda").capabilities


def test_greedy_text_hardly_depends_on_the_batch(on_gpu: HfModel) -> None:
    """Sums are added in another order, so a near tie may fall the other way; most text stays."""
    one, other, third = (texts(on_gpu, size, temperature=0) for size in (1, 7, 40))
    assert alike(one, other) > 0.8
    assert alike(one, third) > 0.8


def test_greedy_text_in_float32_is_that_of_the_processor(
    store: ArtifactStore, ref: ArtifactRef, on_cpu: HfModel
) -> None:
    exact = HfBackend(store, device="cuda", dtype="float32").open(ref)
    assert alike(texts(exact, 8, temperature=0), texts(on_cpu, 8, temperature=0)) > 0.95


def test_sampled_text_has_the_asked_length_and_follows_the_seed(on_gpu: HfModel) -> None:
    assert texts(on_gpu, 8, seed=1) != texts(on_gpu, 8, seed=2)
    spec = SamplingSpec(min_new_tokens=24, max_new_tokens=24)
    written = on_gpu.write(PROMPTS, spec, 8, lambda _: None)
    assert {each.tokens for each in written.continuations} == {24}


def test_scores_are_those_of_the_processor_within_the_type(on_gpu: HfModel, on_cpu: HfModel) -> None:
    ids = [on_cpu.tokens.encode(prompt.text * 30) for prompt in PROMPTS]
    dtype = next(on_gpu.loaded.model.parameters()).dtype
    close = 1e-3 if dtype is torch.float32 else 0.1
    wanted, found = (judge_sliding(model, ids, [0] * len(ids), 100, 16, lambda _: None) for model in (on_cpu, on_gpu))
    for one, other in zip(wanted, found, strict=True):
        assert other.log_probabilities.mean() == pytest.approx(one.log_probabilities.mean(), rel=close, abs=close)


def test_scores_do_not_depend_on_the_batch_in_float32(store: ArtifactStore, ref: ArtifactRef) -> None:
    exact = HfBackend(store, device="cuda", dtype="float32").open(ref)
    ids = [exact.tokens.encode(prompt.text * 30) for prompt in PROMPTS]
    one, *others = (judge_sliding(exact, ids, [0] * len(ids), 100, size, lambda _: None) for size in (1, 3, 16))
    for other in others:
        for mine, theirs in zip(one, other, strict=True):
            assert mine.log_probabilities.mean() == pytest.approx(theirs.log_probabilities.mean(), abs=1e-4)


def test_the_batch_is_halved_when_the_memory_of_the_device_runs_out(on_gpu: HfModel) -> None:
    on_gpu.write(PROMPTS[:1], SamplingSpec(min_new_tokens=8, max_new_tokens=8), 1, lambda _: None)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    # Room for the model and a few documents, not for twenty thousand.
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (1 << 29)) / total)
    many = [Prompt(f"m{i}", "Return the value") for i in range(20_000)]
    with capture_logs() as told:
        written = on_gpu.write(many, SamplingSpec(min_new_tokens=8, max_new_tokens=8), len(many), lambda _: None)
    assert written.batch_size < len(many)
    assert len(written.continuations) == len(many)
    assert "model.batch_halved" in {entry["event"] for entry in told}


def test_an_adapter_is_swapped_in_on_the_device_and_the_base_is_itself_again(
    store: ArtifactStore, ref: ArtifactRef, on_gpu: HfModel, tmp_path: Path, noting_task: Callable[..., Any]
) -> None:
    base = AutoModelForCausalLM.from_pretrained(embedded.model_directory("ouro-tiny"))
    adapted = get_peft_model(base, LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapted.save_pretrained(tmp_path)
    adapter = import_model(store, find(str(tmp_path)), [], noting_task(), max_bytes=10**9, base=ref).model
    backend = HfBackend(store, device="cuda")
    plain = texts(backend.open(ref), 8, temperature=0)
    assert texts(backend.open(adapter), 8, temperature=0) != plain
    assert texts(backend.open(ref), 8, temperature=0) == plain
    assert {weight.device.type for weight in backend.open(adapter).loaded.model.parameters()} == {"cuda"}


def test_a_model_that_diverged_is_told_on_the_device_too(store: ArtifactStore, ref: ArtifactRef) -> None:
    broken = HfBackend(store, device="cuda").open(ref)
    with torch.no_grad():
        broken.loaded.model.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(OuroscopeError, match="diverged"):
        texts(broken, 8)
