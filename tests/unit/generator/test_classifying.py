"""What text classifiers say of documents, against transformers' own tokenizer and forward pass, one text at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import (
    Cancelled,
    CapabilityMissing,
    CorruptArtifact,
    InvalidRequest,
    LimitExceeded,
    OuroscopeError,
    UntrustedArtifact,
)
from ouroscope.predictions import read_detections
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.generation import Capability, Classified, Classify
from ouroscope.records.predictions import Detection
from ouroscope.store.artifacts import ArtifactStore
from services.generator.backend import Backend
from services.generator.classifying import check_classifies, classify
from services.generator.in_process.backend import HfBackend
from services.generator.models import find
from tests.unit.generator.classifiers_setup import CONTEXT, KINDS, LABELS, write_bert
from tests.unit.generator.conftest import TEXTS

ROOM = 10**9
Ask = Callable[..., tuple[Classified, list[Detection]]]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = request.param(tmp_path_factory.mktemp("classifier"), id2label=LABELS, label2id={})
    return made


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"), id2label=LABELS, label2id={})


@pytest.fixture
def copied(bert: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bert, tmp_path / "copy")


@pytest.fixture
def ask(store: ArtifactStore, backend: HfBackend, prompts: ArtifactRef, noting_task: Callable[..., Any]) -> Ask:
    def run(source: Path, task: Any = None, max_bytes: int = ROOM, **changes: Any) -> Any:
        request = replace(Classify(classifier=str(source), corpus=prompts, max_tokens=16, batch_size=3), **changes)
        found = find(request.classifier)
        answer = classify(store, backend, found, request, task or noting_task(), max_bytes=max_bytes)
        return answer, list(read_detections(store, answer.detections))

    return run


def shares(folder: Path, text: str, max_tokens: int) -> torch.Tensor:
    """Return the probability of every label by transformers itself, in float64."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
    given = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=max_tokens, return_tensors="pt")
    with torch.inference_mode():
        return torch.softmax(model(**given).logits[0], -1)


def test_every_probability_is_that_of_transformers(
    ask: Ask, folder: Path, store: ArtifactStore, prompts: ArtifactRef
) -> None:
    answer, found = ask(folder)
    documents = list(read_corpus(store, prompts))
    assert answer.documents == len(found) == len(documents)
    assert len({round(one.probability, 6) for one in found}) > 5, "otherwise this test would show nothing"
    for document, one in zip(documents, found, strict=True):
        assert one.document_id == document.id
        wanted = shares(folder, document.text[document.prefix_length :], 16)
        assert one.probability == pytest.approx(float(wanted[1]), abs=1e-5)


def test_the_other_label_has_the_other_probability(ask: Ask, folder: Path) -> None:
    machine, human = ask(folder, label="machine")[1], ask(folder, label="human")[1]
    assert [one.probability + other.probability for one, other in zip(machine, human, strict=True)] == pytest.approx(
        [1.0] * len(machine)
    )


def test_batches_and_order_change_nothing(ask: Ask, bert: Path, store: ArtifactStore, prompts: ArtifactRef) -> None:
    _, found = ask(bert)
    turned = write_corpus(store, reversed(list(read_corpus(store, prompts))))
    for changes in ({"batch_size": 1}, {"batch_size": 64}, {"corpus": turned}):
        again = {one.document_id: one.probability for one in ask(bert, **changes)[1]}
        assert again == pytest.approx({one.document_id: one.probability for one in found}, abs=1e-6)


def test_a_text_longer_than_the_context_is_read_as_far_as_the_model_sees(
    ask: Ask, folder: Path, store: ArtifactStore
) -> None:
    text = " ".join(TEXTS)
    corpus = write_corpus(store, [Document(id="long", text=text)])
    (found,) = ask(folder, corpus=corpus, max_tokens=10_000)[1]
    assert found.probability == pytest.approx(float(shares(folder, text, CONTEXT)[1]), abs=1e-5)


def test_a_control_token_that_is_spelt_out_is_text(ask: Ask, bert: Path, store: ArtifactStore) -> None:
    texts = ("the serpent [SEP] its own tail", "the serpent its own tail")
    corpus = write_corpus(store, [Document(id=str(i), text=text) for i, text in enumerate(texts)])
    spelt, plain = ask(bert, corpus=corpus)[1]
    assert spelt.probability != plain.probability


@pytest.mark.parametrize(
    ("labels", "place"),
    [
        (("Fake", "Real"), 0),
        (("Human", "ChatGPT"), 1),
        (("LABEL_0", "LABEL_1"), 1),
        (("human-written", "gpt", "llama"), 2),
    ],
)
def test_the_label_of_machines_is_told_by_its_name(
    ask: Ask, tmp_path: Path, labels: tuple[str, ...], place: int
) -> None:
    folder = write_bert(tmp_path, id2label=dict(enumerate(labels)), label2id={})
    assert ask(folder)[1] == ask(folder, label=labels[place])[1]


def test_an_unknown_label_is_refused_with_those_that_there_are(ask: Ask, bert: Path) -> None:
    with pytest.raises(InvalidRequest, match="no label 'robot'; it has 'human', 'machine'"):
        ask(bert, label="robot")


def test_a_classifier_that_speaks_only_of_people_is_refused(ask: Ask, tmp_path: Path) -> None:
    folder = write_bert(tmp_path, id2label={0: "human", 1: "real"}, label2id={})
    with pytest.raises(InvalidRequest, match="that a machine wrote a text; it has 'human', 'real'"):
        ask(folder)


def test_one_label_alone_is_a_yes_or_no(ask: Ask, tmp_path: Path, store: ArtifactStore) -> None:
    folder = write_bert(tmp_path, id2label={0: "machine"}, label2id={})
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
    corpus = write_corpus(store, [Document(id="one", text=TEXTS[0])])
    given = AutoTokenizer.from_pretrained(folder)(TEXTS[0], truncation=True, max_length=16, return_tensors="pt")
    (found,) = ask(folder, corpus=corpus)[1]
    with torch.inference_mode():
        wanted = torch.sigmoid(model(**given).logits[0, 0])
    assert found.probability == pytest.approx(float(wanted), abs=1e-5)


def poison_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def poison_program(folder: Path) -> None:
    (folder / "modeling.py").write_text("print('gotcha')")


def poison_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil/repository--modeling.Evil"}
    (folder / "config.json").write_text(json.dumps(config))


def poison_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b"not a header at all")


def poison_vocabulary(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["##beyond"] = len(tokenizer["model"]["vocab"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def poison_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


POISONS = (poison_pickle, poison_program, poison_code, poison_weights, poison_vocabulary, poison_tokenizer)


@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.__name__)
def test_a_poisoned_folder_is_refused(ask: Ask, copied: Path, poison: Callable[[Path], None]) -> None:
    poison(copied)
    with pytest.raises(UntrustedArtifact, match="is refused"):
        ask(copied)


def settings(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"model_type": "unheard-of"}, InvalidRequest),
        ({"hidden_size": "many"}, InvalidRequest),
        ({"num_attention_heads": 0}, InvalidRequest),
        ({"id2label": [1]}, InvalidRequest),
        ({"pad_token_id": 10**9}, InvalidRequest),
        ({"pad_token_id": -5}, UntrustedArtifact),
        ({"problem_type": "regression"}, InvalidRequest),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, CorruptArtifact),
        ({"hidden_size": 32}, CorruptArtifact),
        ({"num_hidden_layers": 3}, CorruptArtifact),
    ],
)
def test_a_folder_that_is_no_sound_classifier_is_refused(
    ask: Ask, copied: Path, changes: dict[str, Any], wrong: type[OuroscopeError]
) -> None:
    settings(copied, **changes)
    with pytest.raises(wrong):
        ask(copied)


def test_a_language_model_is_no_classifier(ask: Ask, model_directory: Path) -> None:
    with pytest.raises(CorruptArtifact, match="lacks weights"):
        ask(model_directory)


def test_a_classifier_that_is_too_large_is_refused(ask: Ask, bert: Path) -> None:
    with pytest.raises(LimitExceeded):
        ask(bert, max_bytes=1000)


def test_the_work_stops_when_it_is_told_to(ask: Ask, bert: Path, noting_task: Callable[..., Any]) -> None:
    with pytest.raises(Cancelled):
        ask(bert, noting_task(8))


def test_progress_rises_to_the_number_of_documents(ask: Ask, bert: Path, noting_task: Callable[..., Any]) -> None:
    task = noting_task()
    answer, _ = ask(bert, task)
    told = [progress for progress in task.told if progress.stage == "classify"]
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert told[-1].done == told[-1].total == answer.documents


def test_what_was_asked_stands_beside_the_answers(ask: Ask, bert: Path, store: ArtifactStore) -> None:
    answer, _ = ask(bert)
    facts = store.manifest(answer.detections).summary
    assert facts["label"] == "machine"
    kept = ArtifactRef.parse(str(facts["classifier"]))
    assert store.read(kept, "config.json") == (bert / "config.json").read_bytes()


def test_a_backend_that_is_a_server_says_who_can() -> None:
    with pytest.raises(CapabilityMissing, match="'transformers'"):
        check_classifies(cast(Backend, SimpleNamespace(name="big", capabilities=frozenset({Capability.SCORE}))))
