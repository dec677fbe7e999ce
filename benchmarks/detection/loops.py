"""Trained autophagy loops as a monitored pipeline would see them: the material of the detection half of the benchmark.

    python -m benchmarks.detection.loops --out OUT [--recipes slow default] [--arms ...] [--seeds 8] [--backwards]

Each loop begins with models/ouro-tiny on the embedded corpus and goes on for ten generations; of every generation OUT
keeps what a monitor would get (see `record`). Generation 0, the model as it ships, is the baseline. Several processes
may work on one OUT: each loop is claimed by a lock, a loop that ended is not done again, and one that was killed begins
anew and gives the same. The verdict noted beside each generation only tells when a loop may end
(see `arms.has_ended`); the benchmark judges the records again.

What was chosen, and why:

- documents of 64 tokens, as many as make 17,280 written tokens or more, about 13,000 words: the rung of 10,000 words
  has 20 groups which must all be full, and models that collapse write fewer words per token. A loop needs at most 5,940
  windows, the pool has 6,135 of that length, so that every prompt and every human text is new.
- equal steps in all arms, so equally many tokens are learnt from, whatever the number of documents. A generation takes
  10 s (`slow`) or 14 s (`default`) of one core of an AMD EPYC, half of it for writing.
- 200 prompts of 32 tokens and 100 held-out documents of up to 64, the same in all generations; headline metrics and
  those of the rivals. No surplexity and no report on the human text, which the verdict does without.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import structlog

from benchmarks.detection.arms import ARMS, RECIPES, Loop, has_ended, loops
from benchmarks.detection.record import Facts, Recorded, Value, load_sequence, save, sequence_of
from benchmarks.detection.workshop import OF_RIVALS, Texts, Workshop
from ouroscope.records.analysis import Comparison, PastEffects, Policy
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Generate
from ouroscope.records.runs import StageTime
from ouroscope.records.training import FineTune
from ouroscope.store import ArtifactStore
from services.analyzer.comparison import compare
from services.analyzer.sample import LADDER
from services.analyzer.side import Side
from services.analyzer.spread import shipped_spread
from services.analyzer.tools import Tools, open_tools
from services.coordinator.protocols import Pools

OF_TEXT = (*OF_RIVALS[:-1], "types")


def main() -> int:
    """Run all loops that are asked for and not done yet."""
    options = _options()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    wanted = loops(options.recipes, options.arms, range(options.first_seed, options.first_seed + options.seeds))
    texts, tools = Texts.embedded(), open_tools()
    for _, of_seed in groupby(reversed(wanted) if options.backwards else wanted, key=lambda loop: loop.seed):
        _run_seed(options.out, of_seed, texts, tools)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [arm.name for arm in ARMS]
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=["slow", "default"])
    parser.add_argument("--arms", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--backwards", action="store_true", help="begin with the last loop")
    return parser.parse_args()


def _run_seed(out: Path, wanted: Iterable[Loop], texts: Texts, tools: Tools) -> None:
    """Run the loops of one seed that nobody has done or does, in a store that is thrown away afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        shop: Workshop | None = None
        for loop in wanted:
            with _claimed(out, loop) as ours:
                if ours and not _is_done(out, loop):
                    shop = shop or Workshop(ArtifactStore(folder), texts, tools, loop.seed)
                    run_loop(loop, shop, lambda recorded: _keep(out, recorded))


@contextmanager
def _claimed(out: Path, loop: Loop) -> Iterator[bool]:
    """Say whether the loop is ours until the end; the claim of a process that died is void."""
    path = out / ".claims" / f"{loop.recipe}-{loop.arm.name}-{loop.seed}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _is_done(out: Path, loop: Loop) -> bool:
    kept = load_sequence(sequence_of(out, loop.recipe, loop.arm.name, loop.seed))
    return has_ended(loop.arm, [one.facts for one in kept])


def _keep(out: Path, recorded: Recorded) -> None:
    save(out, recorded)
    facts = recorded.facts
    verdict = facts.verdict.value if facts.verdict else "-"
    times = " ".join(f"{one.stage} {one.seconds:.1f}" for one in facts.times)
    place = f"{facts.recipe}/{facts.arm}/{facts.seed}/{facts.generation}"
    print(f"{place}: perplexity {facts.heldout_perplexity:.2f}, {facts.words} words, {verdict} ({times})", flush=True)


@dataclass(slots=True, kw_only=True)
class _Judge:
    """The default policy beside generation 0, with the history since."""

    baseline: Side | None = None
    history: tuple[PastEffects, ...] = ()

    def judge(self, generation: int, side: Side) -> Comparison | None:
        """Return what is said of a generation, None of the first, which becomes the baseline."""
        if self.baseline is None:
            self.baseline = side
            return None
        told = compare(self.baseline, side, spread=shipped_spread(), policy=Policy(), history=self.history)
        self.history += (told.as_past(generation),)
        return told


def run_loop(loop: Loop, shop: Workshop, keep: Callable[[Recorded], None]) -> None:
    """Let one model go on training, generation after generation, until nothing can change any more."""
    model, pools, judge, facts = shop.base, Pools(), _Judge(), list[Facts]()
    while True:
        generation = len(facts)
        prompts = shop.prompts(loop.arm, generation)
        request = Generate(model=model, prompts=prompts, sampling=loop.sampling(generation), generation=generation)
        corpus = shop.write(request).corpus
        side = shop.examine(model, corpus)
        facts.append(_facts(loop, generation, shop, corpus, side, judge.judge(generation, side)))
        keep(Recorded(facts=facts[-1], side=side))
        if has_ended(loop.arm, facts):
            return
        pools = pools.with_round(prompts, corpus)
        recipe = loop.training(generation)
        model = shop.fine_tune(FineTune(model=model, corpora=loop.arm.protocol(pools), recipe=recipe))


def _facts(
    loop: Loop, generation: int, shop: Workshop, corpus: ArtifactRef, side: Side, told: Comparison | None
) -> Facts:
    documents = shop.documents(corpus)
    times = tuple(StageTime(stage=stage, seconds=round(seconds, 3)) for stage, seconds in shop.seconds.items())
    shop.seconds.clear()
    return Facts(
        recipe=loop.recipe,
        arm=loop.arm.name,
        seed=loop.seed,
        generation=generation,
        heldout_perplexity=side.model_values["heldout_perplexity"].value or 0.0,
        documents=len(documents),
        tokens=len(documents) * loop.arm.new_tokens,
        words=side.report.tokens,
        characters=sum(len(one.text) - one.prefix_length for one in documents),
        values=_values(side),
        verdict=told.verdict if told else None,
        times=times,
    )


def _values(side: Side) -> tuple[Value, ...]:
    rung = side.rung(LADDER[0])
    found = {one.id: one.value for one in rung.metrics} if rung else {}
    return tuple(Value(id=metric, value=found.get(metric)) for metric in OF_TEXT)


if __name__ == "__main__":
    sys.exit(main())
