"""A model directory must be data: everything that could run code, reach outside or lie about its size is refused."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.errors import InvalidRequest, NotFound, UntrustedArtifact
from ouroscope.models import check_model_directory

TENSORS = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
}


def safetensors(header: object, size: int = 32) -> bytes:
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + bytes(size)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 128}')
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"auto_map": 1}}}')
    (folder / "model.safetensors").write_bytes(safetensors({"__metadata__": {"format": "pt"}, **TENSORS}))
    return folder


def refused(folder: Path, because: str) -> None:
    with pytest.raises(UntrustedArtifact, match=because):
        check_model_directory(folder)


def test_a_sound_directory_is_accepted_and_measured(folder):
    (folder / "README.md").write_text("not part of the model")
    (folder / "merges.txt").write_text("a b")
    checked = check_model_directory(folder)
    assert checked.files == ("config.json", "merges.txt", "model.safetensors", "tokenizer.json")
    assert checked.parameters == 2 * 3 + 4
    assert checked.context_tokens == 128


def test_a_word_of_the_vocabulary_is_not_taken_for_a_setting(folder):
    assert "tokenizer.json" in check_model_directory(folder).files


@pytest.mark.parametrize("name", ["pytorch_model.bin", "x.pt", "x.PTH", "x.pkl", "x.ckpt", "training_args.bin", "x.h5"])
def test_weights_that_can_run_code_are_refused(folder, name):
    (folder / name).write_bytes(b"")
    refused(folder, f"{name} is in a format that can run code")


@pytest.mark.parametrize("name", ["modeling_evil.py", "kernel.so"])
def test_programs_are_refused(folder, name):
    (folder / name).write_bytes(b"")
    refused(folder, "is a program")


def test_a_program_that_would_replace_generation_is_refused(folder):
    (folder / "custom_generate").mkdir()
    refused(folder, "custom_generate")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize(
    "settings",
    [
        {"auto_map": {"AutoModel": "evil--repo.Model"}},
        {"text_config": {"auto_map": {"AutoModel": "x.y"}}},
        {"list": [{"custom_generate": "someone/else"}]},
        {"trust_remote_code": True},
        {"_attn_implementation": "someone/kernel"},
        {"attn_implementation": {"text": "someone/kernel"}},
        {"experts_implementation": "someone/kernel"},
    ],
)
def test_settings_that_ask_for_code_from_elsewhere_are_refused(folder, name, settings):
    (folder / name).write_text(json.dumps(settings))
    refused(folder, "asks for")


def test_an_attention_that_is_part_of_the_library_is_accepted(folder):
    (folder / "config.json").write_text('{"_attn_implementation": "sdpa"}')
    assert check_model_directory(folder).context_tokens is None


def test_an_adapter_that_names_another_model_is_refused(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    refused(folder, "adapter")


def test_a_symbolic_link_is_refused(folder, tmp_path):
    (tmp_path / "secret").write_text("{}")
    (folder / "special_tokens_map.json").symlink_to(tmp_path / "secret")
    refused(folder, "symbolic link")


@pytest.mark.parametrize("text", ["", "[1]", "null", "{", '"x"', "[" * 100_000])
def test_a_configuration_that_is_no_object_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    refused(folder, "JSON")


@pytest.mark.parametrize("depth", [100, 900, 5_000])
def test_a_deeply_nested_configuration_ends_in_a_refusal_or_an_answer_and_not_in_a_crash(folder, depth):
    (folder / "config.json").write_text('{"a":' * depth + "1" + "}" * depth)
    with contextlib.suppress(UntrustedArtifact):
        assert check_model_directory(folder).parameters == 10


def test_a_huge_configuration_is_refused_without_reading_it(folder):
    (folder / "config.json").write_text('{"a": "' + "x" * (1 << 20) + '"}')
    refused(folder, "larger than")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InvalidRequest, match=name):
        check_model_directory(folder)


def test_a_missing_directory_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        check_model_directory(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95",
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        safetensors(TENSORS, size=31),
        safetensors(TENSORS, size=33),
        safetensors({}, size=0),
        safetensors({"a": {**TENSORS["a"], "shape": [2, 4]}, "b": TENSORS["b"]}),
        safetensors({"a": TENSORS["a"], "b": {**TENSORS["b"], "data_offsets": [16, 24]}}),
        safetensors({"a": {**TENSORS["a"], "dtype": "PICKLE"}, "b": TENSORS["b"]}),
        safetensors({"a": {**TENSORS["a"], "shape": [-2, -3]}, "b": TENSORS["b"]}),
        safetensors({"a": {**TENSORS["a"], "shape": [True, 6]}, "b": TENSORS["b"]}),
        safetensors({"a": 7}),
    ],
)
def test_weights_whose_header_does_not_describe_their_bytes_are_refused(folder, data):
    (folder / "model.safetensors").write_bytes(data)
    refused(folder, r"model\.safetensors")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_the_check_of_weights_crash(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(UntrustedArtifact):
        check_model_directory(folder)


def test_weights_in_several_files_are_taken_from_their_index(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00001.safetensors"}}')
    assert "model.safetensors.index.json" in check_model_directory(folder).files
    assert check_model_directory(folder).parameters == 10


@pytest.mark.parametrize("place", ["../other.safetensors", "/etc/passwd", "x.bin", "", 5])
def test_an_index_that_points_elsewhere_is_refused(folder, place):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": place}}))
    refused(folder, "same directory")
