"""Command: train the pipeline that ships as `en_ouro_sm`, from a treebank in CoNLL-U.

    python -m services.analyzer.parsing.train TREEBANK OUT                   train, evaluate, write OUT (an hour)
    python -m services.analyzer.parsing.train TREEBANK OUT --trained WORK    finish what a training left in WORK

TREEBANK holds train, dev and test.conllu, or .conllu.gz. spaCy's own converter and trainer do the work, by
`training.cfg` beside this file. The test part is read only when all is trained, for the figures of the model card.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import spacy
from spacy.cli.train import train as run_training
from spacy.tokens import DocBin
from spacy.training import Corpus
from spacy.training.converters import conllu_to_docs

from ouroscope.errors import NotFound, OuroscopeError
from services.analyzer.parsing.card import TASKS, Facts, card

CONFIG = Path(__file__).parent / "training.cfg"
PARTS = ("train", "dev", "test")
SENTENCES_OF_DOCUMENT = 10
"""Sentences that are learned as one text, so that their boundaries are learned too."""
META = {
    "lang": "en",
    "name": "ouro_sm",
    "version": "0.1.0",
    "description": "Parts of speech, morphology, lemmas and dependency trees of English for Ouroscope; small and fast.",
    "author": "The Ouroscope authors",
    "license": "CC BY-SA 4.0",
    "sources": [
        {
            "name": "Universal Dependencies English Web Treebank 2.15",
            "url": "https://universaldependencies.org/treebanks/en_ewt/",
            "license": "CC BY-SA 4.0",
            "author": "The Board of Trustees of The Leland Stanford Junior University and contributors",
        }
    ],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and finish; return the exit status."""
    options = _options().parse_args(arguments)
    try:
        with TemporaryDirectory() as scratch:
            work = Path(scratch)
            convert(options.treebank, work)
            if options.trained is None:
                train(work, work / "trained", options.steps)
            finish(options.trained or work / "trained/model-best", options.treebank, work, options.out)
    except (OuroscopeError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.analyzer.parsing.train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("treebank", type=Path, help="folder of the treebank")
    parser.add_argument("out", type=Path, help="folder to write the pipeline and its model card to")
    parser.add_argument("--steps", type=int, help="batches to learn from (default: as in training.cfg)")
    parser.add_argument("--trained", type=Path, metavar="WORK", help="pipeline that was trained already (model-best)")
    return parser


def convert(treebank: Path, work: Path) -> None:
    """Write the parts of a treebank to `work` in spaCy's format.

    Raises:
        NotFound: a part is missing.
    """
    for part in PARTS:
        docs = conllu_to_docs(read_part(treebank, part).decode("utf-8"), SENTENCES_OF_DOCUMENT, no_print=True)
        DocBin(docs=docs, store_user_data=True).to_disk(work / f"{part}.spacy")


def read_part(treebank: Path, part: str) -> bytes:
    """Return the CoNLL-U of one part.

    Raises:
        NotFound: it is not there.
    """
    plain = treebank / f"{part}.conllu"
    if plain.is_file():
        return plain.read_bytes()
    packed = treebank / f"{part}.conllu.gz"
    if packed.is_file():
        return gzip.decompress(packed.read_bytes())
    raise NotFound(f"{treebank} has no {plain.name} or {packed.name}")


def train(work: Path, out: Path, steps: int | None) -> None:
    """Train by `training.cfg` on the converted parts; `out/model-best` is what did best on the dev part."""
    overrides: dict[str, Any] = {"paths.train": str(work / "train.spacy"), "paths.dev": str(work / "dev.spacy")}
    if steps is not None:
        overrides |= {"training.max_steps": steps, "training.eval_frequency": max(1, min(500, steps // 2))}
    run_training(CONFIG, out, overrides=overrides)


def finish(trained: Path, treebank: Path, work: Path, out: Path) -> None:
    """Evaluate a trained pipeline on the test part and write it to `out`, with its figures and its card."""
    # Another copy is evaluated: a pipeline keeps the words that it has seen.
    scores = evaluate(spacy.load(trained), work / "test.spacy")
    nlp = spacy.load(trained)
    nlp.meta.update({**META, "performance": scores})
    # Where the trainer's data lay is nobody's business.
    nlp.config["paths"] = dict.fromkeys(nlp.config["paths"])
    nlp.to_disk(out)
    (out / "README.md").write_text(card(_facts(nlp, treebank, out, scores)), encoding="utf-8")


def evaluate(nlp: Any, test: Path) -> Mapping[str, float]:
    """Return the scores that `spacy evaluate` prints, and the words parsed in a second of processor time."""
    examples = list(Corpus(test)(nlp))
    found = nlp.evaluate(examples)
    scores = {task: round(float(found[task]), 4) for task in TASKS if found.get(task) is not None}
    return {**scores, "speed": round(_speed(nlp, [example.reference.text for example in examples]))}


def _speed(nlp: Any, texts: Sequence[str]) -> float:
    began = time.process_time()
    words = sum(len(doc) for doc in nlp.pipe(texts, batch_size=64))
    return words / max(time.process_time() - began, 1e-9)


def _facts(nlp: Any, treebank: Path, out: Path, scores: Mapping[str, float]) -> Facts:
    return Facts(
        version=str(META["version"]),
        scores=scores,
        steps=int(nlp.config["training"]["max_steps"]),
        sentences={part: read_part(treebank, part).count(b"# sent_id") for part in PARTS},
        digests={part: hashlib.sha256(read_part(treebank, part)).hexdigest() for part in PARTS},
        parameters=_parameters(nlp),
        megabytes=sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6,
        spacy=spacy.__version__,
    )


def _parameters(nlp: Any) -> int:
    """Count the numbers that were learned, those of the shared layers once."""
    nodes = {id(node): node for _, pipe in nlp.pipeline if hasattr(pipe, "model") for node in pipe.model.walk()}
    tables = [node.get_param(name) for node in nodes.values() for name in node.param_names if node.has_param(name)]
    return sum(table.size for table in tables if table is not None)


if __name__ == "__main__":
    sys.exit(main())
