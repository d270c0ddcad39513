"""Record: what one run gave, as JSON; where and with what it was run; many records as one table. Imports no torch."""

import argparse
import dataclasses
import functools
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

from persist.cell import Cell

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
COUNTERS = ("epoch", "iterations", "samples", "gradients", "train_seconds", "wall_seconds")
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
        """Write the record as JSON, atomically: a reader finds the whole record or none."""
        fields = {**dataclasses.asdict(self), "cell": self.cell.as_dict()}
        write_atomically(path, (json.dumps(fields, indent=1, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path) -> "Record":
        """Raises RecordError, naming the file, unless it holds a record of this schema whose parts agree."""
        path = Path(path)
        try:
            fields = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
            names = {f.name for f in dataclasses.fields(cls)}
            if not isinstance(fields, dict) or fields.get("schema") != SCHEMA:
                raise ValueError(f"its schema is {fields.get('schema') if isinstance(fields, dict) else None!r}, this version reads {SCHEMA}")
            if set(fields) != names:
                raise ValueError(f"it must have the keys {', '.join(sorted(names))}, not {', '.join(sorted(fields))}")
            if not isinstance(fields["cell"], dict) or set(fields["cell"]) != set(Cell.fields()):
                raise ValueError("its cell must have all fields of a Cell and no others")
            record = cls(**{**fields, "cell": Cell.from_dict(fields["cell"])})
            record._check()
        except (ValueError, TypeError, UnicodeDecodeError, RecursionError) as error:
            raise RecordError(f"{path} is not a record: {error}") from None
        return record

    def _check(self):
        if self.status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}, not {self.status!r}")
        if type(self.resumed) is not int or self.resumed < 0 or not isinstance(self.environment, dict):
            raise ValueError("resumed must be an int >= 0 and environment an object")
        if not isinstance(self.history, list) or not self.history:
            raise ValueError("its history is empty")
        before = dict.fromkeys(COUNTERS, 0)
        for n, entry in enumerate(self.history, start=1):
            if not isinstance(entry, dict) or set(entry) != set(HISTORY):
                raise ValueError(f"entry {n} of its history must have the keys {', '.join(HISTORY)}")
            for key, value in entry.items():
                number = type(value) in (int, float) and math.isfinite(value)
                if not number and not (value is None and key not in COUNTERS):
                    raise ValueError(f"{key} of epoch {n} is {value!r}")
            if entry["epoch"] != n or any(entry[key] < before[key] for key in COUNTERS):
                raise ValueError(f"the counters of epoch {n} do not follow those before")
            if entry["test_accuracy"] is not None and not 0 <= entry["test_accuracy"] <= 1:
                raise ValueError(f"test_accuracy of epoch {n} is {entry['test_accuracy']!r}")
            expected = n * self.cell.K * self.cell.examples
            if entry["gradients"] != expected:
                raise ValueError(f"gradients of epoch {n} is {entry['gradients']!r}, its cell evaluates {expected}")
            before = entry
        if self.status == "finished" and len(self.history) != self.cell.epochs:
            raise ValueError(f"it is finished, but has {len(self.history)} of {self.cell.epochs} epochs")
        finite = [entry["train_loss"] is not None and entry["test_loss"] is not None for entry in self.history]
        if not all(finite[:-1]) or finite[-1] != (self.status == "finished"):
            raise ValueError("only the last epoch of a diverged run may have a loss that is not finite")


def load_records(folder) -> list[Record]:
    """All records (*.json) of a folder, in the order of their names.

    Raises RecordError, naming the file, for one that is damaged, or whose name is not its cell's (a copy, say).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordError(f"{folder} is not a folder with records")
    records = []
    for path in sorted(folder.glob("*.json")):
        record = Record.load(path)
        if path.stem != record.cell.name:
            raise RecordError(f"{path} holds the record of {record.cell.name}: a record's file has the name of its cell")
        records.append(record)
    return records


def to_table(records):
    """One row per record and epoch: the cell's fields, the history's, `cell_name` and `status` (a pandas DataFrame)."""
    import pandas as pd

    return pd.DataFrame(
        [{**r.cell.as_dict(), **entry, "cell_name": r.cell.name, "status": r.status} for r in records for entry in r.history]
    )


def copy_records(source, destination, replace=False) -> list[str]:
    """Copy the finished (or diverged) records of one folder into another; returns the names that were new or replaced.

    Raises RecordError, and copies nothing, where the destination holds a different record of the same cell, unless
    `replace`.
    """
    destination = Path(destination)
    records = load_records(source)
    new = {r.cell.name: r for r in records if not (destination / f"{r.cell.name}.json").exists()}
    other = {r.cell.name: r for r in records if r.cell.name not in new and Record.load(destination / f"{r.cell.name}.json") != r}
    if other and not replace:
        raise RecordError(
            f"{destination} holds a different record of {', '.join(sorted(other))}. Nothing was copied; to replace "
            f"what is recorded there, run make record GRID={destination.name} REPLACE=1"
        )
    for name, record in {**new, **other}.items():
        record.save(destination / f"{name}.json")
    return sorted({**new, **other})


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
        "git_modified": _git("status", "--porcelain", "--", "persist", "notebooks/cell.ipynb"),  # empty: as committed
        "data_sha256": data_sha256,
        **more,
    }


def was_shared(history: list[dict], threads: int) -> bool:
    """Whether other work seems to have run on the machine meanwhile: a load above the threads that the run itself used.
    Its times then say little."""
    loads = [entry["load"] for entry in history]
    return statistics.median(loads) > threads + 0.5


def write_atomically(path, content: bytes):
    """Write to a temporary file beside, then rename: never a half-written file under the final name."""
    path = Path(path)
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
    """The output of git in this project's checkout; None where there is no git or no checkout."""
    root = Path(__file__).resolve().parents[1]
    try:
        return subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m persist.record", description="Copy finished records into results/.")
    parser.add_argument("source")
    parser.add_argument("destination")
    parser.add_argument("--replace", action="store_true", help="replace records that are there already and differ")
    options = parser.parse_args(arguments)
    try:
        names = copy_records(options.source, options.destination, options.replace)
    except RecordError as error:
        sys.exit(f"error: {error}")
    print("\n".join(names) or "nothing new", f"{len(names)} records copied into {options.destination}", sep="\n")


if __name__ == "__main__":
    main()
