"""What a person says of a plan: how large, how exact, on what, at which prices."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ouroscope.records.checks import Problems

SMALLEST, LARGEST = 1_000.0, 1e15
"""Words of a corpus that a plan can be made for: below, no interval is worth planning; above, nobody has so many."""
NARROWEST = 1e-4
"""Half width that a plan can be made for: nothing that was measured lets one think of narrower ones."""
PRICES_OF = "2026-11-23"
"""Day of the prices that stand where none are given: round figures for an example, of no provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What is paid, in one currency."""

    cpu_hour: float = 0.05
    """An hour of one processor."""
    gpu_hour: float = 3.0
    """An hour of one GPU."""
    gigabyte: float = 0.01
    """10^9 bytes over the network."""

    def __post_init__(self) -> None:
        problems = Problems("prices")
        for name, price in (("cpu_hour", self.cpu_hour), ("gpu_hour", self.gpu_hour), ("gigabyte", self.gigabyte)):
            problems.check(math.isfinite(price) and price >= 0, name, "must be 0 or more")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """One question to the planner."""

    tokens: float
    """Words of the corpus."""
    interval: float = 0.01
    """Wanted half of the 95 % interval, as a share of the value."""
    metrics: tuple[str, ...] = ()
    """Headline metrics that shall be known so well; empty means all."""
    document_words: float = 200.0
    cores: int = 1
    """Processors that read and parse."""
    bandwidth: float = 100e6
    """Bytes a second from the store, all processors together."""
    prices: Prices = field(default_factory=Prices)
    parameters: float | None = None
    """Of the language model; None is the embedded one."""
    gpus: int = 1
    gpu_score: float | None = None
    """Tokens that one GPU scores in a second; None asks the processors."""
    gpu_write: float | None = None
    """Tokens that one GPU writes in a second, many documents at once; None asks the processors."""

    def __post_init__(self) -> None:
        problems = Problems("plan")
        problems.check(
            SMALLEST <= self.tokens <= LARGEST,
            "tokens",
            f"must be in [{SMALLEST:,.0f}, {LARGEST:.0e}], for example 1e9",
        )
        problems.check(
            NARROWEST <= self.interval < 1,
            "interval",
            f"must be in [{NARROWEST}, 1); 0.01 asks for values within 1 % of themselves",
        )
        problems.check(1 <= self.document_words <= 1e6, "document_words", "must be in [1, 1000000]")
        problems.check(1 <= self.cores <= 100_000, "cores", "must be in [1, 100000]")
        problems.check(1 <= self.gpus <= 100_000, "gpus", "must be in [1, 100000]")
        problems.check(_is_amount(self.bandwidth), "bandwidth", "must be above 0")
        for name in ("parameters", "gpu_score", "gpu_write"):
            value = getattr(self, name)
            problems.check(value is None or _is_amount(value), name, "must be above 0, or left out")
        problems.raise_any()

    @property
    def documents(self) -> int:
        """Return how many documents the corpus has."""
        return math.ceil(self.tokens / self.document_words)


def _is_amount(value: float) -> bool:
    return math.isfinite(value) and value > 0
