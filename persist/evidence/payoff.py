"""Does reuse pay? Gradients to a fixed loss, every arm at its own best rate. Reads records only; imports no torch.

The plan, written before the runs, is docs/payoff.md; this is its arithmetic. What an arm costs is counted in gradients
(examples evaluated for a gradient) until the loss that is evaluated is at or below a target.
"""

import dataclasses
import itertools
import json
import math
import statistics
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.special import bdtr, stdtrit  # the binomial distribution function; the quantile of Student's t

from persist.cell import Cell
from persist.evidence.compare import accuracy_gap, best_accuracy
from persist.evidence.curves import SMALL, caption_of, describe_data, describe_model, draw_curve, style, tidy
from persist.evidence.tables import markdown
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
        comment = "# The test of docs/payoff.md. Written by `persist payoff-grids` from the records of payoff-rates.\n"
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
        """The plan's word for a ratio of gradients."""
        if not self.complete:
            return f"{NOT_YET} ({self.pairs} of {len(SEEDS)} seeds)"
        if FREE[0] <= self.low and self.high <= FREE[1]:
            return "free"
        return "saves gradients" if self.high < FREE[0] else "costs gradients" if self.low > FREE[1] else "undecided"

    def __str__(self):
        if self.low == 0 and self.high == math.inf:
            return "not known" if self.pairs else NOT_YET
        if self.low == 0 or self.high == math.inf:
            return f"at most {self.high:.2f}" if self.low == 0 else f"at least {self.low:.2f}"
        between = f"{self.low:.2f} to {self.high:.2f}"
        return between if math.isnan(self.estimate) else f"{self.estimate:.2f} ({between})"


def ratio(evidence: Evidence, m: int, arm: str = "reuse", other: str = "fresh", target: int = 0) -> Ratio:
    """Gradients to a target (its place in ABOVE) of one arm relative to another's, over the seeds for which both are
    known."""
    goals, pairs = targets(evidence.rates, m), []
    runs, others = ({cell.seed: run for cell, run in of_arm(evidence.test, m, name).items()} for name in (arm, other))
    for seed in runs if goals else ():
        a, b = (run and gradients_to(run, goals[target]) for run in (runs[seed], others.get(seed)))
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


def when(ratio: Ratio) -> str:
    """At which C/L reuse is shown to reach the target sooner than `fresh`, by either end of its interval: it breaks
    even at 1/r."""
    sooner, later = (math.inf if r < 1 else 0.0 if r >= K else 1 / r for r in (ratio.high, ratio.low))
    first = {math.inf: "at every C/L", 0.0: "at no C/L"}.get(sooner, f"where C/L is below {sooner:.2f}")
    second = {math.inf: "at none", 0.0: "at every C/L"}.get(later, f"where it is above {later:.2f}")
    return f"shown to be sooner {first}, and later {second}"


class Payoff(NamedTuple):
    """`seconds`: arm -> seconds to the target relative to `fresh`; empty where it is not recorded yet. `evidence`: on
    which network, data and m, in words. Printed, it is the answer."""

    seconds: dict[str, Ratio]
    evidence: str

    def __str__(self):
        lines = ["Seconds to the same loss, relative to a new minibatch for every iteration:"] if self.seconds else []
        for arm, r in self.seconds.items():
            word = "sooner" if r.high < 1 else "later" if r.low > 1 else "not told apart"
            lines.append(f"  {ARMS[arm].label:25}{r}: {word}")
        return "\n".join([*lines, self.evidence])


def payoff(loading_seconds: float, step_seconds: float, m: int, root=RESULTS, above: float = ABOVE[0]) -> Payoff:
    """How long each arm takes to a target, relative to `fresh`, behind a loader that takes loading_seconds a minibatch
    and works beside a training step of step_seconds. m: your minibatch size; the nearest one that was measured is
    taken, and named. root: the folder with the records of payoff and payoff-rates, beside grids/: that of the checkout
    which this package is installed from (`pip install -e .[read]`). above: the target, so much above the lowest
    held-out loss of `fresh`: 0.10, 0.05 or 0.20.

    Intervals are those of the ratio of gradients; the two times are taken as exact. Raises ValueError by name.
    """
    if not 0 <= loading_seconds < math.inf:
        raise ValueError(f"loading_seconds must be finite and >= 0, not {loading_seconds!r}")
    if not 0 < step_seconds < math.inf:
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
    size = min(sizes, key=lambda n: (abs(math.log(n / m)), n))
    ratios = {arm: ratio(evidence, size, arm, target=target) for arm in ARMS if arm != "fresh"}
    seconds = {arm: r.times(time_factor(arm, loading_seconds, step_seconds)) for arm, r in ratios.items() if r.complete}
    c = step_seconds / loading_seconds if loading_seconds else math.inf
    yours = "" if size == m else f" (of the measured ones the nearest to your {m})"
    cell, goal = next(iter(of_arm(evidence.test, size, "fresh"))), targets(evidence.rates, size)[target]
    to = f"To a loss of {goal:.3f} (L* + {above:.2f}), each arm at its own best rate; {len(SEEDS)} seeds."
    where = f"{describe_model(cell)}. {describe_data(cell)}. {to} Loading runs beside the step: max(L, K * C)."
    return Payoff(seconds, f"C/L = {c:.3g}; m = {size}{yours}. {where}")


def answer(evidence: Evidence, m: int) -> str:
    """One paragraph for somebody who trains, at one m."""
    reuse, spaced, both = (ratio(evidence, m, *contrast) for contrast in CONTRASTS[:3])
    if not reuse.complete:
        return f"**m = {m}:** {NOT_YET}."
    loose = ratio(evidence, m, target=LOOSE)
    return (
        f"**m = {m}, reuse against new minibatches: {reuse.verdict}.** To the same test loss (L\\* + {ABOVE[0]:.2f}), "
        f"using each minibatch {K} times in a row takes {reuse} times the gradients of new minibatches, and "
        f"{reuse.times(1 / K)} times the examples loaded; to a loss 0.10 higher {loose} times the gradients and "
        f"{loose.times(1 / K)} times the examples. Behind a loader that works beside the training it is {when(reuse)}; "
        f"at the higher loss {when(loose)} (C/L: the time of a training step over that of loading a minibatch). "
        f"With data in memory the seconds are as the gradients. Going {K} times through the same minibatches, in one "
        f"order, takes {spaced} times the gradients of new ones, and reuse {both} times the gradients of that."
    )


def short(evidence: Evidence) -> tuple[str, str]:
    """Should I use it? The answer, and its evidence, a sentence each."""
    found = {m: (r, ratio(evidence, m, target=LOOSE)) for m in SIZES if (r := ratio(evidence, m)).complete}
    if not found:
        return f"{NOT_YET.capitalize()}.", ""
    gain = "; ".join(f"m = {m}: {when(r)} ({when(loose)})" for m, (r, loose) in found.items())
    takes = "; ".join(f"m = {m}: {r} ({loose}), {r.verdict}" for m, (r, loose) in found.items())
    return (
        f"At the same loss (in brackets: at one 0.10 higher), with C/L the time of a training step over that of "
        f"loading a minibatch, K = {K} is: {gain}.",
        f"gradients to the same loss (to one 0.10 higher), K = {K} over K = 1, each at its own best rate: {takes} "
        f"(n = {len(SEEDS)}, one network, CIFAR-10)",
    )


def arms_table(evidence: Evidence) -> pd.DataFrame:
    """A row for each m and arm of the test: what it took to the primary target (geometric means), the lowest loss
    (means), also of the part in which no more examples were loaded than by `reuse` in all, the best accuracy."""
    rows = []
    for m, arm in itertools.product(SIZES, ARMS):
        if runs := ended(of_arm(evidence.test, m, arm)):
            counts = [gradients_to(run, targets(evidence.rates, m)[0]) for run in runs]
            mean, best = statistics.geometric_mean(counts), [best_accuracy(run) for run in runs]
            loaded = budget(runs[0].cell) / K  # by `reuse`
            least = [statistics.fmean(lowest(run, most) for run in runs) for most in (math.inf, loaded)]
            needs = [f"{n / 1000:,.0f} k" if n < math.inf else "-" for n in (mean, mean * ARMS[arm].loads)]
            rows.append({
                "m": m, "arm": ARMS[arm].label, "rate": f"{runs[0].cell.lr:g}", "seeds": f"{len(runs)} of {len(SEEDS)}",
                "reached the target": f"{sum(map(math.isfinite, counts))} of {len(runs)}",
                "gradients to it": needs[0], "examples loaded": needs[1],
                "lowest loss": f"{least[0]:.3f}", "on as many examples as reuse loads": f"{least[1]:.3f}",
                "best test accuracy": f"{statistics.fmean(best):.4f} ({min(best):.4f} to {max(best):.4f})",
            })  # fmt: skip
    return pd.DataFrame(rows)


def contrasts_table(evidence: Evidence) -> pd.DataFrame:
    """A row for each contrast: ratios with simultaneous 95 % intervals, the verdict, the gap in best accuracy."""
    rows = []
    for m, (arm, other) in itertools.product(SIZES, CONTRASTS):
        primary, *others = (ratio(evidence, m, arm, other, target) for target in range(len(ABOVE)))
        if primary.pairs:
            runs = [ended(of_arm(evidence.test, m, name)) for name in (arm, other)]
            rows.append({
                "m": m, "contrast": f"{arm} / {other}", "gradients": str(primary), "verdict": primary.verdict,
                "examples loaded": str(primary.times(ARMS[arm].loads / ARMS[other].loads)),
                "pairs that missed the target": f"{primary.censored} of {primary.pairs}",
                **{f"gradients to L* + {above:.2f}": str(r) for above, r in zip(ABOVE[1:], others)},
                "best accuracy, difference": str(all(runs) and accuracy_gap(best_accuracy, *runs) or NOT_YET),
            })  # fmt: skip
    return pd.DataFrame(rows)


def check_table(evidence: Evidence, path="benchmarks/results/payoff.json") -> pd.DataFrame:
    """What benchmarks/payoff.py measured behind a data loader: a row for each C/L. Of each arm the seconds of its run,
    and those predicted from L, C and its iterations; then reuse / fresh, and what `payoff` says of it."""
    rows, check = [], json.loads(Path(path).read_text()) if Path(path).exists() else {"places": []}
    for place in check["places"]:
        L, C, to_target = place["loading_seconds"], place["step_seconds"], {}
        r = ratio(evidence, check["m"], target=ABOVE.index(check["above"]))
        row = {"C/L": f"{C / L:.2f}", "L, ms": f"{1000 * L:.0f}", "C, ms": f"{1000 * C:.0f}"}
        for arm, run in place["arms"].items():
            predicted = run["iterations"] * max(L * ARMS[arm].loads, C)
            row[f"{arm}: seconds"] = f"{run['seconds']:.0f}"
            row[f"{arm}: predicted (error)"] = f"{predicted:.0f} ({predicted / run['seconds'] - 1:+.1%})"
            to_target[arm] = run["seconds"] * run["to_target"] / run["gradients"]
        row["reuse / fresh"] = f"{to_target['reuse'] / to_target['fresh']:.2f}"
        row["predicted, from all seeds"] = str(r.times(time_factor("reuse", L, C))) if r.complete else NOT_YET
        rows.append(row)
    return pd.DataFrame(rows)


def blocks(root="results", grids="grids") -> dict[str, str]:
    """Name -> Markdown: what docs/payoff.md and the notebook say of the records."""
    evidence = load(root, grids)
    tables = {"arms": arms_table, "contrasts": contrasts_table, "check": check_table}
    found = {name: markdown(table(evidence)) for name, table in tables.items()}
    for name, runs, *paths in (
        ("outcome", evidence.test, "payoff/payoff-m512", "payoff/payoff-m32"),
        ("chart", evidence.test, "payoff/payoff"),
        ("rates", evidence.rates, "payoff-rates/payoff-rates"),
    ):
        shown = "\n".join(f"![{Path(path).name}](../figures/{path}.png)" for path in paths)
        found[name] = shown if any(runs.values()) else f"{NOT_YET.capitalize()}."
    return found | {"answer": "\n\n".join(answer(evidence, m) for m in SIZES)}


def draw(grid: str, evidence: Evidence) -> dict[str, Figure]:
    """Name of a file -> its picture, those of one grid: payoff-rates or payoff. Raises ValueError for another."""
    if grid == "payoff-rates":
        return {"payoff-rates": draw_rates(evidence)}
    if grid == "payoff":
        return {f"payoff-m{m}": draw_outcome(evidence, m) for m in SIZES} | {"payoff": draw_chart(evidence)}
    raise ValueError(f"grid must be 'payoff' or 'payoff-rates', not {grid!r}")


def draw_outcome(evidence: Evidence, m: int) -> Figure:
    """Test loss against gradients and against examples loaded, of every seed; below, the contrasts."""
    figure = Figure(figsize=(10, 8.4), dpi=80, layout="constrained")
    axes = figure.subplot_mosaic([["gradients", "samples"], ["ratio", "ratio"]], height_ratios=[3, 2])
    runs = {arm: [run for run in of_arm(evidence.test, m, arm).values() if run] for arm in ARMS}
    for x, label in (("gradients", "gradients, thousands"), ("samples", "examples loaded, thousands")):
        for arm, look in ARMS.items():
            draw_curve(axes[x], runs[arm], x, "test_loss", look.color, look.line, scale=1e-3, circle=False)
        for goal, width in zip(targets(evidence.rates, m), (1.6, 0.7, 0.7)):
            axes[x].axhline(goal, color="#555555", lw=width, ls=":")
        axes[x].set(xlabel=label, ylabel="loss on the test set", ylim=(None, 2.4))
    ax, names = axes["ratio"], []
    ax.axvspan(*FREE, color="#000000", alpha=0.08)
    ax.axvline(1, color="#555555", lw=0.8)
    for y, (arm, other) in enumerate(CONTRASTS):
        r = ratio(evidence, m, arm, other)
        names.append(f"{arm} / {other}\n{r.verdict}")
        if r.pairs:
            ax.plot(np.clip([r.low, r.high], 0.1, 10), [y, y], color=ARMS[arm].color, lw=2.4)
            ax.plot(r.estimate, y, "o", color=ARMS[arm].color, ms=7)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(0.1, 10), ylim=(len(names) - 0.4, -0.4), xscale="log", xlabel="ratio of gradients to the target")
    ax.set_xticks(ticks := (0.1, 0.2, 0.5, 0.8, 1.25, 2, 5, 10), ticks)
    title = f"Does reuse pay? m = {m}, CIFAR-10, {len(SEEDS)} seeds"
    text = (
        "Thin: one seed; thick: their mean. Dotted: the targets, the primary one heavy. Below: ratios to the primary\n"
        "target with simultaneous 95 % intervals. Grey: 0.8 to 1.25."
    )
    return _finish(figure, title, [arm for arm in ARMS if runs[arm]], sum(runs.values(), []), text)


def draw_rates(evidence: Evidence) -> Figure:
    """Gradients to the primary target against the rate, on held-out images; the chosen rates ringed."""
    figure, rates = Figure(figsize=(10, 5.4), dpi=80, layout="constrained"), evidence.rates
    for ax, m in zip(figure.subplots(1, 2), SIZES):
        goals, most = targets(rates, m), max((budget(cell) / 1000 for cell in rates if cell.m == m), default=0)
        for row, (arm, look) in enumerate(ARMS.items() if goals else ()):
            chosen = {cell.lr for cell in of_arm(evidence.test, m, arm)}
            for seed, marker, line in ((TRIED, "o", look.line), (AGAIN, "x", "")):
                runs = ended(of_arm(rates, m, arm, seed))
                lrs, counts = [r.cell.lr for r in runs], [gradients_to(r, goals[0]) / 1000 for r in runs]
                missed, ring = [n == math.inf for n in counts], [lr in chosen for lr in lrs]
                shown = [most * (1.04 + 0.05 * row) if miss else n for n, miss in zip(counts, missed)]
                ax.plot(lrs, counts, marker, ls=line, color=look.color)
                ax.plot(lrs, shown, "^", mfc="none", color=look.color, markevery=missed)
                ax.plot(lrs, shown, "o", ms=13, mfc="none", color=look.color, markevery=ring)
        ax.axhline(most, color="#555555", lw=0.8, ls=":")
        ax.set_title(f"m = {m}: " + (f"to a loss of {goals[0]:.3f}" if goals else NOT_YET))
        ax.set(xscale="log", xlabel="learning rate µ", ylabel="gradients to the target, thousands", ylim=(0, None))
        tried = sorted({cell.lr for cell in rates if cell.m == m}) or [0.01, 0.1]
        ax.set_xlim(tried[0] / 1.2, tried[-1] * 1.2)
        ax.set_xticks(tried[::2], tried[::2])
    text = (
        f"Dots: seed {TRIED}; crosses: the two best, seed {AGAIN}; rings: chosen. Dotted: the budget of a run;\n"
        "triangles above it: target not reached."
    )
    return _finish(figure, "The rate of each arm, on held-out images of CIFAR-10", ARMS, ended(rates), text)


def draw_chart(evidence: Evidence) -> Figure:
    """Seconds to the target relative to `fresh` against C/L, by the model max(L, K * C); where reuse breaks even."""
    figure, c = Figure(figsize=(10, 9), dpi=80, layout="constrained"), np.geomspace(0.05, 5, 400)
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for ax, (target, m) in zip(axes.flat, itertools.product((0, LOOSE), SIZES)):
        ax.axhline(1, color=ARMS["fresh"].color, lw=1.6)
        ratios = {arm: r for arm in ARMS if arm != "fresh" and (r := ratio(evidence, m, arm, target=target)).complete}
        for arm, r in ratios.items():
            look, factor = ARMS[arm], np.array([time_factor(arm, 1, step) for step in c])
            if r.low > 0 and r.high < math.inf:
                ax.fill_between(c, factor * r.low, factor * r.high, color=look.color, alpha=0.13, lw=0)
            else:  # at least, or at most
                ax.plot(c, factor * (r.low or r.high), color=look.color, ls=look.line, lw=0.9)
            ax.plot(c, factor * r.estimate, color=look.color, ls=look.line, lw=1.8)
            if look.loads < 1 < r.estimate < K:
                even, at = 1 / r.estimate, (7, -14) if arm == "reuse" else (-34, 8)
                ax.plot(even, 1, "o", ms=8, mfc="white", mew=1.8, color=look.color, zorder=3)
                ax.annotate(f"{even:.2f}", (even, 1), at, textcoords="offset points", color=look.color)
        ax.set_title(f"m = {m}, to L* + {ABOVE[target]:.2f}" + ("" if "reuse" in ratios else f": {NOT_YET}"))
        ax.set(xscale="log", yscale="log", ylim=(0.1, 10))
        ax.set_xticks(ticks := (0.05, 0.1, 0.2, 0.5, 1, 2, 5), ticks)
        ax.set_yticks(ticks := (0.1, 0.2, 0.5, 1, 2, 5, 10), ticks)
    for ax in axes[:, 0]:
        ax.set_ylabel("seconds to the target, relative to fresh")
    for ax in axes[1]:
        ax.set_xlabel("C/L: time of a training step over that of loading")
    text = (
        "Ring: reuse breaks even. Bands: simultaneous 95 % intervals; thin: the one end of an interval that is open,\n"
        "where runs missed the target. Seconds by the model max(L, K·C). kµ over fresh is no planned contrast."
    )
    title = f"How soon at the same loss, behind a loader? CIFAR-10, {len(SEEDS)} seeds"
    return _finish(figure, title, ARMS, [run for run in evidence.test.values() if run], text)


def _finish(figure, title, arms, records, text):
    """Tidy axes, the legend of the arms above, the caption below."""
    for ax in figure.axes:
        tidy(ax)
        ax.minorticks_off()
    lines = [Line2D([], [], color=ARMS[arm].color, ls=ARMS[arm].line, label=ARMS[arm].label) for arm in arms]
    look = {"title_fontsize": "x-large", "loc": "outside upper center", "ncols": 5, "frameon": False}
    figure.legend(handles=lines, title=title, handlelength=3, **look)
    figure.supxlabel(caption_of(records, text), **SMALL)
    return figure
