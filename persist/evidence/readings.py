"""Which reading of the text do the paper's numbers come from? Its text leaves choices open: sum or mean of the gradients,
padding, scaling of the inputs, hidden layers. Reads records only; imports no torch.

The rule. A reading is chosen by m = 32, K = 1 alone, on seed 0: the nearest to the paper's best accuracy (0.63640), its
epoch (about 80) and the final accuracy (about 60 %), among those with which m = 512, K = 1 trains at all. What was used
for the choice is never called reproduced.

    python -m persist.evidence.readings results/readings grids/readings.yaml grids/readings-nearest.yaml
                        writes the grid with the two nearest readings, the second stage, once the first one is recorded
"""

import argparse
import dataclasses
import itertools
import math
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from persist.cell import Cell, load_grid
from persist.evidence.compare import best_accuracy, final_accuracy
from persist.evidence.figures import describe_data, describe_hardware, draw_curve
from persist.record import Record, RecordError, load_records, write_atomically

OPEN = ("reduction", "padding", "scaling", "hidden_layers")  # the fields that make a reading
PAPER_BEST, PAPER_EPOCH, PAPER_FINAL = 0.63640, 80, 0.60
# What counts as one unit of distance: the standard error of the difference of two test accuracies, "about" an epoch, "about 60 %".
UNIT_BEST, UNIT_EPOCH, UNIT_FINAL = 0.0068, 10, 0.02
LEARNS = 0.2  # test accuracy, twice that of chance
SCALING_COLORS = {"channel": "#0072B2", "symmetric": "#D55E00", "unit": "#009E73"}
PADDING_LINES = {"alexnet": "-", "same": "--"}
CHANCE = {"test_accuracy": 0.1, "test_loss": math.log(10)}
PANELS = (("test_accuracy", "accuracy on the test set"), ("test_loss", "loss on the test set"))
STAGE_TWO = """# The two readings nearest to the paper at m = 32, K = 1, written by persist/readings.py from results/readings: does
# m = 512 train, and what does K = 5 give?
notebook: notebooks/readings.ipynb
beside: readings
base: {{precision: tf32}}
cells:
{cells}"""


def reading(cell) -> tuple:
    """The values of the open fields; a key for a reading."""
    return tuple(getattr(cell, name) for name in OPEN)


def describe_reading(key: tuple) -> str:
    reduction, padding, scaling, hidden = key
    return f"{reduction} of the gradients, padding '{padding}', inputs '{scaling}', {'one hidden layer' if hidden == 1 else f'{hidden} hidden layers'}"


def readings_table(records: list[Record]) -> pd.DataFrame:
    """One row per cell: its reading, how far it went, what became of it, and at m = 32, K = 1 its distance to the paper."""
    rows = []
    for record in sorted(records, key=lambda r: (r.cell.m, r.cell.K, _order(r.cell))):
        cell, last = record.cell, record.history[-1]
        losses = [e["test_loss"] for e in record.history if e["test_loss"] is not None]
        rows.append(
            {
                **dict(zip(OPEN, reading(cell))), "m": cell.m, "K": cell.K, "minibatches": last["iterations"] // cell.K, "outcome": outcome(record),
                "highest loss": max(losses, default=None), "last loss": last["test_loss"], "best accuracy": best_accuracy(record), "at epoch": _best_epoch(record),
                "last accuracy": last["test_accuracy"], "distance": distance(record),
            }
        )  # fmt: skip
    table = pd.DataFrame(rows).round({"highest loss": 3, "last loss": 3, "distance": 1})
    return table.dropna(axis="columns", how="all")


def outcome(record: Record) -> str:
    """What became of a run: it diverged, learns (its last accuracy is twice that of chance), or not (yet)."""
    if record.status == "diverged":
        return f"diverged in epoch {len(record.history)}"
    return "learns" if final_accuracy(record) >= LEARNS else f"below {LEARNS:g}"


def distance(record: Record) -> float | None:
    """How far a run of m = 32, K = 1 at the paper's scale, on seed 0, is from the paper's numbers, in the units of this module;
    None for another cell, or where it diverged."""
    if not _is_paper(record.cell, 32) or record.status == "diverged":
        return None
    return math.hypot(
        (best_accuracy(record) - PAPER_BEST) / UNIT_BEST,
        (_best_epoch(record) - PAPER_EPOCH) / UNIT_EPOCH,
        (final_accuracy(record) - PAPER_FINAL) / UNIT_FINAL,
    )


def _is_paper(cell, m) -> bool:
    """Whether it is K = 1 with this m, on seed 0, and the paper's in all but the reading and the precision."""
    open_fields = {name: getattr(Cell(m=m), name) for name in (*OPEN, "precision")}
    return dataclasses.replace(cell, **open_fields) == Cell(m=m)


def nearest(records: list[Record]) -> list[tuple]:
    """The readings with a distance, the nearest first."""
    far = {reading(r.cell): distance(r) for r in records if distance(r) is not None}
    return sorted(far, key=far.get)


def choose_reading(records: list[Record]) -> tuple | None:
    """The reading that the rule of this module chooses; None as long as m = 512, K = 1 trains with none of them."""
    train = {reading(r.cell) for r in records if _is_paper(r.cell, 512) and outcome(r) == "learns"}
    return next((key for key in nearest(records) if key in train), None)


def describe_choice(records: list[Record]) -> str:
    chosen, runners_up = choose_reading(records), nearest(records)
    if chosen is None:
        tried = [describe_reading(reading(r.cell)) for r in records if _is_paper(r.cell, 512)]
        failed = f"; m = 512 does not train with: {'; '.join(tried)}" if tried else ""
        return f"chosen: none yet; it takes 100 epochs of m = 32, K = 1 and of m = 512, K = 1 (grids readings and readings-nearest, on a GPU){failed}"
    others = "; ".join(describe_reading(key) for key in runners_up if key != chosen)
    return f"chosen: {describe_reading(chosen)}; used for the choice: m = 32, K = 1, and that m = 512 trains. Runners-up: {others or 'none'}"


def ruled_out(records: list[Record]) -> list[tuple]:
    """The readings with which some cell diverged."""
    return sorted({reading(r.cell) for r in records if r.status == "diverged"}, key=str)


def draw_readings(records: list[Record]) -> Figure:
    """Accuracy and loss of K = 1 against iterations: a row for each m, columns for the sum and the mean of the gradients."""
    records = [record for record in records if record.cell.K == 1]
    sizes = sorted({record.cell.m for record in records})
    reductions = sorted({record.cell.reduction for record in records}, reverse=True)  # sum, mean
    figure = Figure(figsize=(8 * len(reductions), 2 + 3 * len(sizes)), layout="constrained")
    first = {}  # the panel of each quantity whose scale the others share
    for row, m in zip(figure.subplots(len(sizes), 2 * len(reductions), squeeze=False), sizes):
        for ax, (reduction, (quantity, ylabel)) in zip(row, itertools.product(reductions, PANELS)):
            for record in records:
                if (record.cell.m, record.cell.reduction) == (m, reduction):
                    draw_curve(ax, [record], "iterations", quantity, *_style(record.cell))
            ax.axhline(CHANCE[quantity], color="#888888", lw=0.8)
            ax.set(title=f"{reduction} of the gradients, m = {m}", ylabel=ylabel, xlabel="iterations")
            ax.set_xlim(left=0)
            if first.setdefault(quantity, ax) is not ax:
                ax.sharey(first[quantity])
    for quantity, ax in first.items():
        values = [
            e[quantity] for record in records for e in record.history if e[quantity] is not None and e[quantity] <= 5
        ] + [CHANCE[quantity]]
        ax.set_ylim(min(values) - 0.02, max(values) + 0.02)
    figure.legend(
        handles=_legend(records), loc="outside upper center", ncols=3 * len(reductions), frameon=False, handlelength=3
    )
    cell = records[0].cell
    caption = [
        f"{describe_data(cell)}.",
        f"Reduced AlexNet, width {cell.width:g}; K = 1, µ = {cell.lr:g}, momentum {cell.momentum:g}, {cell.precision}. {describe_hardware(records)}. One run per curve.",
        "Cross: the last epoch before it diverged. Circle: the best accuracy. Grey: chance.",
    ]
    figure.supxlabel("\n".join(caption), fontsize="small", ha="left", x=0.01)
    return figure


def stage_two(records: list[Record], cells: list[Cell]) -> str:
    """The grid of the second stage, as YAML: m = 512 with K = 1 and 5, m = 32 with K = 5, for the two nearest readings.
    cells: those of the first stage.

    Raises ValueError where one of them has no record, or fewer than two readings have a distance.
    """
    if missing := [cell.name for cell in cells if cell not in {record.cell for record in records}]:
        raise ValueError(f"the first stage is not complete, there is no record of {', '.join(missing)}")
    if len(keys := nearest(records)[:2]) < 2:
        raise ValueError("it takes two readings with 100 epochs of m = 32, K = 1 that did not diverge")
    fields = ["{" + ", ".join(f"{name}: {value}" for name, value in zip(OPEN, key)) for key in keys]
    return STAGE_TWO.format(
        cells="".join(f"  - {field}, {cells}}}\n" for field in fields for cells in ("m: 512, K: [1, 5]", "m: 32, K: 5"))
    )


def _order(cell):
    return [str(value) for value in reading(cell)]


def _best_epoch(record) -> int | None:
    entries = [e for e in record.history if e["test_accuracy"] is not None]
    return max(entries, key=lambda e: e["test_accuracy"])["epoch"] if entries else None


def _style(cell):
    line = PADDING_LINES[cell.padding] if cell.hidden_layers == 1 else ":"
    return SCALING_COLORS[cell.scaling], line


def _legend(records) -> list[Line2D]:
    scalings = [
        Line2D([], [], color=SCALING_COLORS[s], label=f"inputs '{s}'")
        for s in SCALING_COLORS
        if any(r.cell.scaling == s for r in records)
    ]
    paddings = [
        Line2D([], [], color="black", ls=PADDING_LINES[p], label=f"padding '{p}'")
        for p in PADDING_LINES
        if any(r.cell.padding == p for r in records)
    ]
    two = (
        [Line2D([], [], color="black", ls=":", label="two hidden layers, padding 'alexnet'")]
        if any(r.cell.hidden_layers == 2 for r in records)
        else []
    )
    return scalings + paddings + two


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m persist.evidence.readings", description="Write the grid with the two nearest readings."
    )
    parser.add_argument("records", help="folder with the records of the grid readings")
    parser.add_argument("first", help="file of the grid readings")
    parser.add_argument("grid", help="file of the grid to write")
    options = parser.parse_args(arguments)
    try:
        cells = load_grid(options.first).cells
        write_atomically(Path(options.grid), stage_two(load_records(options.records, cells), cells).encode())
    except (RecordError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(options.grid)


if __name__ == "__main__":
    main()
