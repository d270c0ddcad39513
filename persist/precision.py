"""Does a faster arithmetic train as strict fp32 does? The curves of TF32 and bf16 beside the spread between seeds. Reads records
only; imports no torch.

With one seed two precisions start from the same weights and see the same minibatches, and rounding drives them apart. What that
amounts to is measured by what another seed does: the curves agree within the spread of seeds where no seed in the other precision
is further from itself in fp32, over the epochs, than the two seeds in fp32 that are furthest apart.
"""

import dataclasses
import itertools
import math
import statistics

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from persist.compare import accuracy_gap, best_accuracy, common_seeds, mean_accuracy
from persist.figures import PANELS, caption, draw_curve
from persist.record import Record

STYLES = {"fp32": ("#0072B2", "-"), "tf32": ("#E69F00", "--"), "bf16": ("#D55E00", ":")}  # colours of Okabe and Ito


def precisions(records: list[Record]) -> dict[tuple, dict[str, list[Record]]]:
    """(policy, m, K) -> precision -> its runs, one per seed, in the order of STYLES; only where there are fp32 and another one.

    Raises ValueError for two different records of one cell, for two settings, and where nothing stands beside fp32.
    """
    cells, found = {}, {}
    for record in records:
        if cells.setdefault(record.cell, record) != record:
            raise ValueError(f"there are two different records of the cell {record.cell.name}: give one of them")
    for cell, record in sorted(cells.items(), key=lambda item: (item[0].lr_policy, item[0].m, item[0].K, item[0].seed)):
        setting = dataclasses.replace(cell, precision="fp32", seed=0)
        found.setdefault(setting, {}).setdefault(cell.precision, []).append(record)
    kept = {setting: runs for setting, runs in found.items() if "fp32" in runs and len(runs) > 1}
    keys = [(cell.lr_policy, cell.m, cell.K) for cell in kept]
    if len(set(keys)) < len(keys):
        raise ValueError("the records of fp32 and another precision differ in more than m, K, policy and seed: give those of one setting")
    if not kept:
        raise ValueError("no cell is recorded in fp32 and in another precision")
    return {key: {p: runs[p] for p in STYLES if p in runs} for key, runs in zip(keys, kept.values())}


def precision_table(records: list[Record]) -> pd.DataFrame:
    """One row per cell and precision other than fp32: the distance of its accuracies from fp32's with the same seed, that of two
    seeds in fp32 (means over the epochs; of these the mean and the largest), and the gaps of the whole curve and of the best accuracy."""
    rows = []
    for (policy, m, K), runs in precisions(records).items():
        for precision in runs:
            ours, fp32 = common_seeds(runs[precision], runs["fp32"])
            if precision == "fp32" or not ours:
                continue
            same = [distance(a, b) for a, b in zip(ours, fp32)]
            seeds = [distance(a, b) for a, b in itertools.combinations(runs["fp32"], 2)] or [math.nan]
            height, best = (accuracy_gap(quantity, ours, fp32) for quantity in (mean_accuracy, best_accuracy))
            rows.append(
                {
                    "m": m, "K": K, "policy": policy, "precision": precision, "seeds": len(ours),
                    "from fp32": statistics.fmean(same), "at most": max(same), "two seeds apart": statistics.fmean(seeds), "apart at most": max(seeds),
                    "within the spread": _judge(ours, fp32, max(same), max(seeds)),
                    "curve": height.mean, "± of the curve": height.margin, "best accuracy": best.mean, "± of the best": best.margin,
                }
            )  # fmt: skip
    return pd.DataFrame(rows).round(4)


def distance(a: Record, b: Record) -> float:
    """The mean over all epochs of the distance between the test accuracies; after a divergence an accuracy counts as 0."""

    def accuracies(run):
        return [entry["test_accuracy"] or 0.0 for entry in run.history] + [0.0] * (run.cell.epochs - len(run.history))

    return statistics.fmean(abs(x - y) for x, y in zip(accuracies(a), accuracies(b), strict=True))


def _judge(ours, fp32, furthest, spread) -> str:
    lost, of_fp32 = (sum(run.status == "diverged" for run in runs) for runs in (ours, fp32))
    if lost > of_fp32:
        return f"no: {lost} diverged"
    if math.isnan(spread):
        return "not judged: one seed in fp32"
    return "yes" if furthest <= spread else "no"


def describe_precision(records: list[Record]) -> str:
    """One sentence per precision: in how many cells its curves stay within the spread of fp32's seeds, and where not; how wide
    that spread is, below which nothing can be seen; and which cells have no fp32 to be compared with."""
    table, sentences = precision_table(records), []
    for precision, rows in table.groupby("precision", sort=False):
        verdicts = rows["within the spread"]
        judged = rows[~verdicts.str.startswith("not judged")]
        outside = [f"m = {row['m']}, K = {row['K']}{'' if row['policy'] == 'constant' else ', kµ'} ({row['within the spread']})" for _, row in judged[judged["within the spread"] != "yes"].iterrows()]
        if judged.empty:
            sentences.append(f"{precision}: not judged, with one seed in fp32.")
            continue
        text = f"{precision}: in {len(judged) - len(outside)} of {len(judged)} cells every seed is no further from itself in fp32 than the two seeds in fp32 that are furthest apart"
        sentences.append(text + (f"; not at {'; '.join(outside)}" if outside else "") + ".")
    widest = table.loc[table["apart at most"].idxmax()] if table["apart at most"].notna().any() else None
    if widest is not None:
        sentences.append(f"Two seeds in fp32 are up to {table['apart at most'].min():.3f} to {widest['apart at most']:.3f} apart, the most at m = {widest['m']}, K = {widest['K']}: what is smaller cannot be seen there.")
    cells = {record.cell for record in records}
    if alone := sorted(cell.name for cell in cells if dataclasses.replace(cell, precision="fp32") not in cells):
        sentences.append(f"Not compared, without a record in fp32: {', '.join(alone)}.")
    return "\n".join(sentences)


def draw_precision(records: list[Record]) -> dict[str, Figure]:
    """Name of a file -> its figure, one per m and policy: accuracy (above) and loss (below) on the test set against epochs, a
    column per K, a curve per precision."""
    figures, found = {}, precisions(records)
    for policy, m in sorted({key[:2] for key in found}):
        of_K = {K: runs for (p, size, K), runs in found.items() if (p, size) == (policy, m)}
        figures[f"precision-m{m}" + ("" if policy == "constant" else f"-{policy}")] = _draw(policy, m, of_K)
    return figures


def _draw(policy, m, of_K) -> Figure:
    figure = Figure(figsize=(5 * len(of_K), 7.6), layout="constrained")
    axes = figure.subplots(2, len(of_K), sharey="row", sharex=True, squeeze=False)
    for column, (K, runs) in zip(axes.T, of_K.items()):
        column[0].set_title(f"K = {K}")
        for ax, (quantity, _) in zip(column, PANELS):
            for precision, of_precision in runs.items():
                draw_curve(ax, of_precision, "epoch", quantity, *STYLES[precision])
        column[1].set_xlabel("epochs")
        column[1].xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    for ax, (_, ylabel) in zip(axes[:, 0], PANELS):
        ax.set_ylabel(ylabel.format("test set"))
    curves = {(precision, K): of_precision for K, runs in of_K.items() for precision, of_precision in runs.items()}
    lines = [Line2D([], [], color=color, ls=line, label=p) for p, (color, line) in STYLES.items() if p in {precision for precision, _ in curves}]
    title = f"The same cells in other arithmetic: m = {m}, learning rate {'µ' if policy == 'constant' else 'kµ'}"
    figure.legend(handles=lines, title=title, title_fontsize="x-large", loc="outside upper center", ncols=len(lines), frameon=False, handlelength=3)
    figure.supxlabel(caption(curves), fontsize="small", ha="left", x=0.01)
    return figure
