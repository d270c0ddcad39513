"""Figures 1-5 of the paper, drawn from records. Reads records only; imports no torch."""

import dataclasses
import statistics
import textwrap
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from persist.cell import DATASETS, Cell
from persist.provenance import was_disturbed
from persist.record import Record

# Figure -> (m, learning-rate policy). The text does not say which m Figures 4 and 5 are for; m = 32 and 512 remain.
FIGURES = {1: (32, "constant"), 2: (256, "constant"), 3: (512, "constant"), 4: (32, "kmu"), 5: (512, "kmu")}
PAPER_K = (1, 2, 5)
# Colours of Okabe and Ito, told apart by the colour-blind; with the line styles, also in grey.
STYLES = {1: ("#0072B2", "-"), 2: ("#E69F00", "--"), 5: ("#009E73", "-.")}
OTHER_COLORS = ("#CC79A7", "#D55E00", "#56B4E9", "#000000")
OTHER_LINES = (":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
# The fields that the paper's text states, in words; the others are what it leaves open.
STATED = {
    "dataset": "data set",
    "train_size": "training images",
    "test_size": "test images",
    "width": "width",
    "epochs": "epochs",
    "lr": "learning rate",
    "momentum": "momentum",
    "reduction": "sum of the gradients",
    "reuse": "consecutive reuse",
}
PANELS = (("test_accuracy", "top-1 accuracy on the {}"), ("test_loss", "loss on the {}"))
CLOCKS = (("train_seconds", "training time in seconds"), ("epoch", "epochs"))


def figure_1(records) -> Figure:
    """m = 32, constant learning rate: accuracy and loss against seconds (left) and epochs (right), one curve per K."""
    return draw_figure(1, records)


def figure_2(records) -> Figure:
    """m = 256, constant learning rate; otherwise as figure_1."""
    return draw_figure(2, records)


def figure_3(records) -> Figure:
    """m = 512, constant learning rate; otherwise as figure_1."""
    return draw_figure(3, records)


def figure_4(records) -> Figure:
    """m = 32, learning rate k * mu at the k-th use of a minibatch; otherwise as figure_1."""
    return draw_figure(4, records)


def figure_5(records) -> Figure:
    """m = 512, learning rate k * mu at the k-th use of a minibatch; otherwise as figure_1."""
    return draw_figure(5, records)


def draw_figure(number: int, records: list[Record]) -> Figure:
    """Figure 1, ..., 5. A K of the paper without a record is named in the figure; a diverged run is shown as such."""
    m, policy = FIGURES[number]
    return _draw(f"Figure {number}: {_title(m, policy)}", select(records, m, policy))


def other_figures(records: list[Record]) -> dict[str, Figure]:
    """Figures like the paper's for every other m and policy that the records have, by a name for their files."""
    others = sorted({(r.cell.m, r.cell.lr_policy) for r in records} - set(FIGURES.values()))
    return {
        f"m{m}" + ("" if policy == "constant" else f"-{policy}"): _draw(_title(m, policy), select(records, m, policy))
        for m, policy in others
    }


def varying(records: list[Record]) -> list[str]:
    """The fields of Cell, but for m, K, the policy and the seed, in which the records differ: what their tables must tell."""
    cells = [record.cell.as_dict() for record in records]
    return [
        f for f in Cell.fields() if f not in ("m", "K", "lr_policy", "seed") and len({cell[f] for cell in cells}) > 1
    ]


def draw_record(record: Record) -> Figure:
    """The four curves of one run: accuracy and loss against seconds (left) and epochs (right)."""
    return _draw(record.cell.name, {record.cell.K: [record]})


def summary(records: list[Record]):
    """One row per cell with all of its seeds: best and final accuracy, the mean over the seeds, and what a run cost (a
    pandas DataFrame)."""
    import pandas as pd

    def mean(values):
        return statistics.fmean(values) if values and None not in values else None

    rows, cells = [], dict(enumerate(by_cell(records)))
    seconds = timed_by_figure(cells)
    for number, runs in cells.items():
        cell, lasts = runs[0].cell, [run.history[-1] for run in runs]
        lost = sum(run.status == "diverged" for run in runs)
        tops = [best([run]) if len(runs) == 1 or not lost else None for run in runs]  # no mean of those that are left
        tops = [top or (None, None) for top in tops]
        rows.append(
            {
                "m": cell.m, "K": cell.K, "policy": cell.lr_policy, **{f: getattr(cell, f) for f in varying(records)}, "seeds": len(runs),
                "status": "finished" if not lost else "diverged" if lost == len(runs) else f"{lost} of {len(runs)} diverged",
                "best accuracy": mean([accuracy for accuracy, _ in tops]), "at epoch": mean([epoch for _, epoch in tops]),
                **{f"final {name}": mean([last[f"test_{name}"] for last in lasts]) for name in ("accuracy", "loss")},
                **{name: max(last[name] for last in lasts) for name in ("iterations", "gradients")},
                "seconds": mean([run.history[-1]["train_seconds"] for run in seconds[number]]),
            }
        )  # fmt: skip
    return pd.DataFrame(rows).round(
        {"best accuracy": 4, "at epoch": 1, "final accuracy": 4, "final loss": 4, "seconds": 1}
    )


def by_cell(records: list[Record]) -> list[list[Record]]:
    """The records of each cell, all of its seeds together, in the order of the tables."""
    found = {}
    for record in sorted(records, key=lambda r: (r.cell.lr_policy, r.cell.m, r.cell.K, r.cell.name)):
        found.setdefault(dataclasses.replace(record.cell, seed=0), []).append(record)
    return list(found.values())


def select(records: list[Record], m: int, policy: str) -> dict[int, list[Record]]:
    """K -> the records of one figure, one per seed; an empty list for a K of the paper that has none.

    K = 1 is the same for both policies. Where records differ in more than K and the seed (another precision, say),
    the setting with the most values of K is drawn, of equals the one whose name sorts first.
    """
    settings = {}
    for record in sorted(records, key=lambda r: r.cell.name):
        cell = record.cell
        if cell.m == m and (cell.lr_policy == policy or (cell.K == 1 and cell.lr_policy == "constant")):
            setting = dataclasses.replace(cell, K=1, seed=0, lr_policy=policy)
            settings.setdefault(setting, {}).setdefault(cell.K, []).append(record)
    chosen = max(settings.values(), key=len, default={})
    return {K: chosen.get(K, []) for K in sorted({*PAPER_K, *chosen})}


def best(runs: list[Record]) -> tuple[float, int] | None:
    """(accuracy, epoch) of the best epoch, the first of equals, of the mean curve of runs; None where no epoch has an accuracy."""
    points = [p for p in mean_curve(runs) if p["test_accuracy"] is not None]
    top = max(points, key=lambda p: p["test_accuracy"], default=None)
    return top and (top["test_accuracy"], top["epoch"])


def timed(curves: dict[object, list[Record]]) -> dict[object, list[Record]]:
    """The same curves with those runs alone whose seconds can be compared: all on one kind of device, with as many threads and the same
    torch; of these, where a curve has any, those beside which no other work ran. Of several devices the one with the most curves."""

    def of(machine):
        mine = {key: [run for run in runs if _machine(run) == machine] for key, runs in curves.items()}
        return {key: [run for run in runs if not was_disturbed(run)] or runs for key, runs in mine.items()}

    def worth(found):
        return (
            sum(map(bool, found.values())),
            sum(bool(runs) and not was_disturbed(runs[0]) for runs in found.values()),
            sum(map(len, found.values())),
        )

    machines = sorted({_machine(run) for runs in curves.values() for run in runs})
    return max(map(of, machines), key=worth, default=curves)


def timed_by_figure(cells: dict[object, list[Record]]) -> dict[object, list[Record]]:
    """timed() of the cells of a table, those of each m and policy by themselves."""
    groups = {}
    for key, runs in cells.items():
        groups.setdefault((runs[0].cell.m, runs[0].cell.lr_policy), {})[key] = runs
    return {key: runs for group in groups.values() for key, runs in timed(group).items()}


def _machine(run):
    return run.environment["device"], run.environment["threads"], run.environment["torch"]


def mean_curve(runs: list[Record]) -> list[dict]:
    """The mean of the runs' histories epoch by epoch, as far as all of them go; None where one of them is."""
    counts, measured = ("epoch", "iterations", "samples", "gradients"), ("train_seconds", "test_accuracy", "test_loss")
    return [
        {q: entries[0][q] for q in counts}
        | {q: None if any(e[q] is None for e in entries) else statistics.fmean(e[q] for e in entries) for q in measured}
        for entries in zip(*(run.history for run in runs))
    ]


def caption(curves: dict[int, list[Record]]) -> str:
    """Data set, model, learning rate, hardware, epochs and n, in a few lines; what differs from the paper's scale."""
    runs = [run for of_K in curves.values() for run in of_K]
    if not runs:
        return "No record of this figure's cells."
    cell, most = runs[0].cell, max(map(len, curves.values()))
    return "\n".join(
        [
            f"{describe_data(cell)}.",
            f"{describe_model(cell)}.",
            f"{describe_step(cell)}, {_count(cell.epochs, 'epoch')}.",
            f"{describe_hardware(runs)}, torch {', '.join(sorted({run.environment['torch'] for run in runs}))}; {_runs_per_curve(curves)}.",
            f"{deviation(cell).capitalize()}.",
            (
                "Circle: the best accuracy over the epochs, "
                if most == 1
                else "Circle: the epoch with the best mean accuracy of all runs, "
            )
            + "chosen on the images it is shown for. Time is without evaluation.",
        ]
    )


def describe_data(cell: Cell) -> str:
    n_train, n_test = DATASETS[cell.dataset]
    name = {"cifar10": "CIFAR-10", "digits": "scikit-learn's digits"}[cell.dataset]
    used = f"all {n_train}" if cell.train_size is None else f"a fixed {cell.train_size} of the {n_train}"
    if cell.evaluate_on == "test":
        tested = f"all {n_test}" if cell.test_size is None else f"a fixed {cell.test_size} of the {n_test}"
        return f"{name}: trained on {used} training images, evaluated on {tested} test images"
    return f"{name}: trained on {used} training images, evaluated on {cell.test_examples} others of them, held out"


def describe_model(cell: Cell) -> str:
    hidden = f", hidden layers: {cell.hidden_layers}" if cell.hidden_layers else ""
    return f"Reduced AlexNet, width {cell.width:g}, stride {cell.stride}, padding '{cell.padding}'{hidden}, inputs scaled '{cell.scaling}'"


def describe_step(cell: Cell) -> str:
    form = "" if cell.momentum_form == "pytorch" else f" ({cell.momentum_form} form)"
    return f"SGD on the {cell.reduction} of the gradients, µ = {cell.lr:g}, momentum {cell.momentum:g}{form}"


def describe_hardware(runs: list[Record]) -> str:
    environments = [run.environment for run in runs]
    return ", ".join(
        sorted({e["device"] + ("" if e["cuda"] else f" ({_count(e['threads'], 'thread')})") for e in environments})
    )


def deviation(cell: Cell) -> str:
    """In which respects the cell is not what the paper's text states."""
    paper = Cell(m=cell.m)
    different = [word for field, word in STATED.items() if getattr(cell, field) != getattr(paper, field)]
    return f"not the paper's {', '.join(different)}" if different else "at the paper's scale"


def draw_all(records: list[Record]) -> dict[str, Figure]:
    """Name of a file -> its figure: figure1, ..., figure5, and those of other_figures."""
    return {f"figure{number}": draw_figure(number, records) for number in FIGURES} | other_figures(records)


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


def stacked(figure: Figure) -> Figure:
    """A figure of Figures 1-5, its four panels one below the other: as narrow as a phone. Changes the figure and returns it."""
    figure.set_size_inches(4.3, 13.5)
    (top_left, _, bottom_left, _), places = figure.axes, figure.add_gridspec(4, 1)
    for i, (ax, place) in enumerate(zip(figure.axes, places)):
        ax.set_subplotspec(place)
        ax.tick_params(labelbottom=True, labelleft=True)
        ax.set_xlabel(CLOCKS[i % 2][1])
        ax.set_ylabel((top_left, bottom_left)[i // 2].get_ylabel())
    [legend] = figure.legends
    legend.set_ncols(1)
    for text in legend.get_texts():
        text.set_fontsize("small")
    legend.get_title().set(fontsize="large", text="\n".join(textwrap.wrap(legend.get_title().get_text(), 42)))
    lines = figure.get_supxlabel().split("\n")
    figure._supxlabel.set_text("\n".join(short for line in lines for short in textwrap.wrap(line, 58)))
    return figure


def _title(m: int, policy: str) -> str:
    return f"m = {m}, learning rate " + ("µ" if policy == "constant" else "kµ at the k-th use")


def _draw(title: str, curves: dict[int, list[Record]]) -> Figure:
    """The four panels of the paper's figures. curves: K -> its runs, one per seed."""
    figure = Figure(figsize=(10, 7.6), dpi=80, layout="constrained")  # of what a notebook shows; save() has its own
    axes = figure.subplots(2, 2, sharey="row", sharex="col")
    seconds = timed(curves)
    for row, (quantity, ylabel) in zip(axes, PANELS):
        for ax, (clock, _) in zip(row, CLOCKS):
            for K, runs in sorted(curves.items()):
                draw_curve(
                    ax, seconds[K] if clock == "train_seconds" else runs, clock, quantity, *style(K), top=best(runs)
                )
        row[0].set_ylabel(ylabel.format(_evaluated_on(curves)))
    for ax, (_, xlabel) in zip(axes[1], CLOCKS):
        ax.set_xlabel(xlabel)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    _draw_legend(figure, title, curves, seconds)
    describe_seconds(axes[0, 0], curves, seconds)
    figure.supxlabel(caption(curves), fontsize="small", ha="left", x=0.01)
    return figure


def draw_curve(
    ax, runs: list[Record], clock: str, quantity: str, color: str, line, top: tuple[float, int] | None = None
):
    """One quantity of a record's history against another, of one run per seed, with their mean. A cross ends a run that
    diverged; a circle is at the epoch of the best accuracy: top's, where these are only some of the runs."""
    for run in runs:
        points = [(e[clock], e[quantity]) for e in run.history if e[quantity] is not None]
        marker = "." if len(points) == 1 else None  # one epoch alone makes no line
        ax.plot(
            *zip(*points) if points else ((), ()),
            color=color,
            ls=line,
            marker=marker,
            lw=1.6 if len(runs) == 1 else 0.7,
            alpha=1 if len(runs) == 1 else 0.4,
        )
        if run.status == "diverged" and points:
            ax.plot(*points[-1], marker="X", ms=9, color=color, zorder=3)
    if len(runs) > 1:
        points = [(p[clock], p[quantity]) for p in mean_curve(runs) if p[quantity] is not None]
        ax.plot(*zip(*points) if points else ((), ()), color=color, ls=line, lw=1.8)
    if quantity == "test_accuracy" and runs and (top := top or best(runs)):
        point = mean_curve(runs)[top[1] - 1]
        ax.plot(point[clock], point[quantity], marker="o", ms=7, mfc="none", mew=1.6, color=color)
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)


def describe_seconds(ax, curves: dict[object, list[Record]], seconds: dict[object, list[Record]]):
    """A title for the panel over seconds, where it shows fewer runs than the others, or where its times say little."""
    shown, everything = ([run for runs in of_curve.values() for run in runs] for of_curve in (seconds, curves))
    lines = (
        [f"{len(shown)} of {_count(len(everything), 'run')}: {describe_hardware(shown)}"]
        if len(shown) < len(everything)
        else []
    )
    if shared := sum(map(was_disturbed, shown)):
        lines.append(f"other work ran on the machine during {_count(shared, 'run')}")
    ax.set_title("\n".join(lines), fontsize="small", color="#B00020" if shared else "#444444")


def _draw_legend(figure, title, curves, seconds):
    lines = [
        Line2D([], [], color=style(K)[0], ls=style(K)[1], label=_legend(K, runs, seconds[K]))
        for K, runs in sorted(curves.items())
    ]
    columns = len(lines) if sum(len(line.get_label()) for line in lines) < 90 else 1
    # the title as the legend's: constrained layout makes no room for both above the panels
    figure.legend(
        handles=lines,
        title=title,
        title_fontsize="x-large",
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        handlelength=3,
    )


def _legend(K, runs, timed_runs) -> str:
    if not runs:
        return f"K = {K}: no record"
    diverged = [len(run.history) for run in runs if run.status == "diverged"]
    text = f"K = {K}"
    if top := best(runs):
        accuracy, epoch = top
        text += f": best{'' if len(runs) == 1 else ' of the mean'} {accuracy:.4f} at epoch {epoch}"
        if timed_runs:
            seconds = mean_curve(timed_runs)[epoch - 1]["train_seconds"]
            text += f", {seconds:.{0 if seconds >= 10 else 1}f} s"
    if diverged:
        text += f"; diverged in epoch {', '.join(map(str, diverged))}"
    return text


def style(K: int) -> tuple:
    """(colour, line style) of a persistency: the same K is drawn alike everywhere, and K = 1..16 all differ."""
    return STYLES.get(K) or (OTHER_COLORS[K % 4], OTHER_LINES[K // 4 % 4])


def _evaluated_on(curves) -> str:
    heldout = any(run.cell.evaluate_on == "heldout" for runs in curves.values() for run in runs)
    return "held-out images" if heldout else "test set"


def _runs_per_curve(curves) -> str:
    counts = {len(runs) for runs in curves.values() if runs}
    seeds = sorted({run.cell.seed for runs in curves.values() for run in runs})
    n = "-".join(map(str, sorted({min(counts), max(counts)})))
    return f"n = {n} {'run' if counts == {1} else 'runs'} per curve (seed {', '.join(map(str, seeds))})"


def _count(n, noun) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
