"""The paper's claims as data, each with the check over records that decides it.

    python -m persist.claims results grids README.md       (what `make claims` runs)

Every check has its tolerance in its text. Accuracies are judged by the standard error of a difference of two test
accuracies, sqrt(p(1-p)/n + q(1-q)/n); seconds only as ratios, and not at all where other work ran on the machine.
A check over several m or K holds where it holds for all of them.
"""

import argparse
import bisect
import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

from persist.cell import load_grid
from persist.figures import best, mean_curve, select
from persist.readme import replace_marked
from persist.record import Record, RecordError, load_records, was_shared, write_atomically

PAPER = ("paper", "paper-seeds")  # only these grids are the paper's experiment
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
    """The records of one grid, by minibatch size, K and policy."""

    def __init__(self, records: list[Record]):
        self.records = records

    def of(self, m: int, K: int, policy: str = "constant") -> list[Record]:
        runs = select(self.records, m, policy).get(K, [])
        cell = f"m = {m}, K = {K}" + ("" if policy == "constant" else f", {policy}")
        if not runs:
            raise Undecided(f"no record of {cell}")
        if any(run.status == "diverged" for run in runs):
            raise Diverged(f"{cell} diverged")
        return runs

    def curve(self, m, K, policy="constant") -> list[dict]:
        return mean_curve(self.of(m, K, policy))

    def best(self, m, K, policy="constant") -> float:
        return best(self.of(m, K, policy))[0]

    def best_epoch(self, m, K, policy="constant") -> int:
        return best(self.of(m, K, policy))[1]

    def final(self, m, K, policy="constant") -> float:
        return self.curve(m, K, policy)[-1]["test_accuracy"]

    def mean_accuracy(self, m, K, policy="constant") -> float:
        """Over all epochs: the height of the curve."""
        curve = self.curve(m, K, policy)
        return sum(point["test_accuracy"] for point in curve) / len(curve)

    def lowest_loss(self, m, K, policy="constant") -> dict:
        return min(self.curve(m, K, policy), key=lambda point: point["test_loss"])

    def overfits_from(self, m, Ks) -> dict[int, int]:
        """K -> epoch of the lowest loss. Undecided where two of the curves still fall at their end: which of them turns
        first is not seen."""
        falling = [K for K in Ks if self.lowest_loss(m, K)["epoch"] == self.curve(m, K)[-1]["epoch"]]
        if len(falling) > 1:
            raise Undecided(f"the loss still falls in the last epoch for K = {', '.join(map(str, falling))}")
        return {K: self.lowest_loss(m, K)["epoch"] for K in Ks}

    def seconds(self, m, K, policy="constant") -> list[float]:
        """Seconds after each epoch."""
        for run in self.of(m, K, policy):
            if was_shared(run.history, run.environment["threads"]):
                raise Undecided("other work ran on the machine, its seconds say little")
        return [point["train_seconds"] for point in self.curve(m, K, policy)]

    def seconds_to(self, accuracy, m, K, policy="constant") -> float:
        """Seconds until the curve first reaches an accuracy; infinite where it never does."""
        pairs = zip(self.seconds(m, K, policy), self.curve(m, K, policy))
        return next((seconds for seconds, point in pairs if point["test_accuracy"] >= accuracy), math.inf)

    def height_in_time(self, m, K, end, steps=1000) -> float:
        """Mean accuracy from 0 to `end` seconds: that of the last epoch finished, 0.1 (chance) before the first."""
        seconds, curve = self.seconds(m, K), self.curve(m, K)
        accuracies = [0.1, *(point["test_accuracy"] for point in curve)]
        return sum(accuracies[bisect.bisect_right(seconds, end * i / steps)] for i in range(steps)) / steps

    def error(self, m, *accuracies) -> float:
        """Standard error of the difference of two test accuracies."""
        n = self.of(m, 1)[0].cell.test_examples
        return math.sqrt(sum(p * (1 - p) / n for p in accuracies))


def _beats(runs, m, better, worse, errors=2):
    """Whether one accuracy exceeds another by more than so many standard errors of their difference."""
    return better - worse > errors * runs.error(m, better, worse)


def faster(runs):
    ratios = {}
    for m in (256, 512):
        goal = runs.best(m, 1)
        for K in (2, 5):
            ratios[m, K] = runs.seconds_to(goal, m, K) / runs.seconds_to(goal, m, 1)
    return all(r <= 0.8 for r in ratios.values()), _listed("time to the best accuracy of K = 1, relative to K = 1", ratios, "{:.2f}")


def faster_per_epoch(runs):
    ratios = {}
    for m in (256, 512):
        goal = runs.best(m, 1)
        for K in (2, 5):
            epoch = next((p["epoch"] for p in runs.curve(m, K) if p["test_accuracy"] >= goal), math.inf)
            ratios[m, K] = epoch / runs.best_epoch(m, 1)
    return all(r <= 0.8 for r in ratios.values()), _listed("epochs to the best accuracy of K = 1, relative to K = 1", ratios, "{:.2f}")


def generalises(runs):
    gaps = {(m, K): runs.best(m, K) - runs.best(m, 1) for m in (256, 512) for K in (2, 5)}
    errors = {(m, K): runs.error(m, runs.best(m, K), runs.best(m, 1)) for m, K in gaps}
    return all(gaps[k] >= -2 * errors[k] for k in gaps), _listed("best accuracy less that of K = 1", gaps, "{:+.4f}")


def quoted_best(K, accuracy, epoch):
    def check(runs):
        measured, at = runs.best(32, K), runs.best_epoch(32, K)
        near = abs(measured - accuracy) <= 2 * runs.error(32, measured, accuracy) and abs(at - epoch) <= 10
        return near, f"best {measured:.4f} at epoch {at}"

    return check


def final_sixty(runs):
    finals = {(m, K): runs.final(m, K) for m in (32, 256, 512) for K in (1, 2, 5)}
    return all(0.55 <= a <= 0.65 for a in finals.values()), _listed("final accuracy", finals, "{:.3f}")


def time_ratio(m, low, high):
    def check(runs):
        ratio = runs.seconds(m, 5)[-1] / runs.seconds(m, 1)[-1]
        return low <= ratio <= high, f"K = 5 takes {ratio:.2f} times as long as K = 1"

    return check


def same_time_to_best(runs):
    seconds = {K: runs.seconds(32, K)[runs.best_epoch(32, K) - 1] for K in (1, 5)}
    ratio = seconds[5] / seconds[1]
    return 2 / 3 <= ratio <= 3 / 2, f"K = 5 takes {ratio:.2f} times as long to its best as K = 1"


def better_per_epoch(runs):
    heights = {K: runs.mean_accuracy(32, K) for K in (1, 2, 5)}
    holds = all(_beats(runs, 32, heights[a], heights[b]) for a, b in ((2, 1), (5, 2)))
    return holds, _listed("mean accuracy over the epochs", heights, "{:.4f}")


def no_gain_in_time(runs):
    """The mean heights of the curves over the seconds that all of them have."""
    end = min(runs.seconds(32, K)[-1] for K in (1, 2, 5))
    heights = {K: runs.height_in_time(32, K, end) for K in (1, 2, 5)}
    holds = not any(_beats(runs, 32, heights[K], heights[1]) for K in (2, 5))
    return holds, _listed("mean accuracy over the seconds that all have", heights, "{:.4f}")


def overfits_earlier(runs):
    epochs = runs.overfits_from(32, (1, 2, 5))
    return epochs[5] < epochs[2] < epochs[1], _listed("epoch of the lowest loss", epochs, "{}")


def overfits_earlier_in_time(runs):
    seconds = {K: runs.seconds(32, K)[epoch - 1] for K, epoch in runs.overfits_from(32, (1, 2, 5)).items()}
    return seconds[5] < seconds[2] < seconds[1], _listed("second of the lowest loss, relative to K = 1", {K: s / seconds[1] for K, s in seconds.items()}, "{:.2f}")


def overfits_less(runs):
    rises = {m: runs.curve(m, 5)[-1]["test_loss"] / runs.lowest_loss(m, 5)["test_loss"] - 1 for m in (32, 256)}
    if rises[32] < 0.05:
        raise Undecided(f"m = 32, K = 5 does not overfit in these epochs (its loss rises by {rises[32]:.1%})")
    return rises[256] <= rises[32] / 2, _listed("rise of the loss from its lowest to the end, K = 5, by m", rises, "{:.1%}")


def clear_winner(runs):
    accuracies = {K: runs.best(512, K) for K in (1, 2, 5)}
    finals = {K: runs.final(512, K) for K in (1, 2, 5)}
    losses = {K: runs.lowest_loss(512, K)["test_loss"] for K in (1, 2, 5)}
    holds = all(_beats(runs, 512, values[5], values[K]) for values in (accuracies, finals) for K in (1, 2)) and losses[5] < min(losses[1], losses[2])
    return holds, "; ".join([_listed("best accuracy", accuracies, "{:.4f}"), _listed("final", finals, "{:.4f}"), _listed("lowest loss", losses, "{:.3f}")])


def kmu_effective(m):
    def check(runs):
        heights = {(policy, K): runs.mean_accuracy(m, K, policy) for policy in ("constant", "kmu") for K in (2, 5)}
        holds = all(_beats(runs, m, heights["kmu", K], heights["constant", K], errors=1) for K in (2, 5))
        return holds, _listed("mean accuracy over the epochs", heights, "{:.4f}")

    return check


def competitive(runs):
    small = max(runs.best(32, K) for K in (1, 2, 5))
    large = {(m, 5): runs.best(m, 5) for m in (256, 512)}
    holds = all(a >= small - 2 * runs.error(32, a, small) for a in large.values())
    return holds, _listed("best accuracy", large, "{:.4f}") + f"; the best of m = 32 is {small:.4f}"


def loading_overhead(runs):
    ratios = {m: runs.seconds(m, 5)[-1] / (5 * runs.seconds(m, 1)[-1]) for m in (256, 512)}
    if {run.cell.pipeline for run in runs.records} != {"loader"}:
        raise Undecided("needs records of the pipeline 'loader'")
    return all(r <= 0.9 for r in ratios.values()), _listed("time of K = 5 over 5 times that of K = 1", ratios, "{:.2f}")


CLAIMS = (
    Claim("faster", "abstract", "For m >= 256, K = 2 and 5 converge significantly faster than K = 1: at most 0.8 times the seconds to its best accuracy", faster),
    Claim("faster-per-epoch", "abstract", "The same in epochs: at most 0.8 times the epochs to the best accuracy of K = 1", faster_per_epoch),
    Claim("generalises", "abstract", "For m >= 256, K = 2 and 5 generalise comparably or better: best accuracy no more than 2 standard errors below K = 1", generalises),
    Claim("competitive", "Section 2.2", "With K = 5, m = 256 and 512 compete with m = 32: best accuracy no more than 2 standard errors below the best of m = 32", competitive),
    Claim("loading", "abstract", "Persistency reduces the overhead of loading data: at m >= 256, K = 5 takes at most 0.9 of 5 times as long as K = 1, through a data loader", loading_overhead),
    Claim("final", "Section 2.1", "The accuracy after the last epoch is about 60 %: from 0.55 to 0.65 in every cell with a constant rate", final_sixty, absolute=True),
    Claim("m32-epochs", "Figure 1", "m = 32: per epoch, larger K has the better accuracy: mean over the epochs, each gap above 2 standard errors", better_per_epoch),
    Claim("m32-no-gain", "Figure 1", "m = 32: no gain against time: over the seconds that all curves have, the mean accuracy of K = 2 and 5 is not above that of K = 1 by 2 standard errors", no_gain_in_time),
    Claim("m32-ratio", "Figure 1", "m = 32: K = 5 takes about 3 times as long as K = 1, not 5: from 2.4 to 3.6 times", time_ratio(32, 2.4, 3.6)),
    Claim("m32-best-K5", "Figure 1", "m = 32, K = 5: best accuracy 0.64450 at about epoch 30: within 2 standard errors and 10 epochs", quoted_best(5, 0.64450, 30), absolute=True),
    Claim("m32-best-K1", "Figure 1", "m = 32, K = 1: best accuracy 0.63640 at about epoch 80: within 2 standard errors and 10 epochs", quoted_best(1, 0.63640, 80), used_for_choice=True, absolute=True),
    Claim("m32-same-time", "Figure 1", "m = 32: K = 1 and 5 take about the same time to their best accuracy: from 2/3 to 3/2", same_time_to_best),
    Claim("m32-overfitting", "Figure 1", "m = 32: in loss, larger K overfits earlier in epochs: the epoch of the lowest loss falls with K", overfits_earlier),
    Claim("m32-overfitting-time", "Figure 1", "m = 32: in loss, larger K overfits earlier in time: the second of the lowest loss falls with K", overfits_earlier_in_time),
    Claim("m256-overfitting", "Figure 2", "m = 256: overfitting is much less marked: with K = 5 the loss rises from its lowest by at most half as much as at m = 32", overfits_less),
    Claim("m256-time", "Figure 2", "m = 256: the time does not grow significantly with K: K = 5 takes at most 1.25 times as long as K = 1", time_ratio(256, 0, 1.25)),
    Claim("m512-time", "Figure 3", "m = 512: the time does not grow significantly with K: K = 5 takes at most 1.25 times as long as K = 1", time_ratio(512, 0, 1.25)),
    Claim("m512-winner", "Figure 3", "m = 512: K = 5 is the clear winner: best and final accuracy above the others by 2 standard errors, lowest loss", clear_winner),
    Claim("kmu-m32", "Figures 4, 5", "m = 32: the policy k*mu is effective: mean accuracy over the epochs above that of the constant rate by a standard error, for K = 2 and 5", kmu_effective(32)),
    Claim("kmu-m512", "Figures 4, 5", "m = 512: the same", kmu_effective(512)),
    Claim("kmu-m256", "Section 3", "m = 256: the same (not shown in the paper)", kmu_effective(256)),
)  # fmt: skip


def judge(claim: Claim, records: list[Record], grid: str) -> dict:
    """The claim's verdict over a grid's records: verdict, what was measured or why it is undecided, n."""
    runs = Runs(records)
    try:
        if claim.absolute and grid not in PAPER:
            raise Undecided("a number of the paper's own scale")
        holds, measured = claim.check(runs)
    except Undecided as reason:
        holds, measured = None, str(reason)
    except Diverged as reason:
        holds, measured = False, str(reason)
    verdict = VERDICTS[holds][grid not in PAPER]
    if claim.used_for_choice and grid in PAPER and holds is not None:
        verdict = "used for the choice"
    seeds = {record.cell.seed for record in records}
    return {"claim": claim.name, "grid": grid, "verdict": verdict, "measured": measured, "seeds": len(seeds)}


def judge_all(results, grids) -> list[dict]:
    """The verdict on every claim over the paper's grid and over `reduced`, as far as they are recorded."""
    verdicts = []
    for grid in ("paper", "reduced"):
        folder = Path(results) / grid
        records = load_records(folder, load_grid(Path(grids) / f"{grid}.yaml").cells) if folder.is_dir() else []
        verdicts += [judge(claim, records, grid) for claim in CLAIMS]
    return verdicts


def to_markdown(verdicts: list[dict]) -> str:
    """One row per claim: the verdict on the paper's grid, and at reduced scale what was measured."""
    by = {(v["claim"], v["grid"]): v for v in verdicts}
    rows = ["| where | claim | the paper's grid | reduced scale | measured at reduced scale |", "| --- | --- | --- | --- | --- |"]
    for claim in CLAIMS:
        paper, reduced = by[claim.name, "paper"], by[claim.name, "reduced"]
        at_paper = f"**{paper['verdict']}**: {paper['measured']}"
        rows.append(f"| {claim.where} | {claim.text} | {at_paper} | {reduced['verdict']} | {reduced['measured']} |")
    return "\n".join([*rows, ""])


def _listed(what, values, form) -> str:
    """"what: key: value; ..."; a key is K, or m and K, or a policy and K."""

    def name(key):
        if isinstance(key, int):
            return f"K = {key}" if key in (1, 2, 5) else f"m = {key}"
        return ", ".join(map(name, key)) if isinstance(key, tuple) else key

    return f"{what}: " + "; ".join(f"{form.format(value)} ({name(key)})" for key, value in values.items())


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m persist.claims", description="Judge the paper's claims by the records.")
    parser.add_argument("results")
    parser.add_argument("grids")
    parser.add_argument("readme")
    options = parser.parse_args(arguments)
    try:
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
