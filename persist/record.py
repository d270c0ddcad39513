"""Record: what one run gave, as JSON; many records as one table. Imports no torch."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from persist.cell import Cell

SCHEMA = 2
STATUSES = ("finished", "diverged", "unfinished")
COUNTERS = ("epoch", "iterations", "samples", "gradients")  # cumulative: see Cell.evaluations
CLOCKS = ("train_seconds", "cpu_seconds", "wall_seconds")  # cumulative
# One entry of a record's history per evaluation.
HISTORY = (
    *COUNTERS,
    "train_seconds",  # without evaluation
    "cpu_seconds",  # of the training thread, without evaluation
    "wall_seconds",  # with evaluation
    "train_loss",  # mean per example since the last entry, at the first of each minibatch's uses in a row
    "test_loss",  # mean per example
    "test_accuracy",  # top-1, in [0, 1]
)
# What the environment must say for the figures to be drawn.
ENVIRONMENT = {
    "device": "a text",
    "cuda": "a text, or null on the CPU",
    "threads": "an int >= 1",
    "torch": "a text",
    "data_sha256": "a text",
}


class RecordError(Exception):
    """A file is not a record as this version writes it. The message names the file and what is wrong."""


@dataclasses.dataclass(frozen=True)
class Record:
    """The outcome of one cell. `history`: a dict per evaluation with the keys of HISTORY; None where a value was not
    finite. `status`: "finished", "diverged" (stopped at the evaluation whose loss was not finite) or "unfinished" (a
    prefix of what it will be). `resumed`: how many times the run was interrupted and continued."""

    cell: Cell
    history: list[dict]
    environment: dict
    status: str
    resumed: int = 0
    schema: int = SCHEMA

    def save(self, path: str | os.PathLike) -> None:
        """Write the record as JSON, atomically: a reader finds the whole record or none. Its sha256 goes along, so that
        an edit shows. Raises OSError, naming the file, where it cannot be written."""
        fields = {**dataclasses.asdict(self), "cell": self.cell.as_dict()}
        fields["sha256"] = _digest(fields)
        write_atomically(path, (json.dumps(fields, indent=1, allow_nan=False) + "\n").encode())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Record":
        """Raises RecordError, naming the file, unless it holds a record of this schema, as it was saved; OSError where
        it cannot be read."""
        path = Path(path)
        try:
            fields = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
            names = {f.name for f in dataclasses.fields(cls)}
            if not isinstance(fields, dict) or fields.get("schema") != SCHEMA:
                schema = fields.get("schema") if isinstance(fields, dict) else None
                raise ValueError(f"its schema is {schema!r}, this version reads {SCHEMA}")
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
            raise RecordError(
                f"{path} is not a record: {error}. Put the file back as it was, or delete it and train its cell again"
            ) from None
        return record

    def continues(self, other: "Record") -> bool:
        """Whether the other record is this one, or what it was before it had gone on: equal but for times."""
        mine, theirs = (
            [{key: value for key, value in entry.items() if key not in CLOCKS} for entry in record.history]
            for record in (self, other)
        )
        same_end = len(mine) > len(theirs) or self.status == other.status
        return self.cell == other.cell and mine[: len(theirs)] == theirs and same_end

    def _check(self):
        if self.status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}, not {self.status!r}")
        if type(self.resumed) is not int or self.resumed < 0:
            raise ValueError(f"resumed must be an int >= 0, not {self.resumed!r}")
        self._check_environment()
        if not isinstance(self.history, list) or not self.history:
            raise ValueError("its history is empty")
        plan, before = self.cell.evaluations(), dict.fromkeys(CLOCKS, 0)
        if len(self.history) > len(plan):
            raise ValueError(f"it has {len(self.history)} evaluations, of its cell it is {len(plan)}")
        for n, (entry, counters) in enumerate(zip(self.history, plan, strict=False), start=1):
            if not isinstance(entry, dict) or set(entry) != set(HISTORY):
                raise ValueError(f"entry {n} of its history must have the keys {', '.join(HISTORY)}")
            for key, value in entry.items():
                number = type(value) in (int, float) and math.isfinite(value)
                if not number and not (value is None and key in ("train_loss", "test_loss", "test_accuracy")):
                    raise ValueError(f"{key} of evaluation {n} is {value!r}")
            for key, expected in counters.items():
                if entry[key] != expected:
                    raise ValueError(f"{key} of evaluation {n} is {entry[key]!r}, of its cell it is {expected}")
            if any(entry[key] < before[key] for key in CLOCKS):
                raise ValueError(f"the clocks of evaluation {n} run back")
            if entry["test_accuracy"] is not None and not 0 <= entry["test_accuracy"] <= 1:
                raise ValueError(f"test_accuracy of evaluation {n} is {entry['test_accuracy']!r}")
            before = entry
        if (self.status == "finished" and len(self.history) < len(plan)) or (
            self.status == "unfinished" and len(self.history) == len(plan)
        ):
            raise ValueError(f"it is {self.status}, but has {len(self.history)} of {len(plan)} evaluations")
        finite = [entry["train_loss"] is not None and entry["test_loss"] is not None for entry in self.history]
        if not all(finite[:-1]) or finite[-1] == (self.status == "diverged"):
            raise ValueError("only the last evaluation of a diverged run may have a loss that is not finite")

    def _check_environment(self):
        if not isinstance(self.environment, dict) or not set(ENVIRONMENT) <= set(self.environment):
            raise ValueError(f"its environment must say at least {', '.join(ENVIRONMENT)}")
        for key, allowed in ENVIRONMENT.items():
            value = self.environment[key]
            text = isinstance(value, str) or (value is None and key == "cuda")
            if not (type(value) is int and value >= 1 if key == "threads" else text):
                raise ValueError(f"{key} of its environment must be {allowed}, not {value!r}")


def _digest(fields: dict) -> str:
    """Of a record's content, however its JSON is laid out."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, allow_nan=False).encode()).hexdigest()


def load_records(folder: str | os.PathLike, cells: Iterable[Cell] | None = None) -> list[Record]:
    """The records (*.json) of a folder, in the order of their names; with `cells`, only those of these cells.

    Raises RecordError, naming it, for a folder that is not there, for a file that is damaged, or whose name is not its
    cell's (a copy, say).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordError(f"{folder} is not a folder with records")
    names = None if cells is None else {cell.name for cell in cells}
    records = []
    for path in sorted(folder.glob("*.json")):
        if names is not None and path.stem not in names:
            continue
        try:
            record = Record.load(path)
        except FileNotFoundError:
            if os.path.lexists(path):  # a link that leads nowhere
                raise
            continue  # of a run that has ended meanwhile
        if path.stem != record.cell.name:
            raise RecordError(
                f"{path} holds the record of {record.cell.name}: a record's file has the name of its cell"
            )
        records.append(record)
    return records


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
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


def check_writable(name: str, folder: str | os.PathLike) -> None:
    """Raise ValueError, naming the folder as `name`, unless it is or can be made a folder with room for a record."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))  # about a record: a full disk still gives an empty file
    except OSError as error:
        raise ValueError(
            f"{name} must be a folder that can be written, not {str(folder)!r}: {error.strerror}"
        ) from None


def _sync_folder(folder):
    """A record's name must survive a loss of power before its checkpoint is deleted. Not every system can do it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _refuse_constant(name):
    raise ValueError(f"it holds {name}; a value that is not finite is null")
