"""Which records belong together: those of several grids, of a configuration, a curve, a figure; their mean curve."""

import dataclasses
import statistics
from collections.abc import Iterable
from pathlib import Path

from persist.cell import Cell
from persist.grids import load_grid, load_grid_records
from persist.record import COUNTERS, Record

PAPER_K = (1, 2, 5)
# Figure -> (m, learning-rate policy). The text does not say which m Figures 4 and 5 are for; m = 32 and 512 remain.
FIGURES = {1: (32, "constant"), 2: (256, "constant"), 3: (512, "constant"), 4: (32, "kmu"), 5: (512, "kmu")}
UNDISTURBED = 0.97  # share of its time that a thread with a core of its own was running, at least
MEASURED = ("seconds", "train_loss", "test_loss", "test_accuracy")


def grid_records(root, grids, name: str) -> list[Record]:
    """What root has of a grid and of the one beside it, each run once; [] where there is no such grid."""
    path = Path(grids) / f"{name}.yaml"
    if not path.exists():
        return []
    records, beside = load_grid_records(load_grid(path), root, grids, recorded=root)
    return records + beside


def by_cell(records: list[Record]) -> list[list[Record]]:
    """The records of each configuration, all of its seeds together, in the order of the tables."""
    found = {}
    for record in sorted(records, key=lambda r: (r.cell.lr_policy, r.cell.m, r.cell.K, r.cell.name)):
        found.setdefault(dataclasses.replace(record.cell, seed=0), []).append(record)
    return list(found.values())


def belongs(cell: Cell, m: int, policy: str) -> bool:
    """Whether a run is of the figure of this m and policy. K = 1 is the same for both policies."""
    return cell.m == m and (cell.lr_policy == policy or (cell.K == 1 and cell.lr_policy == "constant"))


def setting_of(cell: Cell, policy: str) -> Cell:
    """What the runs of one figure have in common."""
    return dataclasses.replace(cell, K=1, seed=0, lr_policy=policy)


def select(records: list[Record], m: int, policy: str, planned: list[Cell] | None = None) -> dict[int, list[Record]]:
    """K -> the records of one figure, one per seed; an empty list for a planned K (None: of the paper) that has none.

    An unfinished run is left out where another seed has ended. Where records differ in more than K and the seed, the
    setting with the most values of K is drawn, of equals the one whose name sorts first.
    """
    settings = {}
    for record in sorted(records, key=lambda r: r.cell.name):
        cell = record.cell
        if belongs(cell, m, policy):
            of_K = settings.setdefault(setting_of(cell, policy), {}).setdefault(cell.K, {})
            if record.status != "unfinished" or cell.seed not in of_K:  # K = 1 may be there under both policies
                of_K[cell.seed] = record
    setting, chosen = max(settings.items(), key=lambda item: len(item[1]), default=(None, {}))
    chosen = {K: [*of_K.values()] for K, of_K in chosen.items()}
    expected = {*PAPER_K}
    if planned is not None:
        planned = [cell for cell in planned if belongs(cell, m, policy)]
        expected = {cell.K for cell in planned if setting in (None, setting_of(cell, policy))}
    ended = {K: [run for run in runs if run.status != "unfinished"] for K, runs in chosen.items()}
    return {K: ended.get(K) or chosen.get(K, []) for K in sorted({*expected, *chosen})}


def figure_names(cells: Iterable[Cell]) -> dict[str, tuple[int, str]]:
    """Name of a file -> m and policy: the paper's figures for which there are cells, then others like them."""
    found = {(cell.m, cell.lr_policy) for cell in cells}
    names = {f"figure{number}": shown for number, shown in FIGURES.items() if shown in found}
    others = sorted(found - set(FIGURES.values()))
    return names | {f"m{m}" + ("" if policy == "constant" else f"-{policy}"): (m, policy) for m, policy in others}


def varying(records: list[Record]) -> list[str]:
    """The fields of Cell, but for m, K, policy and seed, in which the records differ: what a table must tell."""
    fields = [name for name in Cell.fields() if name not in ("m", "K", "lr_policy", "seed")]
    return [name for name in fields if len({getattr(record.cell, name) for record in records}) > 1]


def of_one_core(record: Record) -> bool:
    """Whether its seconds are those of one core: the CPU time of its one thread, whatever else the machine did."""
    where = record.environment
    return where["cuda"] is None and where["threads"] == 1 and record.cell.pipeline == "resident"


def seconds(record: Record, entry: dict) -> float:
    """Of training, without evaluation: of one core where the run had one thread on a CPU, else by the clock."""
    return entry["cpu_seconds" if of_one_core(record) else "train_seconds"]


def was_disturbed(record: Record) -> bool | None:
    """Whether other work took its core away: CPU time against time by the clock. None where that says nothing: a thread
    that waits for a GPU, for a loader, or for other threads of its own."""
    last = record.history[-1]
    return last["cpu_seconds"] < UNDISTURBED * last["train_seconds"] if of_one_core(record) else None


def points(record: Record) -> list[dict]:
    """Its history with `seconds`."""
    return [{**entry, "seconds": seconds(record, entry)} for entry in record.history]


def machine(record: Record) -> tuple:
    """What its seconds depend on: those of two runs can be compared where it is equal."""
    where = record.environment
    libraries, earlier = tuple(where.get("preloaded", ())), str(where.get("earlier", ""))
    return where["device"], where["threads"], where["torch"], libraries, earlier, of_one_core(record)


def timed(curves: dict[object, list[Record]]) -> dict[object, list[Record]]:
    """The same curves with those runs alone whose seconds can be compared; of several machines the one with the most
    curves."""
    machines = sorted({machine(run) for runs in curves.values() for run in runs})
    found = [{key: [run for run in runs if machine(run) == one] for key, runs in curves.items()} for one in machines]
    return max(found, key=lambda found: (sum(map(bool, found.values())), sum(map(len, found.values()))), default=curves)


def mean_curve(runs: list[Record]) -> list[dict]:
    """The mean of the runs evaluation by evaluation, as far as all of them go; None where one of them is."""

    def mean(entries, name):
        values = [entry[name] for entry in entries]
        return None if None in values else statistics.fmean(values)

    return [
        {name: entries[0][name] for name in COUNTERS} | {name: mean(entries, name) for name in MEASURED}
        for entries in zip(*map(points, runs))
    ]


def best(runs: list[Record], quantity: str = "test_accuracy") -> dict | None:
    """The point of the mean curve with the highest test accuracy, or the lowest `test_loss`, the first of equals; None
    where no point has one."""
    found = [point for point in mean_curve(runs) if point[quantity] is not None]
    sign = 1 if quantity == "test_loss" else -1
    return min(found, key=lambda point: sign * point[quantity], default=None)
