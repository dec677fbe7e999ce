"""Adapters over one loaded base, against peft's own loading and against merged weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from structlog.testing import capture_logs
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from ouroscope.adapters import ADAPTER_WEIGHTS, check_adapter_directory, check_fits
from ouroscope.errors import CorruptArtifact, InvalidRequest, NotFound, UntrustedArtifact
from ouroscope.model_files import read_shapes
from ouroscope.models import ADAPTER_CONFIG
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import Capability, ModelInfo, PreparePrompts, SamplingSpec, Verification, WindowSpec
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.stored_models import base_of
from services.generator import hub
from services.generator.backend import Prompt
from services.generator.backends import Backends
from services.generator.in_process.adapters import Adapters
from services.generator.in_process.backend import HfBackend
from services.generator.in_process.model import HfModel
from services.generator.jobs import Jobs
from services.generator.models import find, import_model, stored_model, stored_shape

# peft asks transformers in a way that will go.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

PROMPTS = [Prompt("a", "The serpent swallows"), Prompt("b", "The café")]
SAMPLING = SamplingSpec(min_new_tokens=12, max_new_tokens=12, seed=3)
IDS = torch.tensor([[0, 40, 41, 42, 43]])


def write_adapter(folder: Path, base: Path, seed: int, **config: Any) -> Path:
    """Let peft write an adapter that changes what the base says."""
    settings = {"r": 4, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **config}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**settings))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapter_directories(tmp_path_factory: pytest.TempPathFactory, model_directory: Path) -> list[Path]:
    """Three adapters: of all projections, of two of them with rsLoRA, with another rank in one place."""
    folder = tmp_path_factory.mktemp("adapters")
    kinds: list[dict[str, Any]] = [
        {},
        {"target_modules": ["q_proj", "v_proj"], "use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 5}},
    ]
    return [write_adapter(folder / str(i), model_directory, i, **kind) for i, kind in enumerate(kinds)]


@pytest.fixture
def imported(store: ArtifactStore, noting_task: Callable[..., Any]) -> Callable[..., ModelInfo]:
    def run(source: Path | str, base: ArtifactRef | None, max_bytes: int = 10**9) -> ModelInfo:
        found, able = find(str(source)), [Capability.GENERATE]
        return import_model(store, found, able, noting_task(), max_bytes=max_bytes, base=base)

    return run


@pytest.fixture
def adapters(
    imported: Callable[..., ModelInfo], adapter_directories: list[Path], model_ref: ArtifactRef
) -> list[ArtifactRef]:
    return [imported(folder, model_ref).model for folder in adapter_directories]


@pytest.fixture
def swapping(store: ArtifactStore) -> HfBackend:
    return HfBackend(store, device="cpu", threads=1)


@torch.inference_mode()
def logits(model: HfModel) -> torch.Tensor:
    with model.loaded.weights(model._adapter):
        found: torch.Tensor = model.loaded.model(input_ids=IDS).logits
        return found


def texts(model: HfModel) -> list[str]:
    return [each.text for each in model.write(PROMPTS, SAMPLING, 2, lambda _: None).continuations]


def test_every_swap_gives_bit_by_bit_what_peft_gives_on_a_freshly_loaded_base(
    swapping: HfBackend, adapters: list[ArtifactRef], adapter_directories: list[Path], model_directory: Path
) -> None:
    for number in (0, 1, 2, 1, 0):
        found = logits(swapping.open(adapters[number]))
        base = AutoModelForCausalLM.from_pretrained(model_directory)
        fresh = PeftModel.from_pretrained(base, adapter_directories[number]).eval()
        with torch.inference_mode():
            assert torch.equal(found, fresh(input_ids=IDS).logits)


def test_an_adapter_says_what_its_merged_weights_say(
    swapping: HfBackend, adapters: list[ArtifactRef], adapter_directories: list[Path], model_directory: Path
) -> None:
    for ref, folder in zip(adapters, adapter_directories, strict=True):
        base = AutoModelForCausalLM.from_pretrained(model_directory)
        merged = PeftModel.from_pretrained(base, folder).merge_and_unload().eval()
        with torch.inference_mode():
            assert torch.allclose(logits(swapping.open(ref)), merged(input_ids=IDS).logits, rtol=1e-4, atol=1e-4)


def test_the_base_is_itself_again_after_an_adapter(
    swapping: HfBackend, adapters: list[ArtifactRef], model_ref: ArtifactRef
) -> None:
    base = swapping.open(model_ref)
    before = logits(base)
    for ref in adapters:
        assert not torch.equal(logits(swapping.open(ref)), before)
        assert torch.equal(logits(base), before)
    assert torch.equal(logits(swapping.open(model_ref)), before)


def test_models_that_are_open_at_once_each_keep_their_weights(
    store: ArtifactStore, swapping: HfBackend, adapters: list[ArtifactRef], model_ref: ArtifactRef
) -> None:
    refs = [model_ref, *adapters]
    alone = [texts(HfBackend(store, device="cpu", threads=1).open(ref)) for ref in refs]
    assert len({tuple(each) for each in alone}) == len(refs)
    opened = [swapping.open(ref) for ref in refs]
    assert [texts(model) for model in opened] == alone
    assert [texts(model) for model in reversed(opened)] == alone[::-1]


def test_the_base_is_loaded_once_for_all_its_adapters(
    swapping: HfBackend, adapters: list[ArtifactRef], model_ref: ArtifactRef
) -> None:
    with capture_logs() as told:
        for ref in (adapters[0], adapters[1], model_ref, adapters[0], adapters[1]):
            texts(swapping.open(ref))
    events = [entry["event"] for entry in told]
    assert events.count("model.loading") == 1
    assert events.count("adapter.loading") == 2


def test_only_the_last_adapters_stay_in_memory_and_one_that_left_comes_back(
    store: ArtifactStore, adapters: list[ArtifactRef]
) -> None:
    swapping = HfBackend(store, device="cpu", threads=1, kept_adapters=2)
    models = [swapping.open(ref) for ref in adapters]
    first = texts(models[0])
    for model in models:
        texts(model)
        kept = {name.split(".")[-2] for name, _ in model.loaded.model.named_parameters() if "lora_" in name}
        assert len(kept) <= 2
    assert texts(models[0]) == first


def test_an_adapter_has_the_number_type_of_its_base(store: ArtifactStore, adapters: list[ArtifactRef]) -> None:
    model = HfBackend(store, device="cpu", dtype="bfloat16", threads=1).open(adapters[0])
    texts(model)
    assert {weight.dtype for weight in model.loaded.model.parameters()} == {torch.bfloat16}


def test_an_adapter_that_arrives_disturbs_nobodys_random_numbers(
    swapping: HfBackend, adapters: list[ArtifactRef], model_ref: ArtifactRef
) -> None:
    swapping.open(model_ref)
    before = torch.get_rng_state()
    swapping.open(adapters[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_what_answered_is_named_by_the_adapter_and_verified_by_loading(
    swapping: HfBackend, adapters: list[ArtifactRef], model_ref: ArtifactRef
) -> None:
    for ref in (model_ref, adapters[0]):
        served = swapping.open(ref).served
        assert (served.backend, served.kind, served.model) == ("transformers", "transformers", ref.digest)
        assert served.verification is Verification.LOADED
        assert served.reproducible


def test_an_imported_adapter_names_its_base_and_has_its_sizes(
    imported: Callable[..., ModelInfo], store: ArtifactStore, adapter_directories: list[Path], model_ref: ArtifactRef
) -> None:
    info = imported(adapter_directories[0], model_ref)
    assert info.base == model_ref == base_of(store, info.model)
    assert stored_shape(store, info.model) == stored_shape(store, model_ref)
    assert stored_model(store, info.model, [Capability.GENERATE]) == info
    assert json.loads(store.read(info.model, "ouroscope.json"))["base"] == str(model_ref)


def test_the_same_factors_for_another_base_are_another_model(
    imported: Callable[..., ModelInfo],
    adapter_directories: list[Path],
    model_ref: ArtifactRef,
    tmp_path: Path,
    model_directory: Path,
) -> None:
    other = shutil.copytree(model_directory, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-4}))
    elsewhere = imported(other, None).model
    one, two = (imported(adapter_directories[0], base).model for base in (model_ref, elsewhere))
    assert one != two


def test_an_adapter_that_comes_from_the_store_is_the_same_model_again_and_no_other_base_is_taken(
    imported: Callable[..., ModelInfo],
    store: ArtifactStore,
    adapters: list[ArtifactRef],
    model_ref: ArtifactRef,
    tmp_path: Path,
    model_directory: Path,
) -> None:
    exported = tmp_path / "exported"
    exported.mkdir()
    for name in store.manifest(adapters[0]).files:
        (exported / name).write_bytes(store.read(adapters[0], name))
    assert imported(exported, model_ref).model == adapters[0]
    other = shutil.copytree(model_directory, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    with pytest.raises(UntrustedArtifact, match="another base"):
        imported(exported, imported(other, None).model)


def test_an_adapter_without_a_base_and_a_base_without_an_adapter_are_told(
    imported: Callable[..., ModelInfo],
    adapter_directories: list[Path],
    adapters: list[ArtifactRef],
    model_ref: ArtifactRef,
    model_directory: Path,
) -> None:
    with pytest.raises(InvalidRequest, match="give `base`"):
        imported(adapter_directories[0], None)
    with pytest.raises(InvalidRequest, match="leave `base` out"):
        imported(model_directory, model_ref)
    with pytest.raises(InvalidRequest, match="adapter itself"):
        imported(adapter_directories[0], adapters[0])
    with pytest.raises(NotFound):
        imported(adapter_directories[0], ArtifactRef(ArtifactKind.MODEL, "0" * 64))


def other_model(folder: Path, model_directory: Path, **changes: int) -> Path:
    """Write a model of other sizes beside the same tokenizer."""
    shutil.copytree(model_directory, folder)
    config = LlamaForCausalLM.config_class.from_pretrained(model_directory)
    for key, value in changes.items():
        setattr(config, key, value)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("change", [{"hidden_size": 16, "head_dim": 8}, {"num_hidden_layers": 1}])
def test_an_adapter_for_a_base_of_other_sizes_is_refused_and_leaves_nothing(
    imported: Callable[..., ModelInfo],
    store: ArtifactStore,
    adapter_directories: list[Path],
    tmp_path: Path,
    model_directory: Path,
    change: dict[str, int],
) -> None:
    base = imported(other_model(tmp_path / "other", model_directory, **change), None).model
    before = set(store.list(ArtifactKind.MODEL))
    with pytest.raises(UntrustedArtifact, match="adapter for another base"):
        imported(adapter_directories[0], base)
    assert set(store.list(ArtifactKind.MODEL)) == before


def test_an_adapter_published_beside_the_wrong_base_is_not_opened(
    imported: Callable[..., ModelInfo],
    store: ArtifactStore,
    swapping: HfBackend,
    adapters: list[ArtifactRef],
    tmp_path: Path,
    model_directory: Path,
) -> None:
    base = imported(other_model(tmp_path / "other", model_directory, num_hidden_layers=1), None).model
    files = {name: store.read(adapters[0], name) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)}
    ref = store.publish(ArtifactKind.MODEL, None, files, {"base": str(base)})
    with pytest.raises(UntrustedArtifact, match="adapter for another base"):
        swapping.open(ref)


def test_an_adapter_of_the_hub_is_imported_like_one_from_a_directory(
    imported: Callable[..., ModelInfo],
    adapters: list[ArtifactRef],
    adapter_directories: list[Path],
    model_ref: ArtifactRef,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    snapshot = tmp_path / "0123456789abcdef"
    shutil.copytree(adapter_directories[0], snapshot)
    (snapshot / "optimizer.pt").write_bytes(b"\x80\x04.")
    monkeypatch.setattr(hub, "commit_of", lambda _: snapshot.name)
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(snapshot))
    assert imported("owner/adapter", model_ref).model == adapters[0]
    with pytest.raises(InvalidRequest, match="give `base`"):
        imported("owner/adapter", None)


@pytest.mark.parametrize("name", ["adapter_model.bin", "evil.py"])
def test_a_poisoned_adapter_is_refused_and_leaves_nothing(
    imported: Callable[..., ModelInfo],
    store: ArtifactStore,
    adapter_directories: list[Path],
    model_ref: ArtifactRef,
    tmp_path: Path,
    name: str,
) -> None:
    poisoned = shutil.copytree(adapter_directories[0], tmp_path / "poisoned")
    (poisoned / name).write_bytes(b"\x80\x04.")
    before = set(store.list(ArtifactKind.MODEL))
    with pytest.raises(UntrustedArtifact, match=f"refused: {name}"):
        imported(poisoned, model_ref)
    assert set(store.list(ArtifactKind.MODEL)) == before


def test_windows_are_cut_with_the_tokenizer_of_the_base(
    store: ArtifactStore,
    backend: HfBackend,
    adapters: list[ArtifactRef],
    model_ref: ArtifactRef,
    human: ArtifactRef,
    noting_task: Callable[..., Any],
) -> None:
    jobs = Jobs(store=store, backends=Backends(backend), max_model_bytes=10**9)
    window = WindowSpec(document_tokens=12, prefix_tokens=4, count=5)
    cut = [
        jobs.prepare_prompts(PreparePrompts(model=ref, corpus=human, window=window))[1](noting_task())
        for ref in (model_ref, adapters[0])
    ]
    assert cut[0].corpus == cut[1].corpus


@pytest.fixture
def damaged(tmp_path: Path, model_directory: Path, adapter_directories: list[Path]) -> Callable[[str, str], Any]:
    """Publish base and adapter in a store of their own, then change a file of one of them."""

    def run(which: str, name: str) -> tuple[HfBackend, ArtifactRef]:
        store = ArtifactStore(tmp_path / "store")
        whole = {path.name: path for path in model_directory.iterdir()}
        base = store.publish(ArtifactKind.MODEL, None, whole, {})
        parts = {name: adapter_directories[0] / name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)}
        ref = store.publish(ArtifactKind.MODEL, None, parts, {"base": str(base)})
        folder = ArtifactStore(tmp_path / "store").directory({"base": base, "adapter": ref}[which])
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).chmod(0o644)
        (folder / name).write_bytes(data)
        return HfBackend(ArtifactStore(tmp_path / "store"), device="cpu", threads=1), ref

    return run


@pytest.mark.parametrize(
    ("which", "name"), [("base", "model.safetensors"), ("adapter", ADAPTER_WEIGHTS), ("adapter", ADAPTER_CONFIG)]
)
def test_files_that_are_not_what_was_published_are_not_opened(
    damaged: Callable[[str, str], tuple[HfBackend, ArtifactRef]], which: str, name: str
) -> None:
    swapping, ref = damaged(which, name)
    with pytest.raises(CorruptArtifact, match=name):
        swapping.open(ref)


def test_an_adapter_that_fails_to_load_leaves_the_base_as_it_was(
    imported: Callable[..., ModelInfo],
    swapping: HfBackend,
    adapter_directories: list[Path],
    model_ref: ArtifactRef,
    adapters: list[ArtifactRef],
    tmp_path: Path,
) -> None:
    """The base has such a weight, but no projection takes it."""
    strange = shutil.copytree(adapter_directories[0], tmp_path / "strange")
    weights = {"base_model.model.model.embed_tokens.lora_A.weight": torch.zeros(4, 32)}
    weights["base_model.model.model.embed_tokens.lora_B.weight"] = torch.zeros(320, 4)
    save_file({**load_file(strange / ADAPTER_WEIGHTS), **weights}, strange / ADAPTER_WEIGHTS)
    ref = imported(strange, model_ref).model
    before = logits(swapping.open(model_ref))
    with pytest.raises(UntrustedArtifact, match="no projection"):
        swapping.open(ref)
    assert torch.equal(logits(swapping.open(model_ref)), before)
    assert not torch.equal(logits(swapping.open(adapters[0])), before)


def test_projections_that_are_kept_the_other_way_round_are_adapted_too(tmp_path: Path) -> None:
    """GPT-2 keeps its projections turned; peft says so by a warning, which fails a test."""
    config = GPT2Config(vocab_size=320, n_embd=16, n_layer=2, n_head=2, n_positions=96)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        base = GPT2LMHeadModel(config).eval()
        base.save_pretrained(tmp_path / "base")
        settings = LoraConfig(r=2, lora_alpha=8, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
        adapted = get_peft_model(GPT2LMHeadModel.from_pretrained(tmp_path / "base"), settings).eval()
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(tmp_path / "adapter")
    checked = check_adapter_directory(tmp_path / "adapter")
    check_fits(checked, read_shapes(tmp_path / "base" / "model.safetensors"))
    adapters = Adapters(base, kept=1)
    with torch.inference_mode():
        before = base(input_ids=IDS).logits
        adapters.use("a", checked, tmp_path / "adapter")
        assert torch.equal(base(input_ids=IDS).logits, adapted(input_ids=IDS).logits)
        adapters.use_none()
        assert torch.equal(base(input_ids=IDS).logits, before)
