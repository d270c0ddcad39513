"""Progress, for people: of one cell while it trains, and of a grid.

python -m persist.notebook.progress preview
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

from persist.cell import Cell
from persist.grids import grid_path, load_grid
from persist.record import Record, RecordError, check_writable, load_records


class Progress:
    """An on_epoch callback for train(): a live bar in JupyterLab, one line per epoch in a log (papermill, a terminal)."""

    def __init__(self, cell: Cell):
        self.cell, self.started, self.first = cell, time.monotonic(), None
        self.bar = tqdm(total=cell.epochs, unit="epoch", file=sys.stdout) if in_jupyter() else None

    def __call__(self, entry: dict):
        numbers = f"test loss {_number(entry['test_loss'])}, accuracy {_number(entry['test_accuracy'])}"
        if self.first is None:
            self.first = entry["epoch"]
            if self.first > 1:
                print(f"goes on after epoch {self.first - 1}, where a checkpoint was", flush=True)
        if self.bar is not None:
            if self.bar.n == 0:
                self.bar.initial = self.bar.n = self.first - 1
            self.bar.set_description(numbers, refresh=False)
            self.bar.update(entry["epoch"] - self.bar.n)
            self.bar.refresh()
            if entry["epoch"] == self.cell.epochs or entry["test_loss"] is None:
                self.bar.close()
        else:
            per_epoch = (time.monotonic() - self.started) / (entry["epoch"] - self.first + 1)
            left = duration(per_epoch * (self.cell.epochs - entry["epoch"]))
            short = f"m={self.cell.m} K={self.cell.K}" + (
                "" if self.cell.lr_policy == "constant" else f" {self.cell.lr_policy}"
            )
            print(f"{short}: epoch {entry['epoch']}/{self.cell.epochs}, {numbers}, {left} left", flush=True)


def grid_progress(cells: list[Cell], folder) -> str:
    """One line, when a cell starts: cells done and left, and the time left, judged by the cells that are done."""
    done, seconds, gradients = [], 0.0, 0
    for cell in cells:
        try:
            record = Record.load(Path(folder) / f"{cell.name}.json")
        except (FileNotFoundError, RecordError):
            continue
        done.append(cell)
        seconds += record.history[-1]["wall_seconds"]
        gradients += record.history[-1]["gradients"]
    todo = [cell for cell in cells if cell not in done]
    text = f"{len(done)} of {len(cells)} cells done" + (f", 1 starts now, {len(todo) - 1} left" if todo else "")
    if done and todo:
        work = sum(cell.K * cell.examples * cell.epochs for cell in todo)
        text += f"; about {duration(seconds / gradients * work)} to go"
    return text


def in_jupyter() -> bool:
    """Whether somebody sees what a cell shows while it runs: Jupyter's server names the session of the kernels that it
    starts; papermill and nbval do not."""
    return "JPY_SESSION_NAME" in os.environ


def duration(seconds: float) -> str:
    """Seconds in a readable unit."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _number(value) -> str:
    return "not finite" if value is None else f"{value:.4f}"


def failures(cells: list[Cell], folder) -> list[str]:
    """One line per cell that was tried and has no record: its name and its error, as its executed notebook has it."""
    lines = []
    for cell in cells:
        notebook = Path(folder) / "notebooks" / f"{cell.name}.ipynb"
        if notebook.exists() and not (Path(folder) / f"{cell.name}.json").exists():
            lines.append(f"{cell.name}: {_error(notebook)} (in {notebook})")
    return lines


def _error(notebook: Path) -> str:
    try:
        outputs = [output for cell in json.loads(notebook.read_bytes())["cells"] for output in cell.get("outputs", [])]
        return next(f"{output['ename']}: {output['evalue']}" for output in outputs if output["output_type"] == "error")
    except (ValueError, KeyError, TypeError, StopIteration):  # killed, it may have left half a notebook
        return "it was cut off"


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m persist.notebook.progress", description="Say how far a grid is, and refuse one that is broken."
    )
    parser.add_argument("grid", help="name of the grid")
    options = parser.parse_args(arguments)
    try:
        cells, folder = load_grid(grid_path(options.grid)).cells, Path("runs") / options.grid
        check_writable("the folder of the records", folder)
        load_records(folder, cells)  # a damaged record is named before anything trains
    except (ValueError, RecordError) as error:
        sys.exit(f"error: {error}")
    print(f"{options.grid}: {grid_progress(cells, folder)}", flush=True)


if __name__ == "__main__":
    main()
