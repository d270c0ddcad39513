"""Minibatch persistency: reuse each minibatch for K consecutive SGD iterations (arXiv 1806.07353)."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what an editor and a type checker see
    from persist.cell import Cell as Cell
    from persist.evidence.payoff import payoff as payoff
    from persist.grids import load_grid as load_grid
    from persist.kmu import scaled_rates as scaled_rates
    from persist.persistency import fresh as fresh
    from persist.persistency import learning_rate as learning_rate
    from persist.persistency import persistent as persistent
    from persist.persistency import spaced as spaced
    from persist.record import Record as Record
    from persist.record import load_records as load_records
    from persist.training import train as train

# Public name -> the module that holds it. Imported on first use, so that `from persist import persistent`
# loads neither torch nor torchvision, and figures can be redrawn where torch is not installed.
_HOME = {
    "Cell": "cell",
    "load_grid": "grids",
    "persistent": "persistency",
    "spaced": "persistency",
    "fresh": "persistency",
    "learning_rate": "persistency",
    "scaled_rates": "kmu",
    "train": "training",
    "Record": "record",
    "load_records": "record",
    "payoff": "evidence.payoff",
}
__all__ = sorted(_HOME)
__version__ = "0.2.0"


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'persist' has no attribute {name!r}")
    return getattr(importlib.import_module(f"persist.{_HOME[name]}"), name)


def __dir__():
    return sorted([*globals(), *__all__])
