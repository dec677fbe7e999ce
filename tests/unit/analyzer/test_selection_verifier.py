"""When a verifier that errs is good enough: the published threshold, checked by selecting and learning again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.errors import Undefined
from ouroscope.records.selection import SelectionRule, SelectionSpec
from services.analyzer.selection.candidate import Candidate
from services.analyzer.selection.rules import verified
from services.analyzer.selection.verifier import unigram_f1, verifier_threshold

FEATURES = 10


def test_the_published_values_of_the_threshold():
    # Feng et al., arXiv 2406.07515.
    assert verifier_threshold(0.9, 0.3) == pytest.approx(0.75)
    assert verifier_threshold(0.7, 0.05) == pytest.approx(0.933, abs=5e-4)


@given(right=st.floats(0, 1), wrong=st.floats(0, 1))
def test_the_threshold_is_a_share_and_a_better_verifier_has_a_higher_one(right, wrong):
    if right + wrong == 0:
        with pytest.raises(Undefined):
            verifier_threshold(right, wrong)
        return
    threshold = verifier_threshold(right, wrong)
    assert 0 <= threshold <= 1
    assert verifier_threshold(1.0, wrong) >= threshold
    assert verifier_threshold(right, 1.0) <= threshold


def test_without_a_mistake_any_data_will_do_and_without_a_verifier_half_must_be_right():
    assert verifier_threshold(0.1, 0.0) == 1.0
    assert verifier_threshold(0.6, 0.6) == 0.5


def kept_of(right: npt.NDArray[np.bool_], keep_right: float, keep_wrong: float, seed: int) -> list[int]:
    pool = [
        Candidate(position=n, name=n.to_bytes(16, "big"), human=False, domain="", words=1, value=float(is_right))
        for n, is_right in enumerate(right.tolist())
    ]
    share = min(max(float(right.mean()), 1e-9), 1 - 1e-9)
    spec = SelectionSpec(rule=SelectionRule.VERIFIER, right_share=share, keep_right=keep_right, keep_wrong=keep_wrong)
    return [entry.index for entry in verified(pool, spec, seed)]


class Learner:
    """Learns on which side of a plane points lie, by least squares, from labels that a verifier has kept."""

    def __init__(self, keep_right: float, keep_wrong: float) -> None:
        self._rates = keep_right, keep_wrong
        self._rng = np.random.default_rng(1)
        self._truth = self._rng.normal(size=FEATURES)
        self._round = 0
        self.plane = np.zeros(FEATURES)

    def learn(self, examples: int, error: float | None) -> float:
        """Learn from labels of which a share is wrong, or that it writes itself; return how many it has right then."""
        x = self._rng.normal(size=(examples, FEATURES))
        y = np.sign(x @ self._truth)
        written = np.sign(x @ self.plane) if error is None else np.where(self._rng.random(examples) < error, -y, y)
        self._round += 1
        kept = kept_of(written == y, *self._rates, seed=self._round)
        self.plane = np.linalg.lstsq(x[kept], written[kept], rcond=None)[0]
        return float((np.sign(x @ self.plane) == y).mean())


@pytest.mark.parametrize(("keep_right", "keep_wrong"), [(0.9, 0.3), (0.7, 0.05), (1.0, 1.0)])
def test_more_data_lead_to_the_truth_below_the_threshold_and_to_its_opposite_above(keep_right, keep_wrong):
    threshold = verifier_threshold(keep_right, keep_wrong)
    sizes, step = (200, 2_000, 20_000), min(0.1, (1 - threshold) / 2)
    below = [Learner(keep_right, keep_wrong).learn(n, threshold - step) for n in sizes]
    above = [Learner(keep_right, keep_wrong).learn(n, threshold + step) for n in sizes]
    assert below == sorted(below)
    assert above == sorted(above, reverse=True)
    assert below[-1] > 0.85
    assert above[-1] < 0.15


def majority_right(error: float, keep_right: float, keep_wrong: float, rounds: int) -> list[float]:
    """Answer questions round by round, keep what a verifier keeps, learn the commonest answer of all rounds."""
    rng = np.random.default_rng(2)
    questions, answers = 100, 10
    lead = np.zeros(questions)
    found = []
    for round_ in range(rounds):
        right = rng.random(questions * answers) >= error
        kept = kept_of(right, keep_right, keep_wrong, seed=round_)
        np.add.at(lead, np.array(kept) // answers, np.where(right[kept], 1, -1))
        found.append(float((lead > 0).mean()))
    return found


@pytest.mark.parametrize(("keep_right", "keep_wrong"), [(0.9, 0.3), (0.7, 0.05)])
def test_round_after_round_the_commonest_answer_becomes_the_right_one_or_the_wrong_one(keep_right, keep_wrong):
    threshold = verifier_threshold(keep_right, keep_wrong)
    below = majority_right(threshold - 0.06, keep_right, keep_wrong, rounds=25)
    above = majority_right(threshold + 0.06, keep_right, keep_wrong, rounds=25)
    assert below[-1] > 0.9 > below[0]
    assert above[-1] < 0.1


def test_a_loop_that_writes_its_own_labels_is_drawn_to_the_truth_even_from_above_the_threshold():
    # Yi et al., arXiv 2510.16657: repeated training on what a verifier keeps ends at what the verifier knows.
    learner = Learner(0.9, 0.3)
    first = learner.learn(3_000, error=verifier_threshold(0.9, 0.3) + 0.1)
    last = [learner.learn(3_000, error=None) for _ in range(16)][-1]
    assert first < 0.2
    assert last > 0.9


def test_likeness_worked_out_by_hand():
    # 3 words in common of 3 and 4: 2 * 2 / 7 where "the" counts once, as the text has it once.
    assert unigram_f1(["the", "cat", "sat"], ["the", "cat", "the", "dog"]) == pytest.approx(4 / 7)
    assert unigram_f1(["a"], ["b"]) == 0
    assert unigram_f1([], ["b"]) == 0
    with pytest.raises(Undefined):
        unigram_f1([], [])


@given(one=st.lists(st.sampled_from("abcd"), min_size=1), other=st.lists(st.sampled_from("abcd"), min_size=1))
def test_likeness_is_symmetric_and_1_for_the_same_words_in_any_order(one, other):
    assert unigram_f1(one, other) == unigram_f1(other, one)
    assert 0 <= unigram_f1(one, other) <= 1
    assert (unigram_f1(one, other) == 1) == (sorted(one) == sorted(other))
