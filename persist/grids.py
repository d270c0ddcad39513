"""Grids: lists of cells, read from grids/*.yaml; where their records lie, and keeping what was trained."""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from persist.cell import Cell
from persist.record import Record, RecordError, load_records

# What one cell asks of a cluster, or of this machine: GPUs, memory in MB, time in minutes.
RESOURCES = {"gpu": 1, "mem_mb": 4000, "runtime": 240}
KEYS = ("base", "kind", "beside", "resources", "cells")


@dataclasses.dataclass(frozen=True)
class Grid:
    """The cells of one grid; its kind, which says what is made of its records (persist/evidence/kinds.py); the grid, if
    any, whose records are read with its own; and what each cell asks of a machine (RESOURCES)."""

    name: str
    cells: list[Cell]
    kind: str = "figures"
    beside: str | None = None
    resources: dict[str, int] = dataclasses.field(default_factory=lambda: dict(RESOURCES))

    @property
    def source(self) -> str:
        """For captions: its name and that of the grid beside it."""
        return f"{self.name}, {self.beside}" if self.beside else self.name


def grid_path(name: str) -> Path:
    """The file of one of the project's grids, by its name, which is also that of its folder in runs/ and results/.

    Raises ValueError for a name that would lead elsewhere.
    """
    if not re.fullmatch(r"[^\W_][\w-]*", name):
        raise ValueError(
            "a grid is named like its file in grids/, without .yaml: letters, digits, - and _, beginning with a letter "
            f"or digit, not {name!r}"
        )
    return Path("grids") / f"{name}.yaml"


def load_grid(path: str | os.PathLike) -> Grid:
    """Read a grid: ``base`` holds the fields that all cells share; each entry of ``cells`` gives the others, where a
    list stands for one cell per value (several lists: every combination); ``kind`` (default: figures); ``beside``
    (default: none) names another grid in the same folder; ``resources`` what a cell asks of a machine.

    Raises ValueError, naming the file and what is wrong, for an unknown key, an invalid cell or a duplicate cell.
    """
    path = Path(path)
    try:
        grid = yaml.load(path.read_text(), Loader=_StrictLoader)
    except FileNotFoundError:
        there = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml"))) or "none"
        raise ValueError(f"{path}: there is no such grid; the grids in {path.parent} are: {there}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable grid: {error}") from None
    if (
        not isinstance(grid, dict)
        or set(grid) - set(KEYS)
        or not isinstance(grid.get("cells"), list)
        or not grid["cells"]
    ):
        raise ValueError(
            f"{path}: a grid has 'cells' (a list, not empty) and, optional, {', '.join(KEYS[:-1])}; no other keys"
        )
    kind, beside = grid.get("kind", "figures"), grid.get("beside")
    if not isinstance(kind, str):
        raise ValueError(f"{path}: kind must be a text, not {kind!r}")
    others = sorted(other.stem for other in path.parent.glob("*.yaml") if other.stem != path.stem)
    if "beside" in grid and beside not in others:
        there = ", ".join(others) or "none"
        raise ValueError(f"{path}: beside must name another grid of {path.parent} ({there}), not {beside!r}")
    resources = grid.get("resources", {})
    if (
        not isinstance(resources, dict)
        or set(resources) - set(RESOURCES)
        or not all(type(n) is int and 0 <= n < 10**7 for n in resources.values())
    ):
        allowed = f"must map {', '.join(RESOURCES)}, and no others, to ints from 0 to 9999999"
        raise ValueError(f"{path}: resources {allowed}, not {resources!r}")
    return Grid(path.stem, _cells(path, grid), kind, beside, RESOURCES | resources)


def _cells(path, grid) -> list[Cell]:
    base, cells = grid.get("base", {}), {}
    for entry in (base, *grid["cells"]):
        if not isinstance(entry, dict):
            raise ValueError(f"{path}: 'base' and each of 'cells' must map fields to values, not {entry!r}")
    for entry in grid["cells"]:
        values = {name: value if isinstance(value, list) else [value] for name, value in {**base, **entry}.items()}
        if [] in values.values():
            raise ValueError(f"{path}: a list of values is empty, it stands for no cell (in {entry})")
        for combination in itertools.product(*values.values()):
            try:
                cell = Cell.from_dict(dict(zip(values, combination, strict=True)))
            except ValueError as error:
                raise ValueError(f"{path}: {error} (in {entry})") from None
            if cell in cells:
                raise ValueError(f"{path}: the cell {cell.name} is there twice (again in {entry})")
            cells[cell] = None
    return list(cells)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader takes the last of two equal keys without a word; here they are an error. And 1e-4 is a number."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


# YAML 1.1 knows 1.0e-4 alone
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def find_records(cells: list[Cell], folders: Iterable[str | os.PathLike]) -> list[Record]:
    """What is known of these cells, in their order: of each the longest record in the folders, a finished one first,
    and of equally long ones that of the first folder. In runs/<grid>, those of runs that go on lie in unfinished/; it
    is read first, so that a run that ends meanwhile is not missed."""
    found: dict[Cell, Record] = {}
    for place in (place for folder in map(Path, folders) for place in (folder / "unfinished", folder)):
        for record in load_records(place, cells) if place.is_dir() else []:
            if record.cell not in found or _extent(record) > _extent(found[record.cell]):
                found[record.cell] = record
    return [found[cell] for cell in cells if cell in found]


def _extent(record: Record):
    return record.status != "unfinished", len(record.history)


def load_grid_records(
    grid: Grid,
    root: str | os.PathLike,
    grids: str | os.PathLike = "grids",
    recorded: str | os.PathLike = "results",
) -> tuple[list[Record], list[Record]]:
    """The records of the grid's cells in root/<grid> (root: runs or results), and those of the grid beside it: from
    there too or, where they were not trained there, from `recorded`. Raises RecordError or ValueError, naming the file.
    """
    beside = []
    if grid.beside:
        others = load_grid(Path(grids) / f"{grid.beside}.yaml").cells
        folders = [Path(place) / grid.beside for place in (root, recorded)]
        beside = find_records([cell for cell in others if cell not in grid.cells], folders)
    return find_records(grid.cells, [Path(root) / grid.name]), beside


def check_recorded(root: str | os.PathLike, grids: str | os.PathLike = "grids") -> None:
    """Raise RecordError, naming it, for a record in root/<grid> that is none of the grid's: it would be passed over."""
    for folder in sorted({path.parent for path in Path(root).glob("*/*.json")}):
        if not (path := Path(grids) / f"{folder.name}.yaml").exists():
            raise RecordError(f"{folder} holds records, and there is no {path}: move them, or put the grid back")
        names = {cell.name for cell in load_grid(path).cells}
        for record in sorted(folder.glob("*.json")):
            if record.stem not in names:
                raise RecordError(f"{record} is of no run of {path}: move it, or add its run there")


def copy_records(
    grid: Grid, source: str | os.PathLike, destination: str | os.PathLike, replace: bool = False
) -> list[str]:
    """Keep the records of a grid, finished or not, that lie in source/<grid>: copy them to destination/<grid>. Returns
    the names of those that were new or had gone on.

    A record is replaced only by a longer one that continues it: equal but for times as far as it goes. Raises
    RecordError, and copies nothing, where they differ, or where the one that is there is damaged, unless `replace`;
    that also replaces a record by one which differs in times alone.
    """
    folder, changed, different = Path(destination) / grid.name, [], []
    for record in find_records(grid.cells, [Path(source) / grid.name]):
        path = folder / f"{record.cell.name}.json"
        try:
            old = Record.load(path) if path.exists() else None
        except RecordError as damaged:
            if not replace:
                raise RecordError(f"{damaged}; or replace it: make record GRID={grid.name} REPLACE=1") from None
            old = None
        goes_on, contained = old and record.continues(old), old and old.continues(record)
        if old is None or (goes_on and not contained) or (replace and goes_on == contained and record != old):
            changed.append(record)
        elif not (goes_on or contained):
            different.append(path)
    if different and not replace:
        raise RecordError(
            f"different records of the same cells lie in {Path(source) / grid.name} and here: "
            f"{', '.join(map(str, different))}. On another processor, or with other versions, a run need not give the "
            f"same numbers. Nothing was copied; to replace what is recorded: make record GRID={grid.name} REPLACE=1"
        )
    for record in changed:
        record.save(folder / f"{record.cell.name}.json")
    return sorted(record.cell.name for record in changed)
