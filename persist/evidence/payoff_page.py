"""What is shown of whether reuse pays (payoff.py): words, tables, pictures, for docs/payoff.md, README and notebook."""

import dataclasses
import itertools
import json
import math
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from persist.evidence.compare import accuracy_gap, best_accuracy
from persist.evidence.curves import SMALL, caption_of, draw_curve, tidy
from persist.evidence.payoff import (
    ABOVE,
    AGAIN,
    ARMS,
    CONTRASTS,
    FREE,
    LOOSE,
    NOT_YET,
    SEEDS,
    SIZES,
    TRIED,
    Evidence,
    K,
    Ratio,
    budget,
    ended,
    gradients_to,
    load,
    losses,
    lowest,
    of_arm,
    ratio,
    ratio_to,
    targets,
    time_factor,
)
from persist.evidence.tables import markdown, wrapped
from persist.record import Record

TARGETS = (0.05, 0.10, 0.20, 0.30, 0.40, 0.50)  # above L*
EVERY = "every"  # C/L
KMU = CONTRASTS[3]  # the one at the rates k * mu


def turning_points(ratio: Ratio) -> tuple[str, str]:
    """The C/L below which reuse reaches the target sooner than `fresh`, and the one above which later, by either end of
    its interval and max(L, K * C): it breaks even at 1/r. EVERY: at every C/L; "-": not known of any."""
    below = EVERY if ratio.high < 1 else f"{1 / ratio.high:.2f}" if ratio.high <= K else "-"
    return below, EVERY if ratio.low > K else f"{1 / ratio.low:.2f}" if ratio.low > 1 else "-"


def short(evidence: Evidence, aside: str = " ([how](docs/payoff.md))") -> str:
    """Should I use it? The answer, in three sentences; aside: what follows the first C/L."""
    if not (goals := _goals(evidence)):
        return f"{NOT_YET.capitalize()}."
    order = sorted(range(len(ABOVE)), key=lambda target: -ABOVE[target])
    found = {(m, target): ratio(evidence, m, target=target) for m in goals for target in order}
    known = [r for r in found.values() if r.bounded]
    answer = f"it depends; K = {K} takes more gradients than K = 1 or fewer, and so the time,"
    if not known:
        answer = f"it is not known whether K = {K} takes more gradients than K = 1, and so more time,"
    elif all(r.verdict == "free" for r in known):
        answer = f"no difference; K = {K} takes about as many gradients as K = 1, and so as much time,"
    elif all(r.low > 1 for r in known):
        answer = f"no, K = {K} takes more gradients than K = 1, and so more time,"
    elif all(r.high < 1 for r in known):
        answer = f"yes, K = {K} takes fewer gradients than K = 1, and so less time,"
    unknown = [f"not known at m = {m} to {goals[m][target]:.2f}" for (m, target), r in found.items() if not r.bounded]
    unknown += [f"{NOT_YET} at m = {m}" for m in SIZES if m not in goals]
    sooner, loaded = [], []
    for (m, target), r in found.items():
        below, _ = turning_points(r)
        if below != "-" and _reached(evidence, m, target):
            where = "at every C/L" if below == EVERY else f"where C/L is below {below}"
            sooner.append(f"sooner at m = {m} to {goals[m][target]:.2f} {where}")
    for m in goals:
        runs = [ended(of_arm(evidence.test, m, arm)) for arm in ("reuse", "fresh")]
        least = [_mean_lowest(of, budget(runs[0][0].cell) / K) for of in runs]
        loaded.append(f"{least[0]:.3f} at m = {m} (K = 1: {least[1]:.3f})")
    if len(sooner) < len(found):
        sooner.append("at the other losses no gain is shown" if sooner else "sooner at no C/L that is known")
    return (
        f"With the data in memory: {answer} to the same test loss{''.join(f'; {each}' for each in unknown)}. "
        f"Behind a loader it depends on C/L{aside}: K = {K} comes {'; '.join(sooner)}. "
        f"On as many examples loaded its lowest loss is {', '.join(loaded)}."
    )


SHORT = (  # what short_table() shows
    f"Evidence: gradients to a test loss, K = {K} over K = 1, each at the constant rate that is best for the lower "
    f"of two losses; with kµ: over new minibatches at the same rates. n = {len(SEEDS)}. C/L by the model max(L, K·C)."
)


def short_table(evidence: Evidence) -> pd.DataFrame:
    """The evidence of short(): a row for each m and target."""
    rows, goals = [], _goals(evidence)
    for m, target in itertools.product(goals, (LOOSE, 0)):
        runs, kmu = ended(of_arm(evidence.test, m, "fresh")), ratio(evidence, m, *KMU, target)
        below, beyond = turning_points(r := ratio(evidence, m, target=target))
        below = below if _reached(evidence, m, target) else "never reached"
        rows.append({
            "m": m, "K = 1 comes to a loss of": f"{_mean_lowest(runs):.2f} in {runs[0].cell.epochs} epochs",
            "test loss": f"{goals[m][target]:.2f}", "gradients": str(r),
            "with kµ": str(kmu) if kmu.complete else NOT_YET, "sooner below C/L": below, "later above C/L": beyond,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _mean_lowest(runs: list[Record], samples=math.inf) -> float:
    """The mean of their lowest losses while at most so many examples were loaded."""
    return statistics.fmean(lowest(run, samples) for run in runs)


def _goals(evidence: Evidence) -> dict[int, list[float]]:
    """m -> its targets, of each m that decides anything."""
    return {m: targets(evidence.rates, m) for m in SIZES if ratio(evidence, m).complete}


def _reached(evidence: Evidence, m: int, target: int) -> bool:
    """Whether any run of `reuse` comes to the target."""
    goal = targets(evidence.rates, m)[target]
    return any(gradients_to(run, goal) < math.inf for run in ended(of_arm(evidence.test, m, "reuse")))


def arms_table(evidence: Evidence) -> pd.DataFrame:
    """A row for each m and arm of the test: what it took to the primary target (geometric means), the lowest loss
    (means), also of the part in which no more examples were loaded than by `reuse` in all, the best accuracy."""
    rows = []
    for m, arm in itertools.product(SIZES, ARMS):
        if runs := ended(of_arm(evidence.test, m, arm)):
            counts = [gradients_to(run, targets(evidence.rates, m)[0]) for run in runs]
            mean, best = statistics.geometric_mean(counts), [best_accuracy(run) for run in runs]
            loaded = budget(runs[0].cell) / K  # by `reuse`
            least = [_mean_lowest(runs, most) for most in (math.inf, loaded)]
            needs = [f"{n / 1000:,.0f} k" if n < math.inf else "-" for n in (mean, mean * ARMS[arm].loads)]
            rows.append({
                "m": m, "arm": ARMS[arm].label, "µ": f"{runs[0].cell.lr:g}",
                "target": f"{targets(evidence.rates, m)[0]:.3f}",
                "seeds that reached it": f"{sum(map(math.isfinite, counts))} of {len(runs)}",
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
                **{f"L* + {above:.2f}": f"{r}: {r.verdict}" if r.bounded else str(r)
                   for above, r in zip(ABOVE[1:], others)},
                "best accuracy, difference": str(all(runs) and accuracy_gap(best_accuracy, *runs) or NOT_YET),
            })  # fmt: skip
    return pd.DataFrame(rows)


def targets_table(evidence: Evidence) -> pd.DataFrame:
    """A row for each m and target, looser ones than the plan's too: ratios of gradients to it, by single evaluations as
    planned, and by the mean of three in a row, which no single dip decides."""

    def smoothed(run):
        means = np.convolve(losses(run), np.full(3, 1 / 3), "valid")
        return dataclasses.replace(run, history=[{**e, "test_loss": x} for e, x in zip(run.history[2:], means)])

    smooth, rows = evidence._replace(test={c: run and smoothed(run) for c, run in evidence.test.items()}), []
    for m, above in itertools.product(SIZES, TARGETS):
        if ratio(evidence, m).pairs:
            goal, row = targets(evidence.rates, m)[0] - ABOVE[0] + above, {"m": m}
            row |= {"target": f"L* + {above:.2f}", "loss": f"{goal:.3f}"}
            for of, how in ((evidence, ""), (smooth, ", mean of three")):
                shown = (*CONTRASTS[:2], KMU)
                row |= {f"{a} / {b}{how}": str(ratio_to(goal, of, m, a, b)) for a, b in shown}
            rows.append(row)
    return pd.DataFrame(rows)


def moment_table(evidence: Evidence, path="benchmarks/results/moment.json") -> pd.DataFrame:
    """What benchmarks/moment.py measured: a row for each m, of `reuse` as planned and evaluated one iteration later."""
    found = {} if not Path(path).exists() else json.loads(Path(path).read_text())
    later = {(run["m"], run["seed"]): run["losses"] for run in found.get("runs", [])}

    def shifted(run):
        pairs, m = zip(run.history, later[run.cell.m, run.cell.seed]), run.cell.m
        return dataclasses.replace(
            run, history=[{**e, "gradients": e["gradients"] + m, "test_loss": x} for e, x in pairs]
        )

    rows = []
    for m in SIZES:
        planned = {c: run for c, run in of_arm(evidence.test, m, "reuse").items() if run and (m, c.seed) in later}
        if planned:
            moved = {cell: shifted(run) for cell, run in planned.items()}
            apart = np.concatenate([np.subtract(later[c.m, c.seed], losses(run)[:-1]) for c, run in planned.items()])
            row = {"m": m, "loss one iteration later, less as planned": f"{apart.mean():+.3f} ± {apart.std():.3f}"}
            ways = {"as planned": (planned, evidence)}
            ways["one iteration later"] = (moved, evidence._replace(test=evidence.test | moved))
            for name, (runs, _) in ways.items():
                row[f"lowest loss, {name}"] = f"{statistics.fmean(map(lowest, runs.values())):.3f}"
            for t, (name, (_, of)) in itertools.product((0, LOOSE), ways.items()):
                row[f"reuse / fresh to L* + {ABOVE[t]:.2f}, {name}"] = str(ratio(of, m, target=t))
            rows.append(row)
    return pd.DataFrame(rows)


def check_table(evidence: Evidence, path="benchmarks/results/payoff.json") -> pd.DataFrame:
    """What benchmarks/payoff.py measured behind a data loader: a row for each C/L. Of each arm the seconds of its run,
    and those predicted from L, C and its iterations; then reuse / fresh, what these give for it, and `payoff`."""
    rows, check = [], json.loads(Path(path).read_text()) if Path(path).exists() else {"places": []}
    for place in check["places"]:
        L, C, to_target = place["loading_seconds"], place["step_seconds"], {}
        r = ratio(evidence, check["m"], target=ABOVE.index(check["above"]))
        row = {
            "target": f"L* + {check['above']:.2f}",
            "C/L": f"{C / L:.2f}",
            "L, ms": f"{1000 * L:.0f}",
            "C, ms": f"{1000 * C:.0f}",
        }
        for arm, run in place["arms"].items():
            predicted = run["iterations"] * max(L * ARMS[arm].loads, C)
            row[f"{arm}: seconds"] = f"{run['seconds']:.0f}"
            row[f"{arm}: predicted (error)"] = f"{predicted:.0f} ({predicted / run['seconds'] - 1:+.1%})"
            to_target[arm] = run["seconds"] * run["to_target"] / run["gradients"]
        row["reuse / fresh"] = f"{to_target['reuse'] / to_target['fresh']:.2f}"
        gradients = [run["to_target"] for run in (place["arms"]["reuse"], place["arms"]["fresh"])]
        row["predicted for this seed"] = f"{gradients[0] / gradients[1] * time_factor('reuse', L, C):.2f}"
        row["the mean of all seeds"] = str(r.times(time_factor("reuse", L, C))) if r.complete else NOT_YET
        rows.append(row)
    return pd.DataFrame(rows)


def blocks(root="results", grids="grids") -> dict[str, str]:
    """Name -> Markdown: what docs/payoff.md and the notebook say of the records."""
    evidence = load(root, grids)
    tables = {"turns": short_table, "arms": arms_table, "contrasts": contrasts_table, "targets": targets_table}
    tables |= {"moment": moment_table, "check": check_table}
    found = {name: markdown(table(evidence)) for name, table in tables.items()}
    for name, runs, *paths in (
        ("outcome", evidence.test, "payoff/payoff-m512", "payoff/payoff-m32"),
        ("chart", evidence.test, "payoff/payoff"),
        ("rates", evidence.rates, "payoff-rates/payoff-rates"),
    ):
        shown = "\n".join(f"![{Path(path).name}](../figures/{path}.png)" for path in paths)
        found[name] = shown if any(runs.values()) else f"{NOT_YET.capitalize()}."
    found["short"] = wrapped(short(evidence, ", the time of a training step over that of loading a minibatch"))
    return found


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
        if r.bounded:
            color, ends = ARMS[arm].color, np.clip([r.low, r.high], 0.1, 10)
            ax.plot(ends, [y, y], color=color, lw=2.4)
            ax.annotate(str(r), (ends[0], y), (0, 6), textcoords="offset points", color=color)
            ax.plot(r.estimate, y, "o", color=color, ms=7)
            for at, arrow in [(0.1, "<")] * (r.low == 0) + [(10, ">")] * (r.high == math.inf):
                ax.plot(at, y, arrow, color=color, ms=9, clip_on=False)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(0.1, 10), ylim=(len(names) - 0.4, -0.4), xscale="log", xlabel="ratio of gradients to the target")
    ax.set_xticks(ticks := (0.1, 0.2, 0.5, 0.8, 1.25, 2, 5, 10), ticks)
    title = f"Does reuse pay? m = {m}, CIFAR-10, {len(SEEDS)} seeds"
    text = (
        "Fresh: new minibatches; reuse: each one five times in a row; spaced: all in one order, five times through.\n"
        "kµ: k times µ at the k-th of five iterations.\n"
        "Thin: one seed; thick: their mean; losses above 2.4 are cut off. Dotted: the targets, the primary one heavy.\n"
        "Below: ratios to the primary target with simultaneous 95 % intervals. Grey: 0.8 to 1.25. Arrow: no end, for\n"
        "runs missed the target. No dot, or no line: not known."
    )
    return _finish(figure, title, [arm for arm in ARMS if runs[arm]], sum(runs.values(), []), text, "payoff")


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
    unchosen = ", ".join(str(m) for m in SIZES if not of_arm(evidence.test, m, "reuse-kmu"))
    text = (
        f"Dots: seed {TRIED}; crosses: the two best, seed {AGAIN}; rings: chosen. Dotted: the budget of a run;\n"
        "triangles above it: target not reached." + f" For kµ at m = {unchosen} no rate is chosen yet." * bool(unchosen)
    )
    return _finish(
        figure, "The rate of each arm, on held-out images of CIFAR-10", ARMS, ended(rates), text, "payoff-rates"
    )


def draw_chart(evidence: Evidence) -> Figure:
    """Seconds to the target relative to `fresh` against C/L, by the model max(L, K * C); where reuse breaks even."""
    figure, c = Figure(figsize=(10, 9), dpi=80, layout="constrained"), np.geomspace(0.05, 5, 400)
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for ax, (target, m) in zip(axes.flat, itertools.product((0, LOOSE), SIZES)):
        ax.axhline(1, color=ARMS["fresh"].color, lw=1.6)
        ratios = {arm: r for arm in ARMS if arm != "fresh" and (r := ratio(evidence, m, arm, target=target)).complete}
        for arm, r in ratios.items():
            look, factor = ARMS[arm], np.array([time_factor(arm, 1, step) for step in c])
            if r.low > 0 or r.high < math.inf:  # an end that is open goes on to the edge
                ends = [factor * np.clip(end, 1e-3, 1e3) for end in (r.low, r.high)]
                fill = dict(fc="none", hatch="//") if math.isnan(r.estimate) else dict(fc=look.color)
                ax.fill_between(c, *ends, ec=look.color, alpha=0.13, lw=0, **fill)
                ax.plot(c, np.transpose(ends), color=look.color, ls=look.line, lw=0.7)
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
    missing = ", ".join(str(m) for m in SIZES if not ratio(evidence, m, *KMU).complete)
    text = (
        "L*: the lowest loss of fresh on held-out images. Ring: reuse breaks even. Bands: 95 % intervals (98.75 %\n"
        "each), without an end where runs missed the target. Hatched: a bound alone, most runs missed it; equal ones\n"
        "lie on each other. Seconds by the model max(L, K·C). kµ over fresh is no planned contrast, and its rate is\n"
        "the best for L* + 0.10."
    )
    text += f" kµ at m = {missing}: {NOT_YET}." * bool(missing)
    title = f"How soon at the same loss, behind a loader? CIFAR-10, {len(SEEDS)} seeds"
    return _finish(figure, title, ARMS, [run for run in evidence.test.values() if run], text, "payoff")


def _finish(figure, title, arms, records, text, grid):
    """Tidy axes, the legend of the arms above, the caption below."""
    for ax in figure.axes:
        tidy(ax)
        ax.minorticks_off()
    lines = [Line2D([], [], color=ARMS[arm].color, ls=ARMS[arm].line, label=ARMS[arm].label) for arm in arms]
    look = {"title_fontsize": "x-large", "loc": "outside upper center", "ncols": 5, "frameon": False}
    figure.legend(handles=lines, title=title, handlelength=3, **look)
    figure.supxlabel(caption_of(records, text, grid=grid), **SMALL)
    return figure
