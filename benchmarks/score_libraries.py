"""What a model expects in the libraries of the embedded corpus: the records from which model metrics are calibrated.

    python benchmarks/score_libraries.py STORE [--model ouro-tiny]

Takes up to 300 passages of every library that has 60, from the parts that ouro-tiny was not trained on, and prints the
reference that `python -m services.analyzer.calibrate TABLE --store STORE --predictions REF` wants. Minutes on one core.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import defaultdict

from ouroscope.client import GeneratorClient, open_channel
from ouroscope.corpora.docstrings import Part, gather
from ouroscope.corpora.stored import write_corpus
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.generation import Score
from ouroscope.store import ArtifactStore
from services.generator.service import start

FEWEST, PROMPTS, TEXTS = 60, 300, 120
"""Passages that a library must have, and how many of each serve as prompts and as scored texts."""
WORDS = 25
"""Words of the shortest passage: it must hold a prompt of 32 tokens."""


def main() -> None:
    """Score and print the reference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--model", default="ouro-tiny")
    options = parser.parse_args()
    print(asyncio.run(score(ArtifactStore(options.store), options.model)))


async def score(store: ArtifactStore, model: str) -> ArtifactRef:
    """Return the predictions of `model`, each record with its library as `domain`."""
    libraries = passages()
    prompts = write_corpus(store, [one for found in libraries for one in found[:PROMPTS]])
    texts = write_corpus(store, [one for found in libraries for one in found[:TEXTS]])
    server = await start(store, device="cpu", threads=1)
    channel = open_channel(server.address)
    try:
        generator = GeneratorClient(channel)
        info = await generator.import_model(model)
        request = Score(
            model=info.model, prompts=prompts, heldout=texts, documents=texts, prompt_length=32, max_tokens=128
        )
        return (await generator.score(request)).predictions
    finally:
        await channel.close()
        await server.stop(grace=0.0)


def passages() -> list[list[Document]]:
    """Return the shuffled passages of each library."""
    corpus, by_library, rng = gather(), defaultdict(list), random.Random(0)
    for document in (*corpus.part(Part.PROMPT), *corpus.part(Part.HELD_OUT)):
        if len(document.text.split()) >= WORDS:
            by_library[document.domain].append(document)
    large = [found for found in by_library.values() if len(found) >= FEWEST]
    for found in large:
        rng.shuffle(found)
    return large


if __name__ == "__main__":
    main()
