"""Arms that select, edit and detect, in a real run: what the next model was trained on is what was chosen for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ouroscope.corpora.stored import read_corpus
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.store import ArtifactStore
from tests.e2e.conftest import here
from tests.e2e.specs import write_small_spec
from tests.unit.generator.classifiers_setup import LABELS, write_bert

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


def arms(classifier: Path) -> list[dict[str, Any]]:
    pool = {"protocol": "accumulate-subsample"}
    return [
        {"name": "edited", "protocol": "human", "edit": {"threshold": 0.3}},
        {"name": "mixed", "protocol": "mixed", "selection": {"rule": "SURPLEXITY"}},
        {"name": "origin", **pool, "selection": {"rule": "DETECTOR"}},
        {"name": "detector", **pool, "selection": {"rule": "DETECTOR", "exponent": 1, "scorer": str(classifier)}},
    ]


@dataclass
class Loop:
    """A run that is over."""

    store: ArtifactStore
    generations: list[dict[str, Any]]

    def trained(self, arm: str) -> list[dict[str, Any]]:
        """Return the generations of an arm that a next one was trained after."""
        return [one for one in self.generations if f"/arms/{arm}/" in one["name"] and one["training"]]

    def documents(self, reference: str) -> list[Document]:
        return list(read_corpus(self.store, ArtifactRef.parse(reference)))


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    folder = tmp_path_factory.mktemp("choosing")
    (folder / "classifier").mkdir()
    spec = write_small_spec(folder)
    told = yaml.safe_load(spec.read_text())
    classifier = write_bert(folder / "classifier", id2label=LABELS, label2id={})
    told["evaluation"]["samples"] = 0
    spec.write_text(yaml.safe_dump({**told, "arms": arms(classifier), "documents": 20}))
    environment = {**os.environ, "OUROSCOPE_HOME": str(folder / "home"), "NO_COLOR": "1", "COLUMNS": "200"}

    command = [sys.executable, "-m", "ouroscope_app", "run", str(spec), "--name", "chosen", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    shown = json.loads(here(environment, folder, "runs", "show", "chosen", "--json").stdout)
    return Loop(ArtifactStore(folder / "home" / "store"), shown["generations"])


def test_every_arm_comes_to_its_end(loop: Loop) -> None:
    assert len(loop.generations) == 4 * 3
    assert {one["state"] for one in loop.generations} == {"SUCCEEDED"}


@pytest.mark.parametrize("arm", ["mixed", "origin", "detector"])
def test_what_was_chosen_is_kept_with_its_human_share(loop: Loop, arm: str) -> None:
    trained = loop.trained(arm)
    assert len(trained) == 2
    for one in trained:
        assert [selected["corpus"] for selected in one["selections"]] == one["training"]
        for selected in one["selections"]:
            documents = loop.documents(selected["corpus"])
            human = sum(document.origin is Origin.HUMAN for document in documents)
            assert selected["chosen"]["documents"] == len(documents)
            assert selected["chosen"]["human_share"] == pytest.approx(human / len(documents))


def test_a_detector_that_knows_the_truth_leaves_human_text_only(loop: Loop) -> None:
    for one in loop.trained("origin"):
        (selected,) = one["selections"]
        assert selected["chosen"]["human_share"] == 1
        assert selected["pool"]["human_share"] < 1


def test_surplexity_is_told_where_it_was_asked_for(loop: Loop) -> None:
    for one in loop.trained("mixed"):
        for selected in one["selections"]:
            assert selected["chosen"]["surplexity"][2] >= selected["pool"]["surplexity"][2]


def test_human_text_is_edited_by_the_model_of_the_generation(loop: Loop) -> None:
    for one in loop.trained("edited"):
        assert not one["selections"]
        (corpus,) = one["training"]
        pairs = list(zip(loop.documents(one["human"]), loop.documents(corpus), strict=True))
        assert any(old.text != new.text for old, new in pairs)
        for old, new in pairs:
            assert new.id == old.id
            writer = None if new.text == old.text else one["model"].removeprefix("model/")
            assert new.model_digest == writer
