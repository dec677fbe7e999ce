"""The committed training script makes a pipeline that loads, says what it is, and hides where it was made."""

from __future__ import annotations

import json

import pytest

from services.analyzer.parsing import train
from services.analyzer.parsing.parsed import Need
from services.analyzer.parsing.sources import read
from tests.unit.analyzer.treebank import ENGLISH, write_treebank


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    treebank = write_treebank(folder / "treebank", 20 * ENGLISH)
    assert train.main([str(treebank), str(folder / "out"), "--steps", "2"]) == 0
    return folder / "out"


def test_a_short_training_gives_a_pipeline_that_can_do_everything(trained):
    source = read(trained)
    assert source.identity.startswith("en_ouro_sm 0.1.0 ")
    assert source.able == {Need.POS, Need.LEMMA, Need.TREE}
    assert [factory for _, factory in source.factories] == [
        "tok2vec",
        "morphologizer",
        "trainable_lemmatizer",
        "parser",
    ]


def test_its_licence_sources_and_scores_are_with_it(trained):
    meta = json.loads((trained / "meta.json").read_text())
    assert meta["license"] == "CC BY-SA 4.0"
    assert "English Web Treebank 2.15" in meta["sources"][0]["name"]
    assert 0 <= meta["performance"]["dep_las"] <= meta["performance"]["dep_uas"] <= 1
    card = (trained / "README.md").read_text()
    for task in ("tokens", "sentence boundaries", "lemmas", "UAS", "LAS"):
        assert task in card
    assert "160 |" in card


def test_no_path_of_the_machine_is_kept(trained, tmp_path_factory):
    root = str(tmp_path_factory.getbasetemp())
    for file in trained.rglob("*"):
        assert file.is_dir() or root.encode() not in file.read_bytes()


def test_a_finished_training_can_be_finished_again(trained, tmp_path):
    treebank = write_treebank(tmp_path / "treebank", 20 * ENGLISH)
    assert train.main([str(treebank), str(tmp_path / "again"), "--trained", str(trained)]) == 0
    assert (tmp_path / "again/tok2vec/model").read_bytes() == (trained / "tok2vec/model").read_bytes()


def test_a_missing_part_is_named(tmp_path, capsys):
    assert train.main([str(tmp_path), str(tmp_path / "out")]) == 1
    assert "train.conllu" in capsys.readouterr().err


def test_packed_parts_are_read(tmp_path):
    import gzip

    (tmp_path / "train.conllu.gz").write_bytes(gzip.compress(ENGLISH.encode()))
    assert train.read_part(tmp_path, "train").decode() == ENGLISH
