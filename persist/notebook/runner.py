"""What notebooks/cell.ipynb does with one cell: say what will run, train it or show its record."""

import contextlib
import dataclasses
import math
import os
from pathlib import Path

from persist.architecture import flops_per_gradient, parameters
from persist.cell import Cell
from persist.notebook.cores import borrowed_cores
from persist.notebook.progress import Stopped, duration, interactive, progress_line
from persist.provenance import CODE
from persist.record import Record, RecordError, check_writable


def describe(cell: Cell) -> str:
    """What the cell is and what it takes, for people: its name, counts of one epoch, parameters and FLOPs."""
    flops, gradients = flops_per_gradient(cell), cell.K * cell.examples
    return (
        f"{cell.name}\n"
        f"network:    reduced AlexNet, {parameters(cell):,} parameters, {flops / 1e6:,.1f} MFLOP per gradient "
        "(forward and backward)\n"
        f"each epoch: minibatches of up to {cell.m} examples: {cell.minibatches:,}; uses of each ({cell.reuse}): "
        f"{cell.K}; iterations: {cell.K * cell.minibatches:,}; gradients: {gradients:,}\n"
        f"in all:     epochs: {cell.epochs}; gradients: {cell.epochs * gradients:,}; "
        f"{cell.epochs * gradients * flops / 1e12:,.3g} TFLOP"
    )


def train_or_load(cell: Cell, results_dir, *, force: bool = False, data_root=None, device=None) -> Record:
    """The cell's record from results_dir, or from where another grid has it (then it is copied); where there is none,
    or with force, train it, showing its progress, and save it there. A run that was cut off goes on from its
    checkpoint, which lies in results_dir/unfinished meanwhile, with the record so far. Where another process has saved
    the cell's record meanwhile, that one stays and is returned.

    Environment variables, set by the engine: PERSIST_CORES, on how many cores of its own a run trains (CPU; default:
    as torch does); PERSIST_CHECKPOINT_EVERY, seconds between checkpoints. ValueError, before anything trains, where a
    parameter is wrong or results_dir cannot be written; OSError where the record cannot be saved in the end.
    """
    if type(force) is not bool:
        raise ValueError(f"force must be True or False, not {force!r}")
    if not isinstance(results_dir, (str, os.PathLike)):
        raise ValueError(f"results_dir must be the path of a folder, not {results_dir!r}")
    path = Path(results_dir) / f"{cell.name}.json"
    if not force and (record := _known(path)):
        if record.environment.get("code") != CODE:
            print(f"note: another version of the code trained it (commit {record.environment.get('git_commit')})")
        return record
    check_writable("results_dir", results_dir)
    checkpoint = path.parent / "unfinished" / f"{cell.name}.pt"
    if force:
        checkpoint.unlink(missing_ok=True)
    record = _train(cell, checkpoint, data_root, device)
    # of two that save at the same moment the last one stays: they differ in times alone
    if path.exists() and not force:
        print(f"another process has saved {path} meanwhile, which stays")
        record = Record.load(path)
    else:
        try:
            record.save(path)
        except OSError as error:
            again = "Make room or the folder writable, then run the same again: it goes on from the last checkpoint"
            raise OSError(f"the record was not saved: {error}. {again}, if any.") from None
    for file in (checkpoint, checkpoint.with_suffix(".json")):
        file.unlink(missing_ok=True)
    return record


def _known(path: Path) -> Record | None:
    """The record that is there; else that of the same cell which another grid has trained or recorded, copied."""
    if path.exists():
        print(f"{path} is there already and is shown; force trains it again")
        return Record.load(path)
    roots = (path.parent.parent, Path("results"))
    for other in [other for root in roots for other in sorted(root.glob(f"*/{path.name}"))]:
        with contextlib.suppress(RecordError):  # a damaged one is of no use here
            if other.parent.name != path.parent.name and (record := Record.load(other)).status != "unfinished":
                record.save(path)
                print(f"taken from {other}: the same run; force trains it again")
                return record
    return None


def _train(cell, checkpoint, data_root, device) -> Record:
    from persist.device import resolve_device  # imports torch, which takes seconds
    from persist.training import CHECKPOINT_EVERY, train

    every = _setting("PERSIST_CHECKPOINT_EVERY", CHECKPOINT_EVERY)
    cores = _setting("PERSIST_CORES", 0)
    device = resolve_device(device)
    with borrowed_cores(cores if device.type == "cpu" else 0) as lent:
        where = dict(data_root=data_root, device=device, cores=lent)
        print("expected:", duration(estimate_seconds(cell, **where)), flush=True)
        if checkpoint.exists():
            print(f"goes on from {checkpoint}", flush=True)
        return train(cell, checkpoint=checkpoint, checkpoint_every=every, on_epoch=_watch(cell), **where)


def _setting(name: str, default):
    """A number >= 0 of the default's type, from the environment."""
    value, number = os.environ.get(name, default), -1
    with contextlib.suppress(ValueError):
        number = type(default)(value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} must be a finite {type(default).__name__} >= 0, not {value!r}")
    return number


def estimate_seconds(cell: Cell, *, budget: float = 0.3, **where) -> float:
    """Seconds that train(cell, **where) is expected to take: from the iterations that a throwaway run makes in `budget`
    seconds, after the first. An evaluation counts a third of as many gradients: it has no backward pass."""
    from persist.device import clocks
    from persist.training import train

    starts = []

    def tick():
        starts.append(clocks(where["device"])[0])
        if len(starts) > 2 and starts[-1] - starts[1] > budget:
            raise Stopped

    # three epochs have at least three iterations, and so small a rate never diverges; loading is not counted
    short = dataclasses.replace(cell, K=1, lr=1e-9, epochs=3, evaluate_every=None, pipeline="resident")
    with contextlib.suppress(Stopped):
        train(short, on_minibatch=tick, **where)
    plan = cell.evaluations()
    gradients = plan[-1]["gradients"] + len(plan) * cell.test_examples / 3
    return (starts[-1] - starts[1]) / (len(starts) - 2) * gradients / cell.m


def _watch(cell):
    """What shows each evaluation: a line and, where somebody looks, curves that grow."""
    if not interactive():
        return lambda entry: print(progress_line(cell, entry), flush=True)
    from persist.notebook.live import live_curves

    return live_curves(cell)
