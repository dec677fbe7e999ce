"""The encoder against transformers itself, offline.

The embedded ouro-tiny stands in: a causal language model, whose mean hidden states are vectors like any other. What its
vectors say of meaning is not tested here.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from ouroscope.embedded import model_directory
from ouroscope.errors import CorruptArtifact, InvalidRequest, NotFound, PreconditionFailed, UntrustedArtifact
from services.analyzer.embedding.folder import load_encoder

TEXTS = ["An arch of stone.", "The river was wide, and the ferry slow.", "Return a list of all names.", "Yes"]


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("ouro-tiny")


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(model_directory("ouro-tiny"), tmp_path / "encoder")


def embed(encoder, texts):
    return encoder.embed(texts, lambda done: None)


def test_vectors_are_the_means_of_the_last_hidden_states(encoder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = model_directory("ouro-tiny")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        states = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in TEXTS]
    assert embed(encoder, TEXTS) == pytest.approx(np.stack([one.mean(dim=0).numpy() for one in states]), abs=1e-4)


def test_the_same_texts_give_the_same_bits_and_company_changes_next_to_nothing(encoder):
    together = embed(encoder, TEXTS)
    assert np.array_equal(together, embed(encoder, TEXTS))
    assert together[3] == pytest.approx(embed(encoder, TEXTS[3:])[0], abs=1e-4)


def test_a_long_text_is_cut_to_what_the_model_reads(encoder):
    long = "word " * 3_000
    assert np.array_equal(embed(encoder, [long]), embed(encoder, [long + "and more"]))


@pytest.mark.parametrize("text", ["", " ", "\0", "(" * 100_000, "\U0001f600" * 50, "<|endoftext|>" * 3])
def test_any_text_has_a_finite_vector(encoder, text):
    assert np.isfinite(embed(encoder, [text])).all()


def test_each_batch_is_told_and_may_be_the_last(encoder):
    heard = []
    encoder.embed(["word " * 600] * 20, heard.append)
    assert heard == [16, 20]  # 8,192 tokens at most, 512 a text

    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoder.embed(TEXTS, stop)


def test_the_identity_is_name_and_content_not_the_place(encoder, copy):
    twin = load_encoder(str(copy))
    assert twin.identity.split()[1] == encoder.identity.split()[1]
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-5}))
    assert load_encoder(str(copy)).identity != twin.identity
    assert str(copy) not in twin.identity


@pytest.mark.parametrize("name", ["", "none"])
def test_no_encoder_is_a_choice(name):
    assert load_encoder(name) is None


@pytest.mark.parametrize("name", ["/nowhere", "./nowhere", "two words", "a/b/c/d"])
def test_what_is_nowhere_is_not_found(name):
    with pytest.raises(NotFound, match="no encoder"):
        load_encoder(name)


def test_what_could_run_code_is_refused(copy):
    (copy / "modeling.py").write_text("raise SystemExit")
    with pytest.raises(UntrustedArtifact, match="program"):
        load_encoder(str(copy))


def test_weights_that_are_not_there_are_not_made_up(copy):
    weights = load_file(copy / "model.safetensors")
    del weights[next(name for name in weights if "layers.0" in name)]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CorruptArtifact, match="lacks weights"):
        load_encoder(str(copy))


def tiny_roberta(folder, **more):
    from transformers import RobertaConfig, RobertaModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = RobertaConfig(vocab_size=4096, max_position_embeddings=66, pad_token_id=1, **sizes, **more)
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    shutil.copyfile(model_directory("ouro-tiny") / "tokenizer.json", folder / "tokenizer.json")
    return load_encoder(str(folder))


def test_positions_that_stand_for_no_token_are_not_read_and_a_pooling_layer_is_not_needed(tmp_path):
    bidirectional = tiny_roberta(tmp_path)
    texts = ["one two " * 32, "one two " * 32 + "three"]  # 64 tokens and more
    assert embed(bidirectional, texts)[0] == pytest.approx(embed(bidirectional, texts)[1], abs=1e-6)


def test_more_dimensions_than_are_computed_with_are_refused(tmp_path, monkeypatch):
    from services.analyzer.embedding import encoder

    monkeypatch.setattr(encoder, "WIDEST", 15)
    with pytest.raises(InvalidRequest, match="16 dimensions"):
        tiny_roberta(tmp_path)


def test_a_model_that_transformers_does_not_know_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "nobody_knows_it"}))
    with pytest.raises(InvalidRequest, match="knows no model"):
        load_encoder(str(copy))


def test_a_missing_package_is_told_with_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "services.analyzer.embedding.encoder", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(PreconditionFailed, match=r"pip install 'ouroscope\[embeddings\]'"):
        load_encoder("ouro-tiny")


def test_an_analyzer_without_encoder_imports_no_torch():
    code = "import sys, services.analyzer.service; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
