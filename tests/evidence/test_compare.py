"""Gaps of accuracies and their intervals, against formulas and scipy."""

import math

import numpy as np
import pytest
import scipy.stats
from helpers import make_record

from persist import Cell
from persist.evidence.compare import STUDENT, accuracy_gap, best_accuracy, describe_pairs, final_accuracy, mean_accuracy


def runs(K, accuracies, **fields):
    """One run per seed, with that accuracy in its only epoch."""
    return [
        make_record(Cell(m=32, K=K, seed=seed, epochs=1, **fields), accuracy=lambda e, a=a: a)
        for seed, a in accuracies.items()
    ]


def test_one_run_each_has_the_standard_error_of_two_test_accuracies():
    gap = accuracy_gap(best_accuracy, runs(5, {0: 0.6445}), runs(1, {0: 0.6364}))
    assert gap.mean == pytest.approx(0.0081) and gap.pairs == 1 and describe_pairs(1) == "one run"
    assert (
        gap.margin
        == pytest.approx(2 * math.sqrt(0.6445 * 0.3555 / 10_000 + 0.6364 * 0.3636 / 10_000))
        == pytest.approx(2 * 0.0068, abs=2e-4)
    )
    assert (gap.low, gap.high) == (gap.mean - gap.margin, gap.mean + gap.margin) and str(gap) == "+0.0081 ± 0.0136"
    assert accuracy_gap(
        best_accuracy, runs(5, {0: 0.6}, test_size=100), runs(1, {0: 0.6}, test_size=100)
    ).margin == pytest.approx(2 * math.sqrt(2 * 0.24 / 100))


def test_two_pairs_that_agree_by_chance_are_no_surer_than_one():
    gap = accuracy_gap(best_accuracy, runs(5, {0: 0.61, 1: 0.62}), runs(1, {0: 0.60, 1: 0.61}))
    assert gap.mean == pytest.approx(0.01) and gap.margin == pytest.approx(0.0138, abs=1e-4)
    wide = accuracy_gap(best_accuracy, runs(5, {0: 0.61, 1: 0.65}), runs(1, {0: 0.60, 1: 0.61}))
    assert wide.margin == pytest.approx(12.706 * 0.03 / 2**0.5 / 2**0.5, rel=1e-3)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_several_seeds_have_students_interval_over_the_pairs(n):
    a, b = np.random.default_rng(n).uniform(0.4, 0.7, size=(2, n))
    gap = accuracy_gap(final_accuracy, runs(5, dict(enumerate(a))), runs(1, dict(enumerate(b))))
    expected = scipy.stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (gap.low, gap.high) == pytest.approx((expected.low, expected.high), rel=1e-3) and gap.pairs == n
    assert describe_pairs(n) == f"{n} pairs of seeds"


def test_only_seeds_that_both_have_are_paired():
    gap = accuracy_gap(best_accuracy, runs(5, {0: 0.9, 1: 0.6, 2: 0.7}), runs(1, {1: 0.5, 2: 0.5, 3: 0.1}))
    assert gap.mean == pytest.approx(0.15) and gap.pairs == 2
    assert accuracy_gap(best_accuracy, runs(5, {0: 0.9}), runs(1, {1: 0.5})) is None


def test_students_quantiles():
    assert pytest.approx([scipy.stats.t.ppf(0.975, df) for df in range(1, len(STUDENT) + 1)], abs=1e-3) == STUDENT


def test_the_accuracies_of_a_run():
    run = make_record(Cell(m=32, epochs=3), accuracy=lambda e: [0.2, 0.6, 0.4][e - 1])
    assert (best_accuracy(run), final_accuracy(run), mean_accuracy(run)) == (0.6, 0.4, pytest.approx(0.4))
    diverged = make_record(Cell(m=32, epochs=3), diverged_at=2, accuracy=lambda e: 0.3)
    assert (best_accuracy(diverged), final_accuracy(diverged), mean_accuracy(diverged)) == (0.3, 0.0, 0.15)
    assert best_accuracy(make_record(Cell(m=32, epochs=3), diverged_at=1)) == 0.0
