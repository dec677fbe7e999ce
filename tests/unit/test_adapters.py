"""An adapter must be data, be plain LoRA, and belong to its base; everything else is refused with the reason."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig

from ouroscope.adapters import ADAPTER_WEIGHTS, Factors, check_adapter_directory, check_fits, lineage_of
from ouroscope.errors import InvalidRequest, NotFound, UntrustedArtifact
from ouroscope.models import ADAPTER_CONFIG
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef

MODULE = "model.layers.0.self_attn.q_proj"
BASE = {f"{MODULE}.weight": (6, 4), "model.layers.0.input_layernorm.weight": (4,)}
REF = ArtifactRef(ArtifactKind.MODEL, "a" * 64)


def safetensors(shapes: dict[str, list[int]]) -> bytes:
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(shape[0]) * int(shape[-1]) if len(shape) == 2 else 4 * shape[0]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + bytes(end)


def factors(module: str = MODULE, rank: int = 2, inputs: int = 4, outputs: int = 6) -> dict[str, list[int]]:
    return {
        f"base_model.model.{module}.lora_A.weight": [rank, inputs],
        f"base_model.model.{module}.lora_B.weight": [outputs, rank],
    }


def settings(**changes: Any) -> dict[str, Any]:
    """Return what peft itself writes, with changes."""
    told = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"], task_type="CAUSAL_LM").to_dict()
    return {**json.loads(json.dumps(told, default=list)), "peft_type": "LORA", **changes}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings()))
    (folder / ADAPTER_WEIGHTS).write_bytes(safetensors(factors()))
    return folder


def refused(folder: Path, because: str) -> None:
    with pytest.raises(UntrustedArtifact, match=because):
        check_adapter_directory(folder)


def test_what_peft_writes_is_accepted_and_measured(folder: Path) -> None:
    (folder / "README.md").write_text("not part of the adapter")
    checked = check_adapter_directory(folder)
    assert checked.files == (ADAPTER_CONFIG, ADAPTER_WEIGHTS)
    assert checked.factors == {MODULE: Factors(inputs=4, rank=2, outputs=6)}
    assert checked.parameters == 2 * 4 + 6 * 2
    assert checked.base is None
    check_fits(checked, BASE)


def test_the_base_that_it_names_is_read_and_the_place_of_the_base_is_not(folder: Path) -> None:
    (folder / "ouroscope.json").write_bytes(lineage_of(REF, made_by={"steps": 3}))
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings(base_model_name_or_path="evil/model", revision="main")))
    checked = check_adapter_directory(folder)
    assert checked.base == REF
    assert "ouroscope.json" in checked.files
    assert not {"base_model_name_or_path", "revision", "target_modules"} & set(checked.settings)


@pytest.mark.parametrize("told", ['{"base": "corpus/x"}', '{"base": "../../etc"}', '{"base": null}', "{}", "[]"])
def test_a_lineage_that_names_no_base_is_refused(folder: Path, told: str) -> None:
    (folder / "ouroscope.json").write_text(told)
    refused(folder, r"ouroscope\.json")


@pytest.mark.parametrize("name", ["adapter_model.bin", "training_args.bin", "optimizer.pt", "modeling.py", "x.so"])
def test_files_that_can_run_code_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    refused(folder, name)


def test_a_symbolic_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / ADAPTER_WEIGHTS).rename(tmp_path / "elsewhere")
    (folder / ADAPTER_WEIGHTS).symlink_to(tmp_path / "elsewhere")
    refused(folder, "symbolic link")


@pytest.mark.parametrize(
    "change",
    [
        {"auto_mapping": {"base_model_class": "Evil", "parent_library": "evil"}},
        {"auto_map": {"AutoModel": "evil--repo.Model"}},
        {"megatron_config": {"tensor_model_parallel_size": 1}, "megatron_core": "evil.module"},
        {"modules_to_save": ["lm_head"]},
        {"trainable_token_indices": [1]},
        {"layer_replication": [[0, 1]]},
        {"target_parameters": ["experts.up"]},
        {"use_dora": True},
        {"use_qalora": True},
        {"lora_bias": True},
        {"bias": "all"},
        {"arrow_config": {"top_k": 1}},
        {"alora_invocation_tokens": [1, 2]},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"corda_config": {"cache_file": "/etc/passwd"}},
        {"something_of_next_year": 7},
    ],
    ids=lambda change: next(iter(change)),
)
def test_settings_that_ask_for_code_or_change_the_meaning_are_refused_by_name(
    folder: Path, change: dict[str, Any]
) -> None:
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings(**change)))
    refused(folder, f"asks for .*{next(iter(change))}")


@pytest.mark.parametrize("kind", ["LOHA", "PROMPT_TUNING", None, 7])
def test_other_kinds_of_adapters_are_refused(folder: Path, kind: object) -> None:
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings(peft_type=kind)))
    refused(folder, "only peft_type LORA")


@pytest.mark.parametrize(
    "change",
    [
        {"r": 0},
        {"r": -1},
        {"r": True},
        {"r": "2"},
        {"r": 1 << 40},
        {"r": None},
        {"lora_alpha": float("nan")},
        {"lora_alpha": float("inf")},
        {"lora_alpha": 0},
        {"rank_pattern": {"(a+)+$": 2}},
        {"rank_pattern": {"q_proj": 0}},
        {"rank_pattern": ["q_proj"]},
        {"alpha_pattern": {".*": 2}},
    ],
)
def test_numbers_that_are_none_and_names_that_are_patterns_are_refused(folder: Path, change: dict[str, Any]) -> None:
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings(**change)))
    refused(folder, "positive numbers|plain names")


@pytest.mark.parametrize(
    "shapes",
    [
        {"base_model.model.lm_head.weight": [4, 4]},
        {"base_model.model.model.embed_tokens.lora_embedding_A": [2, 4]},
        {"../../etc/passwd": [2, 2]},
        {f"base_model.model.{MODULE}.lora_A.weight": [2, 4]},
        factors(rank=3),
        {**factors(), f"base_model.model.{MODULE}.lora_B.weight": [6, 3]},
        {**factors(), f"base_model.model.{MODULE}.lora_B.weight": [6]},
    ],
)
def test_tensors_that_are_no_pairs_of_factors_are_refused(folder: Path, shapes: dict[str, list[int]]) -> None:
    (folder / ADAPTER_WEIGHTS).write_bytes(safetensors(shapes))
    refused(folder, "no low-rank factor|no pair of factors")


def test_ranks_may_differ_by_module_where_the_settings_say_so(folder: Path) -> None:
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings(rank_pattern={"self_attn.q_proj": 3})))
    (folder / ADAPTER_WEIGHTS).write_bytes(safetensors(factors(rank=3)))
    assert check_adapter_directory(folder).factors[MODULE].rank == 3


@pytest.mark.parametrize(
    ("shapes", "why"),
    [
        (factors(inputs=5), "this base has 6 x 4 there"),
        (factors(outputs=7), "this base has 6 x 4 there"),
        (factors("model.layers.1.self_attn.q_proj"), "no such weight"),
        (factors("model.layers.0.self_attn.k_proj"), "no such weight"),
    ],
)
def test_an_adapter_for_another_base_is_refused_with_the_module(
    folder: Path, shapes: dict[str, list[int]], why: str
) -> None:
    (folder / ADAPTER_WEIGHTS).write_bytes(safetensors(shapes))
    with pytest.raises(UntrustedArtifact, match=f"adapter for another base: .*{why}"):
        check_fits(check_adapter_directory(folder), BASE)


@pytest.mark.parametrize(
    ("stored", "module"),
    [
        ({"h.0.attn.c_attn.weight": (4, 6)}, "transformer.h.0.attn.c_attn"),
        ({"transformer.h.0.attn.c_attn.weight": (4, 6)}, "transformer.h.0.attn.c_attn"),
        ({"lm_head.weight": (6, 4)}, "lm_head"),
    ],
)
def test_a_base_may_keep_its_weights_turned_and_leave_out_the_first_part_of_their_names(
    folder: Path, stored: dict[str, tuple[int, ...]], module: str
) -> None:
    (folder / ADAPTER_WEIGHTS).write_bytes(safetensors(factors(module)))
    check_fits(check_adapter_directory(folder), stored)


@pytest.mark.parametrize("name", [ADAPTER_CONFIG, ADAPTER_WEIGHTS])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InvalidRequest, match=name):
        check_adapter_directory(folder)


def test_a_missing_directory_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        check_adapter_directory(tmp_path / "nowhere")


@given(st.binary(max_size=200))
def test_no_bytes_make_the_check_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings()))
    (folder / ADAPTER_WEIGHTS).write_bytes(data)
    refused(folder, "refused")
