"""Minibatch persistency: reuse each minibatch for K consecutive SGD iterations (arXiv 1806.07353)."""

import importlib
from typing import TYPE_CHECKING

from persist.cell import Cell
from persist.kmu import scaled_rates
from persist.persistency import fresh, learning_rate, persistent, spaced
from persist.record import Record, load_records

if TYPE_CHECKING:  # what an editor and a type checker see
    from persist.evidence.payoff import payoff
    from persist.grids import load_grid
    from persist.training import train

# These need torch, yaml or numpy: imported on first use, so that `from persist import persistent` needs none of them.
_HOME = {"load_grid": "grids", "train": "training", "payoff": "evidence.payoff"}
__all__ = [
    "Cell", "Record", "fresh", "learning_rate", "load_grid", "load_records", "payoff", "persistent", "scaled_rates",
    "spaced", "train",
]  # fmt: skip
__version__ = "0.2.0"


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'persist' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"persist.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        extra = "train" if name == "train" else "read"
        what = f"persist.{name} needs {error.name}: pip install -e '.[{extra}]' in the checkout"
        raise ModuleNotFoundError(what, name=error.name) from None


def __dir__():
    return sorted({*globals(), *__all__})
