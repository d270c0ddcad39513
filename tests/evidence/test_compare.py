"""Gaps of accuracies and their intervals, against formulas and scipy."""

import math

import numpy as np
import pytest
import scipy.stats
from helpers import make_record

from persist import Cell
from persist.evidence import compare
from persist.evidence.compare import accuracy_gap, best_accuracy, epochs_near_best, final_accuracy, mean_accuracy


def runs(K, accuracies, m=32, **fields):
    """One run per seed, with that accuracy in its only epoch."""
    return [
        make_record(Cell(m=m, K=K, seed=seed, epochs=1, **fields), accuracy=lambda e, a=a: a)
        for seed, a in accuracies.items()
    ]


def test_one_run_each_has_the_standard_error_of_two_test_accuracies():
    gap = accuracy_gap(best_accuracy, runs(5, {0: 0.6445}), runs(1, {0: 0.6364}))
    assert gap.mean == pytest.approx(0.0081) and gap.seeds == 1
    assert gap.margin == pytest.approx(2 * math.sqrt(0.6445 * 0.3555 / 10_000 + 0.6364 * 0.3636 / 10_000))
    assert (gap.low, gap.high) == (gap.mean - gap.margin, gap.mean + gap.margin) and str(gap) == "+0.0081 ± 0.0136"
    few = accuracy_gap(best_accuracy, runs(5, {0: 0.6}, test_size=100), runs(1, {0: 0.6}, test_size=100))
    assert few.margin == pytest.approx(2 * math.sqrt(2 * 0.24 / 100))


def test_two_pairs_that_agree_by_chance_are_no_surer_than_one():
    gap = accuracy_gap(best_accuracy, runs(5, {0: 0.61, 1: 0.62}), runs(1, {0: 0.60, 1: 0.61}))
    assert gap.mean == pytest.approx(0.01) and gap.margin == pytest.approx(0.0138, abs=1e-4)
    wide = accuracy_gap(best_accuracy, runs(5, {0: 0.61, 1: 0.65}), runs(1, {0: 0.60, 1: 0.61}))
    assert wide.margin == pytest.approx(12.706 * 0.03 / 2**0.5 / 2**0.5, rel=1e-3)


@pytest.mark.parametrize("n", [3, 5, 10, 30])
def test_several_seeds_have_students_interval_over_the_pairs(n):
    a, b = np.random.default_rng(n).uniform(0.4, 0.7, size=(2, n))
    gap = accuracy_gap(final_accuracy, runs(5, dict(enumerate(a))), runs(1, dict(enumerate(b))))
    expected = scipy.stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (gap.low, gap.high) == pytest.approx((expected.low, expected.high)) and gap.seeds == n


def test_only_seeds_that_both_have_are_paired():
    gap = accuracy_gap(best_accuracy, runs(5, {0: 0.9, 1: 0.6, 2: 0.7}), runs(1, {1: 0.5, 2: 0.5, 3: 0.1}))
    assert gap.mean == pytest.approx(0.15) and gap.seeds == 2
    assert accuracy_gap(best_accuracy, runs(5, {0: 0.9}), runs(1, {1: 0.5})) is None
    assert accuracy_gap(best_accuracy, [], runs(1, {1: 0.5})) is None


def test_how_a_gap_differs_from_another():
    """0.62 - 0.55 against 0.64 - 0.63, with the errors of four test accuracies."""
    arms = [runs(5, {0: 0.62}, m=512), runs(1, {0: 0.55}, m=512), runs(1, {0: 0.63}), runs(5, {0: 0.64})]
    gap = accuracy_gap(best_accuracy, *arms)
    assert gap.mean == pytest.approx(0.06)
    assert gap.margin == pytest.approx(2 * math.sqrt(sum(p * (1 - p) for p in (0.62, 0.55, 0.63, 0.64)) / 10_000))


def test_a_prediction_pools_the_spread_of_seeds():
    """Against scipy: one new run predicted from three, with the variance pooled over three configurations."""
    groups = [[0.640, 0.652, 0.629], [0.60, 0.63], [0.41, 0.42, 0.45, 0.44], [0.7]]
    arms = [runs(K, dict(enumerate(group))) for K, group in enumerate(groups, start=1)]
    gap, degrees = compare.prediction(best_accuracy, arms[0], [run for arm in arms for run in arm], 0.63)
    pooled = sum((len(g) - 1) * np.var(g, ddof=1) for g in groups if len(g) > 1) / 6
    low, high = scipy.stats.t.interval(0.95, 6, loc=np.mean(groups[0]), scale=math.sqrt(pooled * (1 + 1 / 3)))
    assert degrees == 6 and gap.seeds == 3
    assert (gap.low + 0.63, gap.high + 0.63) == pytest.approx((low, high))


def test_a_prediction_is_never_surer_than_two_test_sets():
    one = runs(5, {0: 0.64})
    gap, degrees = compare.prediction(best_accuracy, one, one, 0.6445)
    assert degrees == 0 and gap.mean == pytest.approx(-0.0045)
    assert gap.margin == pytest.approx(2 * math.sqrt((0.64 * 0.36 + 0.6445 * 0.3555) / 10_000))
    alike = runs(5, {0: 0.64, 1: 0.64, 2: 0.64})
    gap_of_three, degrees = compare.prediction(best_accuracy, alike, alike, 0.6445)
    assert (gap_of_three.margin, degrees) == (pytest.approx(gap.margin), 2)


def test_the_accuracies_of_a_run():
    run = make_record(Cell(m=32, epochs=3), accuracy=lambda e: [0.2, 0.6, 0.4][e - 1])
    assert (best_accuracy(run), final_accuracy(run)) == (0.6, 0.4)
    diverged = make_record(Cell(m=32, epochs=3), diverged_at=2, accuracy=lambda e: 0.3)
    assert (best_accuracy(diverged), final_accuracy(diverged)) == (0.3, 0.0)
    assert best_accuracy(make_record(Cell(m=32, epochs=3), diverged_at=1)) == 0.0


def test_the_mean_accuracy_is_the_area_under_straight_lines_from_chance():
    run = make_record(Cell(m=32, epochs=3), accuracy=lambda e: [0.2, 0.6, 0.4][e - 1])
    assert mean_accuracy(run) == pytest.approx((0.15 + 0.4 + 0.5) / 3)
    assert mean_accuracy(run, 1.5) == pytest.approx((0.15 + 0.5 * (0.2 + 0.4) / 2) / 1.5)
    assert mean_accuracy(run, 0.5) == pytest.approx((0.1 + 0.15) / 2)


def test_the_epochs_near_the_best_are_within_one_standard_error():
    """0.00480 at 0.64 and 10 000 test images: 0.6353 is near, 0.6351 is not; a dip between does not matter."""
    accuracies = [0.6351, 0.6353, 0.5, 0.64, 0.6353, 0.6351]
    run = make_record(Cell(m=32, epochs=6), accuracy=lambda e: accuracies[e - 1])
    assert epochs_near_best(run) == range(2, 6)
    few = make_record(Cell(m=32, epochs=6, test_size=100), accuracy=lambda e: accuracies[e - 1])
    assert epochs_near_best(few) == range(1, 7)
    assert epochs_near_best(run, within=0.001) == range(4, 5) and epochs_near_best(run, within=0.01) == range(1, 7)
