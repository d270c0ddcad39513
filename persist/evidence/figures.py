"""Figures 1-5 of the paper, drawn from records, and what pages say of their runs. Imports no torch."""

import math
from collections.abc import Sequence
from functools import partial

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from persist.evidence.claims import PAPER_SECONDS
from persist.evidence.compare import best_accuracy
from persist.evidence.curves import (
    NAMES,
    PANELS,
    SMALL,
    caption_of,
    count,
    draw_curve,
    label_panels,
    span,
    style,
)
from persist.evidence.readings import PAPER_BEST, PAPER_EPOCH
from persist.evidence.select import (
    FIGURES,
    belongs,
    best,
    figure_names,
    grid_records,
    select,
    setting_of,
    timed,
    varying,
)
from persist.evidence.tables import markdown, summary, wrapped
from persist.grids import Grid
from persist.record import Record

# Seconds of an epoch at m = 32, constant rate, by K. K = 2, which the text does not quote: what both models allow.
SECONDS = {K: (seconds,) for K, seconds in PAPER_SECONDS.items()} | {2: (8.0, 10.25)}


def draw_figure(number: int, records: list[Record], grid: Grid | None = None) -> Figure:
    """Figure 1, ..., 5: accuracy and loss against seconds (left) and epochs, by K; Figure 1 against the paper's own
    seconds as well. A K of the grid (without one: of the paper) that has no record is named in the figure; a diverged
    run is shown as such."""
    return _draw(f"Figure {number}: ", *FIGURES[number], records, grid, paper=number == 1)


figure_1, figure_2, figure_3, figure_4, figure_5 = (partial(draw_figure, number) for number in FIGURES)


def outcome(number: int, records: list[Record], grid: Grid | None = None) -> pd.DataFrame:
    """What came out here for Figure 1, ..., 5: a row for each K of which there are records."""
    curves = select(records, *FIGURES[number], grid.cells if grid else None)
    return summary([run for runs in curves.values() for run in runs])


def other_figures(records: list[Record], beside: Sequence[Record] = (), grid: Grid | None = None) -> dict[str, Figure]:
    """Figures like the paper's for every other m and policy of the records, by a name for their files. beside: drawn
    with them, but no reason for a figure."""
    runs, names = [*records, *beside], figure_names(record.cell for record in records)
    return {name: _draw("", *shown, runs, grid) for name, shown in names.items() if shown not in FIGURES.values()}


def draw_all(records: list[Record], beside: Sequence[Record] = (), grid: Grid | None = None) -> dict[str, Figure]:
    """Name of a file -> its figure: those of figure1, ..., figure5 that the records belong to, and other_figures."""
    runs, names = [*records, *beside], figure_names(record.cell for record in records)
    figures = {f"figure{n}": draw_figure(n, runs, grid) for n in FIGURES if f"figure{n}" in names}
    return figures | other_figures(records, beside, grid)


def draw_record(record: Record) -> Figure:
    """The curves of one run: accuracy and loss against seconds (left) and epochs (right)."""
    return _draw_curves(record.cell.name, {record.cell.K: [record]})


def blocks(root) -> dict[str, str]:
    """Name -> Markdown: the pictures of `paper` and `paper-seeds` for docs/results.md, the first of README.md (of what
    the paper claims first: large minibatches); the table of `preview`, and what to expect of it."""
    paper, seeds, preview = (grid_records(root, "grids", name) for name in ("paper", "paper-seeds", "preview"))
    first = "![Figure 3: m = 512](figures/paper/figure3.png)" if paper else "Figure 3, m = 512: not recorded yet."
    short = ["m", "K", "learning rate", "epochs", "best test accuracy", "at epoch", "final test accuracy"]
    bests = [best_accuracy(record) for record in preview] or [math.nan]
    expect = f"Expect best test accuracies from {min(bests):.4f} to {max(bests):.4f}, or close to it: [each run]"
    return {
        "paper": _pictures("paper", paper),
        "paper-seeds": _pictures("paper-seeds", [record for record in seeds if record.cell.seed]),
        "first": first,
        "preview": markdown(summary(preview).filter(short)),
        "expect": wrapped(f"{expect}(docs/reproduce.md)."),
    }


def _pictures(grid: str, records: list[Record]) -> str:
    names = figure_names(record.cell for record in records)
    shown = [f"![{name.replace('figure', 'Figure ')}](../figures/{grid}/{name}.png)" for name in names]
    return "\n\n".join(shown) or "Not recorded yet."


def _draw(name: str, m: int, policy: str, records: list[Record], grid: Grid | None, paper: bool = False) -> Figure:
    """The figure of one m and policy. Its caption says which runs of them are not drawn."""
    curves = select(records, m, policy, grid.cells if grid else None)
    drawn = [run for of_K in curves.values() for run in of_K]
    left = [run for run in records if belongs(run.cell, m, policy) and run not in drawn]
    others = [run for run in left if setting_of(run.cell, policy) != setting_of(drawn[0].cell, policy)]
    told = [f"{count(len(others), 'run')} with other {', '.join(varying([*drawn, *others]))}"] if others else []
    if going := sum(run.status == "unfinished" for run in left if run not in others):
        told.append(count(going, "unfinished run"))
    more = [f"Not drawn: {'; '.join(told)}."] if told else []
    title = f"{name}m = {m}, learning rate " + ("µ" if policy == "constant" else "kµ at the k-th use")
    return _draw_curves(title, curves, *more, grid=grid.source if grid else "", paper=paper)


def _draw_curves(title: str, curves: dict[int, list[Record]], *more: str, grid="", paper: bool = False) -> Figure:
    """curves: K -> its runs, one per seed; more: of the caption; paper: against the paper's seconds, too, where the
    data are the paper's."""
    runs = [run for of_K in curves.values() for run in of_K]
    paper = paper and all(run.cell.dataset == "cifar10" for run in runs)
    figure = Figure(figsize=(11.5 if paper else 10, 7.6), dpi=80, layout="constrained")  # save() has a dpi of its own
    axes = figure.subplots(2, 3 if paper else 2, sharey="row", sharex="col")
    comparable = timed(curves)
    for row, quantity in zip(axes, PANELS):
        for K, of_K in curves.items():
            draw_curve(row[0], comparable[K], "seconds", quantity, *style(K))
            draw_curve(row[1], of_K, "epoch", quantity, *style(K))
            if quantity == "test_loss":
                draw_curve(row[1], of_K, "epoch", "train_loss", style(K)[0], (0, (1, 1.5)))
            if paper:
                _draw_paper(row, K, of_K, quantity)
    label_panels(axes, runs, "seconds on the paper's card, as it quotes them")
    scales = {f"; {NAMES[run.cell.dataset]}, {run.cell.examples:,} images" for run in runs}
    title += "".join(sorted(scales)) + (
        f", n = {span([len(of_K) for of_K in curves.values() if of_K])}" if runs else ""
    )
    lines = [Line2D([], [], color=style(K)[0], ls=style(K)[1], label=_label(K, of_K)) for K, of_K in curves.items()]
    columns = max(1, len(lines)) if sum(len(line.get_label()) for line in lines) < (130 if paper else 95) else 1
    # the title as the legend's: constrained layout makes no room for both above the panels
    place = {"loc": "outside upper center", "ncols": columns, "frameon": False, "handlelength": 3}
    figure.legend(handles=lines, title=title, title_fontsize="x-large", **place)
    mean = " of the mean of the runs" if max(map(len, curves.values()), default=0) > 1 else ""
    circle = f"Circle: the best test accuracy over the epochs{mean}, chosen on the images it is shown for. "
    explanation = [circle + "Dotted: training loss. Grey: chance. Seconds without evaluation.", *more]
    if elsewhere := [f"K = {K}" for K, of_K in curves.items() if of_K and not comparable[K]]:
        explanation.append(
            f"Not against seconds: {', '.join(elsewhere)}, trained on another machine or with other libraries."
        )
    if any((entry["test_loss"] or 0) > axes[1, 0].get_ylim()[1] for run in runs for entry in run.history):
        explanation.append("The highest losses are cut off.")
    if paper:
        quoted = "Star: the best that the paper quotes. The paper's seconds for an epoch: 7 (K = 1), 20 (K = 5)"
        unquoted = ";\nfor K = 2, which it does not quote, 8 to 10.25 (two curves)" if curves.get(2) else ""
        explanation.append(f"{quoted}{unquoted}.")
    figure.supxlabel(caption_of(runs, *explanation, grid=grid), **SMALL)
    return figure


def _draw_paper(row, K, runs, quantity):
    """The same curve against the paper's seconds, and its quoted best."""
    for scale in SECONDS.get(K, ()):
        draw_curve(row[2], runs, "epoch", quantity, *style(K), scale=scale, circle=len(SECONDS[K]) == 1)
    if quantity == "test_accuracy" and K in PAPER_BEST:
        for ax, scale in ((row[1], 1), (row[2], SECONDS[K][0])):
            look = dict(marker="*", ms=14, mfc=style(K)[0], mec="black", ls="", zorder=4)
            ax.plot(PAPER_EPOCH[K] * scale, PAPER_BEST[K], **look)


def _label(K, runs) -> str:
    if not runs:
        return f"K = {K}: not recorded yet"
    text = f"K = {K}"
    if top := best(runs):
        text += f": best{'' if len(runs) == 1 else ' of the mean'} {top['test_accuracy']:.4f} at epoch {top['epoch']}"
    for run in runs:
        so_far = f"; {run.history[-1]['epoch']} of {count(run.cell.epochs, 'epoch')} so far"
        ends = {"diverged": f"; diverged in epoch {len(run.history)}", "unfinished": so_far}
        text += ends.get(run.status, "")
    return text
