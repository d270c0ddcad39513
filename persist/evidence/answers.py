"""The answer in five rows: question, answer, evidence. Each from records, or "not recorded yet"."""

import contextlib
import statistics
from pathlib import Path

import pandas as pd

from persist.evidence import loading, payoff, readings
from persist.evidence.claims import Decided, Runs, above, comparable
from persist.evidence.compare import accuracy_gap, best_accuracy, mean_accuracy
from persist.evidence.curves import count
from persist.evidence.select import select
from persist.grids import find_records, load_grid
from persist.record import Record

NOT_YET = ("Not recorded yet.", "")


def grid_records(root, grids, *names: str) -> list[Record]:
    """What is recorded of the grids that are there, each run once."""
    found = {}
    for name in names:
        if (path := Path(grids) / f"{name}.yaml").exists():
            found |= {record.cell: record for record in find_records(load_grid(path).cells, [Path(root) / name])}
    return list(found.values())


def recorded(root, grids="grids") -> pd.DataFrame:
    """A row for every grid, the paper's first: how much is recorded, and the hours that its runs took and would take,
    one after the other."""
    rows, paths = [], sorted(Path(grids).glob("*.yaml"), key=lambda path: (path.stem[:5] != "paper", path.stem))
    for grid in (load_grid(path) for path in paths if path.stem != "smoke"):
        records = find_records(grid.cells, [Path(root) / grid.name])
        going = [f"{r.history[-1]['epoch']} of {r.cell.epochs} epochs" for r in records if r.status == "unfinished"]
        lasts, whole = [r.history[-1] for r in records], sum(c.epochs * c.K * c.examples for c in grid.cells)
        hours, done = sum(last["wall_seconds"] for last in lasts) / 3600, sum(last["gradients"] for last in lasts)
        rows.append({
            "grid": f"`{grid.name}`", "runs": f"{len(records) - len(going)} of {len(grid.cells)}",
            "unfinished": ", ".join(going) or "-", "hours so far": f"{hours:.1f}",
            "hours in all, about": f"{hours * whole / done:.1f}" if done else "-",
        })  # fmt: skip
    return pd.DataFrame(rows)


def answers(root, grids="grids") -> str:
    """The table at the top of the README."""
    ended = [record for record in grid_records(root, grids, "paper", "paper-seeds") if record.status != "unfinished"]
    curves = {m: select(ended, m, "constant") for m in (32, 256, 512)}
    arms = {m: runs for m, runs in curves.items() if accuracy_gap(best_accuracy, runs[5], runs[1])}
    loaders = loading.ratios(grid_records(root, grids, "loading"), loading.load_others())
    rows = [
        ("Does a larger K do better per epoch?", _per_epoch, arms),
        ("And in computing time?", lambda arms: _in_time(arms, loaders), arms),
        ("Does it make large minibatches competitive?", _large, {32, 512} <= set(arms) and arms),
        ("Which network was it?", _network, grid_records(root, grids, "readings", "readings-start")),
        ("Should I use it?", payoff.short, payoff.load(root, grids)),
    ]
    lines = [f"| {question} | {' | '.join(of(found) if found else NOT_YET)} |" for question, of, found in rows]
    return "\n".join(["| question | answer | evidence |", "| --- | --- | --- |", *lines])


# The answer and its evidence; arms: m -> K -> runs, of each m where K = 1 and 5 have a seed in common.


def _per_epoch(arms) -> tuple[str, str]:
    gaps = {m: accuracy_gap(mean_accuracy, runs[5], runs[1]) for m, runs in arms.items()}
    sizes = {}
    for m, gap in gaps.items():
        sizes.setdefault({True: "Yes", False: "No", None: "Not told apart"}[above(gap)], []).append(str(m))
    answer = "; ".join(f"{word} at m = {', '.join(some)}" for word, some in sizes.items())
    evidence = "; ".join(f"m = {m}: {gap} (n = {gap.seeds})" for m, gap in gaps.items())
    return f"{answer}.", f"accuracy over all epochs, K = 5 less K = 1: {evidence}"


def _in_time(arms, loaders) -> tuple[str, str]:
    """loaders: (C/L, K) -> time(K)/time(1) behind them."""
    runs, ratios = Runs([run for of_m in arms.values() for of_K in of_m.values() for run in of_K]), {}
    for m in arms:
        with contextlib.suppress(Decided):
            ratios[m] = runs.in_memory(m, 5)
    if not ratios:
        return "Not known: no K = 1 and 5 ran to their end on one machine with the same code.", ""
    low, high = (f"{end(ratios.values()):.1f}" for end in (min, max))
    times = low if low == high else f"{low} to {high}"
    found = "; ".join(f"m = {m}: {ratio:.2f}" for m, ratio in ratios.items())
    behind = sorted((c, ratio) for (c, K), ratio in loaders.items() if K == 5)
    ends = " to ".join(f"{ratio:.1f} (C/L = {c:.2f})" for c, ratio in behind[:: len(behind) - 1 or 1])
    return (
        f"With the data in memory K = 5 takes {times} times as long as K = 1. Behind a data loader, with C/L the time "
        f"of a pass of training over that of loading: {ends or 'not recorded yet'} ([when](docs/time.md)).",
        f"seconds of a run, K = 5 over K = 1: {found}; behind a loader: {count(len(behind), 'configuration')} (n = 1)",
    )


def _large(arms) -> tuple[str, str]:
    if not (gap := accuracy_gap(best_accuracy, arms[512][5], arms[32][1])):
        return NOT_YET
    bests = "; ".join(
        f"m = {m}, K = {K}: {statistics.fmean(map(best_accuracy, arms[m][K])):.4f}" for m in (512, 32) for K in (1, 5)
    )
    words = {
        True: "Yes: at most 0.02 below",
        False: "No: more than 0.02 below",
        None: "Not told apart: about 0.02 below",
    }
    answer = f"{words[comparable(gap)]} m = 32 with K = 1, for m = 512 with K = 5 ([m = 8](docs/results.md))."
    return answer, f"best accuracy: {gap}; {bests} (n = {gap.seeds})"


def _network(records) -> tuple[str, str]:
    ended = sum(map(readings.ended, records))
    tried = f"{count(len(readings.readings(records)), 'reading')} of the text tried, {count(ended, 'run')} ended"
    return readings.describe_choice(records), f"{tried} ([which network](docs/reading.md))"
