"""Minibatch persistency: reuse each minibatch for K consecutive SGD iterations (arXiv 1806.07353)."""

import importlib

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
