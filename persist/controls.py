"""The controls that the paper lacks. Persistency with K = 5 makes five times the updates in an epoch: these arms separate
reuse from more updates and from larger steps. Reads records only; imports no torch.

An arm is told by its cell: K, reuse, policy, its rate as a multiple of mu, its epochs as a multiple of the base's.
"""

import dataclasses
import math

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from persist.compare import COMPARABLE, accuracy_gap, best_accuracy, common_seeds, describe_pairs, final_accuracy
from persist.figures import PANELS, best, caption, describe_seconds, draw_curve, timed
from persist.record import Record

# Arm -> (K, reuse, policy, rate / mu, epochs / base epochs), its colour, its line.
REUSE, SPACED = "consecutive", "spaced"
ARMS = {
    "K = 1": ((1, REUSE, "constant", 1, 1), "#0072B2", "-"),
    "K = 5": ((5, REUSE, "constant", 1, 1), "#009E73", "-."),
    "spaced K = 5": ((5, SPACED, "constant", 1, 1), "#CC79A7", "--"),
    "K = 1, 5 times the epochs": ((1, REUSE, "constant", 1, 5), "#56B4E9", "-"),
    "K = 1 with 2µ": ((1, REUSE, "constant", 2, 1), "#E69F00", "--"),
    "K = 1 with 5µ": ((1, REUSE, "constant", 5, 1), "#D55E00", ":"),
    "K = 5 with µ/5": ((5, REUSE, "constant", 1 / 5, 1), "#000000", ":"),
    "K = 5 with kµ": ((5, REUSE, "kmu", 1, 1), "#009E73", "-."),
    "spaced K = 5 with kµ": ((5, SPACED, "kmu", 1, 1), "#CC79A7", "--"),
    "K = 1 with 15µ": ((1, REUSE, "constant", 15, 1), "#D55E00", ":"),
}
CONSTANT = ("K = 1", "K = 5", "spaced K = 5", "K = 1, 5 times the epochs", "K = 1 with 2µ", "K = 1 with 5µ", "K = 5 with µ/5")
KMU = ("K = 1", "K = 5 with kµ", "spaced K = 5 with kµ", "K = 1 with 15µ")
# Control, the arm that it stands against, and what the two have in common.
COMPARISONS = (
    ("K = 1", "K = 5", "examples loaded"),
    ("spaced K = 5", "K = 5", "gradient evaluations, iterations"),
    ("K = 1, 5 times the epochs", "K = 5", "gradient evaluations, iterations"),
    ("K = 1 with 2µ", "K = 5", "examples loaded"),
    ("K = 1 with 5µ", "K = 5", "examples loaded, sum of the steps"),
    ("K = 5 with µ/5", "K = 1", "examples loaded, sum of the steps"),
    ("spaced K = 5 with kµ", "K = 5 with kµ", "gradient evaluations, iterations"),
    ("K = 1 with 15µ", "K = 5 with kµ", "examples loaded, sum of the steps"),
)
# Reuse -> the controls with as many gradient evaluations and iterations, and no use of a minibatch right after the other.
EQUAL = {"K = 5": ("spaced K = 5", "K = 1, 5 times the epochs"), "K = 5 with kµ": ("spaced K = 5 with kµ",)}
AXES = (("gradients", "gradient evaluations"), ("samples", "examples loaded"), ("iterations", "iterations"), ("train_seconds", "training time in seconds"))


def arms(controls: list[Record], beside: list[Record], m: int) -> dict[str, list[Record]]:
    """Arm -> its runs with minibatches of m, one per seed. `beside` holds K = 1 and K = 5 of the grid that the controls
    belong to: what is of another setting there (another precision, say) is left out."""
    free = ("m", "K", "lr", "lr_policy", "reuse", "epochs", "seed")
    settings = {_setting(run, free) for run in controls}
    runs = [run for run in (*beside, *controls) if run.cell.m == m and _setting(run, free) in settings]
    base = [run.cell for run in beside if run in runs and (run.cell.K, run.cell.reuse) == (5, REUSE)]
    if not base:
        return {}  # nothing says what mu is
    mu, epochs = max(cell.lr for cell in base), min(cell.epochs for cell in base)
    return {name: found for name, (arm, _, _) in ARMS.items() if (found := [run for run in runs if _is(run.cell, arm, mu, epochs)])}


def comparison_table(controls: list[Record], beside: list[Record]) -> pd.DataFrame:
    """One row per m and control: its accuracy, that of the arm it stands against, and the gap with its interval."""
    rows = []
    for m in minibatch_sizes(controls):
        found = arms(controls, beside, m)
        for name, other, common in COMPARISONS:
            if name not in found or other not in found:
                continue
            best = best_of_as_many(found[other][0].cell.epochs)
            control, against = common_seeds(found[name], found[other])
            if not control:
                continue
            gap = accuracy_gap(best, control, against)
            rows.append(
                {
                    "m": m, "control": name, "against": other, "in common": common,
                    "best accuracy": _mean(best, control), "of the other": _mean(best, against),
                    "difference": gap.mean, "±": gap.margin, "the control": _words(control, gap), "matches": gap.low > -COMPARABLE, "pairs": gap.pairs,
                    "final accuracy": _mean(final_accuracy, control), "final of the other": _mean(final_accuracy, against),
                }
            )  # fmt: skip
    return pd.DataFrame(rows).round(4)


def _by(row, name_pairs: bool) -> str:
    pairs = f", {describe_pairs(row['pairs'])}" if name_pairs else ""
    return "" if row["the control"] == "diverged" else f" ({row['difference']:+.4f} ± {row['±']:.4f}{pairs})"


def best_of_as_many(epochs: int):
    """A function of a run: its best accuracy over so many evaluations, evenly spread: the best of more is better by chance."""

    def best(run):
        step = run.cell.epochs // epochs
        return best_accuracy(dataclasses.replace(run, history=run.history[step - 1 :: step])) if len(run.history) >= step else 0.0

    return best


def describe_controls(controls: list[Record], beside: list[Record]) -> str:
    """One paragraph per m: what the controls show, and how sure one can be."""
    table = comparison_table(controls, beside)
    if table.empty:
        return ""
    paragraphs = []
    for m, rows in table.groupby("m"):
        sentences, same = [], rows["pairs"].nunique() == 1
        n = describe_pairs(rows["pairs"].iloc[0])
        head = f"m = {m} ({n}{' of each arm' if n == 'one run' else ''})" if same else f"m = {m}"
        for other, against in rows.groupby("against", sort=False):
            items = [f"{row['control']} {row['the control']}{_by(row, not same)}" for _, row in against.iterrows()]
            sentences.append(f"Against {other}: " + "; ".join(items))
        text = ". ".join([*sentences, *_conclusions(rows)])
        missing = sorted(set(ARMS) - set(arms(controls, beside, m)))
        paragraphs.append(f"{head}. {text}." + (f" No record of {', '.join(missing)}." if missing else ""))
    return "\n\n".join(paragraphs)


def _conclusions(rows) -> list[str]:
    """Which arms without consecutive reuse do as well as reuse with as many gradient evaluations. Nothing is concluded
    before both of these are there, nor from an interval that also allows for a clear loss."""
    found = []
    for reuse, controls in EQUAL.items():
        against = rows[rows["control"].isin(controls)]
        if len(against) < len(controls):
            continue
        named = against["control"] + against["pairs"].map(lambda pairs: f" ({describe_pairs(pairs)})")
        match, open_ = ([*named[mask]] for mask in (against["matches"], ~against["matches"] & against["the control"].eq("is not told apart")))
        if match:
            found.append(f"With as many gradient evaluations, {' and '.join(match)} {'does' if len(match) == 1 else 'do'} as well as {reuse}: its gain takes no consecutive reuse")
        elif not open_:
            found.append(f"With as many gradient evaluations, nothing tried without consecutive reuse does as well as {reuse} ({describe_pairs(against['pairs'].min())})")
    return found


def draw_controls(controls: list[Record], beside: list[Record]) -> dict[str, Figure]:
    """Name of a file -> its figure: for every m one with the constant rate and one with kmu, each with accuracy (above) and
    loss (below) on the test set against gradient evaluations, examples loaded, iterations and seconds."""
    figures = {}
    for m in minibatch_sizes(controls):
        found = arms(controls, beside, m)
        for suffix, names, title in (("", CONSTANT, "learning rate µ"), ("-kmu", KMU, "learning rate kµ at the k-th use")):
            figures[f"controls-m{m}{suffix}"] = _draw(f"Reuse and its controls: m = {m}, {title}", {name: found[name] for name in names if name in found})
    return figures


def minibatch_sizes(controls: list[Record]) -> list[int]:
    return sorted({run.cell.m for run in controls})


def _setting(run, free):
    return tuple(value for name, value in run.cell.as_dict().items() if name not in free)


def _is(cell, arm, mu, epochs) -> bool:
    K, reuse, policy, rate, times = arm
    return (cell.K, cell.reuse, cell.lr_policy) == (K, reuse, policy) and math.isclose(cell.lr, rate * mu) and cell.epochs == times * epochs


def _mean(quantity, runs) -> float:
    return sum(map(quantity, runs)) / len(runs)


def _words(runs, gap) -> str:
    if lost := sum(run.status == "diverged" for run in runs):
        return "diverged" if lost == len(runs) else f"diverged with {lost} of {len(runs)} seeds"
    return "is better" if gap.low > 0 else "is worse" if gap.high < 0 else "is not told apart"


def _draw(title, found) -> Figure:
    figure = Figure(figsize=(16, 7.6), dpi=64, layout="constrained")  # of what a notebook shows; save() has its own
    axes = figure.subplots(2, len(AXES), sharey="row", sharex="col")
    seconds = timed(found)
    for row, (quantity, ylabel) in zip(axes, PANELS):
        for ax, (clock, _) in zip(row, AXES):
            for name, runs in found.items():
                _, color, line = ARMS[name]
                draw_curve(ax, seconds[name] if clock == "train_seconds" else runs, clock, quantity, color, line, top=best(runs))
        row[0].set_ylabel(ylabel.format("test set"))
    for ax, (_, xlabel) in zip(axes[1], AXES):
        ax.set_xlabel(xlabel)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k
    describe_seconds(axes[0, -1], found, seconds)
    epochs = min((run.cell.epochs for runs in found.values() for run in runs), default=1)
    lines = [Line2D([], [], color=ARMS[name][1], ls=ARMS[name][2], label=_legend(name, of_arm, best_of_as_many(epochs))) for name, of_arm in found.items()]
    figure.legend(handles=lines, title=title, title_fontsize="x-large", loc="outside upper center", ncols=4, frameon=False, handlelength=3)
    base = caption(found) + " Epochs and µ are the base's: each arm changes them as its name says. Best: each run's, over as many evaluations in every arm."
    figure.supxlabel(base, fontsize="small", ha="left", x=0.01)
    return figure


def _legend(name, runs, best) -> str:
    diverged = [len(run.history) for run in runs if run.status == "diverged"]
    best = "" if len(diverged) == len(runs) else f": best {_mean(best, runs):.4f}" + ("" if len(runs) == 1 else f" (mean of {len(runs)})")
    return name + best + (f"; diverged in epoch {', '.join(map(str, diverged))}" if diverged else "")
