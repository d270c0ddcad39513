"""Runs compared: the gap of an accuracy between configurations, with its interval. Imports no torch.

One run each: two standard errors of the difference of test accuracies; that knows nothing of the spread over seeds.
Several seeds: paired by seed (the same weights to start with, the same minibatches), Student's 95 % interval over the
pairs; with two seeds the wider of the two intervals. All runs see one test set: its own error is not in Student's.
"""

import math
import statistics
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit  # the quantile of Student's t, by degrees of freedom

from persist.evidence.select import by_cell
from persist.record import Record

CHANCE = 0.1  # accuracy of a guess among ten classes


class Gap(NamedTuple):
    """mean: of one less the other; margin: half the width of its interval; seeds: over which the mean is taken."""

    mean: float
    margin: float
    seeds: int

    @property
    def low(self) -> float:
        return self.mean - self.margin

    @property
    def high(self) -> float:
        return self.mean + self.margin

    def __str__(self):
        return f"{self.mean:+.4f} ± {self.margin:.4f}"


def best_accuracy(run: Record) -> float:
    """The highest test accuracy over the epochs; 0 where no epoch has one."""
    return max((e["test_accuracy"] for e in run.history if e["test_accuracy"] is not None), default=0.0)


def final_accuracy(run: Record) -> float:
    """The test accuracy after the last epoch; 0 where the run diverged."""
    return run.history[-1]["test_accuracy"] or 0.0


def mean_accuracy(run: Record, epochs: float | None = None) -> float:
    """The mean of the test accuracy over the first so many epochs (a fraction too; None: all of the run), with straight
    lines between the evaluations after each epoch, from chance at the start."""
    accuracies = [CHANCE, *(e["test_accuracy"] or 0.0 for e in run.history)]
    until = len(run.history) if epochs is None else epochs
    at = np.append(np.arange(0, until), until)
    return float(np.trapezoid(np.interp(at, range(len(accuracies)), accuracies), at) / until)


def standard_error(n: int, *accuracies: float) -> float:
    """Of a sum or difference of accuracies, each from n test examples of its own."""
    return math.sqrt(sum(p * (1 - p) / n for p in accuracies))


def epochs_near_best(run: Record, within: float | None = None) -> range:
    """From the first to the last epoch whose test accuracy is within so much (None: one standard error) of the best."""
    best = best_accuracy(run)
    least = best - (within or standard_error(run.cell.test_examples, best))
    near = [e["epoch"] for e in run.history if (e["test_accuracy"] or 0.0) >= least]
    return range(near[0], near[-1] + 1)


def accuracy_gap(quantity: Callable, *arms: list[Record]) -> Gap | None:
    """The gap of an accuracy between configurations, each given by its runs: of the first less the second, plus the
    third less the fourth, over the seeds that all of them have; None where there is no such seed."""
    values = [{run.cell.seed: quantity(run) for run in runs} for runs in arms]
    pairs = [[of[seed] for of in values] for seed in set.intersection(*map(set, values))]
    if not pairs:
        return None
    found = [sum((-1) ** place * value for place, value in enumerate(pair)) for pair in pairs]
    margin = max(2 * standard_error(arms[0][0].cell.test_examples, *pair) for pair in pairs)
    if len(pairs) > 1:
        student = float(stdtrit(len(pairs) - 1, 0.975)) * statistics.stdev(found) / math.sqrt(len(pairs))
        margin = student if len(pairs) > 2 else max(student, margin)
    return Gap(statistics.fmean(found), margin, len(pairs))


def prediction(quantity: Callable, runs: list[Record], others: list[Record], quoted: float) -> tuple[Gap, int]:
    """The mean accuracy of the runs less that of one run which is quoted, with a 95 % prediction interval: the spread
    of seeds is pooled over the configurations of `others`; at least two standard errors of two test sets. Also the
    degrees of freedom of that spread: 0 where no configuration has two seeds, and the interval knows no spread."""
    mean, groups = statistics.fmean(map(quantity, runs)), [list(map(quantity, seeds)) for seeds in by_cell(others)]
    degrees = sum(len(group) - 1 for group in groups)
    margin = 2 * standard_error(runs[0].cell.test_examples, mean, quoted)
    if degrees:
        squares = sum((value - statistics.fmean(group)) ** 2 for group in groups for value in group)
        margin = max(margin, stdtrit(degrees, 0.975) * math.sqrt(squares / degrees * (1 + 1 / len(runs))))
    return Gap(mean - quoted, float(margin), len(runs)), degrees
