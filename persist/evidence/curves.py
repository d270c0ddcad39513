"""How a curve is drawn, and what its caption says: the same in every picture."""

import math
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from persist.cell import DATASETS, Cell
from persist.evidence.select import best, by_cell, mean_curve, points
from persist.record import Record

# Colours of Okabe and Ito, told apart by the colour-blind; with the line styles, also in grey.
STYLES = {1: ("#0072B2", "-"), 2: ("#E69F00", "--"), 5: ("#009E73", "-.")}
OTHER_COLORS = ("#CC79A7", "#D55E00", "#56B4E9", "#000000")
OTHER_LINES = (":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
CHANCE = {"test_accuracy": 0.1, "test_loss": math.log(10)}  # of a guess among ten classes
PANELS = (("test_accuracy", "top-1 accuracy on the {}"), ("test_loss", "loss on the {}"))
NAMES = {"cifar10": "CIFAR-10", "digits": "scikit-learn's digits"}
SMALL = {"fontsize": "small", "ha": "left", "x": 0.01}  # of a caption


def style(K: int) -> tuple:
    """(colour, line style) of a persistency: the same K is drawn alike everywhere, and K = 1..16 all differ."""
    return STYLES.get(K) or (OTHER_COLORS[K % 4], OTHER_LINES[K // 4 % 4])


def draw_curve(ax, runs: list[Record], x: str, y: str, color: str, line, *, scale: float = 1.0, circle: bool = True):
    """One quantity of the runs' histories against another (`seconds`, `epoch`, `iterations`, `samples`, `gradients`,
    times `scale`), one run per seed, with their mean. A cross ends a run that diverged, a vertical bar one that is
    unfinished; a circle is at the best mean accuracy."""
    for run in runs:
        curve = [(point[x] * scale, point[y]) for point in points(run) if point[y] is not None]
        alone = len(runs) == 1
        marker = "." if len(curve) == 1 else None  # one point alone makes no line
        xs, ys = zip(*curve) if curve else ((), ())
        ax.plot(xs, ys, color=color, ls=line, marker=marker, lw=1.6 if alone else 0.7, alpha=1 if alone else 0.4)
        if run.status != "finished" and curve:
            ax.plot(*curve[-1], marker="X" if run.status == "diverged" else "|", ms=9, color=color, zorder=3)
    if len(runs) > 1:
        curve = [(point[x] * scale, point[y]) for point in mean_curve(runs) if point[y] is not None]
        ax.plot(*zip(*curve) if curve else ((), ()), color=color, ls=line, lw=1.8)
    if circle and y == "test_accuracy" and runs and (top := best(runs)):
        ax.plot(top[x] * scale, top[y], marker="o", ms=7, mfc="none", mew=1.6, color=color)
    tidy(ax)


def tidy(ax):
    """A light grid, and no frame where there is no axis."""
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def draw_chance(ax, quantity: str):
    """What a guess gives, a grey line."""
    ax.axhline(CHANCE[quantity], color="#888888", lw=0.8, zorder=1)


def caption_of(records: list[Record], *more: str) -> str:
    """Data, network, step, hardware, epochs, n and commits of the runs of a picture, in a few lines."""
    if not records:
        return "No run of this picture is recorded yet."
    cells = [record.cell for record in records]
    n = sorted({len(runs) for runs in by_cell(records)})
    seeds = ", ".join(map(str, sorted({cell.seed for cell in cells})))
    unfinished = sum(record.status == "unfinished" for record in records)
    commits = sorted({(record.environment.get("git_commit") or "unknown")[:7] for record in records})
    lines = [
        f"{' / '.join(sorted({describe_data(cell) for cell in cells}))}.",
        f"{' / '.join(sorted({describe_model(cell) for cell in cells}))}."
        if len({*map(describe_model, cells)}) < 3
        else "",
        f"{' / '.join(sorted({describe_step(cell) for cell in cells}))}."
        if len({*map(describe_step, cells)}) < 3
        else "",
        f"{describe_hardware(records)}. n = {'-'.join(map(str, sorted({n[0], n[-1]})))} per curve (seed {seeds})."
        + (f" {unfinished} of {len(records)} runs unfinished." if unfinished else "")
        + f" Commit {', '.join(commits)}.",
        *more,
    ]
    return "\n".join(line for line in lines if line)


def describe_data(cell: Cell) -> str:
    """Data set and sizes, in words."""
    n_train, n_test = DATASETS[cell.dataset]
    used = f"all {n_train:,}" if cell.train_size is None else f"a fixed {cell.train_size:,} of the {n_train:,}"
    if cell.evaluate_on == "test":
        tested = f"all {n_test:,}" if cell.test_size is None else f"a fixed {cell.test_size:,} of the {n_test:,}"
        return f"{NAMES[cell.dataset]}: trained on {used} training images, evaluated on {tested} test images"
    return (
        f"{NAMES[cell.dataset]}: trained on {used} training images, evaluated on {cell.test_examples:,} held-out ones"
    )


def describe_model(cell: Cell) -> str:
    """The network, in words."""
    width = "" if cell.width == 1 else f", width {cell.width:g}"
    hidden = f", hidden layers: {cell.hidden_layers}" if cell.hidden_layers else ""
    shape = f"stride {cell.stride}, padding '{cell.padding}'{hidden}{width}"
    return f"Reduced AlexNet, {shape}, inputs scaled '{cell.scaling}'"


def describe_step(cell: Cell) -> str:
    """The SGD step and the number of epochs, in words."""
    form = "" if cell.momentum_form == "pytorch" else f" ({cell.momentum_form} form)"
    nesterov = " (Nesterov)" if cell.nesterov else ""
    step = f"SGD on the {cell.reduction} of the gradients, µ = {cell.lr:g}, momentum {cell.momentum:g}{form}{nesterov}"
    return f"{step}, {count(cell.epochs, 'epoch')}"


def describe_hardware(runs: list[Record]) -> str:
    """Devices, threads and versions of torch."""
    found = [run.environment for run in runs]
    devices = {e["device"] + ("" if e["cuda"] else f" ({count(e['threads'], 'thread')})") for e in found}
    return f"{', '.join(sorted(devices))}, torch {', '.join(sorted({e['torch'] for e in found}))}"


def count(n: int, noun: str) -> str:
    """n and the noun, in the plural unless n is 1."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def save_all(figures: dict[str, Figure], folder) -> list[Path]:
    """Write every figure by its name; returns the paths."""
    return [path for name, figure in figures.items() for path in save(figure, folder, name)]


def save(figure: Figure, folder, name: str) -> list[Path]:
    """Write name.png and name.svg, without dates or random ids: the same figure gives the same files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(paths[0], dpi=150, metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths
