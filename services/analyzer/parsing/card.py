"""The model card of a trained pipeline. Knows no spaCy: only the figures that training measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TASKS = {
    "token_f": ("tokens", "F1 of the word boundaries"),
    "sents_f": ("sentence boundaries", "F1"),
    "pos_acc": ("universal parts of speech", "accuracy"),
    "morph_acc": ("morphological features", "accuracy, all features of a token right"),
    "lemma_acc": ("lemmas", "accuracy"),
    "dep_uas": ("heads", "unlabelled attachment score (UAS)"),
    "dep_las": ("heads and relations", "labelled attachment score (LAS)"),
}
"""spaCy's names of the scores that are told, what each is of, and how it is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a card tells of one pipeline."""

    version: str
    scores: Mapping[str, float]
    """By name as in `TASKS`, in [0, 1]; `speed` in words per second of processor time."""
    steps: int
    sentences: Mapping[str, int]
    """Sentences of each part of the treebank."""
    digests: Mapping[str, str]
    """SHA-256 of each part."""
    parameters: int
    megabytes: float
    spacy: str


def card(facts: Facts) -> str:
    """Return the card in Markdown."""
    return _CARD.format(
        version=facts.version,
        accuracy="\n".join(_row(task, facts.scores) for task in TASKS if task in facts.scores),
        speed=round(facts.scores["speed"], -2),
        steps=facts.steps,
        wrong=round(100 * (1 - facts.scores.get("dep_uas", 0))),
        parts="\n".join(f"| {part} | {count:,} | `{facts.digests[part]}` |" for part, count in facts.sentences.items()),
        parameters=facts.parameters,
        megabytes=facts.megabytes,
        spacy=facts.spacy,
    )


def _row(task: str, scores: Mapping[str, float]) -> str:
    of, how = TASKS[task]
    return f"| {of} | {how} | {100 * scores[task]:.1f} % |"


_CARD = """\
---
language: en
license: cc-by-sa-4.0
library_name: spacy
tags: [spacy, token-classification, dependency-parsing]
---

# en_ouro_sm {version}

A small English pipeline for spaCy, {parameters:,} parameters and {megabytes:.1f} MB: tokens, sentences, universal parts
of speech, morphological features, lemmas and dependency trees in the style of Universal Dependencies. It is the parser
that [Ouroscope](../../README.md) measures syntactic networks with when no other is chosen; no download, no accelerator.

## Accuracy

On the test part of the treebank, from raw text (own tokens, own sentences), as `spacy evaluate` counts:

| task | measure | score |
| --- | --- | ---: |
{accuracy}

It parses about {speed:,.0f} tokens per second of processor time (one thread, all components, texts of ten sentences).
A report names its parser by version and a digest of all files here.

## Data and licence

[Universal Dependencies English Web Treebank 2.15](https://universaldependencies.org/treebanks/en_ewt/): weblogs,
newsgroups, e-mail, reviews and questions from the web, annotated by hand; licence
[CC BY-SA 4.0](https://creativecommons.org/licenses/by-sa/4.0/), under which this pipeline is offered as well. Natalia
Silveira, Timothy Dozat, Marie-Catherine de Marneffe, Samuel Bowman, Miriam Connor, John Bauer and Christopher D.
Manning: *A Gold Standard Dependency Corpus for English*, LREC 2014, and later contributors. Text:
English Web Treebank, LDC2012T13. Nothing else was learned from: no word vectors, no other text.

| part | sentences | SHA-256 of the CoNLL-U file |
| --- | ---: | --- |
{parts}

The test part was read for the figures above only; the weights are those that did best on the dev part.

## Training

    python -m services.analyzer.parsing.train TREEBANK OUT

{steps:,} steps on one processor core, spaCy {spacy}, by `services/analyzer/parsing/training.cfg` (also in `config.cfg`
beside this card): Adam with warm-up and linear decay, dropout 0.1, seed 0. Texts of ten sentences, so that
sentence boundaries are learned too. The same command on other hardware gives weights that differ in
their last digits.

## Use and limits

For measuring corpora: values of one pipeline are comparable with one another, not with those of another pipeline.
Accuracy is that of a small model: of a hundred tokens about {wrong} get a wrong head, more in long sentences and in
text unlike the web of 2012 (all capitals, code, poetry, transcripts of speech). English only. Errors are not spread
evenly over dialects and registers, since the treebank is not. Not for decisions about people.

Any other pipeline can be used in its place: `OURO_ANALYZER_PARSER` or `--parser` takes the name of an installed one or
a folder.
"""
