"""Does reuse pay? Gradients to a fixed loss, every arm at its own best rate. Reads records only; imports no torch.

The plan, written before the runs, is docs/payoff.md; this is its arithmetic. What an arm costs is counted in gradients
(examples evaluated for a gradient) until the loss that is evaluated is at or below a target.
"""

import dataclasses
import json
import math
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from scipy.special import stdtrit

from persist.cell import Cell
from persist.evidence.compare import accuracy_gap, best_accuracy
from persist.evidence.curves import SMALL, caption_of, describe_data, describe_model, draw_curve, style, tidy
from persist.evidence.tables import markdown
from persist.grids import Grid, find_records, load_grid
from persist.record import Record, write_atomically

NOT_YET = "not recorded yet"
RESULTS = Path(__file__).resolve().parents[2] / "results"  # of this checkout
K = 5
# Arm -> (K, reuse, policy) of its cells; its name, colour and line in pictures.
ARMS = {
    "fresh": (1, "consecutive", "constant"),
    "reuse": (K, "consecutive", "constant"),
    "spaced": (K, "spaced", "constant"),
    "reuse-kmu": (K, "consecutive", "kmu"),
    "fresh-kmu": (K, "fresh", "kmu"),
}
LOOKS = {
    "fresh": ("fresh (K = 1)", *style(1)),
    "reuse": (f"reuse (K = {K})", *style(K)),
    "spaced": (f"spaced (K = {K})", "#CC79A7", "--"),
    "reuse-kmu": (f"reuse, kµ (K = {K})", "#D55E00", (0, (3, 1, 1, 1))),
    "fresh-kmu": (f"fresh, kµ (cycle of {K})", "#56B4E9", ":"),
}
CONTRASTS = (("reuse", "fresh"), ("spaced", "fresh"), ("reuse", "spaced"), ("reuse-kmu", "fresh-kmu"))
SIZES = (512, 32)
GROUPS = tuple((policy, m) for policy in ("constant", "kmu") for m in SIZES)  # the order of the grids
ABOVE = (0.10, 0.05, 0.20)  # a target is so much above L*; the first one is the primary target
TRIED, AGAIN, SEEDS = 100, 101, range(10, 18)  # seeds: of every rate, of the two best once more, of the test
ALPHA = 0.05 / len(CONTRASTS)  # Bonferroni, over the contrasts of one m
FREE = (0.8, 1.25)

Runs = dict[Cell, Record | None]  # None where a run is not recorded


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The runs that choose rates and targets, on held-out images, and those of the test."""

    rates: Runs
    test: Runs


def load(root="results", grids="grids") -> Evidence:
    """The records in root/payoff-rates (else of results/) and root/payoff; root: runs or results."""
    root, path = Path(root), Path(grids) / "payoff-rates.yaml"
    cells = load_grid(path).cells if path.exists() else []
    rates = _runs(cells, [folder / "payoff-rates" for folder in (root, root.parent / "results")])
    return Evidence(rates, _runs(chosen_cells(rates), [root / "payoff"]))


def _runs(cells, folders) -> Runs:
    return dict.fromkeys(cells) | {record.cell: record for record in find_records(cells, folders)}


def arm_of(cell: Cell) -> str:
    """The arm of a cell. Raises ValueError for one of another experiment."""
    for name, arm in ARMS.items():
        if arm == (cell.K, cell.reuse, cell.lr_policy):
            return name
    raise ValueError(f"no arm of the plan has K={cell.K}, reuse={cell.reuse!r}, lr_policy={cell.lr_policy!r}")


def of_arm(runs: Runs, m: int, arm: str, *seeds: int) -> list[Cell]:
    """Its cells (with seeds: those alone), by their rates."""
    cells = [c for c in runs if c.m == m and arm_of(c) == arm and (not seeds or c.seed in seeds)]
    return sorted(cells, key=lambda cell: (cell.lr, cell.seed))


def gradients_to(record: Record, target: float) -> float | None:
    """Gradients to the first evaluation whose loss is at or below the target, on a straight line from the evaluation
    before it. math.inf: not within the budget, or diverged; None: unfinished, not known yet."""
    before = None
    for entry in record.history:
        loss = entry["test_loss"]
        if loss is not None and loss <= target:
            share = 1 if before is None else (before["test_loss"] - target) / (before["test_loss"] - loss)
            start = 0 if before is None else before["gradients"]
            return start + share * (entry["gradients"] - start)
        before = entry
    return None if record.status == "unfinished" else math.inf


def lowest_loss(record: Record) -> float:
    """Over its evaluations; math.inf where none is finite."""
    return min((e["test_loss"] for e in record.history if e["test_loss"] is not None), default=math.inf)


# --- rates and targets


def targets(rates: Runs, m: int) -> tuple[float, ...] | None:
    """L* + ABOVE: L* is the lowest held-out loss of `fresh` over its rates. None until all of these have ended."""
    runs = [rates[cell] for cell in of_arm(rates, m, "fresh", TRIED)]
    if not runs or not all(map(_ended, runs)):
        return None
    return tuple(min(map(lowest_loss, runs)) + above for above in ABOVE)


def rule(rates: Runs, policy: str, m: int) -> tuple[list[Cell], dict[str, float]]:
    """What the plan asks for next at one policy and m: cells to train, or, once it asks for none, the rate of each arm.
    Neither while a run that it needs has not ended."""
    goals, more, rate = targets(rates, m), [], {}
    ladders = {arm: of_arm(rates, m, arm, TRIED) for arm, (_, _, of) in ARMS.items() if of == policy}
    if goals is None or not all(ladder and all(_ended(rates[c]) for c in ladder) for ladder in ladders.values()):
        return [], {}
    best = {arm: sorted(ladder, key=lambda c: _score(goals, rates[c]))[:2] for arm, ladder in ladders.items()}
    if any(best[arm][0] in (ladder[0], ladder[-1]) for arm, ladder in ladders.items()):
        for arm, ladder in ladders.items():
            place = ladder.index(best[arm][0])
            lower = place < len(ladder) - 1 - place  # the edge that is nearer to its best
            more.append(dataclasses.replace(ladder[0], lr=ladder[0].lr / 2 if lower else ladder[-1].lr * 2))
        return more, {}
    for arm, two in best.items():
        again = [dataclasses.replace(cell, seed=AGAIN) for cell in two]
        more += [cell for cell in again if cell not in rates]
        if all(_ended(rates.get(cell)) for cell in again):
            rate[arm] = min(zip(two, again), key=lambda pair: _score(goals, *map(rates.get, pair)))[0].lr
    return more, rate if len(rate) == len(best) else {}


def _score(goals, *runs):
    """The smaller the better: gradients to the primary target (geometric mean); where it is missed, the lowest loss."""
    return statistics.fmean(math.log(gradients_to(r, goals[0])) for r in runs), statistics.fmean(map(lowest_loss, runs))


def _ended(record) -> bool:
    return record is not None and record.status != "unfinished"


def _ended_runs(runs: Runs, cells) -> list[Record]:
    return [runs[cell] for cell in cells if _ended(runs[cell])]


def choose(rates: Runs) -> dict[tuple[int, str], float]:
    """(m, arm) -> its rate for the test, as far as the plan has chosen."""
    return {(m, arm): lr for policy, m in GROUPS for arm, lr in rule(rates, policy, m)[1].items()}


def chosen_cells(rates: Runs) -> list[Cell]:
    """The cells of the test, in the order in which they matter, as far as their rates are chosen."""
    found = []
    for (m, arm), lr in choose(rates).items():
        cell = dataclasses.replace(of_arm(rates, m, arm)[0], lr=lr, evaluate_on="test")
        found += [dataclasses.replace(cell, seed=seed) for seed in SEEDS]
    return found


def write_grids(grids="grids", root="results") -> str:
    """Add to grids/payoff-rates.yaml what the plan asks for next, and write grids/payoff.yaml as far as rates are
    chosen, both from the records of payoff-rates. Returns what was done, in words."""
    path = Path(grids) / "payoff-rates.yaml"
    grid, rates = load_grid(path), load(root, grids).rates
    more, test = [cell for group in GROUPS for cell in rule(rates, *group)[0]], chosen_cells(rates)
    if more:
        order = [cell for policy, m in GROUPS for arm in ARMS for cell in of_arm([*rates, *more], m, arm)
                 if cell.lr_policy == policy]  # fmt: skip
        comment = [line for line in path.read_text().splitlines(keepends=True) if line.startswith("#")]
        write_atomically(path, ("".join(comment) + grid_text(dataclasses.replace(grid, cells=order))).encode())
    if test:
        comment = "# The test of docs/payoff.md. Written by `persist payoff-grids` from the records of payoff-rates.\n"
        text = grid_text(dataclasses.replace(grid, kind="payoff", cells=test), beside=path.stem)
        write_atomically(Path(grids) / "payoff.yaml", (comment + text).encode())
    return f"{len(more)} runs added to payoff-rates; {len(choose(rates))} of {2 * len(ARMS)} rates chosen for payoff"


def grid_text(grid: Grid, **more) -> str:
    """The YAML of a grid: in `base` every field that is the same in all cells; a line for each cell."""
    fields = [cell.as_dict() for cell in grid.cells]
    base = {name: value for name, value in fields[0].items() if all(cell[name] == value for cell in fields)}
    cells = [{name: value for name, value in cell.items() if name not in base} for cell in fields]
    content = {"kind": grid.kind, **more, "base": base, "resources": grid.resources, "cells": cells}
    return yaml.safe_dump(content, default_flow_style=None, sort_keys=False, width=120)


# --- ratios and their intervals


@dataclasses.dataclass(frozen=True)
class Ratio:
    """What one arm takes relative to another: an estimate (None where too few runs reached the target), its interval,
    of how many pairs of seeds, and in how many of these a run did not reach the target."""

    estimate: float | None
    low: float
    high: float
    pairs: int
    censored: int

    def times(self, factor: float) -> "Ratio":
        """The same in another unit."""
        middle = None if self.estimate is None else float(self.estimate * factor)
        return Ratio(middle, float(self.low * factor), float(self.high * factor), self.pairs, self.censored)

    @property
    def complete(self) -> bool:
        """Whether it has all seeds of the plan: only then it decides anything."""
        return self.pairs == len(SEEDS)

    @property
    def verdict(self) -> str:
        """The plan's word for a ratio of gradients."""
        if not self.complete:
            return f"{NOT_YET} ({self.pairs} of {len(SEEDS)} seeds)"
        if self.high < FREE[0]:
            return "saves gradients"
        if self.low > FREE[1]:
            return "costs gradients"
        return "free" if FREE[0] <= self.low and self.high <= FREE[1] else "undecided"

    def __str__(self):
        if self.low == 0 and self.high == math.inf:
            return "not known"
        if self.low == 0 or self.high == math.inf:
            return f"at most {self.high:.2f}" if self.low == 0 else f"at least {self.low:.2f}"
        between = f"{self.low:.2f} to {self.high:.2f}"
        return between if self.estimate is None else f"{self.estimate:.2f} ({between})"


def ratio(evidence: Evidence, m: int, arm: str, other: str, target: int = 0) -> Ratio | None:
    """Gradients to a target (its place in ABOVE) of one arm relative to another's, over the seeds for which both are
    known; None where there are none."""
    goals, pairs = targets(evidence.rates, m), []
    for seed in SEEDS if goals else ():
        cells = [cell for name in (arm, other) for cell in of_arm(evidence.test, m, name, seed)]
        counts = [evidence.test[cell] and gradients_to(evidence.test[cell], goals[target]) for cell in cells]
        if len(counts) == 2 and None not in counts:
            a, b = counts  # where a target was not reached: more than the budget
            least = [min(count, cell.epochs * cell.K * cell.examples) for count, cell in zip(counts, cells)]
            pairs.append((least[0] / b, a / least[1]))
    return interval(pairs) if pairs else None


def interval(pairs: list[tuple[float, float]], alpha: float = ALPHA) -> Ratio:
    """Of ratios, each between two bounds: equal ones where both runs reached the target. All did: the geometric mean,
    with Student's interval of the logarithms. Else the median, with the interval that the sign test does not reject:
    from the k-th smallest lower to the k-th largest upper bound, 2 P(Binomial(n, 1/2) < k) <= alpha."""
    n, censored = len(pairs), sum(low != high for low, high in pairs)
    lows, highs = (sorted(bounds) for bounds in zip(*pairs))
    if censored:
        tails = np.cumsum([2 * math.comb(n, i) / 2**n for i in range(n // 2)])
        k = int((tails <= alpha).sum())
        middle = statistics.median(lows) if statistics.median(lows) == statistics.median(highs) else None
        return Ratio(middle, *((lows[k - 1], highs[-k]) if k else (0.0, math.inf)), n, censored)
    logs = [math.log(low) for low in lows]
    margin = stdtrit(n - 1, 1 - alpha / 2) * statistics.stdev(logs) / math.sqrt(n) if n > 1 else math.inf
    mean = statistics.fmean(logs)
    return Ratio(math.exp(mean), math.exp(mean - margin), math.exp(mean + margin), n, 0)


# --- one's own loader


def loads(arm: str) -> float:
    """Minibatches loaded for an iteration."""
    uses, reuse, _ = ARMS[arm]
    return 1 / uses if reuse == "consecutive" else 1.0


def time_factor(arm: str, c):
    """Seconds of an iteration relative to `fresh`, by time(K) = max(L, K * C); c = C/L, a number or an array."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(c), 1.0, np.maximum(loads(arm), c) / np.maximum(1, c))


def when(ratio: Ratio) -> str:
    """At which C/L reuse is sooner at the target than `fresh`, by either end of its interval: it breaks even at 1/r."""
    sooner, later = (math.inf if r < 1 else 0.0 if r >= K else 1 / r for r in (ratio.high, ratio.low))
    first = {math.inf: "at every C/L", 0.0: "at no C/L"}.get(sooner, f"where C/L is below {sooner:.2f}")
    second = {math.inf: "at none", 0.0: "at every C/L"}.get(later, f"where it is above {later:.2f}")
    return f"sooner {first}, later {second}"


@dataclasses.dataclass(frozen=True)
class Payoff:
    """`seconds`: arm -> seconds to the target relative to `fresh`; empty where it is not recorded yet. `evidence`: on
    which network, data and m, in words. Printed, it is the answer."""

    seconds: dict[str, Ratio]
    evidence: str

    def __str__(self):
        lines = ["Seconds to the same loss, relative to a new minibatch for every iteration:"] if self.seconds else []
        for arm, r in self.seconds.items():
            word = "sooner" if r.high < 1 else "later" if r.low > 1 else "not told apart"
            lines.append(f"  {LOOKS[arm][0]:25}{r}: {word}")
        return "\n".join([*lines, self.evidence])


def payoff(loading_seconds: float, step_seconds: float, m: int, root=RESULTS) -> Payoff:
    """How long each arm takes to the primary target, relative to `fresh`, behind a loader that takes loading_seconds a
    minibatch and works beside a training step of step_seconds. m: your minibatch size; the nearest one that was
    measured is taken, and named. root: the folder with the records of payoff and payoff-rates, beside grids/.

    Intervals are those of the ratio of gradients; the two times are taken as exact. Raises ValueError by name.
    """
    for name, value in (("loading_seconds", loading_seconds), ("step_seconds", step_seconds)):
        if not 0 <= value < math.inf or (name == "step_seconds" and value == 0):
            raise ValueError(f"{name} must be finite and >{'=' * (name != 'step_seconds')} 0, not {value!r}")
    if type(m) is not int or m < 1:
        raise ValueError(f"m must be an int >= 1, not {m!r}")
    evidence = load(root, Path(root).parent / "grids")
    sizes = [size for size in SIZES if outcome(evidence, size)]
    if not sizes:
        return Payoff({}, f"Whether reuse pays is {NOT_YET}.")
    size = min(sizes, key=lambda n: (abs(math.log(n / m)), n))
    c = step_seconds / loading_seconds if loading_seconds else math.inf
    ratios = {arm: ratio(evidence, size, arm, "fresh") for arm in ARMS if arm != "fresh"}
    seconds = {arm: r.times(time_factor(arm, c)) for arm, r in ratios.items() if r and r.complete}
    yours = "" if size == m else f" (of the measured ones the nearest to your {m})"
    text = f"C/L = {c:.3g}; m = {size}{yours}. {describe(evidence, size)} Loading runs beside the step: max(L, K * C)."
    return Payoff(seconds, text)


def outcome(evidence: Evidence, m: int) -> Ratio | None:
    """Of reuse / fresh; None until it has all seeds."""
    found = ratio(evidence, m, "reuse", "fresh")
    return found if found and found.complete else None


def describe(evidence: Evidence, m: int) -> str:
    """Network, data, target and n of the test at one m, in words."""
    cell, goals = of_arm(evidence.test, m, "fresh")[0], targets(evidence.rates, m)
    how = f"To a loss of {goals[0]:.3f}, each arm at its own best rate; {len(SEEDS)} seeds."
    return f"{describe_model(cell)}. {describe_data(cell)}. {how}"


# --- words and tables


def answer(evidence: Evidence, m: int) -> str:
    """One paragraph for somebody who trains, at one m."""
    reuse, spaced, both = outcome(evidence, m), *(ratio(evidence, m, *contrast) for contrast in CONTRASTS[1:3])
    if reuse is None:
        return f"**m = {m}:** {NOT_YET}."
    return (
        f"**m = {m}, reuse against new minibatches: {reuse.verdict}.** To the same test loss, using each minibatch {K} "
        f"times in a row takes {reuse} times the gradients of new minibatches, and {reuse.times(1 / K)} times the "
        f"examples loaded. Behind a loader that works beside the training it gets there {when(reuse)} (C/L: the time "
        f"of a training step over that of loading a minibatch); with data in memory it takes {reuse} times as long. "
        f"Going {K} times through the same minibatches, in one order, takes {spaced or NOT_YET} times the gradients of "
        f"new ones, and reuse {both or NOT_YET} times the gradients of that."
    )


def short(evidence: Evidence) -> tuple[str, str]:
    """Should I use it? The answer, and its evidence, a sentence each."""
    found = {m: r for m in SIZES if (r := outcome(evidence, m))}
    if not found:
        return f"{NOT_YET.capitalize()}.", ""
    gain = "; ".join(f"m = {m}: {when(r)}" for m, r in found.items())
    takes = "; ".join(f"m = {m}: {r}, {r.verdict}" for m, r in found.items())
    return (
        f"At the same loss, with C/L the time of a training step over that of loading a minibatch, K = {K} is: {gain}.",
        f"gradients to the same loss, K = {K} over K = 1, each at its own best rate: {takes} "
        f"(n = {len(SEEDS)}, one network, CIFAR-10)",
    )


def rates_table(evidence: Evidence) -> pd.DataFrame:
    """A row for each m and arm: the rates tried, what they gave on the held-out images, the chosen one."""
    rows, chosen = [], choose(evidence.rates)
    for m, arm in ((m, arm) for m in SIZES for arm in ARMS):
        goals, cells = targets(evidence.rates, m), of_arm(evidence.rates, m, arm)
        runs = _ended_runs(evidence.rates, cells)
        if not runs:
            continue
        fewest = _thousands(min(gradients_to(run, goals[0]) for run in runs)) if goals else NOT_YET
        rows.append({
            "m": m, "arm": LOOKS[arm][0], "rates tried": f"{cells[0].lr:g} to {cells[-1].lr:g}",
            "runs": f"{len(runs)} of {len(cells)}", "target": f"{goals[0]:.3f}" if goals else NOT_YET,
            "fewest gradients to it": fewest, "lowest loss": f"{min(map(lowest_loss, runs)):.3f}",
            "chosen rate": f"{chosen[m, arm]:g}" if (m, arm) in chosen else NOT_YET,
        })  # fmt: skip
    return pd.DataFrame(rows)


def arms_table(evidence: Evidence) -> pd.DataFrame:
    """A row for each m and arm of the test: what it took to the primary target (geometric means), its best accuracy."""
    rows = []
    for m, arm in ((m, arm) for m in SIZES for arm in ARMS):
        runs = _ended_runs(evidence.test, of_arm(evidence.test, m, arm))
        if not runs:
            continue
        counts = [gradients_to(run, targets(evidence.rates, m)[0]) for run in runs]
        mean, best = statistics.geometric_mean(counts), [best_accuracy(run) for run in runs]
        rows.append({
            "m": m, "arm": LOOKS[arm][0], "rate": f"{runs[0].cell.lr:g}", "seeds": f"{len(runs)} of {len(SEEDS)}",
            "reached the target": f"{sum(count < math.inf for count in counts)} of {len(runs)}",
            "gradients to it": _thousands(mean), "examples loaded": _thousands(mean * loads(arm)),
            "best test accuracy": f"{statistics.fmean(best):.4f} ({min(best):.4f} to {max(best):.4f})",
        })  # fmt: skip
    return pd.DataFrame(rows)


def contrasts_table(evidence: Evidence) -> pd.DataFrame:
    """A row for each contrast: ratios with simultaneous 95 % intervals, the verdict, the gap in best accuracy."""
    rows = []
    for m, (arm, other) in ((m, contrast) for m in SIZES for contrast in CONTRASTS):
        primary, *others = (ratio(evidence, m, arm, other, target) for target in range(len(ABOVE)))
        if primary is None:
            continue
        one, two = (_ended_runs(evidence.test, of_arm(evidence.test, m, name)) for name in (arm, other))
        gap = accuracy_gap(best_accuracy, one, two) if one and two else None
        rows.append({
            "m": m, "contrast": f"{arm} / {other}", "gradients": str(primary), "verdict": primary.verdict,
            "examples loaded": str(primary.times(loads(arm) / loads(other))),
            "pairs that missed the target": f"{primary.censored} of {primary.pairs}",
            **{f"gradients to L* + {above:.2f}": str(r or NOT_YET) for above, r in zip(ABOVE[1:], others)},
            "best accuracy, difference": str(gap or NOT_YET),
        })  # fmt: skip
    return pd.DataFrame(rows)


def check_table(evidence: Evidence, path="benchmarks/results/payoff.json") -> pd.DataFrame:
    """What benchmarks/payoff.py measured behind a data loader, beside the prediction: a row for each C/L. Of each arm
    the seconds of its run and, from L, C and its iterations, those predicted; then reuse / fresh, and what `payoff`
    says of it from all seeds."""
    rows, check = [], json.loads(Path(path).read_text()) if Path(path).exists() else {"places": []}
    for place in check["places"]:
        L, C, runs = place["loading_seconds"], place["step_seconds"], place["arms"]
        row = {"C/L": f"{C / L:.2f}", "L, ms": f"{1000 * L:.0f}", "C, ms": f"{1000 * C:.0f}"}
        for arm, run in runs.items():
            predicted = run["iterations"] * max(L * loads(arm), C)
            row[f"{arm}: seconds"] = f"{run['seconds']:.0f}"
            row[f"{arm}: predicted (error)"] = f"{predicted:.0f} ({predicted / run['seconds'] - 1:+.1%})"
        to_target = {arm: run["seconds"] * run["to_target"] / run["gradients"] for arm, run in runs.items()}
        r = outcome(evidence, check["m"])
        row["reuse / fresh"] = f"{to_target['reuse'] / to_target['fresh']:.2f}"
        row["predicted, from all seeds"] = str(r.times(time_factor("reuse", C / L))) if r else NOT_YET
        rows.append(row)
    return pd.DataFrame(rows)


def blocks(root="results", grids="grids") -> dict[str, str]:
    """Name -> Markdown: what docs/payoff.md says of the records."""
    evidence = load(root, grids)
    tables = {"rates": rates_table, "arms": arms_table, "contrasts": contrasts_table, "check": check_table}
    pictures = {
        "outcome": (evidence.test, "payoff/payoff-m512", "payoff/payoff-m32"),
        "chart": (evidence.test, "payoff/payoff"),
        "rates picture": (evidence.rates, "payoff-rates/payoff-rates"),
    }
    found = {"answer": "\n\n".join(answer(evidence, m) for m in SIZES)}
    found |= {name: markdown(table(evidence)) for name, table in tables.items()}
    for name, (runs, *paths) in pictures.items():
        shown = "\n".join(f"![{Path(path).name}](../figures/{path}.png)" for path in paths)
        found[name] = shown if any(runs.values()) else f"{NOT_YET.capitalize()}."
    return found


def _thousands(gradients: float) -> str:
    return "-" if gradients == math.inf else f"{gradients / 1000:,.0f} k"


# --- pictures


def draw(grid: str, evidence: Evidence) -> dict[str, Figure]:
    """Name of a file -> its picture, those of one grid: payoff-rates or payoff. Raises ValueError for another."""
    if grid not in ("payoff-rates", "payoff"):
        raise ValueError(f"grid must be 'payoff' or 'payoff-rates', not {grid!r}")
    if grid == "payoff-rates":
        return {"payoff-rates": draw_rates(evidence)}
    return {f"payoff-m{m}": draw_outcome(evidence, m) for m in SIZES} | {"payoff": draw_chart(evidence)}


def draw_outcome(evidence: Evidence, m: int) -> Figure:
    """Test loss against gradients and against examples loaded, of every seed; below, the contrasts."""
    figure = Figure(figsize=(10, 8.4), dpi=80, layout="constrained")
    axes = figure.subplot_mosaic([["gradients", "samples"], ["ratio", "ratio"]], height_ratios=[3, 2])
    goals, ax, (low, high) = targets(evidence.rates, m) or (), axes["ratio"], (0.1, 10)
    runs = {arm: [r for c in of_arm(evidence.test, m, arm) if (r := evidence.test[c])] for arm in ARMS}
    for x, label in (("gradients", "gradients, thousands"), ("samples", "examples loaded, thousands")):
        for arm in ARMS:
            draw_curve(axes[x], runs[arm], x, "test_loss", *LOOKS[arm][1:], scale=1e-3, circle=False)
        for goal in goals:
            axes[x].axhline(goal, color="#555555", lw=1.6 if goal == goals[0] else 0.7, ls=":")
        axes[x].set(xlabel=label, ylabel="loss on the test set", ylim=(None, 2.4))
    ax.axvspan(*FREE, color="#000000", alpha=0.08)
    ax.axvline(1, color="#555555", lw=0.8)
    labels = []
    for y, (arm, other) in enumerate(CONTRASTS):
        ratios = [ratio(evidence, m, arm, other, target) for target in range(len(ABOVE))]
        labels.append(f"{arm} / {other}\n{ratios[0].verdict if ratios[0] else NOT_YET}")
        for i, r in enumerate(ratios):
            look = {"color": LOOKS[arm][1], "alpha": 0.45 if i else 1, "lw": 1.2 if i else 2.4, "ms": 4 if i else 7}
            if r:
                ax.plot([max(low, r.low), min(high, r.high)], [y + 0.2 * i] * 2, **look)
                ax.plot(r.estimate or math.nan, y + 0.2 * i, "o", **look)
    ax.set_yticks(range(len(labels)), labels)
    ax.set(xlim=(low, high), ylim=(len(labels) - 0.4, -0.4), xscale="log", xlabel="ratio of gradients to the target")
    _ticks(ax.xaxis, (0.1, 0.2, 0.5, 0.8, 1.25, 2, 5, 10))
    tidy(ax)
    _legend(figure, f"Does reuse pay? m = {m}, CIFAR-10, {len(SEEDS)} seeds", [arm for arm in ARMS if runs[arm]])
    text = (
        "Thin: one seed; thick: their mean. Dotted: the targets, the primary one heavy. Below: simultaneous 95 %\n"
        "intervals, to the primary target (heavy), to L* + 0.05 and to L* + 0.20. Grey: 0.8 to 1.25."
    )
    figure.supxlabel(caption_of([run for of in runs.values() for run in of], text), **SMALL)
    return figure


def draw_rates(evidence: Evidence) -> Figure:
    """Gradients to the primary target against the rate, on held-out images; the chosen rates ringed."""
    figure, rates = Figure(figsize=(10, 5.4), dpi=80, layout="constrained"), evidence.rates
    for ax, m in zip(figure.subplots(1, 2), SIZES):
        goals = targets(rates, m)
        for arm, (_, color, line) in LOOKS.items() if goals else ():
            for seed, marker, ls in ((TRIED, "o", line), (AGAIN, "x", "")):
                runs = _ended_runs(rates, of_arm(rates, m, arm, seed))
                counts = [gradients_to(run, goals[0]) / 1000 for run in runs]
                points = [(r.cell.lr, y if y < math.inf else math.nan) for r, y in zip(runs, counts)]
                rings = [point for point in points if point[0] == choose(rates).get((m, arm))]
                ax.plot(*zip(*points or [(math.nan, math.nan)]), marker, ls=ls, color=color)
                ax.plot(*zip(*rings or [(math.nan, math.nan)]), "o", ms=13, mfc="none", color=color)
        ax.set_title(f"m = {m}: " + (f"to a loss of {goals[0]:.3f}" if goals else NOT_YET))
        tried = sorted({cell.lr for cell in rates if cell.m == m}) or [0.01, 0.1]
        ax.set(xscale="log", xlabel="learning rate µ", ylabel="gradients to the target, thousands", ylim=(0, None))
        ax.set_xlim(tried[0] / 1.2, tried[-1] * 1.2)
        _ticks(ax.xaxis, tried[::2])
        tidy(ax)
    _legend(figure, "The rate of each arm, on held-out images of CIFAR-10", ARMS)
    text = f"Dots: seed {TRIED}; crosses: the two best, seed {AGAIN}; rings: chosen. Not shown: target not reached."
    figure.supxlabel(caption_of(_ended_runs(rates, rates), text), **SMALL)
    return figure


def draw_chart(evidence: Evidence) -> Figure:
    """Seconds to the target relative to `fresh` against C/L, by the model max(L, K * C); where reuse breaks even."""
    figure, c = Figure(figsize=(10, 5.4), dpi=80, layout="constrained"), np.geomspace(0.05, 5, 400)
    for ax, m in zip(figure.subplots(1, 2, sharey=True), SIZES):
        ax.axhline(1, color=LOOKS["fresh"][1], lw=1.6)
        for arm, (_, color, line) in list(LOOKS.items())[1:]:
            r, factor = ratio(evidence, m, arm, "fresh"), time_factor(arm, c)
            if r is None or not r.complete:
                continue
            if r.low > 0 and r.high < math.inf:
                ax.fill_between(c, factor * r.low, factor * r.high, color=color, alpha=0.13, lw=0)
            else:  # at least, or at most
                ax.plot(c, factor * (r.low or r.high), color=color, ls=line, lw=0.9)
            ax.plot(c, factor * (r.estimate or math.nan), color=color, ls=line, lw=1.8)
            if r.estimate and loads(arm) < 1 < r.estimate < K:
                even, at = 1 / r.estimate, (7, -14) if arm == "reuse" else (-34, 8)
                ax.plot(even, 1, "o", ms=8, mfc="white", mew=1.8, color=color, zorder=3)
                ax.annotate(f"{even:.2f}", (even, 1), at, textcoords="offset points", color=color)
        ax.set_title(f"m = {m}" + ("" if outcome(evidence, m) else f": {NOT_YET}"))
        ax.set(xscale="log", yscale="log", xlabel="C/L: time of a training step over that of loading", ylim=(0.1, 10))
        _ticks(ax.xaxis, (0.05, 0.1, 0.2, 0.5, 1, 2, 5))
        _ticks(ax.yaxis, (0.1, 0.2, 0.5, 1, 2, 5, 10))
        tidy(ax)
    figure.axes[0].set_ylabel("seconds to the target, relative to fresh")
    _legend(figure, f"How soon at the same loss, behind a loader? CIFAR-10, {len(SEEDS)} seeds", ARMS)
    text = (
        "Ring: reuse breaks even. Bands: simultaneous 95 % intervals; thin: the one end of an interval that is open,\n"
        "where runs missed the target. Seconds by the model max(L, K·C). kµ over fresh is no planned contrast."
    )
    figure.supxlabel(caption_of([run for run in evidence.test.values() if run], text), **SMALL)
    return figure


def _ticks(axis, values):
    axis.set_major_locator(FixedLocator(values))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def _legend(figure, title, arms):
    lines = [Line2D([], [], color=LOOKS[arm][1], ls=LOOKS[arm][2], label=LOOKS[arm][0]) for arm in arms]
    look = {"title_fontsize": "x-large", "loc": "outside upper center", "ncols": 5, "frameon": False}
    figure.legend(handles=lines, title=title, handlelength=3, **look)
