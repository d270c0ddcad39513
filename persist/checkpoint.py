"""A run that was cut off goes on from its last checkpoint: on the same machine bitwise as if it had not been."""

import hashlib
import io
import os
import time
import warnings
from pathlib import Path

import torch

from persist.cell import Cell
from persist.provenance import CODE
from persist.record import Record, write_atomically

STATE = {"cell", "code", "environment", "model", "optimizer", "history", "resumed"}  # what a checkpoint holds
MACHINE = ("device", "threads", "torch", "preloaded")  # of the environment: what a run's seconds and rounding depend on


class Checkpoint:
    """The checkpoint file of one run and, beside it, the record so far (same name, .json, status "unfinished").

    path: of the checkpoint; whoever trains deletes both files once the record is saved.
    every: seconds, at least, between two checkpoints.
    environment: for the record.
    """

    def __init__(self, path: str | os.PathLike, cell: Cell, environment: dict, every: float):
        self.path, self.cell, self.environment, self.every = Path(path), cell, environment, every
        self.saved, self.resumed = time.monotonic(), 0

    def restore(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[dict]:
        """Put model and optimizer where the run was, where there is a good checkpoint; the history so far.

        The minibatches are a function of seed and epoch, so there is no random state to restore. A checkpoint of
        another cell or code, or a damaged one, is not used (a warning says so) and replaced.
        """
        if not self.path.exists():
            return []
        try:
            state = self._read()
        except ValueError as error:
            warnings.warn(f"the checkpoint {self.path} is not used, the run starts anew: {error}", stacklevel=3)
            return []
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        self.resumed = state["resumed"] + 1
        here, there = ({fact: e.get(fact) for fact in MACHINE} for e in (self.environment, state["environment"]))
        earlier = state["environment"].get("earlier", []) + [there] * (here != there)
        if earlier:  # its seconds are those of several machines
            self.environment["earlier"] = earlier
        return state["history"]

    def save(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, history: list[dict]) -> None:
        """Write both files, unless the last ones are younger than `every` seconds. Where they cannot be written (a full
        disk), a warning says so and the run goes on: hours of training are worth more than a checkpoint."""
        if time.monotonic() - self.saved < self.every:
            return
        state = {
            "cell": self.cell.as_dict(),
            "code": CODE,
            "environment": self.environment,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": history,
            "resumed": self.resumed,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        try:
            # its digest in front: torch.load does not notice a changed byte
            write_atomically(self.path, hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
            if len(history) < len(self.cell.evaluations()):
                record = Record(self.cell, history, self.environment, "unfinished", self.resumed)
                record.save(self.path.with_suffix(".json"))
        except OSError as error:
            warnings.warn(f"no checkpoint after evaluation {len(history)}, the run goes on: {error}", stacklevel=3)
        self.saved = time.monotonic()

    def _read(self) -> dict:
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise ValueError(f"it cannot be read ({error.strerror})") from None
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            raise ValueError("it is damaged")
        try:
            state = torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
        except Exception:  # torch has no one error for this; with weights_only nothing in the file was executed
            raise ValueError("it is no checkpoint") from None
        if not isinstance(state, dict) or set(state) != STATE:
            raise ValueError("it is no checkpoint")
        if state["cell"] != self.cell.as_dict():
            raise ValueError("it belongs to another cell")
        if state["code"] != CODE:
            raise ValueError("it was written by another version of the code")
        return state
