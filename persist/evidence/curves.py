"""How a curve is drawn, and what its caption says: the same in every picture."""

import math
import textwrap
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from persist.cell import DATASETS, Cell
from persist.evidence.select import best, by_cell, mean_curve, of_one_core, points
from persist.record import Record

# Colours of Okabe and Ito, told apart by the colour-blind; with the line styles, also in grey.
STYLES = {1: ("#0072B2", "-"), 2: ("#E69F00", "--"), 5: ("#009E73", "-.")}
OTHER_COLORS = ("#CC79A7", "#D55E00", "#56B4E9", "#000000")
OTHER_LINES = (":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
CHANCE = {"test_accuracy": 0.1, "test_loss": math.log(10)}  # of a guess among ten classes
PANELS = {"test_accuracy": "top-1 accuracy on the {}", "test_loss": "loss on the {}"}  # above, below
NAMES = {"cifar10": "CIFAR-10", "digits": "scikit-learn's digits"}
SCALINGS = {
    "channel": "inputs normalised per channel",
    "unit": "inputs in [0, 1]",
    "symmetric": "inputs in [-1, 1]",
}
SMALL = {"fontsize": "small", "ha": "left", "x": 0.01}  # of a caption


def style(K: int) -> tuple:
    """(colour, line style) of a persistency: the same K is drawn alike everywhere, and K = 1..16 all differ."""
    return STYLES.get(K) or (OTHER_COLORS[K % 4], OTHER_LINES[K // 4 % 4])


def draw_curve(ax, runs: list[Record], x: str, y: str, color, line, *, scale=1.0, circle=True, number=None, **look):
    """One quantity of the runs' histories against another (`seconds`, `epoch`, `iterations`, `samples`, `gradients`,
    times `scale`), one run per seed, with their mean. A cross ends a run that diverged, a vertical bar one that is
    unfinished; a circle is at the best mean accuracy, `number` at the end. look: matplotlib's, of the runs' lines."""

    def place(point):
        if x == "epoch":  # also where an evaluation comes within one
            return point["gradients"] / (runs[0].cell.K * runs[0].cell.examples) * scale, point[y]
        return point[x] * scale, point[y]

    look = (dict(lw=1.6) if len(runs) == 1 else dict(lw=0.7, alpha=0.4)) | look
    for run in runs:
        curve = [place(point) for point in points(run) if point[y] is not None]
        marker = "." if len(curve) == 1 else None  # one point alone makes no line
        ax.plot(*np.reshape(curve, (-1, 2)).T, color=color, ls=line, marker=marker, **look)
        if run.status != "finished" and curve:
            ax.plot(*curve[-1], marker="X" if run.status == "diverged" else "|", ms=9, color=color, zorder=3)
        if number and curve:
            box = dict(boxstyle="circle,pad=0.18", fc="white", ec=color, lw=1.2)
            ax.annotate(number, curve[-1], ha="center", va="center", bbox=box, zorder=4, annotation_clip=True)
    if len(runs) > 1:
        curve = [place(point) for point in mean_curve(runs) if point[y] is not None]
        ax.plot(*np.reshape(curve, (-1, 2)).T, color=color, ls=line, lw=1.8)
    if circle and y == "test_accuracy" and runs and (top := best(runs)):
        ax.plot(*place(top), marker="o", ms=7, mfc="none", mew=1.6, color=color)
    tidy(ax)


def tidy(ax):
    """A light grid, and no frame where there is no axis."""
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def draw_chance(ax, quantity: str):
    """What a guess gives, a grey line."""
    ax.axhline(CHANCE[quantity], color="#888888", lw=0.8, zorder=1)


def label_panels(axes, runs: list[Record], *more: str):
    """Chance, labels and limits of panels with the curves of runs: rows as in PANELS, against seconds, epochs, more."""
    heldout = any(run.cell.evaluate_on == "heldout" for run in runs)
    for row, (quantity, label) in zip(axes, PANELS.items()):
        row[0].set_ylabel(label.format("held-out images" if heldout else "test set"))
        for ax in row:
            draw_chance(ax, quantity)
    one_core = all(map(of_one_core, runs))
    for ax, label in zip(axes[1], ("seconds of one core" if one_core else "seconds of training", "epochs", *more)):
        ax.set_xlabel(label)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        ax.set_xlim(left=0)
    losses = [e["test_loss"] for run in runs for e in run.history if e["test_loss"] is not None]
    # a run that blows up must not flatten the others: at most twice the loss of a guess
    axes[1, 0].set_ylim(0, min(4.6, 1.05 * max(losses, default=2.4)))


def caption_of(records: list[Record], *more: str, grid: str = "") -> str:
    """What more says of a picture; then data, network, step, hardware, epochs, n, grid and commits of its runs."""
    if not records:
        return "No run of this picture is recorded yet."
    lines = []
    for describe in (describe_data, describe_model, describe_step):
        found = sorted({describe(record.cell) for record in records})
        if len(found) < 3 or describe is describe_data:
            lines.append(f"{' / '.join(found)}.")
    seeds = ", ".join(map(str, sorted({record.cell.seed for record in records})))
    unfinished = sum(record.status == "unfinished" for record in records)
    where = (
        f"{describe_hardware(records)}. n = {span([len(runs) for runs in by_cell(records)])} per curve (seed {seeds})."
        + (f" {unfinished} of {len(records)} runs unfinished." if unfinished else "")
        + f" {made_by(records, grid)}."
    )
    lines.append(textwrap.fill(where, 135))  # what fits below a picture
    return "\n".join([*more, *lines])


def describe_data(cell: Cell) -> str:
    """Data set and sizes, in words."""
    n_train, n_test = DATASETS[cell.dataset]
    trained, tested = (
        f"all {n:,}" if size is None else f"a fixed {size:,} of the {n:,}"
        for size, n in ((cell.train_size, n_train), (cell.test_size, n_test))
    )
    evaluated = f"{tested} test images" if cell.evaluate_on == "test" else f"{cell.test_examples:,} held-out ones"
    return f"{NAMES[cell.dataset]}: trained on {trained} training images, evaluated on {evaluated}"


def describe_model(cell: Cell) -> str:
    """The network, in words."""
    width = "" if cell.width == 1 else f", width {cell.width:g}"
    hidden = f", hidden layers: {cell.hidden_layers}" if cell.hidden_layers else ""
    padding = "" if cell.padding == "same" else f", padding '{cell.padding}'"
    return f"Reduced AlexNet, stride {cell.stride}{padding}{hidden}{width}, {SCALINGS[cell.scaling]}"


def describe_step(cell: Cell) -> str:
    """The SGD step and the number of epochs, in words."""
    form = "" if cell.momentum_form == "pytorch" else f" ({cell.momentum_form} form)"
    nesterov = " (Nesterov)" if cell.nesterov else ""
    step = f"SGD on the {cell.reduction} of the gradients, µ = {cell.lr:g}, momentum {cell.momentum:g}{form}{nesterov}"
    return f"{step}, {count(cell.epochs, 'epoch')}"


def describe_hardware(runs: list[Record]) -> str:
    """Devices, threads, preloaded libraries and versions of torch."""
    found = [run.environment for run in runs]
    devices = {
        ", ".join([e["device"] + ("" if e["cuda"] else f" ({count(e['threads'], 'thread')})"), *e.get("preloaded", ())])
        + " and others" * ("earlier" in e)
        for e in found
    }
    return f"{', '.join(sorted(devices))}, torch {', '.join(sorted({e['torch'] for e in found}))}"


def made_by(runs: list[Record], grid: str = "") -> str:
    """The grid and the commits of a picture's runs."""
    return f"Grid {grid}, commit {commits(runs)}" if grid else f"Commit {commits(runs)}"


def commits(runs: list[Record]) -> str:
    """Those of the code that made the runs, shortened."""
    return ", ".join(sorted({(run.environment.get("git_commit") or "unknown")[:7] for run in runs}))


def count(n: int, noun: str) -> str:
    """n and the noun, in the plural unless n is 1."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def span(numbers: list) -> str:
    """The smallest and the largest number; one alone where they are equal."""
    return "-".join(map(str, sorted({min(numbers), max(numbers)})))


def save_all(figures: dict[str, Figure], folder) -> None:
    """Write every figure by its name."""
    for name, figure in figures.items():
        save(figure, folder, name)


def save(figure: Figure, folder, name: str) -> None:
    """Write name.png and name.svg, without dates or random ids: the same figure gives the same files."""
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(f"{path}.png", dpi=150, metadata={"Software": None})
        figure.savefig(f"{path}.svg", metadata={"Date": None, "Creator": None})
