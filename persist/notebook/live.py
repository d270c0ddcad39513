"""Runs that one watches: a cell trained while its curves grow, stopped at any minibatch, laid over other runs and over
recorded ones. Imports torch only to train."""

import base64
import dataclasses
import html
import io
import time

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from persist.cell import Cell
from persist.evidence.figures import CLOCKS, PANELS, best, style

RECORDED = dict(lw=4.5, alpha=0.28, ls="-")  # recorded curves lie as broad, pale bands behind the live ones
LOSS_TOP = 4.6  # twice the loss of a guess among ten classes: what the loss axis shows of a run that blows up


class Stopped(Exception):
    """Whoever watches has stopped the run."""


@dataclasses.dataclass
class Run:
    """One cell while it trains. `history` has the entries of the epochs that are done; it stays when the run is
    stopped. `status`: "training", "finished", "diverged", "stopped" or "failed"."""

    number: int
    cell: Cell
    history: list = dataclasses.field(default_factory=list)
    status: str = "training"

    def train(self, *, on_change=lambda: None, on_minibatch=lambda: None, data_root=None, device=None):
        """Train the cell; on_change is called after every epoch, on_minibatch before every minibatch. Whatever raises
        Stopped in either stops the run, which keeps the epochs that are done; other errors reach the caller."""
        from persist.training import train

        def keep(entry):
            self.history.append(entry)
            on_change()

        try:
            self.status = train(
                self.cell, data_root=data_root, device=device, on_epoch=keep, on_minibatch=on_minibatch
            ).status
        except Stopped:
            self.status = "stopped"
        except BaseException:
            self.status = "failed"
            raise

    def __str__(self):
        rate = f"µ = {self.cell.lr:g}" + ("" if self.cell.lr_policy == "constant" else " (kµ)")
        return f"{self.number}: m = {self.cell.m}, K = {self.cell.K}, {rate}"


def draw_runs(runs: list[Run], recorded=()) -> Figure:
    """Accuracy and loss against seconds (left) and epochs (right), of runs that may still train. Colour and line style
    are those of K, the same as in every figure; each run has its number at the end of its curve. Recorded runs are
    broad, pale bands behind, as far as the runs' epochs go."""
    # fixed margins, not a constrained layout: a redraw must take less than a tenth of a second
    handles = _handles(runs, recorded)
    rows = -(-len(handles) // 3)
    height = 5.8 + 0.22 * rows
    figure = Figure(figsize=(10, height))
    axes = figure.subplots(2, 2, sharey="row", sharex="col")
    figure.subplots_adjust(
        left=0.07, right=0.98, bottom=0.55 / height, top=1 - (0.2 + 0.22 * rows) / height, wspace=0.06, hspace=0.1
    )
    end = max((run.cell.epochs for run in runs), default=max((run.cell.epochs for run in recorded), default=1))
    for row, (quantity, label) in zip(axes, PANELS):
        for ax, (clock, _) in zip(row, CLOCKS):
            for record in recorded:
                x, y = _points(record.history[:end], clock, quantity)
                ax.plot(x, y, color=style(record.cell.K)[0], **RECORDED)
            for run in runs:
                _draw_run(ax, run, clock, quantity)
            ax.grid(alpha=0.25)
            ax.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(label.format("test set"))
    axes[0, 0].set_ylim(0, 1.02)
    axes[1, 0].set_ylim(0, min(LOSS_TOP, axes[1, 0].get_ylim()[1]))
    axes[0, 1].set_xlim(0, end * 1.03)
    axes[0, 0].set_xlim(left=0)
    for ax, (_, label) in zip(axes[1], CLOCKS):
        ax.set_xlabel(label)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    if handles:
        figure.legend(handles=handles, loc="upper center", ncols=3, frameon=False, handlelength=3, fontsize="medium")
    return figure


def _handles(runs, recorded):
    mine = [Line2D([], [], color=style(run.cell.K)[0], ls=style(run.cell.K)[1], lw=2, label=str(run)) for run in runs]
    cells = {record.cell.K: record.cell for record in recorded}
    policy = {K: "" if cell.lr_policy == "constant" else " (kµ)" for K, cell in cells.items()}
    return mine + [
        Line2D([], [], color=style(K)[0], label=f"recorded, K = {K}{policy[K]}", **RECORDED) for K in sorted(cells)
    ]


def _points(history, clock, quantity):
    points = [(e[clock], e[quantity]) for e in history if e[quantity] is not None]
    return zip(*points) if points else ((), ())


def _draw_run(ax, run, clock, quantity):
    color, line = style(run.cell.K)
    x, y = map(list, _points(run.history, clock, quantity))
    ax.plot(x, y, color=color, ls=line, lw=2, marker="o" if len(x) == 1 else None, ms=4)
    if x:
        box = dict(boxstyle="circle,pad=0.18", fc="white", ec=color, lw=1.2)
        ax.annotate(
            str(run.number),
            (x[-1], y[-1]),
            fontsize="small",
            ha="center",
            va="center",
            bbox=box,
            zorder=4,
            annotation_clip=True,
        )
    if run.status == "diverged" and x:
        ax.plot(x[-1], y[-1], marker="X", ms=14, color=color, zorder=3)


def cost_table(runs: list[Run], recorded=()):
    """What each run cost and reached, one row per run, the recorded ones last (a pandas DataFrame of texts)."""
    import pandas as pd

    rows = [_costs(str(run.number), run) for run in runs] + [_costs("recorded", record) for record in recorded]
    return pd.DataFrame(rows, columns=[*COSTS])


COSTS = (
    "run", "m", "K", "policy", "µ", "epochs", "seconds", "iterations", "distinct examples", "gradient evaluations", "best accuracy", "at epoch", "last accuracy",
)  # fmt: skip
COSTS_NOTE = (
    "Seconds of training, without evaluation. Distinct examples: each counted once per epoch, however often it is reused; "
    "gradient evaluations: K times as many. Accuracy: on the test set, the best over the epochs chosen on that same set."
)


def _costs(name, run) -> dict:
    cell, last = run.cell, run.history[-1] if run.history else None
    done = len(run.history)
    epochs = (
        f"{done}"
        if done == cell.epochs
        else f"{done} of {cell.epochs}" + ("" if run.status == "training" else f", {run.status}")
    )
    costs = dict(run=name, m=cell.m, K=cell.K, policy="µ" if cell.lr_policy == "constant" else "kµ", epochs=epochs) | {
        "µ": f"{cell.lr:g}"
    }
    if last:
        accuracy, epoch = best([run]) or (None, "")
        costs |= {
            "seconds": f"{last['train_seconds']:.1f}", "iterations": f"{last['iterations']:,}", "distinct examples": f"{last['samples']:,}",
            "gradient evaluations": f"{last['gradients']:,}", "best accuracy": _accuracy(accuracy), "at epoch": f"{epoch}", "last accuracy": _accuracy(last["test_accuracy"]),
        }  # fmt: skip
    return dict.fromkeys(COSTS, "") | costs


def _accuracy(value) -> str:
    return "-" if value is None else f"{value:.4f}"


def to_html(figure: Figure, alt: str) -> str:
    """The figure as an <img> that holds its picture and a text for those who do not see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" style="width: 100%; max-width: 900px" src="data:image/png;base64,{data}">'


def describe_runs(runs: list[Run]) -> str:
    """The picture of draw_runs in words."""
    texts = [
        f"run {run} has {_accuracy(run.history[-1]['test_accuracy'])} after epoch {len(run.history)}"
        for run in runs
        if run.history
    ]
    return (
        "Accuracy and loss on the test set against seconds and epochs: "
        + ("; ".join(texts) or "no epoch is done yet")
        + "."
    )


class Picture:
    """Shows runs, redrawn as they grow, but for at most a third of the time: training goes before drawing.

    show: takes the picture as HTML."""

    def __init__(self, show):
        self.show, self.free = show, 0.0  # until when there is no redrawing

    def update(self, runs, recorded=(), *, at_once=False):
        start = time.monotonic()
        if at_once or start >= self.free:
            self.show(to_html(draw_runs(runs, recorded), describe_runs(runs)))
            self.free = time.monotonic() + 2 * (time.monotonic() - start)


class LiveCurves:
    """An on_epoch callback for train(): curves that grow in the output of the notebook's cell that runs."""

    def __init__(self, cell: Cell):
        from IPython.display import HTML, display

        handle = display(HTML(""), display_id=True)
        self.run, self.picture = Run(1, cell), Picture(lambda text: handle.update(HTML(text)))

    def __call__(self, entry: dict):
        self.run.history.append(entry)
        ended = entry["epoch"] == self.run.cell.epochs or entry["test_loss"] is None
        self.picture.update([self.run], at_once=ended)
