"""A plan: what examining everything would take, how much of it is enough, and what that takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ouroscope_app.planning.coefficients import PROMPTS, Measured
from ouroscope_app.planning.costs import TEXT, Cost, costs
from ouroscope_app.planning.inputs import PRICES_OF, Inputs
from ouroscope_app.planning.sampling import Sampled, sampled

PROMPT_TOKENS = 32
"""Tokens of a prompt after which a model is asked what it expects."""
WORTH_RAY = 3600.0
"""Seconds of one machine from which a cluster pays: starting one takes a minute, and somebody has to look after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An answer of the planner."""

    inputs: Inputs
    prices_of: str
    """Day of the prices that stand where none are given."""
    measured_on: str
    """Day of the measurements."""
    documents: int
    """Of the whole corpus."""
    everything: tuple[Cost, ...]
    """What the whole corpus takes, measured once; a model scores and writes as many words."""
    metrics: tuple[Sampled, ...]
    """What each metric needs for the wanted interval."""
    sample_words: int
    """Words to read at random that are enough for all metrics of text; what the corpus has, if that is less."""
    sample_documents: int
    prompts: int
    """Enough for all metrics of the model."""
    sample: tuple[Cost, ...]
    """What that takes: these words read or written, these prompts asked."""
    out_of_reach: tuple[str, ...]
    """Metrics for which the whole corpus is too small."""
    ray: bool
    """Whether the whole corpus, read by one machine, takes so long that a cluster pays."""


def plan(inputs: Inputs, measured: Measured) -> Plan:
    """Return the plan for these inputs.

    Raises:
        InvalidRequest: a metric is unknown, or its interval was not measured.
    """
    metrics = sampled(inputs, measured)
    samples = max((one.samples for one in metrics), default=1)
    wanted = max((one.read for one in metrics), default=0)
    words = min(float(wanted), inputs.tokens)
    prompts = max((one.documents for one in metrics if one.unit == PROMPTS), default=0)
    everything = costs(inputs.tokens, inputs.tokens * measured["model_tokens"], 1, inputs, measured)
    return Plan(
        inputs=inputs,
        prices_of=PRICES_OF,
        measured_on=measured.date,
        documents=inputs.documents,
        everything=everything,
        metrics=metrics,
        sample_words=round(words),
        sample_documents=min(max((one.documents for one in metrics if one.read), default=0), inputs.documents),
        prompts=prompts,
        sample=costs(words, float(prompts * PROMPT_TOKENS), samples, inputs, measured),
        out_of_reach=tuple(one.metric for one in metrics if one.read > inputs.tokens),
        ray=_on_one_machine(inputs, measured) > WORTH_RAY,
    )


def _on_one_machine(inputs: Inputs, measured: Measured) -> float:
    alone = costs(inputs.tokens, 0.0, 1, replace(inputs, cores=1), measured)
    return next(cost.seconds for cost in alone if cost.work == TEXT)
