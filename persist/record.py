"""Record: what one run gave, as JSON; where and with what it was run; many records as one table. Imports no torch."""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from persist.cell import Cell, load_grid

SCHEMA = 1
STATUSES = ("finished", "diverged")
# One entry of a record's history per finished epoch; counters and clocks are cumulative.
HISTORY = (
    "epoch",  # from 1
    "iterations",  # SGD updates
    "samples",  # examples loaded; counted once however often a minibatch is reused
    "gradients",  # examples evaluated for a gradient: K times the samples
    "train_seconds",  # without evaluation
    "wall_seconds",  # with evaluation
    "train_loss",  # mean per example at the first use, k = 1, of each minibatch, while training
    "test_loss",  # mean per example
    "test_accuracy",  # top-1, in [0, 1]
    "load",  # the machine's load average over the last minute
)
CLOCKS = ("train_seconds", "wall_seconds")
# What the environment must say for the figures to be drawn.
ENVIRONMENT = {
    "device": "a text",
    "cuda": "a text, or null on the CPU",
    "threads": "an int >= 1",
    "torch": "a text",
    "data_sha256": "a text",
}
TIMES = ("train_seconds", "wall_seconds", "load")


class RecordError(Exception):
    """A file is not a record as this version writes it. The message names the file and what is wrong."""


@dataclasses.dataclass(frozen=True)
class Record:
    """The outcome of one cell. `history`: a dict per finished epoch with the keys of HISTORY; None where a value was
    not finite. `status`: "finished", or "diverged" (stopped at the epoch whose loss was not finite). `resumed`: how
    many times the run was interrupted and continued."""

    cell: Cell
    history: list[dict]
    environment: dict
    status: str
    resumed: int = 0
    schema: int = SCHEMA

    def save(self, path):
        """Write the record as JSON, atomically: a reader finds the whole record or none. Its sha256 goes along, so that
        an edit shows. Raises OSError, naming the file, where it cannot be written."""
        fields = {**dataclasses.asdict(self), "cell": self.cell.as_dict()}
        fields["sha256"] = _digest(fields)
        write_atomically(path, (json.dumps(fields, indent=1, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path) -> "Record":
        """Raises RecordError, naming the file, unless it holds a record of this schema whose parts agree, as it was saved."""
        path = Path(path)
        try:
            fields = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
            names = {f.name for f in dataclasses.fields(cls)}
            if not isinstance(fields, dict) or fields.get("schema") != SCHEMA:
                raise ValueError(f"its schema is {fields.get('schema') if isinstance(fields, dict) else None!r}, this version reads {SCHEMA}")
            sha256 = fields.pop("sha256", None)
            if set(fields) != names:
                raise ValueError(f"it must have the keys {', '.join(sorted(names))}, not {', '.join(sorted(fields))}")
            if not isinstance(fields["cell"], dict) or set(fields["cell"]) != set(Cell.fields()):
                raise ValueError("its cell must have all fields of a Cell and no others")
            record = cls(**{**fields, "cell": Cell.from_dict(fields["cell"])})
            record._check()
            if sha256 is None:
                raise ValueError("it has no sha256: an older version saved it, or it was changed since")
            if sha256 != _digest(fields):
                raise ValueError("it was changed after it was saved, its sha256 is another")
        except (ValueError, TypeError, UnicodeDecodeError, RecursionError) as error:
            raise RecordError(f"{path} is not a record: {error}. Put the file back as it was, or delete it and train its cell again") from None
        return record

    def _check(self):
        if self.status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}, not {self.status!r}")
        if type(self.resumed) is not int or self.resumed < 0:
            raise ValueError(f"resumed must be an int >= 0, not {self.resumed!r}")
        self._check_environment()
        if not isinstance(self.history, list) or not self.history:
            raise ValueError("its history is empty")
        before = dict.fromkeys(CLOCKS, 0)
        for n, entry in enumerate(self.history, start=1):
            if not isinstance(entry, dict) or set(entry) != set(HISTORY):
                raise ValueError(f"entry {n} of its history must have the keys {', '.join(HISTORY)}")
            for key, value in entry.items():
                number = type(value) in (int, float) and math.isfinite(value)
                if not number and not (value is None and key in ("train_loss", "test_loss", "test_accuracy")):
                    raise ValueError(f"{key} of epoch {n} is {value!r}")
            for key, expected in counters(self.cell, n).items():
                if entry[key] != expected:
                    raise ValueError(f"{key} of epoch {n} is {entry[key]!r}, of its cell it is {expected}")
            if any(entry[key] < before[key] for key in CLOCKS):
                raise ValueError(f"the clocks of epoch {n} run back")
            if entry["test_accuracy"] is not None and not 0 <= entry["test_accuracy"] <= 1:
                raise ValueError(f"test_accuracy of epoch {n} is {entry['test_accuracy']!r}")
            before = entry
        if self.status == "finished" and len(self.history) != self.cell.epochs:
            raise ValueError(f"it is finished, but has {len(self.history)} of {self.cell.epochs} epochs")
        finite = [entry["train_loss"] is not None and entry["test_loss"] is not None for entry in self.history]
        if not all(finite[:-1]) or finite[-1] != (self.status == "finished"):
            raise ValueError("only the last epoch of a diverged run may have a loss that is not finite")

    def _check_environment(self):
        if not isinstance(self.environment, dict) or not set(ENVIRONMENT) <= set(self.environment):
            raise ValueError(f"its environment must say at least {', '.join(ENVIRONMENT)}")
        for key, allowed in ENVIRONMENT.items():
            value = self.environment[key]
            if not (type(value) is int and value >= 1 if key == "threads" else isinstance(value, str) or (value is None and key == "cuda")):
                raise ValueError(f"{key} of its environment must be {allowed}, not {value!r}")


def _digest(fields: dict) -> str:
    """Of a record's content, however its JSON is laid out."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, allow_nan=False).encode()).hexdigest()


def counters(cell: Cell, epoch: int) -> dict[str, int]:
    """The counters of a history's entry after so many epochs: a function of the cell."""
    passes = epoch * cell.K  # over the training examples
    return {
        "epoch": epoch,
        "iterations": passes * cell.minibatches,
        # spaced reuse loads every minibatch again in each of its K passes
        "samples": (passes if cell.reuse == "spaced" else epoch) * cell.examples,
        "gradients": passes * cell.examples,
    }


def load_records(folder, cells=None) -> list[Record]:
    """The records (*.json) of a folder, in the order of their names; with `cells`, only those of these cells.

    Raises RecordError, naming the file, for one that is damaged, or whose name is not its cell's (a copy, say).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordError(f"{folder} is not a folder with records")
    names = None if cells is None else {cell.name for cell in cells}
    records = []
    for path in sorted(folder.glob("*.json")):
        if names is not None and path.stem not in names:
            continue
        record = Record.load(path)
        if path.stem != record.cell.name:
            raise RecordError(f"{path} holds the record of {record.cell.name}: a record's file has the name of its cell")
        records.append(record)
    return records


def load_grid_records(results, grids, name: str) -> tuple[list[Record], list[Record]]:
    """The records in results/<name> of the cells of grids/<name>.yaml, and those of the grid beside it (none where it has
    none, or that was never run). Raises RecordError or ValueError, naming the file, for what is damaged or not there."""
    grid = load_grid(Path(grids) / f"{name}.yaml")
    records, beside = load_records(Path(results) / name, grid.cells), []
    if grid.beside and (Path(results) / grid.beside).is_dir():
        others = [cell for cell in load_grid(Path(grids) / f"{grid.beside}.yaml").cells if cell not in grid.cells]
        beside = load_records(Path(results) / grid.beside, others)
    return records, beside


def to_table(records):
    """One row per record and epoch: the cell's fields, the history's, `cell_name` and `status` (a pandas DataFrame)."""
    import pandas as pd

    return pd.DataFrame(
        [{**r.cell.as_dict(), **entry, "cell_name": r.cell.name, "status": r.status} for r in records for entry in r.history]
    )


def copy_records(source, destination, cells=None, replace=False) -> list[str]:
    """Copy the records of one folder (of these cells, or all) into another; returns the names that were new or replaced.

    Raises RecordError, and copies nothing, where the destination holds a different record (or a damaged one) of the same
    cell, unless `replace`.
    """
    destination = Path(destination)
    changed = {r.cell.name: r for r in load_records(source, cells) if not _holds(destination, r)}
    different = [name for name in changed if (destination / f"{name}.json").exists()]
    if different and not replace:
        raise RecordError(
            f"{destination} holds a different record of {', '.join(different)}. Nothing was copied; to replace "
            f"what is recorded there, run make record GRID={destination.name} REPLACE=1"
        )
    for name, record in changed.items():
        record.save(destination / f"{name}.json")
    return sorted(changed)


def _holds(folder, record) -> bool:
    try:
        return Record.load(folder / f"{record.cell.name}.json") == record
    except (FileNotFoundError, RecordError):
        return False


def environment(device: str | None, data_sha256: str, **more) -> dict:
    """Where and with what a run was made. device: the accelerator's name; None: the CPU."""
    packages = ("torch", "torchvision", "numpy", "papermill", "persist")
    return {
        "device": device or _cpu(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_modified": _git("status", "--porcelain", "--", "persist", "notebooks/cell.ipynb", "benchmarks"),  # empty: as committed
        "data_sha256": data_sha256,
        **more,
    }


def was_shared(record: Record) -> bool:
    """Whether other work seems to have run on the machine meanwhile: a load above what the run itself makes. Its times
    then say little. A run on a GPU keeps one thread busy; the workers of a loader come on top, and are not told from others."""
    threads = record.environment["threads"]
    own = 1 if record.environment["cuda"] and record.cell.pipeline == "resident" else threads
    return statistics.median(entry["load"] for entry in record.history) > own + 0.5


def write_atomically(path, content: bytes):
    """Write to a temporary file beside, then rename: never a half-written file under the final name, whatever is killed
    or loses power. Raises OSError, naming the file, where that cannot be done."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp's 0600 would keep others from reading it
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; nothing was written", str(path)) from None
    _sync_folder(path.parent)


def check_writable(name: str, folder):
    """Raise ValueError, naming the folder as `name`, unless it is or can be made a folder with room for a record."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))  # about a record: a full disk still gives an empty file
    except OSError as error:
        raise ValueError(f"{name} must be a folder that can be written, not {str(folder)!r}: {error.strerror}") from None


def _sync_folder(folder):
    """A record's name must survive a loss of power before its checkpoint is deleted. Not every system and disk can do it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _refuse_constant(name):
    raise ValueError(f"it holds {name}; a value that is not finite is null")


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _cpu():
    try:
        models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        models = []
    return models[0] if models else platform.processor() or platform.machine()


def _git(*arguments):
    """The output of git in this project's checkout; None where there is no git, or the package is not in its checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / "pyproject.toml").exists():
        return None
    try:
        return subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m persist.record", description="Copy the records of a grid into results/.")
    parser.add_argument("grid", help="file of the grid")
    parser.add_argument("source")
    parser.add_argument("destination")
    parser.add_argument("--replace", action="store_true", help="replace records that are there already and differ")
    options = parser.parse_args(arguments)
    try:
        cells = load_grid(options.grid).cells
        names = copy_records(options.source, options.destination, cells, options.replace)
    except (RecordError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(*names, f"{len(names)} records copied into {options.destination} ({len(cells)} cells in the grid)", sep="\n")


if __name__ == "__main__":
    main()
