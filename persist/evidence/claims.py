"""The paper's claims as data, each with the check over records that decides it. Reads records only; imports no torch.

Every check has its tolerance in its text. A gap of accuracies is judged by its interval (compare.py), any other number
by a band; where that allows for both answers, or a run is missing or unfinished, the claim is undecided. Time enters as
cost(m, K), of an epoch relative to one with K = 1, from three places: behind data loaders, which alone decides; on this
machine with the data in memory; at m = 32 the paper's own seconds.
"""

import collections
import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import pandas as pd

from persist.cell import Cell
from persist.evidence import compare
from persist.evidence.compare import Gap, accuracy_gap, best_accuracy, mean_accuracy
from persist.evidence.curves import span
from persist.evidence.select import best, machine, seconds
from persist.evidence.tables import markdown
from persist.record import Record

CLEAR, CLEARLY = 0.01, "at least 0.01, with an interval above 0"  # a gain in accuracy
COMPARABLE = 0.02  # a loss in accuracy up to which two are comparable
SLACK = 1.2  # how many times beyond its limits a ratio of times is undecided
PAPER_SECONDS = {1: 7.0, 5: 20.0}  # an epoch at m = 32 (Section 2.2: about 700 and 2000 s for 100 epochs)
SPAN = (0.3, 1.0)  # the C/L that the measured loaders must span: from most of five passes hidden to none
# The loaders behind which a claim is judged: time(5)/time(1), as the paper has it for this m, from .. to; C/L at most.
AT_32, AT_LARGE, SLOW = (2.4, 3.6, math.inf), (0.0, 1.25, math.inf), (0.0, math.inf, 0.5)
VERDICTS, NOT = {True: "holds", False: "fails", None: "undecided"}, {True: False, False: True, None: None}
ORDER = (False, None, True)  # of several answers the first one decides
# All runs agree in the fields that make a reading; in the others, but for m, K, policy and seed, with the paper.
READING = {"stride", "padding", "hidden_layers", "reduction", "scaling", "drop_last", "nesterov", "momentum_form"}


class Decided(Exception):
    """Ends a check early: (whether the claim holds, why)."""


class Claim(NamedTuple):
    """`check`: a function, and what it takes besides Runs and cost(m, K), which is None where it is not known. It
    returns (whether the claim holds, what was measured), or raises Decided."""

    name: str
    where: str
    text: str  # the claim in our words, with the tolerance of the check
    check: tuple
    loaders: tuple[float, float, float] | None = None  # of a claim about time
    exists: bool = False  # it says that there are such loaders
    quotes: tuple[int, ...] = ()  # the K whose accuracy at m = 32 it is about, where it is about nothing else


class Runs:
    """The records of the paper's grid and of its seeds. Raises ValueError for one of another scale than the paper's, or
    of another reading than the others."""

    def __init__(self, records: list[Record]):
        self.records = sorted(records, key=lambda record: record.cell.seed)
        for cell in (record.cell for record in records):
            for field in set(Cell.fields()) - {"m", "K", "lr_policy", "seed"}:
                allowed = getattr(records[0].cell if field in READING else Cell(m=32), field)
                if getattr(cell, field) != allowed:
                    raise ValueError(f"claims: {field} must be {allowed!r}, not {getattr(cell, field)!r} ({cell.name})")

    def of(self, m: int, K: int, policy: str = "constant", lost: bool | None = None) -> list[Record]:
        """The runs that ended, one per seed. Where one of them diverged, the check ends with the answer `lost`."""
        runs = [r for r in self.records if (r.cell.m, r.cell.K, r.cell.lr_policy) == (m, K, policy)]
        ended = [run for run in runs if run.status != "unfinished"]
        if not ended:
            so_far = f"{runs[0].history[-1]['epoch']} of {runs[0].cell.epochs} epochs" if runs else "not recorded yet"
            raise Decided(None, f"{_name(m, K, policy)}: {so_far}")
        if diverged := sum(run.status == "diverged" for run in ended):
            raise Decided(lost, f"{_name(m, K, policy)}: {diverged} of {len(ended)} diverged")
        return ended

    def arms(self, first: tuple, *others: tuple) -> list[list[Record]]:
        """The runs of each (m, K) or (m, K, policy), of the seeds that all have. Where the first one, with K above 1,
        diverged, the claim fails; where another did, it is undecided."""
        arms = [self.of(*first, lost=False if first[1] > 1 else None), *(self.of(*other) for other in others)]
        seeds = set.intersection(*({run.cell.seed for run in arm} for arm in arms))
        if not seeds:
            raise Decided(None, f"no seed has all of {'; '.join(_name(*cell) for cell in (first, *others))}")
        return [[run for run in arm if run.cell.seed in seeds] for arm in arms]

    def in_memory(self, m: int, K: int) -> float:
        """The cost of an epoch as measured here, on the same machine with the same code."""
        where = lambda run: (machine(run), run.environment.get("code"))  # noqa: E731
        pairs = [(a, b) for a, b in zip(*self.arms((m, K), (m, 1))) if where(a) == where(b)]
        if not pairs:
            raise Decided(None, f"no seed has {_name(m, K)} and K = 1 on one machine with the same code")
        return statistics.fmean(seconds(a, a.history[-1]) / seconds(b, b.history[-1]) for a, b in pairs)


def above(gap: Gap, least: float = CLEAR) -> bool | None:
    """True: a mean of at least so much and an interval above 0. False: an interval below that. None: undecided."""
    return True if gap.low > 0 and gap.mean >= least else False if gap.high < least else None


def comparable(gap: Gap) -> bool | None:
    """True: an interval above a loss of 0.02. False: one below. None: undecided."""
    return True if gap.low > -COMPARABLE else False if gap.high < -COMPARABLE else None


def band(high: float, beyond: float, low: float = -math.inf, below: float = -math.inf) -> Callable:
    """Decides of a number. True: from low to high. False: from `beyond` on, and up to `below`. None: between."""
    return lambda number: True if low <= number <= high else None if below < number < beyond else False


def judged(
    decide: Callable, what: str, found: dict[str, Gap | float], seeds: Iterable[int] = ()
) -> tuple[bool | None, str]:
    """What a check returns, of all that it found; in words with the numbers of seeds (none: it is not of runs)."""
    told = {name: "never" if x == math.inf else f"{x:.3f}" if isinstance(x, float) else x for name, x in found.items()}
    numbers = sorted(set(seeds))
    runs = "" if not numbers else " (one run each)" if numbers == [1] else f" ({span(numbers)} seeds)"
    answer = min(map(decide, found.values()), key=ORDER.index)
    return answer, f"{what}: {'; '.join(f'{name}: {x}' for name, x in told.items())}{runs}"


def gaps(runs: Runs, cost: Callable, decide: Callable, quantity: Callable, arms: list[tuple]):
    """Gaps of an accuracy, each between two or four configurations: see accuracy_gap."""
    found = {_versus(*cells): accuracy_gap(quantity, *runs.arms(*cells)) for cells in arms}
    what = quantity.__name__.replace("_", " ")
    return judged(decide, what, found, [gap.seeds for gap in found.values()])


def no_gain(runs: Runs, cost: Callable):
    """Gaps of the mean accuracy over as much of a run's epochs as both had the time for."""
    found = {}
    for K in (2, 5):
        if each := cost(32, K):
            share = {1: min(1, each), K: min(1, each) / each}
            until = lambda run, share=share: mean_accuracy(run, run.cell.epochs * share[run.cell.K])  # noqa: E731
            found[_versus((32, K), (32, 1))] = accuracy_gap(until, *runs.arms((32, K), (32, 1)))
    seeds = [gap.seeds for gap in found.values()]
    return judged(lambda gap: NOT[above(gap)], "mean accuracy over the same time", found, seeds)


def ratios(runs: Runs, cost: Callable, decide: Callable, what: str, ratio: Callable, pairs: list[tuple]):
    """What ratio(run, other) gives, each between two (m, K), times the cost of an epoch; means over seeds."""
    found = {}
    for first, other in pairs:
        if (longer := cost(*first)) and (shorter := cost(*other)):
            found[_versus(first, other)] = [longer / shorter * ratio(*pair) for pair in zip(*runs.arms(first, other))]
    means = {name: statistics.fmean(values) for name, values in found.items()}
    return judged(decide, what, means, map(len, found.values()))


def costs(runs: Runs, cost: Callable, decide: Callable, cells: list[tuple], share: bool = False):
    """What an epoch costs, relative to one with K = 1, or to K of these."""
    found = {_name(m, K): cost(m, K) / (K if share else 1) for m, K in cells}
    return judged(decide, f"time of an epoch over {'K epochs' if share else 'that'} of K = 1", found)


def quoted_best(runs: Runs, cost: Callable, K: int, accuracy: float, epoch: int):
    """A best accuracy at m = 32 and its epoch. Without the spread over seeds, an accuracy that is off is undecided."""
    mine, finished = runs.of(32, K, lost=False), [run for run in runs.records if run.status == "finished"]
    gap, degrees = compare.prediction(best_accuracy, mine, finished, accuracy)
    near = True if gap.low <= 0 <= gap.high else False if degrees else None
    spans = [compare.epochs_near_best(run) for run in mine]
    answers = {min([near, epoch in span], key=ORDER.index) for span in spans}
    _, measured = judged(bool, "best accuracy less the paper's", {_name(32, K): gap}, [len(mine)])
    of = [f"{s[0]} to {s[-1]}" + f" (seed {run.cell.seed})" * (len(mine) > 1) for s, run in zip(spans, mine)]
    measured += f"; within one standard error of it: epochs {', '.join(of)}; the spread over seeds "
    measured += f"has {degrees} degrees of freedom" if degrees else "is not recorded yet"
    return answers.pop() if len(answers) == 1 else None, measured


def final_sixty(runs: Runs, cost: Callable):
    """Final accuracies, but those of m = 32 with K = 1 and 5."""
    arms = {cell: runs.of(*cell, lost=False) for cell in ((32, 2), *((m, K) for m in (256, 512) for K in (1, 2, 5)))}
    found = {_name(*cell): statistics.fmean(map(compare.final_accuracy, arm)) for cell, arm in arms.items()}
    return judged(band(0.65, 0.68, 0.55, 0.52), "final accuracy", found, map(len, arms.values()))


def reaching(run, one) -> float:
    """The epoch at which it first has the best accuracy of the other, infinite where it never has, over that one's."""
    goal = best([one])
    reached = (e["epoch"] for e in run.history if e["test_accuracy"] >= goal["test_accuracy"])
    return next(reached, math.inf) / goal["epoch"]


def rises(run, one) -> float:
    """The test loss from its lowest to the end: its relative rise over that of the other."""
    rise, other = (r.history[-1]["test_loss"] / best([r], "test_loss")["test_loss"] - 1 for r in (run, one))
    if other < 0.05:
        raise Decided(None, f"{_name(one.cell.m, one.cell.K)} hardly overfits: its loss rises by {other:.1%}")
    return rise / other


def _name(m, K, policy="constant") -> str:
    return f"m = {m}, K = {K}" + ("" if policy == "constant" else ", kµ")


def _versus(first, other, *more) -> str:
    alike = (first[0], *first[2:]) == (other[0], *other[2:])
    text = f"m = {first[0]}, K = {first[1]} against {other[1]}" if alike else f"{_name(*first)} against {_name(*other)}"
    return f"{text}, less {_versus(*reversed(more))}" if more else text


GAINS = [((m, K), (m, 1)) for m in (256, 512) for K in (2, 5)]
UP, TOP, WINS = [((32, 2), (32, 1)), ((32, 5), (32, 2))], ((32, 5), (32, 1)), [((512, 5), (512, K)) for K in (1, 2)]
GROWTH = [((m, 5), (m, 1), (less, 1), (less, 5)) for less, m in ((32, 256), (256, 512))]
OPPONENTS = {K: [((m, K), other) for m in (256, 512) for other in ((8, 1), (32, 1))] for K in (1, 5)}
KMU = {m: [((m, K, "kmu"), (m, K)) for K in (2, 5)] for m in (32, 256, 512)}
SOONER = (ratios, band(0.8, 1), "to the best accuracy of K = 1", reaching, GAINS)
EARLIER = (ratios, band(0.8, 1.25), "to the lowest loss",
           lambda a, b: best([a], "test_loss")["epoch"] / best([b], "test_loss")["epoch"], [*UP, TOP])  # fmt: skip
# Name, where in the paper, text, check; see Claim.
CLAIMS = (
    Claim("faster", "abstract, introduction", "m ≥ 256: K = 2 and 5 converge significantly faster in time: in at most "
          "0.8 of the time to the best accuracy of K = 1 (fails from 1)", SOONER, AT_LARGE),
    Claim("faster-epochs", "abstract", "m ≥ 256: K = 2 and 5 converge significantly faster in epochs: in at most 0.8 "
          "of the epochs to the best accuracy of K = 1 (fails from 1)", SOONER),
    Claim("generalises", "abstract", "m ≥ 256: K = 2 and 5 generalise comparably or more: best accuracy at most 0.02 "
          "below that of K = 1", (gaps, comparable, best_accuracy, GAINS)),
    Claim("generalises-more", "introduction", "m ≥ 256: K = 2 and 5 generalise significantly more: best accuracy above "
          f"that of K = 1 by {CLEARLY}", (gaps, above, best_accuracy, GAINS)),
    Claim("loading", "abstract", "Persistency reduces the overhead of loading: where loading takes at least twice as "
          "long as a pass of training, an epoch takes at most 0.9 of the time of K epochs with K = 1 (fails from 0.95)",
          (costs, band(0.9, 0.95), [(256, 2), (256, 5)], True), SLOW),
    Claim("final", "Section 2.1", "About 60 % after the last epoch: 0.55 to 0.65 (fails outside 0.52 to 0.68) with a "
          "constant rate, m = 32 with K = 1 and 5 left out, which the choice of the reading looks at", (final_sixty,)),
    Claim("competitive", "Section 2.2", "With K = 5, m = 256 and 512 compete with small minibatches: best accuracy at "
          "most 0.02 below those of m = 8 and 32 with K = 1", (gaps, comparable, best_accuracy, OPPONENTS[5])),
    Claim("not-competitive", "Section 2.2", "With K = 1 they do not: best accuracy more than 0.02 below both",
          (gaps, lambda gap: NOT[comparable(gap)], best_accuracy, OPPONENTS[1])),
    Claim("grows", "Section 2.2", "The benefit grows with m: the gain of K = 5 over K = 1 in mean accuracy over the "
          f"epochs rises from m = 32 to 256 and on to 512, each time by {CLEARLY}",
          (gaps, above, mean_accuracy, GROWTH)),
    Claim("m32-epochs", "Figure 1", "m = 32: larger K has the higher accuracy per epoch: mean accuracy over the "
          f"epochs, from K = 1 to 2 and from 2 to 5, higher by {CLEARLY}", (gaps, above, mean_accuracy, UP)),
    Claim("m32-no-gain", "Figure 1", "m = 32: no gain in time: mean accuracy over the same time with K = 2 and 5 not "
          f"above that of K = 1 by {CLEARLY}", (no_gain,), AT_32),
    Claim("m32-time", "Figure 1", "m = 32: K = 5 takes about 3 times as long as K = 1, not 5: 2.4 to 3.6 times behind "
          "some loader (fails outside 2 to 4.32)", (costs, band(3.6, 4.32, 2.4, 2), [(32, 5)]), AT_32, True),
    Claim("m32-best-K5", "Figure 1", "m = 32, K = 5: best accuracy 0.64450 at about epoch 30: within the prediction "
          "interval; 30 is among the epochs within one standard error", (quoted_best, 5, 0.64450, 30), quotes=(5,)),
    Claim("m32-best-K1", "Figure 1", "m = 32, K = 1: best accuracy 0.63640 at about epoch 80: the same with 80",
          (quoted_best, 1, 0.63640, 80), quotes=(1,)),
    Claim("m32-best-gain", "Figure 1", "m = 32: the best accuracy of K = 5 exceeds that of K = 1 (in the paper by "
          "0.0081): an interval above 0", (gaps, lambda gap: above(gap, 0), best_accuracy, [TOP]), quotes=(1, 5)),
    Claim("m32-same-time", "Figure 1", "m = 32: K = 5 and 1 take about the same time to their best accuracy: 2/3 to "
          "3/2 (fails outside 1/2 to 2)", (ratios, band(1.5, 2, 2 / 3, 0.5), "to the best accuracy",
          lambda a, b: best([a])["epoch"] / best([b])["epoch"], [TOP]), AT_32, quotes=(1, 5)),
    Claim("m32-overfitting", "Figure 1", "m = 32: in loss, larger K overfits earlier in epochs: at most 0.8 of them to "
          "the lowest loss, from K = 1 to 2, from 2 to 5 (fails from 1.25)", EARLIER),
    Claim("m32-overfitting-time", "Figure 1", "m = 32: in loss, larger K overfits earlier in time: at most 0.8 of it "
          "to the lowest loss (fails from 1.25)", EARLIER, AT_32),
    Claim("m256-overfitting", "Figure 2", "m = 256: overfitting is less marked: the loss of K = 5 rises from its "
          "lowest by at most 0.8 of the rise at m = 32 (fails from 1.25)",
          (ratios, band(0.8, 1.25), "ratio of the rises", rises, [((256, 5), (32, 5))])),
    Claim("m256-time", "Figure 2", "m = 256: the time does not grow significantly with K: K = 5 takes at most 1.25 "
          "times as long behind some loader (fails from 1.5)", (costs, band(1.25, 1.5), [(256, 5)]), AT_LARGE, True),
    Claim("m512-time", "Figure 3", "m = 512: the same (inferred: the text says it of m = 256 alone)",
          (costs, band(1.25, 1.5), [(512, 5)]), AT_LARGE, True),
    Claim("m512-accuracy", "Figure 3", "m = 512: K = 5 is the clear winner in accuracy: best accuracy above those of K "
          f"= 1 and 2 by {CLEARLY}", (gaps, above, best_accuracy, WINS)),
    Claim("m512-loss", "Figure 3", "m = 512: and in loss: the lowest is lower by 0.02 or more (fails where it is "
          "higher by that)", (ratios, band(-0.02, 0.02), "lowest loss",
          lambda a, b: best([a], "test_loss")["test_loss"] - best([b], "test_loss")["test_loss"], WINS)),
    Claim("kmu-m32", "Figures 4, 5", "m = 32: the policy kµ is effective: mean accuracy over the epochs above that of "
          f"the constant rate by {CLEARLY}, with K = 2 and 5 (inferred: the text does not say which m Figures 4 and 5 "
          "show)", (gaps, above, mean_accuracy, KMU[32])),
    Claim("kmu-m512", "Figures 4, 5", "m = 512: the same (inferred as well)", (gaps, above, mean_accuracy, KMU[512])),
    Claim("kmu-m256", "Section 3", "m = 256: the same (observed there, not shown)",
          (gaps, above, mean_accuracy, KMU[256])),
)  # fmt: skip


def judge_all(records: list[Record], loading: Mapping | None = None, used: Collection = ((32, 1),)) -> list[dict]:
    """The verdict on every claim: its name, where it stands, its text, the verdict and what was measured, or why it is
    undecided. Of a claim about time both are those behind data loaders; `in_memory` and, at m = 32, `paper_seconds` say
    what follows on this machine and from the paper's own seconds (else None).

    loading: (C/L, K) -> time(K)/time(1), measured behind data loaders, for K = 2 and 5. used: the (m, K) whose accuracy
    chose the reading. Raises ValueError unless the records are of one reading at the paper's scale.
    """
    runs, verdicts = Runs(records), []
    own = {K: each / PAPER_SECONDS[1] for K, each in PAPER_SECONDS.items()}
    for claim in CLAIMS:
        ways = {"decides": _attempt(claim, runs, lambda m, K: 1.0), "in_memory": None, "paper_seconds": None}
        if claim.loaders:
            ways["decides"] = _behind_loaders(claim, runs, loading or {})
            ways["in_memory"] = _attempt(claim, runs, runs.in_memory)
            if claim.loaders == AT_32 and not claim.exists:
                ways["paper_seconds"] = _attempt(claim, runs, lambda m, K: own.get(K))
        chosen = claim.quotes and {(32, K) for K in claim.quotes} <= set(used)
        for way, (holds, measured) in ((way, outcome) for way, outcome in ways.items() if outcome):
            word = "used for the choice" if chosen and holds is not None else VERDICTS[holds]
            ways[way] = {"verdict": word, "measured": measured}
        verdicts.append({"claim": claim.name, "where": claim.where, "text": claim.text, **ways.pop("decides"), **ways})
    return verdicts


def _attempt(claim, runs, cost):
    try:
        holds, measured = claim.check[0](runs, cost, *claim.check[1:])
    except Decided as end:
        return end.args
    return holds, measured if holds is not None else f"too close to call: {measured}"


def _behind_loaders(claim, runs, loading):
    """Judged behind every loader measured that is as slow as the claim needs; undecided where they disagree. Where
    K = 5 costs more than in the paper behind all of them: behind the cheapest, and behind one without end (C/L = 0)."""
    ratio = {c: loading[c, 5] for c, K in sorted(loading) if K == 2 and (c, 5) in loading}
    if not ratio or min(ratio) > SPAN[0] or max(ratio) < SPAN[1]:
        return None, f"not recorded yet: loaders with C/L from {SPAN[0]:g} to {SPAN[1]:g}"
    (low, high, most), least, largest = claim.loaders, min(ratio.values()), max(ratio.values())
    fit = [c for c in ratio if low <= ratio[c] <= high and c <= most]
    if not fit and low:
        answer = False if claim.exists and (least >= high * SLACK or largest <= low / SLACK) else None
        return answer, f"behind no loader measured; K = 5 takes {least:.2f} to {largest:.2f} times as long"
    fit = fit or ([] if claim.exists else [0.0]) + [min(ratio, key=ratio.get)]
    answers, measured = zip(*(_attempt(claim, runs, lambda m, K, c=c: loading.get((c, K), 1.0)) for c in fit))
    ends = {fit[0]: measured[0], fit[-1]: measured[-1]}
    text = measured[0] if len(set(measured)) == 1 else "; ".join(f"C/L = {c:.2f}: {text}" for c, text in ends.items())
    return (answers[0], text) if len(set(answers)) == 1 else (None, f"it depends on the loader: {text}")


def verdict_table(verdicts: list[dict]) -> str:
    """Markdown: how many claims have which verdict; a table of those about accuracy and loss, and one of those about
    time, judged three ways."""
    tables, own = ([], []), " and ".join(f"{each:g}" for each in PAPER_SECONDS.values())
    ways = {
        "in_memory": "on this machine, data in memory (K uses cost K times one: not the paper's situation)",
        "paper_seconds": f"with the paper's own {own} seconds an epoch (K = 1 and 5)",
    }
    for v in verdicts:
        row = {"where": v["where"], "claim": v["text"], "verdict": f"**{v['verdict']}**"}
        timed = v["in_memory"] is not None
        row["behind a data loader (this decides)" if timed else "measured, or why it is undecided"] = v["measured"]
        if timed:
            row |= {ways[way]: f"{v[way]['verdict']}: {v[way]['measured']}" if v[way] else "-" for way in ways}
        tables[timed].append(row)
    counts = collections.Counter(verdict["verdict"] for verdict in verdicts).most_common()
    held = [v for v in verdicts if v["verdict"] == "holds" and v["in_memory"] is not None]
    against = sum(v["in_memory"]["verdict"] == "fails" for v in held)
    head = (
        f"{len(verdicts)} claims: {', '.join(f'{word} {n}' for word, n in counts)}. Of those that hold, {len(held)} "
        "are about time, by time ratios of narrower networks behind loaders that are slow enough; "
        f"{against} of these fail with the data in memory."
    )
    return "\n\n".join([head, *(markdown(pd.DataFrame(table)) for table in tables)]) + "\n"
