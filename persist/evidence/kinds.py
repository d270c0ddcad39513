"""What is made of the records of a grid: for each kind of grid its notebook, its pictures, what pages say of it."""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from persist.evidence.select import figure_names
from persist.grids import Grid


class Kind(NamedTuple):
    """notebook: reads the records and draws; pictures: of a grid, the names of the files that it draws, no suffix;
    measured: the files of benchmarks/results that it reads too, no suffix;
    blocks: of a folder with records, name -> Markdown, what the pages say of the project's own grids of this kind."""

    notebook: str
    pictures: Callable[[Grid], list[str]]
    measured: tuple[str, ...] = ()
    blocks: Callable[[str], dict[str, str]] = lambda root: {}


def _blocks(module: str) -> Callable[[str], dict[str, str]]:
    """Those that a module of this package makes. Imported when they are asked for: an engine asks for none."""
    return lambda root: importlib.import_module(f"persist.evidence.{module}").blocks(root)


KINDS = {
    "figures": Kind("notebooks/figures.ipynb", lambda grid: [*figure_names(grid.cells)], blocks=_blocks("figures")),
    "readings": Kind("notebooks/readings.ipynb", lambda grid: ["readings"], blocks=_blocks("readings")),
    "payoff-rates": Kind("notebooks/payoff.ipynb", lambda grid: ["payoff-rates"]),
    "payoff": Kind(
        "notebooks/payoff.ipynb",
        lambda grid: ["payoff-m512", "payoff-m32", "payoff"],
        ("payoff", "moment"),
        _blocks("payoff_page"),
    ),
    "loading": Kind(
        "notebooks/loading.ipynb", lambda grid: ["loading"], ("loading", "slow_loader"), _blocks("loading")
    ),
}


def kind_of(grid: Grid) -> Kind:
    """Raises ValueError for a grid of a kind that is not there, or not for it."""
    if grid.kind not in KINDS:
        raise ValueError(f"grids/{grid.name}.yaml: kind must be one of {', '.join(KINDS)}, not {grid.kind!r}")
    if grid.kind.startswith("payoff") and grid.name != grid.kind:
        raise ValueError(f"grids/{grid.name}.yaml: kind {grid.kind!r} is that of grids/{grid.kind}.yaml alone")
    return KINDS[grid.kind]
