"""The paper's claims as data, each with the check over records that decides it.

    python -m persist.evidence.claims results grids README.md       (what `make claims` runs)

Every check has its tolerance in its text. A gap of accuracies is judged by its interval (persist/compare.py): where that
allows for both answers, the claim is undecided. Seconds are judged only as ratios, and not at all where other work ran on
the machine. A check over several m or K holds where it holds for all of them.
"""

import argparse
import bisect
import collections
import dataclasses
import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from persist.readme import replace_marked

from persist.cell import Cell
from persist.evidence.compare import (
    COMPARABLE,
    Gap,
    accuracy_gap,
    best_accuracy,
    common_seeds,
    describe_pairs,
    final_accuracy,
    mean_accuracy,
)
from persist.evidence.figures import select
from persist.record import Record, RecordError, load_grid_records, was_shared, write_atomically

PAPER = ("paper", "paper-seeds")  # only these grids are the paper's experiment
CLEAR = 0.01  # a gain in accuracy below which nothing is clearly above
CLEARLY = "clearly above (an interval above 0; fails where it lies below 0.01)"
# What makes a cell the paper's: the rest is what its text leaves open, or how it is run.
PAPERS_SCALE = (
    "lr",
    "momentum",
    "epochs",
    "dataset",
    "train_size",
    "test_size",
    "evaluate_on",
    "model",
    "width",
    "reuse",
)
# What a check's outcome is called: in the paper's own grid, and at another scale.
VERDICTS = {
    True: ("reproduced", "holds at this scale"),
    False: ("not reproduced", "fails at this scale"),
    None: ("undecided", "undecided"),
}


class Undecided(Exception):
    """A check that cannot be made, and why."""


class Diverged(Exception):
    """A cell that a claim is about diverged: the claim fails."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """`check` takes Runs and returns (whether it holds, what was measured); it raises Undecided."""

    name: str
    where: str
    text: str  # the claim, in our words, with the tolerance of the check
    check: Callable
    used_for_choice: bool = False  # the reading of the paper was chosen by it: then it proves nothing
    absolute: bool = False  # a number that only the paper's own scale can give


class Runs:
    """The records of one grid (and of its seeds), by minibatch size, K and policy; where they differ in more than these and
    the seed (another precision, say), those of the setting with the most records."""

    def __init__(self, records: list[Record]):
        settings = {}
        for record in sorted(records, key=lambda r: r.cell.name):
            setting = dataclasses.replace(record.cell, m=1, K=1, seed=0, lr_policy="constant")
            settings.setdefault(setting, []).append(record)
        self.records = max(settings.values(), key=len, default=[])

    def all(self, m: int, K: int, policy: str = "constant") -> list[Record]:
        """One run per seed, whatever became of it."""
        runs = select(self.records, m, policy).get(K, [])
        if not runs:
            raise Undecided(f"no record of {_cell(m, K, policy)}")
        return runs

    def of(self, m, K, policy="constant") -> list[Record]:
        """One run per seed. Where K = 1 diverged, there is nothing to compare with; where a larger K did, the claim fails."""
        runs = self.all(m, K, policy)
        if lost := sum(run.status == "diverged" for run in runs):
            raise (Undecided if K == 1 else Diverged)(
                f"{_cell(m, K, policy)} diverged" + (f" with {lost} of {len(runs)} seeds" if len(runs) > 1 else "")
            )
        return runs

    def timed(self, m, Ks) -> dict[int, list[Record]]:
        """K -> its runs whose seconds say something: nothing else ran, and for that seed every K ran with the same
        hardware, threads, code and torch."""
        runs = {K: {run.cell.seed: run for run in self.all(m, K)} for K in Ks}
        if any(run.status == "diverged" for of_K in runs.values() for run in of_K.values()):
            raise Undecided("a run diverged, its seconds are not those of a whole run")
        alone = {K: {seed: run for seed, run in of_K.items() if not was_shared(run)} for K, of_K in runs.items()}
        if not all(alone.values()):
            raise Undecided("other work ran on the machine, its seconds say little")
        seeds = [
            seed
            for seed in set.intersection(*map(set, alone.values()))
            if len({_machine(of_K[seed]) for of_K in alone.values()}) == 1
        ]
        if not seeds:
            raise Undecided("no seed has all of them on the same machine with the same code")
        return {K: [of_K[seed] for seed in sorted(seeds)] for K, of_K in alone.items()}

    def mean(self, quantity: Callable[[Record], float], m, K, policy="constant") -> float:
        """Over the seeds."""
        return statistics.fmean(map(quantity, self.of(m, K, policy)))

    def gap(self, quantity, cell, other) -> Gap:
        """Of an accuracy, of one cell less another, each (m, K) or (m, K, policy)."""
        gap = accuracy_gap(quantity, self.of(*cell), self.of(*other))
        if gap is None:
            raise Undecided(f"no seed has both {_cell(*cell)} and {_cell(*other)}")
        return gap

    def time_ratio(self, m, K, seconds: Callable[[Record], float], of_one: Callable[[Record], float]) -> float:
        """Of the mean seconds of K to those of K = 1; infinite where K never gets there."""
        timed = self.timed(m, (1, K))
        return statistics.fmean(map(seconds, timed[K])) / statistics.fmean(map(of_one, timed[1]))


def _machine(run):
    return tuple(run.environment.get(key) for key in ("device", "threads", "torch", "graph", "code"))


def best_epoch(run) -> int:
    """The first of equals."""
    return max((e for e in run.history if e["test_accuracy"] is not None), key=lambda e: e["test_accuracy"])["epoch"]


def lowest_loss(run) -> dict:
    """The entry of the history with the lowest test loss."""
    return min(run.history, key=lambda e: e["test_loss"])


def total_seconds(run) -> float:
    return run.history[-1]["train_seconds"]


def seconds_to_best(run) -> float:
    return run.history[best_epoch(run) - 1]["train_seconds"]


def reaching(accuracy: float, clock: str):
    """A function of a run: its clock when it first reaches the accuracy; infinite where it never does."""
    return lambda run: next(
        (e[clock] for e in run.history if e["test_accuracy"] is not None and e["test_accuracy"] >= accuracy), math.inf
    )


def height_in_time(end: float, steps: int = 1000):
    """A function of a run: its mean accuracy from 0 to `end` seconds, that of the last epoch finished; 0.1 before the first."""

    def height(run):
        seconds = [e["train_seconds"] for e in run.history]
        accuracies = [0.1, *(e["test_accuracy"] or 0.0 for e in run.history)]
        return statistics.fmean(accuracies[bisect.bisect_right(seconds, end * i / steps)] for i in range(steps))

    return height


# How a gap decides. An interval that allows for both answers decides nothing.


def above(gap: Gap) -> bool | None:
    """Clearly above: the interval lies above zero. Not so: it lies below a gain of 0.01."""
    return True if gap.low > 0 else False if gap.high < CLEAR else None


def not_below(gap: Gap) -> bool | None:
    """At most 0.02 below: the interval lies above a loss of 0.02. Not so: it lies below that."""
    return True if gap.low > -COMPARABLE else False if gap.high < -COMPARABLE else None


def not_above(gap: Gap) -> bool | None:
    """At most 0.02 above: the interval lies below a gain of 0.02. Not so: it lies above that."""
    return True if gap.high < COMPARABLE else False if gap.low > COMPARABLE else None


def all_of(answers) -> bool | None:
    """False where one is, else None where one is open."""
    answers = list(answers)
    return False if False in answers else None if None in answers else True


def faster(runs):
    return _sooner(lambda m, K: runs.timed(m, (1, K)).values(), "train_seconds", "time")


def faster_per_epoch(runs):
    return _sooner(lambda m, K: common_seeds(runs.of(m, 1), runs.of(m, K)), "epoch", "epochs")


def _sooner(pairs, clock, word):
    """How much sooner than K = 1, by the clock, K = 2 and 5 reach the best accuracy of K = 1 with the same seed, be it that of its last
    epoch. An evaluation shows only that it was reached within the epoch before: where that leaves both answers open, so does this.
    pairs(m, K): the runs of K = 1 and those of K, paired by seed."""
    ratios, answers, n = {}, [], []
    for m in (256, 512):
        for K in (2, 5):
            ones, others = pairs(m, K)
            if not ones:
                raise Undecided(f"no seed has both {_cell(m, 1)} and {_cell(m, K)}")
            to_best = [one.history[best_epoch(one) - 1][clock] for one in ones]
            latest = ratios[m, K] = statistics.fmean(
                reaching(best_accuracy(one), clock)(run) / best for one, run, best in zip(ones, others, to_best)
            )
            earliest = latest - statistics.fmean(run.history[0][clock] / best for run, best in zip(others, to_best))
            answers.append(True if latest <= 0.8 else False if earliest > 0.8 else None)
            n.append(len(ones))
    return all_of(answers), _listed(
        f"{word} to the best accuracy of K = 1, relative to K = 1", ratios, "{:.2f}"
    ) + f" ({_seeds(min(n))})"


def generalises(runs):
    gaps = {(m, K): runs.gap(best_accuracy, (m, K), (m, 1)) for m in (256, 512) for K in (2, 5)}
    finals = {(m, K): runs.gap(final_accuracy, (m, K), (m, 1)) for m, K in gaps}
    return all_of(map(not_below, gaps.values())), _gaps("best accuracy less that of K = 1", gaps) + "; " + _gaps(
        "final", finals
    )


def competitive(runs):
    best_of_32 = max((1, 2, 5), key=lambda K: runs.mean(best_accuracy, 32, K))
    gaps = {(m, 5): runs.gap(best_accuracy, (m, 5), (32, best_of_32)) for m in (256, 512)}
    finals = {(m, 5): runs.gap(final_accuracy, (m, 5), (32, best_of_32)) for m in (256, 512)}
    measured = (
        _gaps(f"best accuracy less that of m = 32, K = {best_of_32}, the best there", gaps)
        + "; "
        + _gaps("final", finals)
    )
    return all_of(map(not_below, gaps.values())), measured


def quoted_best(K, accuracy, epoch):
    def check(runs):
        measured, at = runs.mean(best_accuracy, 32, K), runs.mean(best_epoch, 32, K)
        n, seeds = runs.of(32, K)[0].cell.test_examples, len(runs.of(32, K))
        error = math.sqrt(measured * (1 - measured) / n + accuracy * (1 - accuracy) / n)
        near = abs(measured - accuracy) <= 2 * error and abs(at - epoch) <= 10
        return near, f"best {measured:.4f} at epoch {at:.0f} ({_seeds(seeds)})"

    return check


def final_sixty(runs):
    finals = {
        (m, K): statistics.fmean(map(final_accuracy, runs.all(m, K)))
        for m in (32, 256, 512)
        for K in (1, 2, 5)
        if (m, K) != (32, 1)
    }
    return all(0.55 <= a <= 0.65 for a in finals.values()), _listed("final accuracy", finals, "{:.3f}")


def time_ratio(m, low, high):
    def check(runs):
        ratio = runs.time_ratio(m, 5, total_seconds, total_seconds)
        return (
            low <= ratio <= high,
            f"K = 5 takes {ratio:.2f} times as long as K = 1 ({_seeds(len(runs.timed(m, (1, 5))[5]))})",
        )

    return check


def same_time_to_best(runs):
    timed = runs.timed(32, (1, 5))
    if rising := [
        K for K, of_K in timed.items() if 2 * sum(best_epoch(run) == run.cell.epochs for run in of_K) > len(of_K)
    ]:
        raise Undecided(
            f"the accuracy is at its best in the last epoch for K = {', '.join(map(str, rising))}: more epochs may give a better one"
        )
    ratio = runs.time_ratio(32, 5, seconds_to_best, seconds_to_best)
    return (
        2 / 3 <= ratio <= 3 / 2,
        f"K = 5 takes {ratio:.2f} times as long to its best as K = 1 ({_seeds(len(timed[5]))})",
    )


def better_per_epoch(runs):
    gaps = {(K, other): runs.gap(mean_accuracy, (32, K), (32, other)) for K, other in ((2, 1), (5, 2))}
    return all_of(map(above, gaps.values())), _gaps(
        "mean accuracy over the epochs, K less the next smaller K", {(32, K): gap for (K, _), gap in gaps.items()}
    )


def no_gain_in_time(runs):
    """The heights of the curves over the seconds that all of them have."""
    timed = Runs([run for of_K in runs.timed(32, (1, 2, 5)).values() for run in of_K])
    height = height_in_time(min(total_seconds(run) for run in timed.records))
    gaps = {(32, K): timed.gap(height, (32, K), (32, 1)) for K in (2, 5)}
    return all_of(map(not_above, gaps.values())), _gaps(
        "mean accuracy over the seconds that all have, less that of K = 1", gaps
    )


def overfits_earlier(runs):
    epochs = _turns(runs)
    return epochs[5] < epochs[2] < epochs[1], _listed("epoch of the lowest loss", epochs, "{:.0f}")


def overfits_earlier_in_time(runs):
    _turns(runs)
    seconds = {
        K: statistics.fmean(lowest_loss(run)["train_seconds"] for run in of_K)
        for K, of_K in runs.timed(32, (1, 2, 5)).items()
    }
    return seconds[5] < seconds[2] < seconds[1], _listed(
        "second of the lowest loss, relative to K = 1", {K: s / seconds[1] for K, s in seconds.items()}, "{:.2f}"
    )


def _turns(runs) -> dict[int, float]:
    """K -> epoch of the lowest loss at m = 32. Undecided where two of the curves still fall at their end: which of them
    turns first is not seen."""
    falling = [K for K in (1, 2, 5) if any(lowest_loss(run)["epoch"] == run.cell.epochs for run in runs.of(32, K))]
    if len(falling) > 1:
        raise Undecided(f"the loss still falls in the last epoch for K = {', '.join(map(str, falling))}")
    return {K: runs.mean(lambda run: lowest_loss(run)["epoch"], 32, K) for K in (1, 2, 5)}


def overfits_less(runs):
    """Judged seed by seed: a mean says nothing where they disagree."""
    small, medium = common_seeds(runs.of(32, 5), runs.of(256, 5))
    if not small:
        raise Undecided(f"no seed has both {_cell(32, 5)} and {_cell(256, 5)}")
    rises = {
        m: [run.history[-1]["test_loss"] / lowest_loss(run)["test_loss"] - 1 for run in of_m]
        for m, of_m in ((32, small), (256, medium))
    }
    measured = _listed(
        "rise of the loss from its lowest to the end, K = 5, by m",
        {m: ", ".join(f"{rise:.1%}" for rise in of_m) for m, of_m in rises.items()},
    )
    if (least := min(rises[32])) < 0.05:
        raise Undecided(
            f"m = 32, K = 5 does not overfit with every seed in these epochs (its loss rises by as little as {least:.1%}): {measured}"
        )
    answers = {rise <= of_32 / 2 for of_32, rise in zip(rises[32], rises[256])}
    if len(answers) > 1:
        raise Undecided(f"the seeds disagree: {measured}")
    return answers.pop(), measured


def clear_winner(runs):
    gaps = {
        (quantity, K): runs.gap(quantity, (512, 5), (512, K))
        for quantity in (best_accuracy, final_accuracy)
        for K in (1, 2)
    }
    losses = {K: runs.mean(lambda run: lowest_loss(run)["test_loss"], 512, K) for K in (1, 2, 5)}
    holds = all_of([*map(above, gaps.values()), losses[5] < min(losses[1], losses[2])])
    best, final = (
        {(512, K): gap for (of, K), gap in gaps.items() if of is quantity}
        for quantity in (best_accuracy, final_accuracy)
    )
    return holds, "; ".join(
        [
            _gaps("best accuracy of K = 5 less that of", best),
            _gaps("final", final),
            _listed("lowest loss", losses, "{:.3f}"),
        ]
    )


def kmu_effective(m):
    def check(runs):
        gaps = {(m, K): runs.gap(mean_accuracy, (m, K, "kmu"), (m, K)) for K in (2, 5)}
        return all_of(map(above, gaps.values())), _gaps(
            "mean accuracy over the epochs, kµ less the constant rate", gaps
        )

    return check


def loading_overhead(runs):
    if any(run.cell.pipeline != "loader" for run in runs.records):
        raise Undecided("these records are not of the pipeline 'loader'; the benchmark measures both pipelines")
    ratios = {m: runs.time_ratio(m, 5, total_seconds, total_seconds) / 5 for m in (256, 512)}
    return all(r <= 0.9 for r in ratios.values()), _listed("time of K = 5 over 5 times that of K = 1", ratios, "{:.2f}")


CLAIMS = (
    Claim("faster", "abstract", "For m >= 256, K = 2 and 5 converge significantly faster than K = 1: at most 0.8 times the seconds to its best accuracy (be it that of its last epoch)", faster),
    Claim("faster-per-epoch", "abstract", "The same in epochs: at most 0.8 times the epochs to the best accuracy of K = 1", faster_per_epoch),
    Claim("generalises", "abstract", "For m >= 256, K = 2 and 5 generalise comparably or better: best accuracy at most 0.02 below that of K = 1", generalises),
    Claim("competitive", "Section 2.2", "With K = 5, m = 256 and 512 compete with m = 32: best accuracy at most 0.02 below the best of m = 32", competitive),
    Claim("loading", "abstract", "Persistency reduces the overhead of loading data: at m >= 256, K = 5 takes at most 0.9 of 5 times as long as K = 1, through a data loader", loading_overhead),
    Claim("final", "Section 2.1", "The accuracy after the last epoch is about 60 %: from 0.55 to 0.65 in every cell with a constant rate but m = 32, K = 1, which was used for the choice", final_sixty, absolute=True),
    Claim("m32-epochs", "Figure 1", "m = 32: per epoch, larger K has the better accuracy: the mean over the epochs is " + CLEARLY + ", from K = 1 to 2 and from 2 to 5", better_per_epoch),
    Claim("m32-no-gain", "Figure 1", "m = 32: no gain against time: over the seconds that all curves have, the mean accuracy of K = 2 and 5 is at most 0.02 above that of K = 1", no_gain_in_time),
    Claim("m32-ratio", "Figure 1", "m = 32: K = 5 takes about 3 times as long as K = 1, not 5: from 2.4 to 3.6 times", time_ratio(32, 2.4, 3.6)),
    Claim("m32-best-K5", "Figure 1", "m = 32, K = 5: best accuracy 0.64450 at about epoch 30: within 2 standard errors and 10 epochs", quoted_best(5, 0.64450, 30), absolute=True),
    Claim("m32-best-K1", "Figure 1", "m = 32, K = 1: best accuracy 0.63640 at about epoch 80: within 2 standard errors and 10 epochs", quoted_best(1, 0.63640, 80), used_for_choice=True, absolute=True),
    Claim("m32-same-time", "Figure 1", "m = 32: K = 1 and 5 take about the same time to their best accuracy: from 2/3 to 3/2 (undecided while it is that of the last epoch)", same_time_to_best),
    Claim("m32-overfitting", "Figure 1", "m = 32: in loss, larger K overfits earlier in epochs: the epoch of the lowest loss falls with K", overfits_earlier),
    Claim("m32-overfitting-time", "Figure 1", "m = 32: in loss, larger K overfits earlier in time: the second of the lowest loss falls with K", overfits_earlier_in_time),
    Claim("m256-overfitting", "Figure 2", "m = 256: overfitting is much less marked: with K = 5 the loss rises from its lowest by at most half as much as at m = 32", overfits_less),
    Claim("m256-time", "Figure 2", "m = 256: the time does not grow significantly with K: K = 5 takes at most 1.25 times as long as K = 1", time_ratio(256, 0, 1.25)),
    Claim("m512-time", "Figure 3", "m = 512: the time does not grow significantly with K: K = 5 takes at most 1.25 times as long as K = 1", time_ratio(512, 0, 1.25)),
    Claim("m512-winner", "Figure 3", "m = 512: K = 5 is the clear winner: best and final accuracy " + CLEARLY + " the others, lowest loss", clear_winner),
    Claim("kmu-m32", "Figures 4, 5", "m = 32: the policy k*mu is effective: mean accuracy over the epochs " + CLEARLY + " that of the constant rate, for K = 2 and 5", kmu_effective(32)),
    Claim("kmu-m512", "Figures 4, 5", "m = 512: the same", kmu_effective(512)),
    Claim("kmu-m256", "Section 3", "m = 256: the same (not shown in the paper)", kmu_effective(256)),
)  # fmt: skip


def judge(claim: Claim, records: list[Record], grid: str) -> dict:
    """The claim's verdict over a grid's records: verdict, and what was measured (with its n) or why it is undecided. Of the
    paper's grids only cells of the paper's own scale count, whatever else their files may hold."""
    runs = Runs([record for record in records if grid not in PAPER or at_the_papers_scale(record.cell)])
    try:
        if claim.absolute and grid not in PAPER:
            raise Undecided("a number of the paper's own scale")
        holds, measured = claim.check(runs)
        measured = measured if holds is not None else f"the interval allows for both: {measured}"
    except Undecided as reason:
        holds, measured = None, str(reason)
    except Diverged as reason:
        holds, measured = False, str(reason)
    verdict = VERDICTS[holds][grid not in PAPER]
    if claim.used_for_choice and grid in PAPER and holds is not None:
        verdict = "used for the choice"
    return {"claim": claim.name, "grid": grid, "verdict": verdict, "measured": measured}


def at_the_papers_scale(cell: Cell) -> bool:
    """Whether it has the paper's data set, network, learning rate, momentum and number of epochs."""
    return all(getattr(cell, field) == getattr(Cell(m=cell.m), field) for field in PAPERS_SCALE)


def judge_all(results, grids) -> list[dict]:
    """The verdict on every claim over the paper's grid (with its seeds) and over `reduced`, as far as they are recorded."""
    verdicts = []
    for names in (PAPER, ("reduced",)):
        run = [name for name in names if (Path(results) / name).is_dir()]
        records = [record for name in run for record in load_grid_records(results, grids, name)[0]]
        verdicts += [judge(claim, records, names[0]) for claim in CLAIMS]
    return verdicts


def claims_table(verdicts: list[dict], grid: str):
    """One row per claim: where it stands, its text, the verdict over one grid, what was measured (a pandas DataFrame whose
    cells are shown in full)."""
    import pandas as pd

    by = {verdict["claim"]: verdict for verdict in verdicts if verdict["grid"] == grid}
    rows = [(claim.where, claim.text, by[claim.name]["verdict"], by[claim.name]["measured"]) for claim in CLAIMS]
    table = pd.DataFrame(rows, columns=["where", "claim", "verdict", "measured, or why it is undecided"])
    # a fixed uuid: the same table gives the same HTML
    return table.style.set_uuid(grid).hide().set_properties(**{"text-align": "left", "vertical-align": "top"})


def count_verdicts(verdicts: list[dict]) -> str:
    """How many claims have which verdict, one line per grid."""
    lines = []
    for grid in dict.fromkeys(verdict["grid"] for verdict in verdicts):
        counts = collections.Counter(verdict["verdict"] for verdict in verdicts if verdict["grid"] == grid)
        lines.append(f"grid `{grid}`: " + ", ".join(f"{word}: {n}" for word, n in counts.most_common()))
    return "\n".join(lines)


def to_markdown(verdicts: list[dict]) -> str:
    """How many claims have which verdict; one row per claim: the verdict on the paper's grid, and at reduced scale what was
    measured."""
    by = {(v["claim"], v["grid"]): v for v in verdicts}
    rows = [
        "| where | claim | the paper's grid | reduced scale | measured at reduced scale |",
        "| --- | --- | --- | --- | --- |",
    ]
    for claim in CLAIMS:
        paper, reduced = by[claim.name, "paper"], by[claim.name, "reduced"]
        at_paper = f"**{paper['verdict']}**: {paper['measured']}"
        rows.append(f"| {claim.where} | {claim.text} | {at_paper} | {reduced['verdict']} | {reduced['measured']} |")
    counts = [f"- {line}" for line in count_verdicts(verdicts).splitlines()]
    return "\n".join([*counts, "", *rows, ""])


def _listed(what, values, form="{}") -> str:
    """ "what: value (key); ..."; a key is K, or m, or both."""

    def name(key):
        if isinstance(key, int):
            return f"K = {key}" if key in (1, 2, 5) else f"m = {key}"
        return ", ".join(map(name, key))

    return f"{what}: " + "; ".join(f"{form.format(value)} ({name(key)})" for key, value in values.items())


def _gaps(what, gaps) -> str:
    return _listed(what, gaps) + f" ({describe_pairs(min(gap.pairs for gap in gaps.values()))})"


def _seeds(n) -> str:
    return "one run" if n == 1 else f"mean of {n} runs"


def _cell(m, K, policy="constant") -> str:
    return f"m = {m}, K = {K}" + ("" if policy == "constant" else f", {policy}")


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m persist.evidence.claims", description="Judge the paper's claims by the records."
    )
    parser.add_argument("results")
    parser.add_argument("grids")
    parser.add_argument("readme")
    options = parser.parse_args(arguments)
    try:
        if not Path(options.results).is_dir():
            raise ValueError(f"{options.results} is not a folder with results")
        verdicts = judge_all(options.results, options.grids)
        write_atomically(Path(options.results) / "claims.json", (json.dumps(verdicts, indent=1) + "\n").encode())
        text = replace_marked(Path(options.readme).read_text(), "verdicts", to_markdown(verdicts))
        write_atomically(options.readme, text.encode())
    except (RecordError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for verdict in verdicts:
        print(f"{verdict['grid']:8} {verdict['verdict']:20} {verdict['claim']:20} {verdict['measured']}")


if __name__ == "__main__":
    main()
