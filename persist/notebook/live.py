"""Curves of runs that train, growing, over those of other runs and of recorded ones; what each run cost.

A run that trains is a Record with the status "unfinished" whose history grows; it stays one where it is stopped.
"""

import base64
import dataclasses
import html
import io
import time

import pandas as pd
from IPython.display import HTML, display
from matplotlib.figure import Figure

from persist.cell import Cell
from persist.evidence.curves import PANELS, SMALL, describe_data, describe_model, draw_curve, label_panels, style
from persist.evidence.select import best, seconds
from persist.notebook.progress import progress_line
from persist.record import Record

# Recorded curves: broad and pale, behind the others.
BAND = dict(lw=5, alpha=0.3, dash_capstyle="butt", zorder=1, circle=False)
NOTE = "Circle: the best accuracy, chosen on the images it is shown for. Grey: chance. Seconds without evaluation."


def draw_runs(runs: dict[int, Record], recorded=()) -> Figure:
    """Accuracy and loss against seconds (left) and epochs (right), of runs by their numbers, which may still train.
    Colour and line are those of K; each run has its number at the end of its curve. Recorded runs are broad, pale bands
    behind, as far as the epochs of the runs go."""
    end = max((run.cell.epochs for run in runs.values() or recorded), default=1)
    cut = [dataclasses.replace(run, history=[e for e in run.history if e["epoch"] <= end]) for run in recorded]
    named = _named(runs, cut)
    figure = Figure(figsize=(9, 6.5 + 0.12 * len(named)), layout="constrained")
    axes = figure.subplots(2, 2, sharey="row", sharex="col")
    for row, quantity in zip(axes, PANELS):
        for ax, clock in zip(row, ("seconds", "epoch")):
            for name, run in named:
                look = BAND if name == "recorded" else {"number": name}
                draw_curve(ax, [run], clock, quantity, *style(run.cell.K), label=describe_run(name, run), **look)
    label_panels(axes, [run for _, run in named])
    axes[0, 0].set_ylim(0, 1.02)
    axes[1, 1].set_xlim(0, end * 1.03)
    place = dict(loc="outside upper left", ncols=2, frameon=False, handlelength=3, alignment="left")
    title = f"{describe_data(named[0][1].cell)}; one run per curve" if named else ""
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, title=title, title_fontsize="large", **place)
    figure.supxlabel(f"{describe_model(named[0][1].cell)}.\n{NOTE}" if named else NOTE, **SMALL)
    return figure


def _named(runs, recorded) -> list[tuple]:
    return [*runs.items(), *(("recorded", record) for record in recorded)]


def describe_run(name, run: Record) -> str:
    """A run in the legend: its number, or "recorded", and what was chosen for it."""
    return f"{name}: m = {run.cell.m}, K = {run.cell.K}, µ = {_rate(run.cell)}"


def _rate(cell) -> str:
    return f"{cell.lr:g}" if cell.lr_policy == "constant" else f"k × {cell.lr:g}"


def cost_table(runs: dict[int, Record], recorded=()) -> pd.DataFrame:
    """What each run cost and reached, in texts: one row per run, the recorded ones last."""
    rows = []
    for name, run in _named(runs, recorded):
        cell, last, top = run.cell, run.history[-1], best([run]) or {}
        rows.append({
            "run": name, "m": cell.m, "K": cell.K, "µ": _rate(cell),
            "epochs": f"{last['epoch']} of {cell.epochs}" + (", diverged" if run.status == "diverged" else ""),
            "seconds": f"{seconds(run, last):.1f}",
            "iterations": f"{last['iterations']:,}", "examples loaded": f"{last['samples']:,}",
            "gradient evaluations": f"{last['gradients']:,}",
            "best accuracy": _accuracy(top.get("test_accuracy")), "at epoch": top.get("epoch", "-"),
            "last accuracy": _accuracy(last["test_accuracy"]),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _accuracy(value) -> str:
    return "-" if value is None else f"{value:.4f}"


def to_html(runs: dict[int, Record], recorded=()) -> str:
    """The picture of draw_runs as an <img>, with its words for those who do not see it; where there is little room it
    is not made small, but scrolls."""
    if not runs and not recorded:
        return "No curve yet."
    lasts = [(describe_run(number, run), run.history[-1]) for number, run in runs.items()]
    done = [f"run {name} has {_accuracy(last['test_accuracy'])} after epoch {last['epoch']}" for name, last in lasts]
    words = f"Accuracy and loss against seconds and epochs: {'; '.join(done) or 'no epoch is done yet'}."
    buffer = io.BytesIO()
    draw_runs(runs, recorded).savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    size = "width: 100%; min-width: 720px; max-width: 900px"
    image = f'<img alt="{html.escape(words)}" style="{size}" src="data:image/png;base64,{data}">'
    return f'<div style="overflow-x: auto">{image}</div>'


def sparing(draw):
    """The function, but for at most a third of the time, unless `at_once`: training goes before drawing."""
    free = 0.0  # until when nothing is drawn

    def update(*arguments, at_once=False):
        nonlocal free
        start = time.monotonic()
        if at_once or start >= free:
            draw(*arguments)
            free = time.monotonic() + 2 * (time.monotonic() - start)

    return update


def live_curves(cell: Cell):
    """An on_epoch callback for train(): a line, and curves that grow, in the output of the notebook's cell."""
    run, handle = Record(cell, [], {"cuda": None, "threads": None}, "unfinished"), display(HTML(""), display_id=True)
    update = sparing(lambda entry: handle.update(HTML(progress_line(cell, entry) + to_html({1: run}))))

    def show(entry):
        run.history.append(entry)
        update(entry, at_once=entry["gradients"] == cell.evaluations()[-1]["gradients"] or entry["test_loss"] is None)

    return show
