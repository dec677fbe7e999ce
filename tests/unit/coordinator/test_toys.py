"""Models so small that the literature knows how they end, driven by the protocols that drive language models.

A toy has a `fit` and a `write`; a corpus is a block of numbers with one row per repetition of the experiment. What is
told apart is the protocol alone, so a wrong training set shows as a wrong constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pytest

from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from services.coordinator.protocols import PROTOCOLS, Pools, Terms, training_set
from services.coordinator.protocols.mixing import optimal_real_weight

from .fakes import made

Block = npt.NDArray[np.float64]
"""[repetition, document]."""
Model = TypeVar("Model")


@dataclass(frozen=True)
class Toy(Generic[Model]):
    """A model that can be fitted in one line."""

    fit: Callable[[Sequence[Any], Sequence[float]], Model]
    """From blocks, and the weight of a document of each."""
    write: Callable[[Model], Any]
    """A block of n documents."""
    draw: Callable[[Sequence[Any], int | None], Any]
    """So many documents of a pool, uniformly; None: all of them."""


def looped(
    toy: Toy[Model], protocol: str, base: Model, human: Callable[[], Any], rounds: int, terms: Terms
) -> list[Model]:
    """Return M_0, ..., M_rounds as the loop makes them: what is written, and by whom, is the loop's rule."""
    blocks: dict[ArtifactRef, Any] = {}
    pools, models = Pools(), [base]
    for j in range(rounds):
        people, written = made(ArtifactKind.CORPUS, "H", j), made(ArtifactKind.CORPUS, "D", j)
        blocks[people], blocks[written] = human(), toy.write(models[-1])
        pools = pools.with_round(people, written)
        portions = training_set(protocol, pools, terms)
        chosen = [toy.draw([blocks[one] for one in portion.pool], portion.documents) for portion in portions]
        models.append(toy.fit(chosen, [portion.weight for portion in portions]) if portions else models[-1])
    return models


def of(protocol: str, documents: int, **given: Any) -> Terms:
    own = PROTOCOLS[protocol]
    shares = {"human_fraction": own.human_fraction, "synthetic_fraction": own.synthetic_fraction}
    return Terms(documents=documents, **{**shares, **given})


def scalar_toy(rng: np.random.Generator, repetitions: int, documents: int, fit: Any, write: Any) -> Toy[Any]:
    """Return a toy whose documents are numbers."""

    def draw(pool: Sequence[Block], count: int | None) -> Block:
        together = np.concatenate(pool, axis=1)
        if count is None:
            return together
        order = rng.random(together.shape).argsort(axis=1)[:, :count]
        return np.take_along_axis(together, order, axis=1)

    return Toy(fit=fit, write=write, draw=draw)


# --- Gaussian -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gaussian:
    """Means and variances, one for each repetition."""

    mean: Block
    variance: Block


def gaussians(protocol: str, rounds: int, repetitions: int, documents: int, seed: int, **given: Any) -> list[Gaussian]:
    """Return the fits of N(0, 1) over the rounds: weighted mean and variance of what is trained on."""
    rng = np.random.default_rng(seed)

    def fit(blocks: Sequence[Block], weights: Sequence[float]) -> Gaussian:
        values = np.concatenate(blocks, axis=1)
        each = np.concatenate([np.full(block.shape[1], weight) for block, weight in zip(blocks, weights, strict=True)])
        mean = values @ each / each.sum()
        return Gaussian(mean, (values - mean[:, None]) ** 2 @ each / each.sum())

    def write(model: Gaussian) -> Block:
        noise = rng.standard_normal((repetitions, documents))
        return model.mean[:, None] + np.sqrt(model.variance)[:, None] * noise

    def human() -> Block:
        return rng.standard_normal((repetitions, documents))

    truth = Gaussian(np.zeros(repetitions), np.ones(repetitions))
    toy = scalar_toy(rng, repetitions, documents, fit, write)
    return looped(toy, protocol, truth, human, rounds, of(protocol, documents, **given))


def test_the_variance_of_a_replaced_gaussian_shrinks_by_one_nth_a_round() -> None:
    """E var_k = (1 - 1/n)^k for the maximum-likelihood fit to n values; Shumailov et al., Nature 631 (2024)."""
    fits = gaussians("replace", rounds=20, repetitions=6000, documents=25, seed=1)
    for k in (1, 5, 10, 20):
        variance = fits[k].variance
        error = variance.std() / math.sqrt(len(variance))
        assert variance.mean() == pytest.approx((1 - 1 / 25) ** k, abs=4 * error)


def test_the_error_of_a_replaced_mean_grows_with_the_rounds() -> None:
    """In units of 1/n, E mean^2 = 1 + (1 - 1/n) + ...: nearly one a round."""
    fits = gaussians("replace", rounds=10, repetitions=6000, documents=25, seed=2)
    for k in (1, 5, 10):
        squared = 25 * fits[k].mean ** 2
        expected = sum((1 - 1 / 25) ** i for i in range(k))
        assert squared.mean() == pytest.approx(expected, abs=4 * squared.std() / math.sqrt(len(squared)))


def test_a_replaced_gaussian_keeps_its_spread_no_more_often_than_the_bound() -> None:
    """Pr(sigma_k > e) <= exp(-k / 4n) / e; Suresh et al., arXiv 2412.17646 (2024)."""
    n = 10
    fits = gaussians("replace", rounds=150, repetitions=2000, documents=n, seed=3)
    for k in (10, 50, 150):
        for spread in (0.1, 0.3, 1.0):
            wide = float((np.sqrt(fits[k].variance) > spread).mean())
            assert wide <= math.exp(-k / (4 * n)) / spread
    assert np.median(fits[150].variance) < 1e-3, "the loop ends in a point"


def test_replacing_errs_most_a_draw_of_the_pool_less_and_accumulating_least() -> None:
    """Squared error of the mean over 200 repetitions; the order of Kazdan et al., arXiv 2410.16713 (2024)."""
    errors = {
        protocol: [float((fit.mean**2).mean()) for fit in gaussians(protocol, 30, 200, 50, seed=4)]
        for protocol in ("replace", "accumulate-subsample", "accumulate", "human")
    }
    for k in (10, 20, 30):
        assert errors["replace"][k] > errors["accumulate-subsample"][k] > errors["accumulate"][k]
    assert errors["accumulate"][30] < math.pi**2 / 6 / 50 * 1.2, "bounded"
    assert errors["human"][30] == pytest.approx(1 / 50, rel=0.4), "the control only has its sampling error"


def test_an_untouched_model_and_a_replayed_control_do_not_move() -> None:
    still = gaussians("untouched", rounds=5, repetitions=3, documents=10, seed=5)
    assert all(fit is still[0] for fit in still)
    replayed = gaussians("human-replayed", rounds=5, repetitions=3, documents=10, seed=5)
    assert all(np.array_equal(fit.mean, replayed[1].mean) for fit in replayed[1:])


@pytest.mark.parametrize("human", [0.5, 0.8])
def test_weighted_training_ends_at_the_error_of_the_theory_and_the_best_weight_is_best(human: float) -> None:
    """V = (w^2 / k + (1 - w)^2) / (1 - (1 - w)^2) in units of 1/m; He et al., arXiv 2502.18049 (2025), Gaussian mean.

    The fitted variance is held at 1 by the size of the sets, so that the mean alone wanders.
    """
    n = 200
    real, written = n * human, n * (1 - human)
    best = optimal_real_weight(real / written)

    def error(weight: float | None) -> float:
        given = {"human_fraction": human, "synthetic_fraction": 1 - human, "real_weight": weight}
        fits = gaussians("weighted", 25, 800, n, seed=6, **given)
        return float(np.mean([(fit.mean**2).mean() for fit in fits[12:]])) * written

    def theory(weight: float) -> float:
        return (weight**2 * written / real + (1 - weight) ** 2) / (1 - (1 - weight) ** 2)

    found = {weight: error(weight) for weight in (None, best / 2, (1 + best) / 2)}
    assert found[None] == pytest.approx(theory(best), rel=0.07)
    assert found[best / 2] == pytest.approx(theory(best / 2), rel=0.07)
    assert min(found, key=lambda weight: found[weight]) is None


# --- Regression -----------------------------------------------------------------------------------------------------

ROWS, FEATURES = 400, 10


@dataclass(frozen=True)
class Seen:
    """Sums over the rows of a block, all that least squares needs: X'X and X'y."""

    square: npt.NDArray[np.float64]
    product: npt.NDArray[np.float64]


def regression_errors(protocol: str, rounds: int, repetitions: int, seed: int) -> list[float]:
    """Return |w_j - w*|^2 of each model in units of sigma^2 d / (T - d - 1), the error of one fit to real data."""
    rng = np.random.default_rng(seed)
    shape = (repetitions, ROWS, FEATURES)

    def write(weights: npt.NDArray[np.float64]) -> Seen:
        inputs = rng.standard_normal(shape)
        labels = np.einsum("rtd,rd->rt", inputs, weights) + rng.standard_normal(shape[:2])
        return Seen(np.einsum("rtd,rte->rde", inputs, inputs), np.einsum("rtd,rt->rd", inputs, labels))

    def fit(blocks: Sequence[list[Seen]], weights: Sequence[float]) -> npt.NDArray[np.float64]:
        seen = [one for block in blocks for one in block]
        square, product = sum(one.square for one in seen), sum(one.product for one in seen)
        return np.asarray(np.linalg.solve(square, product[..., None])[..., 0])

    def draw(pool: Sequence[Seen], count: int | None) -> list[Seen]:
        assert count is None, "sums over rows cannot be drawn from"
        return list(pool)

    # M_0 was fitted to real data, which is H_0; what comes later is the loop's.
    real = write(np.zeros((repetitions, FEATURES)))
    toy = Toy(fit=fit, write=write, draw=draw)
    models = looped(toy, protocol, fit([[real]], [1.0]), lambda: real, rounds, of(protocol, ROWS))
    unit = FEATURES / (ROWS - FEATURES - 1)
    return [float((model**2).sum(axis=1).mean()) / unit for model in models]


def test_the_error_of_a_regression_grows_by_one_unit_a_fit_when_data_is_replaced() -> None:
    """Test error sigma^2 d / (T - d - 1) * n at the n-th fit; Gerstgrasser et al., arXiv 2404.01413 (2024)."""
    errors = regression_errors("replace", rounds=19, repetitions=400, seed=7)
    for n in (1, 5, 10, 20):
        assert errors[n - 1] == pytest.approx(n, rel=0.07)
    slope = np.polyfit(range(1, 21), errors, 1)[0]
    assert slope == pytest.approx(1.0, rel=0.07)


def test_the_error_of_a_regression_stays_below_pi_squared_over_six_when_data_accumulates() -> None:
    """Test error times the sum of 1/i^2 to n; the same source, Theorem 2."""
    errors = regression_errors("accumulate", rounds=19, repetitions=400, seed=8)
    for n, expected in ((1, 1.0), (5, 1.464), (10, 1.550), (20, 1.596)):
        assert sum(1 / i**2 for i in range(1, n + 1)) == pytest.approx(expected, abs=5e-4)
        assert errors[n - 1] == pytest.approx(expected, rel=0.07)
    assert max(errors) < math.pi**2 / 6 * 1.05


# --- Words ----------------------------------------------------------------------------------------------------------


def survivors(protocol: str, counts: Sequence[int], rounds: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return whether each symbol is still in the model after each round, [round, symbol].

    The model is the relative frequency of symbols; M_0 has those of a text in which symbol i stands `counts[i]` times,
    and every round writes a text of the same length.
    """
    rng = np.random.default_rng(seed)
    total = sum(counts)

    def fit(blocks: Sequence[Block], weights: Sequence[float]) -> Block:
        found = sum(weight * block for block, weight in zip(blocks, weights, strict=True))
        return np.asarray(found / found.sum())

    def write(shares: Block) -> Block:
        return rng.multinomial(total, shares).astype(float)

    def draw(pool: Sequence[Block], count: int | None) -> Block:
        together = sum(pool)
        return together if count is None else rng.multivariate_hypergeometric(together.astype(int), count).astype(float)

    text = np.array(counts, dtype=float)
    models = looped(Toy(fit, write, draw), protocol, text / total, lambda: text, rounds, of(protocol, total))
    return np.array([model > 0 for model in models])


def test_rare_symbols_survive_at_least_as_often_as_the_bound() -> None:
    """A symbol that stands L times survives k rounds with 1 - exp(-L / k) at least; Suresh et al., arXiv 2412.17646."""
    copies = 1500
    occurrences = (1, 2, 5, 10, 30)
    alive = survivors("replace", [count for count in occurrences for _ in range(copies)], rounds=20, seed=9)
    for place, count in enumerate(occurrences):
        for k in (1, 2, 5, 10, 20):
            share = alive[k, place * copies : (place + 1) * copies].mean()
            bound = 1 - math.exp(-count / k)
            assert share >= bound - 4 * math.sqrt(bound * (1 - bound) / copies)
    # After one round the bound is the value itself: a count is Poisson.
    assert alive[1, :copies].mean() == pytest.approx(1 - math.exp(-1), abs=0.05)


def test_what_is_forgotten_never_comes_back_when_data_is_replaced_and_is_not_forgotten_when_it_accumulates() -> None:
    counts = [1, 2, 4, 8] * 50
    replaced = survivors("replace", counts, rounds=15, seed=10)
    assert not (replaced[1:] & ~replaced[:-1]).any()
    assert replaced[15].mean() < 0.6
    assert survivors("accumulate", counts, rounds=15, seed=10).all()


def test_cycles_lose_words_in_the_published_order() -> None:
    """Diversity lost: full all, incremental 68 %, balanced 30 %, expanding 22 %; Briesch et al., arXiv 2311.16822."""
    counts = [1, 2, 4, 8] * 100
    kept = {
        cycle: survivors(f"cycle-{cycle}", counts, rounds=50, seed=11)[-1].mean()
        for cycle in ("full", "incremental", "balanced", "expanding")
    }
    assert kept["full"] < kept["incremental"] < kept["balanced"] < kept["expanding"]
