"""What notebooks/cell.ipynb does with one cell: say what will run, train it or show its record."""

import contextlib
import os
import time
from pathlib import Path

from persist.architecture import flops_per_gradient, parameters
from persist.cell import Cell
from persist.notebook.cores import borrowed_cores
from persist.notebook.progress import Progress, duration, interactive
from persist.provenance import CODE
from persist.record import Record, RecordError, check_writable


def describe(cell: Cell) -> str:
    """What the cell is and what it takes, for people: its name, counts of one epoch, parameters and FLOPs."""
    flops, gradients = flops_per_gradient(cell), cell.K * cell.examples
    return "\n".join(
        [
            cell.name,
            f"network:    reduced AlexNet, {parameters(cell):,} parameters, {flops / 1e6:,.1f} MFLOP per gradient "
            "(forward and backward)",
            f"each epoch: minibatches of up to {cell.m} examples: {cell.minibatches:,}; uses of each ({cell.reuse}): "
            f"{cell.K}; iterations: {cell.K * cell.minibatches:,}; gradients: {gradients:,}",
            f"in all:     epochs: {cell.epochs}; gradients: {cell.epochs * gradients:,}; "
            f"{cell.epochs * gradients * flops / 1e12:,.3g} TFLOP",
        ]
    )


def train_or_load(cell: Cell, results_dir, *, force: bool = False, data_root=None, device=None) -> Record:
    """The cell's record from results_dir, or from where another grid has it (then it is copied); where there is none,
    or with force, train it, showing its progress, and save it there. A run that was cut off goes on from its
    checkpoint, which lies in results_dir/unfinished meanwhile, with the record so far. Where another process has saved
    the cell's record meanwhile, that one stays and is returned.

    Two environment variables, which the engine sets: PERSIST_CORES, on how many cores of its own the cell trains (on a
    CPU; default: as many as torch takes, shared with all that runs there); PERSIST_CHECKPOINT_EVERY, seconds between
    two checkpoints (default: that of persist.train).

    Raises ValueError, before anything trains, where results_dir cannot be written or force is not a bool, and OSError
    where the record cannot be saved in the end.
    """
    if type(force) is not bool:
        raise ValueError(f"force must be True or False, not {force!r}")
    if not isinstance(results_dir, (str, os.PathLike)):
        raise ValueError(f"results_dir must be the path of a folder, not {results_dir!r}")
    path = Path(results_dir) / f"{cell.name}.json"
    unfinished = Path(results_dir) / "unfinished" / f"{cell.name}.pt"
    if not force:
        if path.exists():
            record = Record.load(path)
            print(f"{path} is there already and is shown; force=True trains it again")
            return _told_apart(record)
        check_writable("results_dir", results_dir)
        for other in _of_other_grids(path):
            with contextlib.suppress(RecordError):  # a damaged one is of no use here
                record = Record.load(other)
                if record.status != "unfinished":
                    record.save(path)
                    print(f"taken from {other}: the same run; force=True trains it again")
                    return _told_apart(record)
    every = _setting("PERSIST_CHECKPOINT_EVERY", float, "a number of seconds >= 0")
    cores = _setting("PERSIST_CORES", int, "a number of cores >= 0")
    check_writable("results_dir", results_dir)
    if force:
        _delete(unfinished)
    record = _train(cell, unfinished, cores, every, data_root, device)
    if path.exists() and not force:
        print(f"another process has saved {path} meanwhile, which stays")
        record = Record.load(path)
    else:
        _save(record, path)
    _delete(unfinished)
    return record


def _train(cell, checkpoint, cores, every, data_root, device) -> Record:
    from persist.device import resolve_device  # imports torch, which takes seconds
    from persist.training import CHECKPOINT_EVERY, train

    device = resolve_device(device)
    with borrowed_cores(cores if cores and device.type == "cpu" else 0) as lent:
        print("expected:", duration(estimate_seconds(cell, data_root=data_root, device=device, cores=lent)), flush=True)
        return train(
            cell,
            data_root=data_root,
            device=device,
            cores=lent,
            checkpoint=checkpoint,
            checkpoint_every=CHECKPOINT_EVERY if every is None else every,
            on_epoch=_watch(cell),
        )


def estimate_seconds(cell: Cell, *, data_root=None, device=None, cores=None, budget: float = 0.3) -> float:
    """Seconds that train(cell) is expected to take, evaluations included, from a measurement of about `budget` seconds
    on a throwaway model."""
    import torch

    from persist import data as datasets
    from persist.device import clocks, pinned, place, resolve_device, strict_arithmetic
    from persist.model import build_model
    from persist.training import EVALUATION_BATCH, build_optimizer, evaluate, sgd_step

    device = resolve_device(device)
    data = datasets.load(cell, data_root)

    def median(action, budget):
        action()
        seconds, end = [], time.perf_counter() + budget
        while not seconds or time.perf_counter() < end:
            start, _ = clocks(device)
            action()
            seconds.append(clocks(device)[0] - start)
        return sorted(seconds)[len(seconds) // 2]

    with pinned(cores), strict_arithmetic():
        model = place(build_model(cell), device)
        optimizer = build_optimizer(cell, model)
        few = data.train.take(range(cell.m))
        images, labels = datasets.scale(few.images, cell).to(device), torch.from_numpy(few.labels).to(device)
        test_images = datasets.scale(data.test.images[:EVALUATION_BATCH], cell).to(device)
        test_labels = torch.from_numpy(data.test.labels[:EVALUATION_BATCH]).to(device)
        iteration = median(lambda: sgd_step(cell, model, optimizer, images, labels, 0.0), budget * 3 / 4)
        evaluation = median(lambda: evaluate(model, test_images, test_labels), budget / 4)
    last = cell.evaluations()[-1]
    one_evaluation = cell.test_examples / len(test_labels) * evaluation
    return last["gradients"] / cell.m * iteration + len(cell.evaluations()) * one_evaluation


def _told_apart(record: Record) -> Record:
    if record.environment.get("code") != CODE:
        print(f"note: another version of the code trained it (commit {record.environment.get('git_commit')})")
    return record


def _of_other_grids(path: Path) -> list[Path]:
    """Where another grid has trained or recorded the same cell."""
    roots = (path.parent.parent, Path("results"))
    return [
        folder / path.name
        for root in roots
        for folder in sorted(root.glob("*/"))
        if folder.name != path.parent.name and (folder / path.name).exists()
    ]


def _save(record: Record, path):
    try:
        record.save(path)
    except OSError as error:
        again = (
            "Make room or the folder writable, then run the same again: it goes on from the last checkpoint, if any."
        )
        raise OSError(f"the record was not saved: {error}. {again}") from None


def _delete(checkpoint: Path):
    checkpoint.unlink(missing_ok=True)
    checkpoint.with_suffix(".json").unlink(missing_ok=True)


def _watch(cell):
    """What shows the progress after each epoch: a bar or lines, and, where somebody sees them, curves that grow."""
    if not interactive():
        return Progress(cell)
    from persist.notebook.live import LiveCurves

    curves, progress = LiveCurves(cell), Progress(cell)  # the bar last: it goes on only in the last line of the output

    def show(entry):
        curves(entry)
        progress(entry)

    return show


def _setting(name: str, kind, allowed: str):
    """A number >= 0 from the environment, or None."""
    value = os.environ.get(name)
    if value is None:
        return None
    try:
        number = kind(value)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise ValueError(f"{name} must be {allowed}, not {value!r}")
    return number
