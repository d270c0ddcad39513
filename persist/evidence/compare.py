"""Two arms of an experiment compared: the gap of a quantity between their runs, with its interval. Imports no torch.

One run each: the interval is two standard errors of the difference of two test accuracies,
sqrt(p(1-p)/n + q(1-q)/n); it knows nothing of the spread between seeds. Several seeds: the runs are paired by seed
(the same weights to start with, the same minibatches), and the interval is Student's, 95 %, over the pairs; of two pairs
alone, which may agree by chance, it is no narrower than that of one run. All runs see one test set: its own error is not in it.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable

from persist.record import Record

COMPARABLE = 0.02  # a loss in accuracy up to which two arms are comparable
# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; the last one beyond.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclasses.dataclass(frozen=True)
class Gap:
    """mean: of one arm less the other; margin: half the width of its interval; pairs: seeds that both arms have."""

    mean: float
    margin: float
    pairs: int

    @property
    def low(self) -> float:
        return self.mean - self.margin

    @property
    def high(self) -> float:
        return self.mean + self.margin

    def __str__(self):
        return f"{self.mean:+.4f} ± {self.margin:.4f}"


def best_accuracy(run: Record) -> float:
    """The best test accuracy over the epochs; 0 where no epoch has one."""
    return max((e["test_accuracy"] for e in run.history if e["test_accuracy"] is not None), default=0.0)


def final_accuracy(run: Record) -> float:
    """The test accuracy after the last epoch; 0 where the run diverged."""
    return run.history[-1]["test_accuracy"] or 0.0


def mean_accuracy(run: Record) -> float:
    """Over all epochs: the height of the curve; an epoch without an accuracy counts as 0."""
    return statistics.fmean(e["test_accuracy"] or 0.0 for e in run.history)


def accuracy_gap(quantity: Callable[[Record], float], arm: list[Record], other: list[Record]) -> Gap | None:
    """The gap of an accuracy between two arms, over the seeds that both have; None where they share no seed."""
    left, right = ({run.cell.seed: quantity(run) for run in runs} for runs in (arm, other))
    seeds = sorted(set(left) & set(right))
    if not seeds:
        return None
    gaps, n = [left[seed] - right[seed] for seed in seeds], arm[0].cell.test_examples
    margins = (
        [2 * math.sqrt(sum(p * (1 - p) / n for p in (left[seed], right[seed]))) for seed in seeds]
        if len(seeds) < 3
        else []
    )
    if len(seeds) > 1:
        margins.append(STUDENT[min(len(seeds) - 1, len(STUDENT)) - 1] * statistics.stdev(gaps) / math.sqrt(len(seeds)))
    return Gap(statistics.fmean(gaps), max(margins), len(seeds))


def common_seeds(arm: list[Record], other: list[Record]) -> tuple[list[Record], list[Record]]:
    """The runs of each arm whose seed the other has as well."""
    seeds = {run.cell.seed for run in arm} & {run.cell.seed for run in other}
    return [run for run in arm if run.cell.seed in seeds], [run for run in other if run.cell.seed in seeds]


def describe_pairs(pairs: int) -> str:
    """How sure one can be."""
    return "one run" if pairs == 1 else f"{pairs} pairs of seeds"
