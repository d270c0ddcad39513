"""What is made of the records of a grid: for each kind of grid its notebook and its pictures."""

import dataclasses
from collections.abc import Callable

from persist.grids import Grid


@dataclasses.dataclass(frozen=True)
class Kind:
    """notebook: reads the records and draws; pictures: of a grid, the names of the files that it draws, no suffix."""

    notebook: str
    pictures: Callable[[Grid], list[str]]


def _figures(grid: Grid) -> list[str]:
    others = sorted({(c.m, c.lr_policy) for c in grid.cells if c.K > 1 and (c.m, c.lr_policy) == (256, "kmu")})
    return [*(f"figure{n}" for n in range(1, 6)), *(f"m{m}-{policy}" for m, policy in others)]


KINDS = {
    "figures": Kind("notebooks/figures.ipynb", _figures),
    "readings": Kind("notebooks/readings.ipynb", lambda grid: ["readings"]),
    "payoff-rates": Kind("notebooks/payoff.ipynb", lambda grid: ["payoff-rates"]),
    "payoff": Kind("notebooks/payoff.ipynb", lambda grid: ["payoff-m512", "payoff-m32", "payoff"]),
    "loading": Kind("notebooks/loading.ipynb", lambda grid: ["loading"]),
}


def kind_of(grid: Grid) -> Kind:
    """Raises ValueError for a grid of a kind that is not there."""
    if grid.kind not in KINDS:
        raise ValueError(f"grids/{grid.name}.yaml: kind must be one of {', '.join(KINDS)}, not {grid.kind!r}")
    return KINDS[grid.kind]
