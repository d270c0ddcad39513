"""What notebooks/cell.ipynb does with one cell: say what will run, train it or show its record."""

import os
from pathlib import Path

from persist.cell import Cell
from persist.model import build_model, flops_per_gradient
from persist.progress import Progress, duration, in_jupyter
from persist.record import Record, check_writable
from persist.training import CHECKPOINT_EVERY, CODE, estimate_seconds, train


def describe(cell: Cell) -> str:
    """What the cell is and what it takes, for people: its name, counts of one epoch, parameters and FLOPs."""
    parameters = sum(p.numel() for p in build_model(cell).parameters())
    flops, gradients = flops_per_gradient(cell), cell.K * cell.examples
    return "\n".join(
        [
            cell.name,
            f"network:    {cell.model}, {parameters:,} parameters, {flops / 1e6:,.1f} MFLOP per gradient (forward and backward)",
            f"each epoch: minibatches of up to {cell.m} examples: {cell.minibatches:,}; uses of each ({cell.reuse}): {cell.K}; "
            f"iterations: {cell.K * cell.minibatches:,}; gradients: {gradients:,}",
            f"in all:     epochs: {cell.epochs}; gradients: {cell.epochs * gradients:,}; {cell.epochs * gradients * flops / 1e12:,.3g} TFLOP",
        ]
    )


def train_or_load(cell: Cell, results_dir, *, force: bool = False, data_root=None, device=None) -> Record:
    """The cell's record from results_dir; where there is none, or with force, train it, showing its progress, and save
    it there. A run that was cut off goes on from its checkpoint, which lies beside meanwhile and is written every
    PERSIST_CHECKPOINT_EVERY seconds (environment variable, default 30) or less often. Where another process has saved the
    cell's record meanwhile, that one stays and is returned.

    Raises ValueError, before anything trains, where results_dir cannot be written or force is not a bool, and OSError
    where the record cannot be saved in the end.
    """
    if type(force) is not bool:
        raise ValueError(f"force must be True or False, not {force!r}")
    if not isinstance(results_dir, (str, os.PathLike)):
        raise ValueError(f"results_dir must be the path of a folder, not {results_dir!r}")
    path = Path(results_dir) / f"{cell.name}.json"
    checkpoint = Path(results_dir) / "checkpoints" / f"{cell.name}.pt"
    if path.exists() and not force:
        record = Record.load(path)
        print(f"{path} is there already and is shown; force=True trains it again")
        if record.environment.get("code") != CODE:
            print(f"note: another version of the code trained it (commit {record.environment.get('git_commit')})")
        return record
    checkpoint_every = _checkpoint_every()
    check_writable("results_dir", results_dir)
    if force:
        checkpoint.unlink(missing_ok=True)
    print("expected:", duration(estimate_seconds(cell, data_root=data_root, device=device)), flush=True)
    record = train(cell, data_root=data_root, device=device, checkpoint=checkpoint, checkpoint_every=checkpoint_every, on_epoch=_watch(cell))
    if path.exists() and not force:
        print(f"another process has saved {path} meanwhile, which stays")
        record = Record.load(path)
    else:
        _save(record, path)
    checkpoint.unlink(missing_ok=True)
    return record


def _save(record: Record, path):
    try:
        record.save(path)
    except OSError as error:
        again = "Make room or the folder writable, then run the same again: it goes on from the last checkpoint, where there is one."
        raise OSError(f"the record was not saved: {error}. {again}") from None


def _watch(cell):
    """What shows the progress after each epoch: a bar or lines, and, where somebody sees them, curves that grow."""
    if not in_jupyter():
        return Progress(cell)
    from persist.live import LiveCurves

    curves, progress = LiveCurves(cell), Progress(cell)  # the bar last: it goes on only in the last line of the output

    def show(entry):
        curves(entry)
        progress(entry)

    return show


def _checkpoint_every() -> float:
    value = os.environ.get("PERSIST_CHECKPOINT_EVERY", str(CHECKPOINT_EVERY))
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"PERSIST_CHECKPOINT_EVERY must be a number of seconds >= 0, not {value!r}")
    return seconds
