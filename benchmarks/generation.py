"""How fast the generator writes, beside the library it stands on.

    python -m benchmarks.generation --model ouro-tiny

Ways to the same number of new tokens with the same weights, prompts and sampling, timed in turn, round after round, so
that a busy machine slows all of them:

- one prompt at a time through `model.generate`, the shape of the published loop's script;
- `model.generate` on whole batches of equally long prompts, the best case of the library, in several batch sizes;
- the same with the library's static cache, in the best of these sizes;
- the library's continuous batching, `generate_batch`, on fewer prompts (`--continuous`);
- `HfModel.write` as the service calls it, from texts to texts.

Asked for: the last at least 10 times the first, and at least 0.95 of the best of the others. `--clock cpu` counts
processor time in place of wall time, for machines that others use too; with `--threads 1` both mean the same on an idle
machine.
"""

from __future__ import annotations

import argparse
import platform
import pydoc_data.topics
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import torch
from transformers import GenerationConfig

from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.records.documents import Document
from ouroscope.records.generation import PreparePrompts, SamplingSpec, WindowSpec
from ouroscope.records.progress import Progress
from ouroscope.store.artifacts import ArtifactStore
from services.generator.backend import Prompt
from services.generator.in_process.backend import HfBackend
from services.generator.in_process.model import HfModel
from services.generator.models import find, import_model
from services.generator.windows import prepare_prompts

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Quiet:
    """A task that nobody watches."""

    def check(self) -> None:
        """Go on."""

    def report(self, progress: Progress) -> None:
        """Tell nobody."""


def read_options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="ouro-tiny", help="embedded model, directory or Hugging Face id")
    parser.add_argument("--documents", type=int, default=256)
    parser.add_argument("--single", type=int, default=8, help="documents of the one-at-a-time loop")
    parser.add_argument("--prefix", type=int, default=16, help="tokens of each prompt")
    parser.add_argument("--new", type=int, default=48, help="new tokens of each document")
    parser.add_argument("--batch", type=int, default=0, help="batch size of ours; 0 is what the service chooses")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128, 256], help="batch sizes of the library")
    parser.add_argument("--continuous", type=int, default=0, help="documents of continuous batching; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    return parser.parse_args()


def main() -> int:
    """Measure and print."""
    options = read_options()
    with tempfile.TemporaryDirectory() as folder:
        store = ArtifactStore(folder)
        backend = HfBackend(store, device=options.device, threads=options.threads)
        info = import_model(store, find(options.model), backend.capabilities, Quiet(), max_bytes=1 << 40)
        model = backend.open(info.model)
        window = WindowSpec(document_tokens=options.prefix + 1, prefix_tokens=options.prefix, count=options.documents)
        topics = (Document(id=name, text=text) for name, text in pydoc_data.topics.topics.items())
        request = PreparePrompts(model=info.model, corpus=write_corpus(store, topics), window=window)
        cut = prepare_prompts(store, request, model.tokens, Quiet())
        prompts = [Prompt(each.id, each.text[: each.prefix_length]) for each in read_corpus(store, cut.corpus)]
        batch = options.batch or backend.batch_size(info.model, options.new)
        clock = CLOCKS[options.clock]
        best = best_batch(model, prompts, options, clock)
        speeds = timed(ways_of(model, prompts, options, batch, best), clock, options.rounds)
    show(options, info.parameters, backend, speeds)
    return 0


def ways_of(
    model: HfModel, prompts: list[Prompt], options: argparse.Namespace, batch: int, best: int
) -> dict[str, Callable[[], int]]:
    """Return the ways by name: first one prompt at a time, last ours."""
    new = options.new
    ways = {
        "one prompt at a time, `model.generate`": lambda: raw(model, prompts[: options.single], 1, new),
        f"batches of {best}, `model.generate`": lambda: raw(model, prompts, best, new),
        f"batches of {best}, `model.generate`, static cache": lambda: raw(model, prompts, best, new, "static"),
    }
    if options.continuous:
        ways["continuous batching, `model.generate_batch`"] = lambda: continuous(
            model, prompts[: options.continuous], new
        )
    return {**ways, f"batches of {batch}, Ouroscope": lambda: ours(model, prompts, batch, new)}


def best_batch(model: HfModel, prompts: list[Prompt], options: argparse.Namespace, clock: Callable[[], float]) -> int:
    """Return the batch size in which the library is fastest."""
    ways = {str(size): partial(raw, model, prompts, size, options.new) for size in options.batches}
    speeds = timed(ways, clock, options.rounds)
    return int(max(speeds, key=lambda size: statistics.median(speeds[size])))


def raw(model: HfModel, prompts: list[Prompt], batch: int, new: int, cache: str | None = None) -> int:
    """Let the library write; return the number of new tokens."""
    made = 0
    for begin in range(0, len(prompts), batch):
        texts = [prompt.text for prompt in prompts[begin : begin + batch]]
        ids = torch.tensor([[*model.tokens.start, *found] for found in model.tokens.encode_many(texts)])
        ids = ids.to(model.loaded.model.device)
        out = model.loaded.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            top_k=50,
            min_new_tokens=new,
            max_new_tokens=new,
            pad_token_id=0,
            cache_implementation=cache,
        )
        made += len(model.tokens.decode_many(out[:, ids.shape[1] :].tolist())) * (out.shape[1] - ids.shape[1])
    return made


def continuous(model: HfModel, prompts: list[Prompt], new: int) -> int:
    """Let the library write with requests that join and leave a running batch; return the number of new tokens."""
    asked = [[*model.tokens.start, *model.tokens.encode(prompt.text)] for prompt in prompts]
    # No token ends a document, so that all are equally long.
    how = GenerationConfig(do_sample=True, top_k=50, max_new_tokens=new, pad_token_id=0, eos_token_id=-1)
    answers = model.loaded.model.generate_batch(inputs=asked, generation_config=how, progress_bar=False)
    return sum(len(answer.generated_tokens) for answer in answers.values())


def ours(model: HfModel, prompts: list[Prompt], batch: int, new: int) -> int:
    """Write as the service does; return the number of new tokens."""
    sampling = SamplingSpec(top_k=50, min_new_tokens=new, max_new_tokens=new)
    return sum(each.tokens for each in model.write(prompts, sampling, batch, lambda _: None).continuations)


def timed(ways: dict[str, Callable[[], int]], clock: Callable[[], float], rounds: int) -> dict[str, list[float]]:
    """Return the tokens per second of each way in each round, after one round that is not counted."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = clock()
            tokens = way()
            if number:
                speeds[name].append(tokens / (clock() - began))
    return speeds


def show(options: argparse.Namespace, parameters: int, backend: HfBackend, speeds: dict[str, list[float]]) -> None:
    """Print the command, the setting and the table."""
    single, *library, mine = speeds.values()
    strongest = max(library, key=statistics.median)
    print(f"`{' '.join(['python -m benchmarks.generation', *sys.argv[1:]])}`\n")
    print(
        f"{options.model}, {parameters / 1e6:.1f}M parameters; {options.prefix} + {options.new} tokens per document; "
        f"{platform.machine()}, {', '.join(f'{k} {v}' for k, v in backend.fingerprint().items() if k != 'machine')}\n"
    )
    print(f"| way | tokens/s ({options.clock} time, median of {options.rounds}) | beside one at a time |")
    print("|---|---:|---:|")
    for name, found in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(found, single, strict=True))
        print(f"| {name} | {statistics.median(found):.0f} | {ratio:.1f} |")
    share = statistics.median(a / b for a, b in zip(mine, strongest, strict=True))
    print(f"\nOuroscope gives {share:.2f} of the throughput of the library's fastest way.")


if __name__ == "__main__":
    sys.exit(main())
