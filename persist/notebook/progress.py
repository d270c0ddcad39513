"""Progress, for people: of one run while it trains, and of a grid."""

import builtins
import contextlib
import json
import os
from pathlib import Path

from persist.cell import Cell
from persist.record import Record, RecordError, load_records


class Stopped(Exception):
    """Raised by a callback of train(): somebody has seen enough of the run."""


def interactive() -> bool:
    """Whether somebody sees what a notebook shows while it runs: engine and nbval set PERSIST_BATCH."""
    return "PERSIST_BATCH" not in os.environ and "get_ipython" in dir(builtins)


def progress_line(cell: Cell, entry: dict) -> str:
    """One line for a new entry of a run's history: the run, its epoch, what it has reached, the time left."""
    policy = "" if cell.lr_policy == "constant" else f" {cell.lr_policy}"
    epoch = entry["gradients"] / (cell.K * cell.examples)
    values = (entry["test_loss"], entry["test_accuracy"])
    loss, accuracy = ("not finite" if value is None else f"{value:.4f}" for value in values)
    head = f"m={cell.m} K={cell.K}{policy}: epoch {epoch:.4g}/{cell.epochs}"
    return f"{head}, test loss {loss}, accuracy {accuracy}, {time_left(cell, entry)} left"


def time_left(cell: Cell, entry: dict) -> str:
    """What a run still takes if it goes on as fast as until this entry of its history."""
    done, total = entry["gradients"], cell.epochs * cell.K * cell.examples
    return duration(entry["wall_seconds"] / done * (total - done))


def duration(seconds: float) -> str:
    """Seconds in a readable unit."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def grid_progress(cells: list[Cell], folder) -> str:
    """How many of a grid's runs are done or begun, in one line, and the time that it still takes, judged by those."""
    begun = {}
    for cell in cells:
        with contextlib.suppress(OSError, RecordError):  # a run that ends takes its own away
            begun[cell] = Record.load(Path(folder) / "unfinished" / f"{cell.name}.json").history[-1]
    done = {run.cell: run.history[-1] for run in load_records(folder, cells)}  # afterwards: none is in neither
    begun = {cell: last for cell, last in begun.items() if cell not in done}
    text = f"{len(done)} of {len(cells)} runs done" + (f", {len(begun)} begun" if begun else "")
    work = sum(cell.epochs * cell.K * cell.examples for cell in cells if cell not in done)
    work -= sum(last["gradients"] for last in begun.values())
    lasts = [*done.values(), *begun.values()]
    if not lasts or not work:
        return text
    seconds = work * sum(last["wall_seconds"] for last in lasts) / sum(last["gradients"] for last in lasts)
    return f"{text}; about {duration(seconds)} to go, one run after the other"


def failures(cells: list[Cell], folder) -> list[str]:
    """One line per run that was tried and has no record: its name and its error, as its executed notebook has it."""
    notebooks = {cell.name: Path(folder) / "notebooks" / f"{cell.name}.ipynb" for cell in cells}
    return [
        f"{name}: {_error(notebook)} (in {notebook})"
        for name, notebook in notebooks.items()
        if notebook.exists() and not (Path(folder) / f"{name}.json").exists()
    ]


def _error(notebook: Path) -> str:
    try:
        outputs = [output for cell in json.loads(notebook.read_bytes())["cells"] for output in cell.get("outputs", [])]
        return next(f"{output['ename']}: {output['evalue']}" for output in outputs if output["output_type"] == "error")
    except (ValueError, StopIteration):  # killed, it may have left half a notebook
        return "it was cut off"
