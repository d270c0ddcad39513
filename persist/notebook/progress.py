"""Progress, for people: of one run while it trains, and of a grid."""

import builtins
import json
import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

from persist.cell import Cell
from persist.record import Record, RecordError


class Progress:
    """An on_epoch callback for train(): a live bar in JupyterLab, one line per evaluation in a log."""

    def __init__(self, cell: Cell):
        self.cell, self.started, self.per_epoch = cell, time.monotonic(), cell.K * cell.examples
        self.before = None  # epochs that are done when this starts
        self.bar = tqdm(total=cell.epochs, unit="epoch", file=sys.stdout) if interactive() else None

    def __call__(self, entry: dict):
        epoch, ended = entry["gradients"] / self.per_epoch, entry["test_loss"] is None
        if self.before is None:
            counters = [0, *(c["gradients"] for c in self.cell.evaluations())]
            self.before = counters[counters.index(entry["gradients"]) - 1] / self.per_epoch
            if self.before:
                print(f"goes on after epoch {self.before:g}, where a checkpoint was", flush=True)
        numbers = f"test loss {_number(entry['test_loss'])}, accuracy {_number(entry['test_accuracy'])}"
        if self.bar is None:
            per_epoch = (time.monotonic() - self.started) / (epoch - self.before)
            left = duration(per_epoch * (self.cell.epochs - epoch))
            policy = "" if self.cell.lr_policy == "constant" else f" {self.cell.lr_policy}"
            head = f"m={self.cell.m} K={self.cell.K}{policy}: epoch {epoch:.4g}/{self.cell.epochs}"
            print(f"{head}, {numbers}, {left} left", flush=True)
            return
        if self.bar.n == 0:
            self.bar.initial = self.bar.n = int(self.before) if self.before == int(self.before) else self.before
        self.bar.set_description(numbers, refresh=False)
        done = round(epoch, 2)
        self.bar.update((int(done) if done == int(done) else done) - self.bar.n)
        self.bar.refresh()
        if epoch == self.cell.epochs or ended:
            self.bar.close()


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


def interactive() -> bool:
    """Whether somebody sees what a notebook shows while it runs: engine and nbval set PERSIST_BATCH."""
    return "PERSIST_BATCH" not in os.environ and "get_ipython" in dir(builtins)


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
