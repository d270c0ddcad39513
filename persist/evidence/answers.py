"""The answer to five questions, with its evidence. Each from records, or "not recorded yet"."""

import contextlib
import itertools
import statistics
from pathlib import Path

import pandas as pd

from persist.evidence import loading, payoff_page, readings
from persist.evidence.claims import ORDER, Decided, Runs, above, comparable
from persist.evidence.compare import Gap, accuracy_gap, best_accuracy, mean_accuracy
from persist.evidence.curves import count, span
from persist.evidence.payoff import ARMS, SEEDS, SIZES
from persist.evidence.select import by_cell, grid_records, select, was_disturbed
from persist.evidence.tables import markdown, wrapped
from persist.grids import find_records, load_grid
from persist.record import Record

NOT_YET = "Not recorded yet."
EPOCHS, UPDATES, SECONDS = "over all epochs", "over as many updates", "over the same seconds"


def behind_loaders(root, grids="grids") -> dict[tuple[float, int], float]:
    """(C/L, K) -> time(K)/time(1), by the grid `loading` and by the benchmarks beside the folder of the records."""
    others = loading.load_others(Path(root).parent / "benchmarks/results")
    return loading.ratios(grid_records(root, grids, "loading"), others)


def recorded(root, grids="grids") -> pd.DataFrame:
    """A row for every grid, the paper's first: how much is recorded; the hours that its runs took, and would take in
    all, one after the other, at as many gradients an hour; of those that ended, how many lost their core to other
    work."""
    rows, paths = [], sorted(Path(grids).glob("*.yaml"), key=lambda path: (path.stem[:5] != "paper", path.stem))
    for grid in (load_grid(path) for path in paths if path.stem != "smoke"):
        records = find_records(grid.cells, [Path(root) / grid.name])
        going = [f"{r.history[-1]['epoch']} of {r.cell.epochs} epochs" for r in records if r.status == "unfinished"]
        ended = [run for run in records if run.status != "unfinished"]
        judged = [answer for answer in map(was_disturbed, ended) if answer is not None]
        # the runs of this one come into its file once their rates are chosen
        planned = len(SIZES) * len(ARMS) * len(SEEDS) if grid.name == "payoff" else len(grid.cells)
        hours = sum(r.history[-1]["wall_seconds"] for r in records) / 3600
        done = sum(r.history[-1]["gradients"] for r in records)
        work = sum(cell.epochs * cell.K * cell.examples for cell in grid.cells) * planned / len(grid.cells)
        rows.append({
            "grid": f"`{grid.name}`", "runs": f"{len(ended)} of {planned}",
            "unfinished": ", ".join(going) or "-",
            "disturbed": f"{sum(judged)} of {len(judged)}" if judged else "-", "hours so far": f"{hours:.1f}",
            "hours in all, about": f"{hours * work / done:.1f}" if done else "-",
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
    """What stands at the top of the README: the answers, and below them their evidence."""
    records = grid_records(root, grids, "paper-seeds")
    ended = [record for record in records if record.status != "unfinished"]
    curves = {m: select(ended, m, "constant") for m in (32, 256, 512)}
    arms = {m: runs for m, runs in curves.items() if accuracy_gap(best_accuracy, runs[5], runs[1])}
    loaders = behind_loaders(root, grids)
    use, in_memory = payoff_page.load(root, grids), _in_memory(arms)
    items = [
        ("Does a larger K do better per epoch?", _per_epoch(in_memory)),
        ("And in computing time?", _in_time(in_memory, loaders)),
        ("Does it make large minibatches competitive?", _large(records) if arms else NOT_YET),
        ("Which network was it?", _network(grid_records(root, grids, "readings"))),
        ("Should I use it?", payoff_page.short(use)),
    ]
    tables = [
        ("Evidence: mean accuracy of K = 5 less that of K = 1, with the data in memory.", in_memory),
        (payoff_page.SHORT, payoff_page.short_table(use)),
    ]
    shown = [wrapped(f"*{what}*") + f"\n\n{markdown(table)}" for what, table in tables if not table.empty]
    listed = "\n".join(wrapped(f"- **{question}** {answer}") for question, answer in items)
    return "\n\n".join(filter(None, (_in_short(ended, use), listed, *shown)))


def _in_short(records: list[Record], use: payoff_page.Evidence) -> str:
    """At m = 512, K = 1 and 5: the best accuracies at the paper's rate, and each at its own."""
    runs = [*(select(records, 512, "constant")[K] for K in (1, 5))]
    runs += [payoff_page.ended(payoff_page.of_arm(use.test, 512, arm)) for arm in ("fresh", "reuse")]
    if not all(runs):
        return ""
    one, five, own, reused = (f"{statistics.fmean(map(best_accuracy, of)):.4f}" for of in runs)
    return wrapped(
        f"**In short:** at the paper's rate the best accuracy with m = 512 is {one} with K = 1 and {five} with K = 5, "
        f"which makes five times the updates (n = {span([*map(len, runs[:2])])}). In a shorter test, "
        f"with a rate of its own each and as many gradients, K = 1 comes to {own}, K = 5 to {reused} "
        f"(n = {len(runs[2])}; [how](docs/payoff.md))."
    )


def _in_memory(arms) -> pd.DataFrame:
    """Mean accuracy of K = 5 less that of K = 1, with the data in memory: a row for each m, three ways to compare, and
    how many times as long an epoch takes. arms: m -> K -> runs, of each m where K = 1 and 5 have a seed in common."""
    runs, rows = Runs([run for of_m in arms.values() for of_K in of_m.values() for run in of_K]), []
    for m, of in arms.items():

        def gap(cost, of=of):
            """As if an epoch of K = 5 cost so many of K = 1."""
            until = lambda run: run.cell.epochs / (cost if run.cell.K == 5 else 1)  # noqa: E731
            return accuracy_gap(lambda run: mean_accuracy(run, until(run)), of[5], of[1])

        row = {"m": m, EPOCHS: gap(1), UPDATES: gap(5), SECONDS: "not known", "time of an epoch": "not known"}
        with contextlib.suppress(Decided):
            cost = runs.in_memory(m, 5)
            row |= {SECONDS: gap(cost), "time of an epoch": f"{cost:.2f} times"}
        rows.append(row | {"n": row[EPOCHS].seeds})
    return pd.DataFrame(rows)


def _per_epoch(in_memory: pd.DataFrame) -> str:
    if in_memory.empty:
        return NOT_YET
    yes, alike = (_words(in_memory, way) for way in (EPOCHS, UPDATES))
    return f"{yes.capitalize()}, with K times the updates. Over as many updates: {alike}."


def _in_time(in_memory: pd.DataFrame, loaders) -> str:
    """loaders: (C/L, K) -> time(K)/time(1) behind them."""
    answers = []
    if not in_memory.empty:
        answers.append(f"With the data in memory, over the same seconds: {_words(in_memory, SECONDS)}.")
    if behind := sorted((c, ratio) for (c, K), ratio in loaders.items() if K == 5):
        (least, low), (most, high) = behind[0], behind[-1]
        answers.append(
            "Behind a loader K = 5 costs the less the smaller C/L, the time of a training step over that of loading a "
            f"minibatch ([why](docs/time.md)): {low:.1f} (C/L = {least:.2f}) to {high:.1f} ({most:.2f}) times the time "
            f"of an epoch with K = 1 ({count(len(behind), 'setting')}, n = 1)."
        )
    return " ".join(answers) or NOT_YET


def _words(in_memory: pd.DataFrame, way: str) -> str:
    """Whether K = 5 is ahead of K = 1, by the gaps of each m."""
    sizes = {}
    for m, gap in zip(in_memory["m"], in_memory[way]):
        word = "not known (no K = 1 and 5 on one machine)"
        if isinstance(gap, Gap):
            word = "yes" if above(gap) else "behind" if gap.high < 0 else "no gain is shown"
        sizes.setdefault(word, []).append(str(m))
    return "; ".join(f"{word} at m = {', '.join(some)}" for word, some in sizes.items())


def _large(records: list[Record]) -> str:
    """At most 0.02 below the best accuracy of m = 8 and 32 with K = 1, by the check of the claim on it; with kµ too.
    records: of the paper's grid and its seeds, unfinished ones too."""
    runs, words, said = Runs(records), {True: "yes", False: "no", None: "undecided"}, []
    for policy, other in itertools.product(("constant", "kmu"), (8, 32)):
        arms = [((m, 5, policy), (other, 1)) for m in (256, 512)]
        try:
            of = [accuracy_gap(best_accuracy, *runs.arms(*cells)) for cells in arms]
            answer = min(map(comparable, of), key=ORDER.index)
            measured = f"{words[answer]} ({'; '.join(map(str, of))}; n = {span([gap.seeds for gap in of])})"
        except Decided as why:
            measured = f"{words[why.args[0]]} ({why.args[1]})"
        said.append(f"against m = {other}: {measured}")
    return (
        "Asked: best accuracies of m = 256 and 512 with K = 5 at most 0.02 below that of a small m with K = 1: "
        f"{'; '.join(said[:2])}. At the rates kµ (k times µ at the k-th use) {'; '.join(said[2:])}."
    )


def _network(records: list[Record]) -> str:
    if not records:
        return NOT_YET
    tried = f"{count(len(readings.readings(records)), 'reading')} tried ([how](docs/reading.md))"
    return f"{readings.describe_choice(records)} The text says sum, 256 hidden nodes and stride 1. {tried}."
