"""The answer to five questions, with its evidence. Each from records, or "not recorded yet"."""

import contextlib
from pathlib import Path

import pandas as pd

from persist.evidence import loading, payoff_page, readings
from persist.evidence.claims import Decided, Runs, above, judge_all
from persist.evidence.compare import accuracy_gap, best_accuracy, mean_accuracy
from persist.evidence.curves import count
from persist.evidence.payoff import ARMS, SEEDS, SIZES
from persist.evidence.select import by_cell, grid_records, select, was_disturbed
from persist.evidence.tables import wrapped
from persist.grids import find_records, load_grid

NOT_YET = ("Not recorded yet.", "")


def behind_loaders(root, grids="grids") -> dict[tuple[float, int], float]:
    """(C/L, K) -> time(K)/time(1), by the grid `loading` and by the benchmarks beside the folder of the records."""
    others = loading.load_others(Path(root).parent / "benchmarks/results")
    return loading.ratios(grid_records(root, grids, "loading"), others)


def recorded(root, grids="grids") -> pd.DataFrame:
    """A row for every grid, the paper's first: how much is recorded, and the hours that its runs took and would take,
    one after the other: for each gradient as long as recorded runs with the same m, or else as all of them; of those
    that ended, how many lost their core to other work."""
    rows, paths = [], sorted(Path(grids).glob("*.yaml"), key=lambda path: (path.stem[:5] != "paper", path.stem))
    for grid in (load_grid(path) for path in paths if path.stem != "smoke"):
        records = find_records(grid.cells, [Path(root) / grid.name])
        going = [f"{r.history[-1]['epoch']} of {r.cell.epochs} epochs" for r in records if r.status == "unfinished"]
        ended = [run for run in records if run.status != "unfinished"]
        judged = [answer for answer in map(was_disturbed, ended) if answer is not None]
        # the runs of this one come into its file once their rates are chosen
        planned = len(SIZES) * len(ARMS) * len(SEEDS) if grid.name == "payoff" else len(grid.cells)
        hours, all_hours, done = 0.0, 0.0, {r.cell: r.history[-1] for r in records}
        for cell in grid.cells:
            last = done.get(cell, {"wall_seconds": 0, "gradients": 0})
            alike = [done[c] for c in done if c.m == cell.m] or list(done.values())
            left = cell.epochs * cell.K * cell.examples - last["gradients"]
            hours += last["wall_seconds"] / 3600
            if alike:
                each = sum(e["wall_seconds"] for e in alike) / sum(e["gradients"] for e in alike)
                all_hours += (last["wall_seconds"] + left * each) / 3600
        rows.append({
            "grid": f"`{grid.name}`", "runs": f"{len(ended)} of {planned}",
            "unfinished": ", ".join(going) or "-",
            "disturbed": f"{sum(judged)} of {len(judged)}" if judged else "-", "hours so far": f"{hours:.1f}",
            "hours in all, about": f"{all_hours * planned / len(grid.cells):.1f}" if done else "-",
        })  # fmt: skip
    return pd.DataFrame(rows)


def seeds(root, grids="grids") -> pd.DataFrame:
    """What another seed changes: a row for every configuration of the paper that finished with several."""
    finished = [record for record in grid_records(root, grids, "paper-seeds") if record.status == "finished"]

    def each(quantity, runs):
        return ", ".join(f"{quantity(run):.4f}" for run in runs)

    rows = [
        {
            "m": runs[0].cell.m, "K": runs[0].cell.K, "seeds": ", ".join(str(run.cell.seed) for run in runs),
            "mean accuracy over the epochs": each(mean_accuracy, runs), "best accuracy": each(best_accuracy, runs),
        }
        for runs in by_cell(finished) if len(runs) > 1
    ]  # fmt: skip
    return pd.DataFrame(rows)


def answers(root, grids="grids") -> str:
    """The list at the top of the README."""
    records = grid_records(root, grids, "paper-seeds")
    ended = [record for record in records if record.status != "unfinished"]
    curves = {m: select(ended, m, "constant") for m in (32, 256, 512)}
    arms = {m: runs for m, runs in curves.items() if accuracy_gap(best_accuracy, runs[5], runs[1])}
    loaders = behind_loaders(root, grids)
    rows = [
        ("Does a larger K do better per epoch?", _per_epoch, arms),
        ("And in computing time?", lambda found: _in_time(*found), (arms or loaders) and (arms, loaders)),
        ("Does it make large minibatches competitive?", _large, arms and records),
        ("Which network was it?", _network, grid_records(root, grids, "readings")),
        ("Should I use it?", payoff_page.short, payoff_page.load(root, grids)),
    ]
    items = []
    for question, of, found in rows:
        answer, evidence = of(found) if found else NOT_YET
        items.append(f"- **{question}** {answer}" + f" *Evidence: {evidence}.*" * bool(evidence))
    return "\n".join(map(wrapped, items))


# The answer and its evidence; arms: m -> K -> runs, of each m where K = 1 and 5 have a seed in common.


def _per_epoch(arms) -> tuple[str, str]:
    gaps = {m: accuracy_gap(mean_accuracy, runs[5], runs[1]) for m, runs in arms.items()}
    until = lambda run: mean_accuracy(run, run.cell.epochs / run.cell.K)  # noqa: E731
    alike = {m: accuracy_gap(until, runs[5], runs[1]) for m, runs in arms.items()}
    answer = f"{_words(gaps).capitalize()}, with K times the updates. Over as many updates: {_words(alike)}."
    over = "over all epochs (in brackets: over as many updates)"
    evidence = "; ".join(f"m = {m}: {gap} ({alike[m]}; n = {gap.seeds})" for m, gap in gaps.items())
    return answer, f"mean accuracy {over}, K = 5 less K = 1: {evidence}"


def _in_time(arms, loaders) -> tuple[str, str]:
    """loaders: (C/L, K) -> time(K)/time(1) behind them."""
    runs = Runs([run for of_m in arms.values() for of_K in of_m.values() for run in of_K])
    gaps, costs = {}, {}
    for m, of in arms.items():
        with contextlib.suppress(Decided):
            costs[m] = runs.in_memory(m, 5)
            until = lambda run, m=m: run.cell.epochs / (costs[m] if run.cell.K == 5 else 1)  # noqa: E731
            gaps[m] = accuracy_gap(lambda run, until=until: mean_accuracy(run, until(run)), of[5], of[1])
    unknown = ", ".join(str(m) for m in arms if m not in gaps)
    missing = f"not known at m = {unknown} (no K = 1 and 5 on one machine)" * bool(unknown)
    words = "; ".join(filter(None, (_words(gaps), missing))) or "not recorded yet"
    answers, evidence = [f"With the data in memory, over the same seconds: {words}."], []
    if gaps:
        found = (
            f"m = {m}: {g}, an epoch of K = 5 takes {costs[m]:.2f} times as long (n = {g.seeds})"
            for m, g in gaps.items()
        )
        evidence = [f"K = 5 less K = 1: {'; '.join(found)}"]
    if behind := sorted((c, ratio) for (c, K), ratio in loaders.items() if K == 5):
        (least, low), (most, high) = behind[0], behind[-1]
        answers.append(
            "Behind a data loader it depends on C/L, the time of a pass of training over that of loading, varied here "
            f"by the width of the network: an epoch of K = 5 takes {low:.1f} times as long as one of K = 1 at C/L = "
            f"{least:.2f}, {high:.1f} times at {most:.2f} ([why](docs/time.md))."
        )
        evidence.append(f"behind loaders: {count(len(behind), 'configuration')} (n = 1)")
    return " ".join(answers), "; ".join(evidence)


def _words(gaps) -> str:
    """Whether K = 5 is ahead of K = 1, by the gaps of each m."""
    sizes = {}
    for m, gap in gaps.items():
        sizes.setdefault({True: "yes", False: "no", None: "not told apart"}[above(gap)], []).append(str(m))
    return "; ".join(f"{word} at m = {', '.join(some)}" for word, some in sizes.items())


def _large(records) -> tuple[str, str]:
    """records: of the paper's grid and its seeds, unfinished ones too."""
    [claim] = [verdict for verdict in judge_all(records) if verdict["claim"] == "competitive"]
    word = {"holds": "Yes", "fails": "No"}.get(claim["verdict"], "Undecided")
    answer = "the best accuracy with K = 5 would have to be at most 0.02 below those of m = 8 and 32 with K = 1"
    return f"{word}: {answer}.", claim["measured"]


def _network(records) -> tuple[str, str]:
    ended = sum(map(readings.ended, records))
    tried = f"{count(len(readings.readings(records)), 'reading')} tried, {count(ended, 'run')} ended"
    return readings.describe_choice(records), f"{tried} ([which network](docs/reading.md))"
