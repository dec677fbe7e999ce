"""How fast a model is asked for probabilities, beside one text at a time.

    python -m benchmarks.scoring --threads 1 --clock cpu

Two ways to the same numbers with the same weights: next-token records of `--prompts` prompts (the 100 most probable
tokens, entropy, the true token), and perplexity and greedy tokens of as many held-out documents, cut at `--tokens`:

- one text at a time, written after the method of the paper: each text through the library's tokenizer and the whole
  model, logits of all positions, softmax, the 100 most probable tokens, each turned into its string by itself, as the
  published script does;
- `score` as the service calls it, from the stored corpus to the stored predictions.

As in a run, prompts are the beginnings of held-out documents, and `score` looks at a text once for both; with
`--others` they begin documents that are not scored, and nothing is shared. On a machine that others use, `--clock cpu`
with `--threads 1` still compares the work; what two batches side by side gain shows on a quiet one.

They are timed in turn, round after round. Every log-probability of both ways is compared. `--memory` runs ours alone in
this process and prints how far its memory rose above the loaded model. Asked for: at least 8 times, and memory bounded
by one micro-batch of logits.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.generation import CLOCKS, Quiet
from ouroscope.corpora.docstrings import SOURCES, gather
from ouroscope.corpora.stored import write_corpus
from ouroscope.predictions import read_scored_texts
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.generation import Score
from ouroscope.store.artifacts import ArtifactStore
from services.generator.in_process.backend import HfBackend
from services.generator.models import find, import_model
from services.generator.scoring import score

PROMPT_TOKENS = 32
LAST = 32


@dataclass(frozen=True, slots=True)
class Setting:
    """What both ways get."""

    store: ArtifactStore
    backend: HfBackend
    model: ArtifactRef
    corpus: ArtifactRef
    questions: ArtifactRef
    texts: tuple[str, ...]
    prompts: tuple[str, ...]
    tokens: int
    batch: int


def read_options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="ouro-tiny", help="embedded model, directory or Hugging Face id")
    parser.add_argument("--texts", type=int, default=1000, help="prompts, and held-out documents")
    parser.add_argument("--others", action="store_true", help="prompts of documents that are not scored")
    parser.add_argument("--tokens", type=int, default=256, help="tokens of a document that are scored at most")
    parser.add_argument("--batch", type=int, default=0, help="batch size; 0 is what the service chooses")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--memory", action="store_true", help="only measure how far the memory of ours rises")
    return parser.parse_args()


def main() -> int:
    """Measure and print."""
    options = read_options()
    with tempfile.TemporaryDirectory() as folder:
        setting = prepared(options, ArtifactStore(folder))
        if options.memory:
            print(memory(setting))
            return 0
        theirs = OneAtATime(setting)
        wanted, found = theirs.run(), ours(setting)
        print(f"largest difference of a document's log-probability: {furthest(wanted, found):.1e}")
        times = timed({"one": theirs.run, "ours": lambda: ours(setting)}, CLOCKS[options.clock], options.rounds)
    show(options, setting, times)
    return 0


def prepared(options: argparse.Namespace, store: ArtifactStore) -> Setting:
    """Put model and documents into the store."""
    backend = HfBackend(store, device=options.device, threads=options.threads)
    info = import_model(store, find(options.model), backend.capabilities, Quiet(), max_bytes=1 << 40)
    tokens = backend.open(info.model).tokens
    gathered = (document.text for document in gather(SOURCES[:1]).documents)
    long = tuple(text for text in gathered if len(tokens.encode(text)) > PROMPT_TOKENS)
    texts = long[: options.texts]
    prompts = long[-options.texts :] if options.others else texts
    corpus, questions = stored(store, "d", texts), stored(store, "o" if options.others else "d", prompts)
    batch = options.batch or backend.batch_size(info.model, options.tokens)
    return Setting(store, backend, info.model, corpus, questions, texts, prompts, options.tokens, batch)


def stored(store: ArtifactStore, begin: str, texts: Sequence[str]) -> ArtifactRef:
    """Return the corpus of these texts."""
    return write_corpus(store, (Document(id=f"{begin}{number}", text=text) for number, text in enumerate(texts)))


def ours(setting: Setting) -> list[float]:
    """Score as the service does; return the log-probability of each document."""
    request = Score(
        model=setting.model,
        prompts=setting.questions,
        prompt_length=PROMPT_TOKENS,
        heldout=setting.corpus,
        max_tokens=setting.tokens,
        last_n=LAST,
        batch_size=setting.batch,
    )
    answer = score(setting.store, setting.backend, request, Quiet())
    return [text.log_probability for text in read_scored_texts(setting.store, answer.predictions)]


class OneAtATime:
    """The loop of a script: one text, one forward pass, all logits."""

    def __init__(self, setting: Setting) -> None:
        directory = setting.store.directory(setting.model)
        opened = setting.backend.open(setting.model)
        self._device = opened.loaded.model.device
        self._model = AutoModelForCausalLM.from_pretrained(directory, dtype=opened.loaded.model.dtype)
        self._model = self._model.eval().to(self._device)
        self._tokenizer = AutoTokenizer.from_pretrained(directory)
        self._start = list(opened.tokens.start)
        self._setting = setting

    @torch.no_grad()
    def run(self) -> list[float]:
        """Return the log-probability of each document."""
        for text in self._setting.prompts:
            self._next_token(self._ids(text, PROMPT_TOKENS + 1))
        return [self._perplexity(self._ids(text, self._setting.tokens)) for text in self._setting.texts]

    def _ids(self, text: str, limit: int) -> torch.Tensor:
        ids = self._tokenizer(text, add_special_tokens=False, truncation=True, max_length=limit)["input_ids"]
        return torch.tensor([[*self._start, *ids]], device=self._device)

    def _next_token(self, ids: torch.Tensor) -> tuple[list[float], float, int, float]:
        shares = torch.softmax(self._model(ids[:, :-1]).logits[0, -1].float(), -1)
        true = shares[ids[0, -1]]
        entropy = float(-(shares * torch.log(shares + 1e-12)).sum())
        top = shares.topk(100)
        self.strings = [self._tokenizer.decode([token]) for token in top.indices]
        return top.values.tolist(), entropy, int((shares > true).sum()) + 1, float(true)

    def _perplexity(self, ids: torch.Tensor) -> float:
        logits = self._model(ids).logits[0, :-1].float()
        targets = ids[0, 1:]
        log = torch.log_softmax(logits, -1)
        hits = logits.argmax(-1) == targets
        self.greedy, self.last = int(hits.sum()), int(hits[-LAST:].sum())
        return float(log.gather(-1, targets[:, None]).sum())


def furthest(wanted: Sequence[float], found: Sequence[float]) -> float:
    """Return the largest difference between two lists of log-probabilities."""
    return max(abs(one - other) for one, other in zip(wanted, found, strict=True))


def timed(
    ways: dict[str, Callable[[], list[float]]], clock: Callable[[], float], rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of each way in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = clock()
            way()
            seconds[name].append(clock() - began)
    return seconds


def memory(setting: Setting) -> str:
    """Return how far memory rose while texts were scored, beside what all logits of one batch would take."""
    model = setting.backend.open(setting.model)
    # Linux forgets the peak so far.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    ours(setting)
    positions = setting.batch * min(setting.tokens, model.context_tokens)
    return (
        f"peak memory rose by {resident('VmHWM') - before} MiB over the loaded model; "
        f"float32 logits of one batch of {setting.batch} texts would be "
        f"{4 * positions * model.vocabulary >> 20} MiB"
    )


def resident(what: str) -> int:
    """Return a number of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) >> 10


def show(options: argparse.Namespace, setting: Setting, times: dict[str, list[float]]) -> None:
    """Print the command and the ratio."""
    print(f"`{' '.join(['python -m benchmarks.scoring', *sys.argv[1:]])}`, {len(setting.texts)} prompts and documents")
    lengths = sorted(len(text) for text in setting.texts)
    print(f"characters of a document: median {lengths[len(lengths) // 2]}; batch size {setting.batch}")
    for name, seconds in times.items():
        print(f"{name}: {statistics.median(seconds):.2f} s ({options.clock} time, median of {len(seconds)})")
    ratio = statistics.median(a / b for a, b in zip(times["one"], times["ours"], strict=True))
    print(f"Ouroscope is {ratio:.1f} times as fast (asked for: 8)")


if __name__ == "__main__":
    sys.exit(main())
