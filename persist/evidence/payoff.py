"""Does reuse pay? Gradients to a fixed loss, every arm at its own best rate. Reads records only; imports no torch.

The plan, written before the runs, is docs/payoff-plan.md; this is its arithmetic. What an arm costs is counted in
gradients (examples evaluated for a gradient) until the loss that is evaluated is at or below a target.
"""

import dataclasses
import itertools
import math
import numbers
import statistics
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from scipy.special import bdtr, stdtrit  # the binomial distribution function; the quantile of Student's t

from persist.cell import Cell
from persist.evidence.curves import describe_data, describe_model, style
from persist.grids import find_records, load_grid
from persist.record import Record, write_atomically


class Arm(NamedTuple):
    """Fields of its cells; minibatches loaded for an iteration; its name, colour and line in pictures."""

    K: int
    reuse: str
    lr_policy: str
    loads: float
    label: str
    color: str
    line: str | tuple


NOT_YET = "not recorded yet"
RESULTS = Path(__file__).resolve().parents[2] / "results"  # of this checkout
K = 5
ARMS = {
    "fresh": Arm(1, "consecutive", "constant", 1, "fresh (K = 1)", *style(1)),
    "reuse": Arm(K, "consecutive", "constant", 1 / K, f"reuse (K = {K})", *style(K)),
    "spaced": Arm(K, "spaced", "constant", 1, f"spaced (K = {K})", "#CC79A7", "--"),
    "reuse-kmu": Arm(K, "consecutive", "kmu", 1 / K, f"reuse, kµ (K = {K})", "#D55E00", (0, (3, 1, 1, 1))),
    "fresh-kmu": Arm(K, "fresh", "kmu", 1, f"fresh, kµ (cycle of {K})", "#56B4E9", ":"),
}
CONTRASTS = (("reuse", "fresh"), ("spaced", "fresh"), ("reuse", "spaced"), ("reuse-kmu", "fresh-kmu"))
SIZES = (512, 32)
ABOVE = (0.10, 0.05, 0.20)  # a target is so much above L*; the first one is the primary target
LOOSE = ABOVE.index(0.20)  # the target that is the easiest to reach
TRIED, AGAIN, SEEDS = 100, 101, range(10, 18)  # seeds: of every rate, of the two best once more, of the test
ALPHA = 0.05 / len(CONTRASTS)  # Bonferroni, over the contrasts of one m
FREE = (0.8, 1.25)

Runs = dict[Cell, Record | None]  # None where a run is not recorded


class Evidence(NamedTuple):
    """The runs that choose rates and targets, on held-out images, and those of the test."""

    rates: Runs
    test: Runs


def load(root="results", grids="grids") -> Evidence:
    """The records in root/payoff-rates (else of results/) and root/payoff; root: runs or results."""

    def recorded(cells, *folders):
        return dict.fromkeys(cells) | {record.cell: record for record in find_records(cells, folders)}

    root, path = Path(root), Path(grids) / "payoff-rates.yaml"
    cells = load_grid(path).cells if path.exists() else []
    rates = recorded(cells, root / "payoff-rates", root.parent / "results" / "payoff-rates")
    return Evidence(rates, recorded(plan(rates)[1], root / "payoff"))


def of_arm(runs: Runs, m: int, arm: str, seed: int | None = None) -> Runs:
    """Those of an arm (with a seed: of that alone), by their rates."""
    cells = [c for c in runs if (c.m, c.K, c.reuse, c.lr_policy) == (m, *ARMS[arm][:3]) and seed in (None, c.seed)]
    return {cell: runs[cell] for cell in sorted(cells, key=lambda cell: (cell.lr, cell.seed))}


def ended(runs: Runs) -> list[Record]:
    """The records of the runs that have ended."""
    return [run for run in runs.values() if run and run.status != "unfinished"]


def budget(cell: Cell) -> int:
    """Gradients of a whole run."""
    return cell.epochs * cell.K * cell.examples


def losses(record: Record) -> list[float]:
    """At its evaluations; math.inf where one is not finite."""
    return [math.inf if entry["test_loss"] is None else entry["test_loss"] for entry in record.history]


def lowest(record: Record, samples=math.inf) -> float:
    """The lowest loss while at most so many examples were loaded."""
    return min(loss for loss, entry in zip(losses(record), record.history) if entry["samples"] <= samples)


def gradients_to(record: Record, target: float) -> float | None:
    """Gradients to the first evaluation whose loss is at or below the target, on a straight line from the evaluation
    before it. math.inf: not within the budget, or diverged; None: unfinished, not known yet."""
    first = next((i for i, loss in enumerate(losses(record)) if loss <= target), None)
    if first is None:
        return None if record.status == "unfinished" else math.inf
    two = slice(max(first - 1, 0), first + 1)
    return float(np.interp(-target, np.negative(losses(record)[two]), [e["gradients"] for e in record.history[two]]))


def targets(rates: Runs, m: int) -> list[float]:
    """L* + ABOVE: L* is the lowest held-out loss of `fresh` over its rates. Empty until all of these have ended."""
    runs = of_arm(rates, m, "fresh", TRIED)
    known = len(ended(runs)) == len(runs) > 0
    return [min(map(lowest, runs.values())) + above for above in ABOVE] if known else []


def plan(rates: Runs) -> tuple[list[Cell], list[Cell]]:
    """What the plan asks for, in the order in which it matters: runs that are still missing to choose the rates, and
    those of the test, for every policy and m whose rates are chosen."""
    steps = [rule(rates, policy, m) for policy, m in itertools.product(("constant", "kmu"), SIZES)]
    return sum((more for more, _ in steps), []), sum((test for _, test in steps), [])


def rule(rates: Runs, policy: str, m: int) -> tuple[list[Cell], list[Cell]]:
    """The same for one policy and m. Neither while a run that it needs has not ended."""
    goals = targets(rates, m)
    tried = [of_arm(rates, m, name, TRIED) for name, arm in ARMS.items() if arm.lr_policy == policy]
    if not goals or not all(len(ended(runs)) == len(runs) > 0 for runs in tried):
        return [], []

    def score(*cells):
        """The smaller the better: gradients to the primary target (geometric mean); where it is missed, the loss."""
        found = [(math.log(gradients_to(rates[cell], goals[0])), lowest(rates[cell])) for cell in cells]
        return tuple(np.mean(found, axis=0))

    ladders = [list(runs) for runs in tried]
    best = [sorted(ladder, key=score)[:2] for ladder in ladders]
    if any(two[0] in (ladder[0], ladder[-1]) for ladder, two in zip(ladders, best)):
        beyond = []  # the edge that is nearer to its best
        for ladder, two in zip(ladders, best):
            below = ladder.index(two[0]) < (len(ladder) - 1) / 2
            beyond.append(dataclasses.replace(ladder[0], lr=ladder[0].lr / 2 if below else ladder[-1].lr * 2))
        return beyond, []
    again = {cell: dataclasses.replace(cell, seed=AGAIN) for two in best for cell in two}
    if len(ended({cell: rates.get(cell) for cell in again.values()})) < len(again):
        return [cell for cell in again.values() if cell not in rates], []
    chosen = [min(two, key=lambda cell: score(cell, again[cell])) for two in best]
    return [], [dataclasses.replace(cell, seed=seed, evaluate_on="test") for cell in chosen for seed in SEEDS]


def write_grids(grids="grids", root="results") -> str:
    """Add to grids/payoff-rates.yaml what the plan asks for next, and write grids/payoff.yaml as far as rates are
    chosen, both from the records of payoff-rates. Returns what was done, in words."""
    path = Path(grids) / "payoff-rates.yaml"
    grid, rates = load_grid(path), load(root, grids).rates
    more, test = plan(rates)
    if more:
        comment, runs = path.read_text().partition("kind:")[0], rates | dict.fromkeys(more)
        order = [cell for m in SIZES for arm in ARMS for cell in of_arm(runs, m, arm)]
        order.sort(key=lambda cell: cell.lr_policy)  # it keeps the order within a policy
        _write_grid(path, f"{comment}kind: payoff-rates\n", order, grid.resources)
    if test:
        comment = (
            "# The test of docs/payoff-plan.md. Written by `persist payoff-grids` from the records of payoff-rates.\n"
        )
        about = "kind: payoff\nbeside: payoff-rates\n"
        _write_grid(path.with_stem("payoff"), comment + about, test, grid.resources)
    chosen = f"{len(test) // len(SEEDS)} of {len(SIZES) * len(ARMS)} rates chosen for payoff"
    return f"{len(more)} runs added to payoff-rates; {chosen}"


def _write_grid(path, head, cells, resources):
    """In `base` every field that is the same in all cells; a line for each cell."""
    fields = [cell.as_dict() for cell in cells]
    base = {name: value for name, value in fields[0].items() if all(cell[name] == value for cell in fields)}
    cells = [{name: value for name, value in cell.items() if name not in base} for cell in fields]
    content = {"base": base, "resources": resources, "cells": cells}
    text = yaml.safe_dump(content, default_flow_style=None, sort_keys=False, width=120)
    write_atomically(path, (head + text).encode())


class Ratio(NamedTuple):
    """What one arm takes relative to another: an estimate (nan where too few runs reached the target), its interval, of
    how many pairs of seeds, and in how many of these a run did not reach the target."""

    estimate: float
    low: float
    high: float
    pairs: int
    censored: int

    def times(self, factor: float) -> "Ratio":
        """The same in another unit."""
        return Ratio(self.estimate * factor, self.low * factor, self.high * factor, self.pairs, self.censored)

    @property
    def complete(self) -> bool:
        """Whether it has all seeds of the plan: only then it decides anything."""
        return self.pairs == len(SEEDS)

    @property
    def verdict(self) -> str:
        """The plan's word for a ratio of gradients; "not known" where the plan has `undecided` and nothing is known."""
        if not self.complete:
            return f"{NOT_YET} ({self.pairs} of {len(SEEDS)} seeds)"
        if FREE[0] <= self.low and self.high <= FREE[1]:
            return "free"
        if not self.bounded:
            return "not known"
        return "saves gradients" if self.high < FREE[0] else "costs gradients" if self.low > FREE[1] else "undecided"

    @property
    def bounded(self) -> bool:
        """Whether anything is known of it."""
        return self.low > 0 or self.high < math.inf

    def __str__(self):
        if not self.bounded:
            return "not known" if self.pairs else NOT_YET
        if self.low == 0 or self.high == math.inf:
            text = f"at most {self.high:.2f}" if self.low == 0 else f"at least {self.low:.2f}"
        else:
            text = f"{self.low:.2f} to {self.high:.2f}"
        median = "median; " if self.censored else ""
        return text if math.isnan(self.estimate) else f"{self.estimate:.2f} ({median}{text})"


def ratio(evidence: Evidence, m: int, arm: str = "reuse", other: str = "fresh", target: int = 0) -> Ratio:
    """Gradients to a target (its place in ABOVE) of one arm relative to another's."""
    goals = targets(evidence.rates, m)
    return ratio_to(goals[target], evidence, m, arm, other) if goals else interval([])


def ratio_to(goal: float, evidence: Evidence, m: int, arm: str, other: str) -> Ratio:
    """The same to any loss, over the seeds for which both are known."""
    pairs = []
    runs, others = ({cell.seed: run for cell, run in of_arm(evidence.test, m, name).items()} for name in (arm, other))
    for seed in runs:
        a, b = (run and gradients_to(run, goal) for run in (runs[seed], others.get(seed)))
        if a and b:  # where a target was not reached: more than the budget
            most = budget(runs[seed].cell)
            pairs.append((min(a, most) / b, a / min(b, most)))
    return interval(pairs)


def interval(pairs: list[tuple[float, float]]) -> Ratio:
    """Of ratios, each between two bounds: equal ones where both runs reached the target. All did: the geometric mean,
    with Student's interval of the logarithms. Else the median, with the interval that the sign test does not reject:
    from the k-th smallest lower to the k-th largest upper bound, 2 P(Binomial(n, 1/2) < k) <= ALPHA."""
    if not pairs:
        return Ratio(math.nan, 0.0, math.inf, 0, 0)
    n, censored = len(pairs), sum(low != high for low, high in pairs)
    lows, highs = (sorted(bounds) for bounds in zip(*pairs))
    if censored:
        k = int((2 * bdtr(range(n), n, 0.5) <= ALPHA).sum())
        low, high = (lows[k - 1], highs[-k]) if k else (0.0, math.inf)
        medians = statistics.median(lows), statistics.median(highs)
        return Ratio(medians[0] if medians[0] == medians[1] else math.nan, low, high, n, censored)
    logs = [math.log(low) for low in lows]
    margin = stdtrit(n - 1, 1 - ALPHA / 2) * statistics.stdev(logs) / math.sqrt(n) if n > 1 else math.inf
    mean = statistics.fmean(logs)
    return Ratio(math.exp(mean), math.exp(mean - margin), math.exp(mean + margin), n, 0)


def time_factor(arm: str, loading: float, step: float) -> float:
    """Seconds of an iteration relative to `fresh`, by time(K) = max(L, K * C)."""
    return max(loading * ARMS[arm].loads, step) / max(loading, step)


class Payoff(NamedTuple):
    """`seconds`: arm -> seconds to the target relative to `fresh`; empty where it is not recorded yet. `evidence`: on
    which network, data and m, in words. Printed, it is the answer."""

    seconds: dict[str, Ratio]
    evidence: str

    def __str__(self):
        lines = ["Seconds to the same loss, relative to a new minibatch for every iteration:"] if self.seconds else []
        for arm, r in self.seconds.items():
            word = "sooner" if r.high < 1 else "later" if r.low > 1 else "not told apart"
            lines.append(f"  {ARMS[arm].label:25}{r}" + f": {word}" * r.bounded)
        return "\n".join([*lines, self.evidence])


def payoff(loading_seconds: float, step_seconds: float, m: int, *, root=RESULTS, above: float = ABOVE[0]) -> Payoff:
    """How long each arm takes to a target, relative to `fresh`, behind a loader that takes loading_seconds a minibatch
    and works beside a training step of step_seconds. m: your minibatch size; the nearest one that was measured (by
    their ratio; of equally near ones the smaller) is taken, and named. root: the folder with the records of payoff and
    payoff-rates, beside grids/: that of the checkout which this package is installed from (`pip install -e .[read]`).
    above: the target, so much above the lowest held-out loss of `fresh`: 0.10, 0.05 or 0.20.

    Returns a Payoff, which can be printed. Its intervals are those of the ratio of gradients; the two times are taken
    as exact. Raises ValueError by name.
    """
    if not (isinstance(loading_seconds, numbers.Real) and 0 <= loading_seconds < math.inf):
        raise ValueError(f"loading_seconds must be finite and >= 0, not {loading_seconds!r}")
    if not (isinstance(step_seconds, numbers.Real) and 0 < step_seconds < math.inf):
        raise ValueError(f"step_seconds must be finite and > 0, not {step_seconds!r}")
    if type(m) is not int or m < 1:
        raise ValueError(f"m must be an int >= 1, not {m!r}")
    if above not in ABOVE:
        raise ValueError(f"above must be one of {', '.join(map(str, ABOVE))}, not {above!r}")
    grids = Path(root).parent / "grids"
    if not (Path(root).is_dir() and grids.is_dir()):
        raise ValueError(f"root must be the folder results/ of a checkout of the project, not {str(root)!r}")
    evidence = load(root, grids)
    target = ABOVE.index(above)
    sizes = [size for size in SIZES if ratio(evidence, size, target=target).complete]
    if not sizes:
        return Payoff({}, f"Whether reuse pays is {NOT_YET}.")
    size, *others = sorted(sizes, key=lambda n: (max(n / m, m / n), n))
    ratios = {arm: ratio(evidence, size, arm, target=target) for arm in ARMS if arm != "fresh"}
    seconds = {arm: r.times(time_factor(arm, loading_seconds, step_seconds)) for arm, r in ratios.items() if r.complete}
    c = step_seconds / loading_seconds if loading_seconds else math.inf
    equal = "".join(f"; {n} is as near" for n in others if n * size == m * m)
    yours = "" if size == m else f" (of the measured ones the nearest to your {m}{equal})"
    cell, goal = next(iter(of_arm(evidence.test, size, "fresh"))), targets(evidence.rates, size)[target]
    to = (
        f"To a loss of {goal:.3f} (L* + {above:.2f}; L*: the best of fresh on held-out images), each arm at the rate "
        f"that is best for L* + {ABOVE[0]:.2f}; {len(SEEDS)} seeds."
    )
    where = f"{describe_model(cell)}. {describe_data(cell)}. {to} Loading runs beside the step: max(L, K * C)."
    return Payoff(seconds, f"C/L = {c:.3g}; m = {size}{yours}. {where}")
