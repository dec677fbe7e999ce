"""Measures how fast this machine is: the real services write, score, train and analyse a little, on a store of its own.

What was measured is kept in the home, since it changes with the machine, the version, the model and the recipe only.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ouroscope
from ouroscope.canonical import digest_of, from_plain, to_plain
from ouroscope.client import AnalyzerClient, GeneratorClient, TrainerClient, open_channel
from ouroscope.corpora.docstrings import SOURCES, gather
from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import InvalidRequest
from ouroscope.executor import processors
from ouroscope.records.analysis import AnalyzeCorpus
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import View
from ouroscope.records.generation import ChatFormat, Generate, PreparePrompts, Score, WindowSpec
from ouroscope.records.runs import RunSpec
from ouroscope.records.training import FineTune
from ouroscope_app.embedded import Workers, embedded_workers
from ouroscope_app.estimating.rates import Rate, Rates, line
from ouroscope_app.estimating.work import EMBEDDED_DOCUMENTS, Kind
from ouroscope_app.home import Home

SMALL, LARGE = 16, 64
"""Documents of the two measurements of each kind; how much a request costs by itself shows in the difference."""
FEW_STEPS, MORE_STEPS = 2, 6
LONGEST = 256
"""Tokens of a document here at most: the standard library has few that are longer."""
_SUMMARY = "Somebody did something in a place at a time, and others said what they think of it. " * 3
"""About as long as the summary of an article."""
_KEPT = 50
"""Calibrations that a home remembers."""

Times = tuple[tuple[int, float], tuple[int, float]]


async def calibrated(home: Home, spec: RunSpec) -> Rates:
    """Return the rates of this machine for the model and the recipe of a run; measured in seconds, then remembered."""
    path = home.path / "state" / "calibration.json"
    key = digest_of("calibration/2", ouroscope.__version__, platform.node(), processors(), _what_matters(spec))
    known = _known(path)
    if key in known:
        return from_plain(Rates, known[key])
    with tempfile.TemporaryDirectory(prefix="ouroscope-") as folder:
        rates = await _measured(Home(Path(folder)), spec)
    _keep(path, {**known, key: to_plain(rates)})
    return rates


def _what_matters(spec: RunSpec) -> tuple[Any, ...]:
    recipe = replace(spec.recipe, steps=1, seed=0, checkpoint_steps=1)
    return spec.model, recipe, spec.sampling, _window(spec, LARGE)


def _known(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        return {str(key): to_plain(from_plain(Rates, plain)) for key, plain in found.items()}
    except (OSError, ValueError, AttributeError, InvalidRequest):
        return {}


def _keep(path: Path, known: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(dict(list(known.items())[-_KEPT:])))
    draft.replace(path)


async def _measured(home: Home, spec: RunSpec) -> Rates:
    began = time.process_time()
    documents = gather(SOURCES[:1]).documents
    dataset = (time.process_time() - began) * EMBEDDED_DOCUMENTS / len(documents)
    corpus = write_corpus(home.store(), documents)
    async with embedded_workers(home) as workers:
        bench = await _Bench.open(workers, _spelt_out(spec), corpus, len(documents))
        return Rates(rates=tuple([await measure() for measure in bench.measures()]), dataset=dataset)


def _spelt_out(spec: RunSpec) -> RunSpec:
    """Return a specification whose instructions have a summary in them: the text here has none of its own."""

    def told(chat: ChatFormat | None) -> ChatFormat | None:
        return chat and replace(chat, instruction=chat.asked(_SUMMARY))

    return replace(
        spec,
        sampling=replace(spec.sampling, chat=told(spec.sampling.chat)),
        recipe=replace(spec.recipe, chat=told(spec.recipe.chat)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What is measured, and with what."""

    spec: RunSpec
    generator: GeneratorClient
    trainer: TrainerClient
    analyzer: AnalyzerClient
    model: ArtifactRef
    pool: ArtifactRef
    documents: int
    """In the pool."""
    windows: tuple[ArtifactRef, ArtifactRef]
    """SMALL and LARGE."""

    @classmethod
    async def open(cls, workers: Workers, spec: RunSpec, pool: ArtifactRef, documents: int) -> _Bench:
        """Bring in the model and the windows, and let everything load what it needs."""
        generator = GeneratorClient(open_channel(workers.generator))
        model = (await generator.import_model(spec.model)).model
        cuts = [PreparePrompts(model=model, corpus=pool, window=_window(spec, count)) for count in (SMALL, LARGE)]
        small, large = [(await generator.prepare_prompts(cut)).corpus for cut in cuts]
        return cls(
            spec=spec,
            generator=generator,
            trainer=TrainerClient(open_channel(workers.trainer)),
            analyzer=AnalyzerClient(open_channel(workers.analyzer)),
            model=model,
            pool=pool,
            documents=documents,
            windows=(small, large),
        )

    def measures(self) -> Sequence[Callable[[], Awaitable[Rate]]]:
        """Return the measurements, those first whose loading others would have to wait for."""
        return (self.cut, self.write, self.score, self.train, self.analyse)

    async def cut(self) -> Rate:
        """Windows of a pool: nothing but reading it."""
        other = replace(_window(self.spec, LARGE), seed=1)
        took = await _timed(
            self.generator.prepare_prompts(PreparePrompts(model=self.model, corpus=self.pool, window=other))
        )
        return Rate(kind=Kind.CUT.value, fixed=0.0, per_unit=took / self.documents)

    async def write(self) -> Rate:
        """Documents of a model."""
        window = _window(self.spec, LARGE)
        new = window.document_tokens - window.prefix_tokens
        sampling = replace(self.spec.sampling, min_new_tokens=min(self.spec.sampling.min_new_tokens, new))
        sampling = replace(sampling, max_new_tokens=new)

        async def once(number: int, seed: int) -> float:
            drawn = replace(sampling, seed=seed)
            request = Generate(model=self.model, prompts=self.windows[number], sampling=drawn)
            return await _timed(self.generator.generate(request))

        await once(0, 1)
        return line(Kind.WRITE, (SMALL * new, await once(0, 2)), (LARGE * new, await once(1, 2)))

    async def score(self) -> Rate:
        """Documents under a model."""
        tokens = _window(self.spec, LARGE).document_tokens

        async def once(number: int, last: int) -> float:
            request = Score(model=self.model, documents=self.windows[number], max_tokens=tokens, last_n=last)
            return await _timed(self.generator.score(request))

        await once(0, 1)
        return line(Kind.SCORE, (SMALL * tokens, await once(0, 2)), (LARGE * tokens, await once(1, 2)))

    async def train(self) -> Rate:
        """Steps of the recipe."""

        async def once(steps: int, seed: int) -> float:
            recipe = replace(self.spec.recipe, steps=steps, seed=seed, checkpoint_steps=1000)
            return await _timed(
                self.trainer.fine_tune(FineTune(model=self.model, corpora=(self.windows[1],), recipe=recipe))
            )

        await once(1, 1)
        return line(Kind.TRAIN, (FEW_STEPS, await once(FEW_STEPS, 2)), (MORE_STEPS, await once(MORE_STEPS, 2)))

    async def analyse(self) -> Rate:
        """Text of continuations, with the parser if there is one."""
        window = _window(self.spec, LARGE)
        new = window.document_tokens - window.prefix_tokens

        async def once(number: int, drawn: int) -> float:
            request = AnalyzeCorpus(corpus=self.windows[number], view=View.CONTINUATION, drawn_concepts=drawn)
            return await _timed(self.analyzer.analyze_corpus(request))

        await once(0, 1)
        return line(Kind.ANALYSE, (SMALL * new, await once(0, 2)), (LARGE * new, await once(1, 2)))


def _window(spec: RunSpec, count: int) -> WindowSpec:
    tokens = min(spec.document_tokens, LONGEST)
    prefix = min(tokens - 1, max(1, round(spec.arms[0].real_share * tokens)))
    return WindowSpec(document_tokens=tokens, prefix_tokens=prefix, count=count)


async def _timed(work: Awaitable[object]) -> float:
    """Return the seconds that work takes here, or would take if nothing else were going on.

    On a busy machine the clock tells how long work waits for processors, which are then what it really needs.
    """
    busy = is_busy()
    began, used = time.perf_counter(), time.process_time()
    await work
    took = time.perf_counter() - began
    return min(took, time.process_time() - used) if busy else took


def is_busy() -> bool:
    """Return whether other programs, or this one, have kept half of the processors at work for the last minute."""
    return os.getloadavg()[0] > processors() / 2
