"""Runs that one watches: one that trains while its curves grow, stopped at any minibatch, laid over other runs and over
recorded ones. Imports torch only to train."""

import base64
import dataclasses
import html
import io
import math
import time

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from persist.cell import Cell
from persist.evidence.curves import PANELS, describe_data, describe_model, draw_chance, draw_curve, style, tidy
from persist.evidence.select import best, of_one_core, points, seconds

BAND = dict(lw=5, alpha=0.3, dash_capstyle="butt")  # recorded curves: broad and pale, behind the others
LOSS_TOP = 4.6  # twice the loss of a guess among ten classes: what the loss axis shows of a run that blows up
NOTE = (
    "Circle: the best accuracy over the evaluations, chosen on the images it is shown for. Grey line: chance. Seconds "
    "without evaluation."
)


class Stopped(Exception):
    """Whoever watches has stopped the run."""


@dataclasses.dataclass
class Run:
    """One configuration while it trains; it can be drawn as a Record can. `history` has the evaluations that are done,
    and stays when the run is stopped. `status`: "training", "finished", "diverged", "stopped" or "failed"."""

    number: int
    cell: Cell
    history: list = dataclasses.field(default_factory=list)
    status: str = "training"
    environment: dict = dataclasses.field(default_factory=lambda: {"cuda": None, "threads": None})

    def train(self, *, on_change=lambda: None, on_minibatch=lambda: None, data_root=None, device=None):
        """Train it; on_change is called after every evaluation, on_minibatch before every minibatch. Where either
        raises Stopped, the run ends and keeps what is done; other errors reach the caller."""
        import torch

        from persist.device import resolve_device
        from persist.training import train

        def keep(entry):
            self.history.append(entry)
            on_change()

        try:
            device = resolve_device(device)
            self.environment = {"cuda": torch.version.cuda if device.type == "cuda" else None}
            self.environment["threads"] = torch.get_num_threads()
            watched = dict(on_epoch=keep, on_minibatch=on_minibatch)
            self.status = train(self.cell, data_root=data_root, device=device, **watched).status
        except Stopped:
            self.status = "stopped"
        except BaseException:
            self.status = "failed"
            raise

    def __str__(self):
        return f"{self.number}: m = {self.cell.m}, K = {self.cell.K}, µ = {_rate(self.cell)}"


def draw_runs(runs: list[Run], recorded=()) -> Figure:
    """Accuracy and loss against seconds (left) and epochs (right), of runs that may still train. Colour and line are
    those of K; each run has its number at the end of its curve. Recorded runs are broad, pale bands behind, as far as
    the epochs of the runs go."""
    shown = [*runs, *recorded]
    handles = [_handle(run, str(run)) for run in runs] + [_handle(record, _name(record), **BAND) for record in recorded]
    heldout = any(run.cell.evaluate_on == "heldout" for run in shown)
    end = max((run.cell.epochs for run in runs or recorded), default=1)
    # fixed margins: a constrained layout would double the time of a redraw
    height = 6.15 + 0.22 * -(-len(handles) // 3)
    figure = Figure(figsize=(9, height))
    axes = figure.subplots(2, 2, sharey="row", sharex="col")
    figure.subplots_adjust(0.075, 0.95 / height, 0.985, 5.7 / height, wspace=0.07, hspace=0.08)
    for row, (quantity, label) in zip(axes, PANELS):
        for ax, by in zip(row, ("seconds", "epochs")):
            for record in recorded:
                color, line = style(record.cell.K)
                ax.plot(*zip(*_curve(record, by, quantity, end)), color=color, ls=line, **BAND)
            for run in runs:
                _draw_run(ax, run, by, quantity)
            draw_chance(ax, quantity)
            tidy(ax)
        row[0].set_ylabel(label.format("held-out images" if heldout else "test set"))
    by_seconds = "seconds of one core" if all(map(of_one_core, shown)) else "seconds of training"
    axes[0, 0].set_ylim(0, 1.02)
    axes[1, 0].set(xlabel=by_seconds, xlim=(0, None), ylim=(0, min(LOSS_TOP, axes[1, 0].get_ylim()[1])))
    axes[1, 1].set(xlabel="epochs", xlim=(0, end * 1.03))
    title = f"{describe_data(shown[0].cell)}; one run per curve" if shown else ""
    figure.text(0.01, 1 - 0.08 / height, title, va="top", fontsize="large")
    place = dict(loc="upper left", bbox_to_anchor=(0, 1 - 0.25 / height), ncols=3, frameon=False, handlelength=3)
    figure.legend(handles=handles, **place)
    network = f"{describe_model(shown[0].cell)}.\n" if shown else ""
    figure.text(0.01, 0.1 / height, network + NOTE, fontsize="small")
    return figure


def _handle(run, label, **line):
    return Line2D([], [], color=style(run.cell.K)[0], ls=style(run.cell.K)[1], label=label, **line)


def _name(record) -> str:
    cell, done = record.cell, record.history[-1]["epoch"]
    partly = f" ({done} of {cell.epochs} epochs)" if record.status == "unfinished" else ""
    return f"recorded: K = {cell.K}, µ = {_rate(cell)}{partly}"


def _clock(run, by) -> tuple[str, float]:
    """What a curve is drawn against, and its factor: epochs count gradients, as an evaluation may come within one."""
    return ("seconds", 1.0) if by == "seconds" else ("gradients", 1 / (run.cell.K * run.cell.examples))


def _curve(run, by, quantity, end=math.inf):
    x, factor = _clock(run, by)
    return [(p[x] * factor, p[quantity]) for p in points(run) if p[quantity] is not None and p["epoch"] <= end]


def _draw_run(ax, run, by, quantity):
    (x, factor), (color, line) = _clock(run, by), style(run.cell.K)
    draw_curve(ax, [run], x, quantity, color, line, scale=factor)
    for end in _curve(run, by, quantity)[-1:]:
        box = dict(boxstyle="circle,pad=0.18", fc="white", ec=color, lw=1.2)
        ax.annotate(run.number, end, ha="center", va="center", bbox=box, zorder=4, annotation_clip=True)


def cost_table(runs: list[Run], recorded=()) -> pd.DataFrame:
    """What each run cost and reached, in texts: one row per run, the recorded ones last."""
    rows = [_costs(str(run.number), run) for run in runs] + [_costs("recorded", record) for record in recorded]
    return pd.DataFrame(rows).fillna("")


def _costs(name, run) -> dict:
    cell, last, top = run.cell, run.history[-1] if run.history else None, best([run])
    epochs = f"{last['epoch'] if last else 0} of {cell.epochs}"
    row = {"run": name, "m": cell.m, "K": cell.K, "µ": _rate(cell)}
    row["epochs"] = epochs if run.status in ("training", "finished") else f"{epochs}, {run.status}"
    if last:
        row["seconds"] = f"{seconds(run, last):.1f}"
        counts = {"iterations": "iterations", "examples loaded": "samples", "gradient evaluations": "gradients"}
        row |= {name: f"{last[key]:,}" for name, key in counts.items()}
        row["best accuracy"] = f"{top['test_accuracy']:.4f}" if top else "-"
        row["at epoch"] = str(top["epoch"]) if top else "-"
        row["last accuracy"] = _accuracy(run)
    return row


def _rate(cell) -> str:
    return f"{cell.lr:g}" if cell.lr_policy == "constant" else f"k × {cell.lr:g}"


def _accuracy(run) -> str:
    last = run.history[-1]["test_accuracy"]
    return "-" if last is None else f"{last:.4f}"


def to_html(figure: Figure, alt: str) -> str:
    """The figure as an <img> with a text for those who do not see it; where there is little room it is not made small,
    but scrolls."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    size = "width: 100%; min-width: 720px; max-width: 900px"
    image = f'<img alt="{html.escape(alt)}" style="{size}" src="data:image/png;base64,{data}">'
    return f'<div style="overflow-x: auto">{image}</div>'


def describe_runs(runs: list[Run]) -> str:
    """The picture of draw_runs in words."""
    done = [f"run {run} has {_accuracy(run)} after epoch {run.history[-1]['epoch']}" for run in runs if run.history]
    return f"Accuracy and loss against seconds and epochs: {'; '.join(done) or 'no epoch is done yet'}."


class Picture:
    """Shows runs, redrawn as they grow, but for at most a third of the time: training goes before drawing.

    show: takes the picture as HTML."""

    def __init__(self, show):
        self.show, self.free = show, 0.0  # until when there is no redrawing

    def update(self, runs, recorded=(), *, at_once=False):
        start = time.monotonic()
        if at_once or start >= self.free:
            drawn = runs or recorded
            self.show(to_html(draw_runs(runs, recorded), describe_runs(runs)) if drawn else "No curve yet.")
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
