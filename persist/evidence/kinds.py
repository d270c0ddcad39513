"""What is made of the records of a grid: for each kind of grid its notebook and its pictures."""

import dataclasses

from persist.grids import Grid


@dataclasses.dataclass(frozen=True)
class Kind:
    """notebook: reads the records and draws; pictures: names of the files that it draws, without suffix."""

    notebook: str
    pictures: tuple[str, ...]


KINDS = {
    "figures": Kind("notebooks/figures.ipynb", tuple(f"figure{n}" for n in range(1, 6))),
    "readings": Kind("notebooks/readings.ipynb", ("readings",)),
}


def kind_of(grid: Grid) -> Kind:
    """Raises ValueError for a grid of a kind that is not there."""
    if grid.kind not in KINDS:
        raise ValueError(f"grids/{grid.name}.yaml: kind must be one of {', '.join(KINDS)}, not {grid.kind!r}")
    return KINDS[grid.kind]
