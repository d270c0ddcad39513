"""Which network, which loss? The paper's text leaves choices open, or states what its times hardly allow; each
combination is a reading of it. Reads records only; imports no torch.

The rule, written before any run of 100 epochs, is in docs/reading.md; this is its arithmetic.
"""

import functools
import math
import statistics

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from persist.architecture import convolutions, flops_per_gradient
from persist.cell import Cell
from persist.evidence.compare import best_accuracy, epochs_near_best, final_accuracy
from persist.evidence.curves import SCALINGS, SMALL, caption_of, count, draw_chance, draw_curve
from persist.evidence.select import grid_records
from persist.evidence.tables import markdown
from persist.record import Record

OPEN = ("stride", "padding", "hidden_layers", "reduction", "scaling", "drop_last", "nesterov")  # what makes a reading
TOO_GOOD = 0.67  # a best accuracy above it within the first epochs is not the paper's
PAPER_BEST, PAPER_EPOCH, PAPER_END = {1: 0.6364, 5: 0.6445}, {1: 80, 5: 30}, 0.60  # at m = 32, by K
UNIT_BEST, UNIT_END, TIED = 0.0068, 0.02, 2.0
LEARNS = 0.2  # final accuracy at m = 512, twice that of chance
COLORS = {"channel": "#000000", "symmetric": "#D55E00", "unit": "#56B4E9"}  # none of those of K = 1, 2, 5
LINES = {"-": "stride 4, no hidden layer", "--": "stride 4, one hidden layer", ":": "stride 1, one hidden layer"}
LINES["-."] = "stride 4, no hidden layer, Nesterov"
# A GTX 1080 Ti: 3 584 cores, 2 FLOP each, at 1.58 GHz. The paper's seconds for an epoch of K = 5 at m = 32; and at
# m = 256, where the time "does not grow significantly with K": at most 1.25 times the 7 s of K = 1, taken from m = 32.
CARD = 3584 * 2 * 1.58e9
SECONDS = {32: 20.0, 256: 1.25 * 7.0}


def readings(records: list[Record]) -> list[tuple]:
    """All readings that have a run, as the values of the open fields, in the order of the records."""
    return list(dict.fromkeys(tuple(getattr(record.cell, name) for name in OPEN) for record in records))


def describe_reading(key: tuple) -> str:
    """A reading in words."""
    stride, padding, hidden_layers, reduction, scaling, drop_last, nesterov = key
    hidden = ("no hidden layer", "one hidden layer", "two hidden layers")[hidden_layers]
    words = [f"{reduction} of the gradients", SCALINGS[scaling], hidden, f"a first convolution of stride {stride}"]
    words += (padding != "same") * [f"padding '{padding}'"] + drop_last * ["last minibatch dropped"]
    return ", ".join(words + nesterov * ["Nesterov's momentum"])


def run_of(records: list[Record], key: tuple, m: int, K: int = 1, epochs: int | None = 100) -> Record | None:
    """The run of a reading with this m and K, else as in the paper, seed 0; without `epochs` the longest."""
    wanted = functools.cache(lambda epochs: Cell(m=m, K=K, epochs=epochs, **dict(zip(OPEN, key))))
    found = [r for r in records if r.cell == wanted(epochs or r.cell.epochs)]
    return max(found, key=lambda run: len(run.history), default=None)


def finished(run: Record | None) -> bool:
    return run is not None and run.status == "finished"


def ended(run: Record | None) -> bool:
    """Finished or diverged."""
    return run is not None and run.status != "unfinished"


def in_the_race(records: list[Record], key: tuple) -> bool | None:
    """Step 1 of the rule; None while a run that it needs is not there or not finished."""
    runs = [run_of(records, key, m, epochs=10) for m in (32, 512)]
    if any(run and run.status == "diverged" for run in runs) or (runs[0] and best_accuracy(runs[0]) > TOO_GOOD):
        return False
    return all(map(finished, runs)) or None


def distance(run: Record) -> float:
    """Step 2 of the rule, of a finished run of m = 32, K = 1 over 100 epochs."""
    return abs(best_accuracy(run) - PAPER_BEST[1]) / UNIT_BEST + abs(last_ten(run) - PAPER_END) / UNIT_END


def last_ten(run: Record) -> float:
    """The mean accuracy of its last ten epochs."""
    return statistics.fmean(entry["test_accuracy"] for entry in run.history[-10:])


def judged(records: list[Record]) -> list[tuple]:
    """The readings among which the rule chooses: with stride 4, without Nesterov's momentum."""
    fields = [(key, dict(zip(OPEN, key))) for key in readings(records)]
    return [key for key, of in fields if of["stride"] == 4 and not of["nesterov"]]


def distances(records: list[Record]) -> dict[tuple, float]:
    """Step 2 of the rule: how far the readings lie among which it chooses."""
    far = {}
    for key in judged(records):
        run, large = run_of(records, key, 32), run_of(records, key, 512)
        trains = finished(run) and finished(large) and final_accuracy(large) >= LEARNS
        if trains and in_the_race(records, key) is not False:
            far[key] = distance(run)
    return far


def tied(records: list[Record]) -> list[tuple]:
    """Step 2 of the rule: the nearest reading and those within two units of it, the nearest first."""
    far = distances(records)
    return _nearest(sorted(far, key=far.get), far.get, TIED)


def choose(records: list[Record]) -> list[tuple]:
    """The readings that are left after all steps of the rule, the chosen one first; empty while step 2 has none.

    Where ties lack a run of K = 5, or more than one reading is left, `describe_choice` says so.
    """
    left = tied(records)
    runs = {key: {K: run_of(records, key, 32, K) for K in (1, 5)} for key in left}
    if len(left) < 2 or not all(ended(of[5]) for of in runs.values()):
        return left
    left = [key for key in left if finished(runs[key][5])] or left[:1]
    left = _nearest(left, lambda key: abs(best_accuracy(runs[key][5]) - PAPER_BEST[5]) / UNIT_BEST, 1)
    left = _nearest(left, lambda key: -sum(PAPER_EPOCH[K] in epochs_near_best(runs[key][K], UNIT_BEST) for K in (1, 5)))
    return sorted(_nearest(left, lambda key: "sum" not in key), key=readings(records).index)


def _nearest(keys, distance, within=0) -> list[tuple]:
    """Those within so much of the nearest."""
    return [key for key in keys if distance(key) <= min(map(distance, keys)) + within]


def describe_choice(records: list[Record]) -> str:
    """The outcome of the rule so far, in words."""
    candidates, left = tied(records), choose(records)
    if not left:
        return "No reading is chosen: none in the race has 100 epochs of m = 32 and 512 and learns with the latter."
    open_ones = waiting(records)
    text = f"{outcome(records, left[0]).capitalize()}: {describe_reading(left[0])}."
    if len(candidates) > 1:
        text += f" Tied by distance: {len(candidates)} readings."
        if not all(ended(run_of(records, key, 32, 5)) for key in candidates):
            text += " The tie is not broken yet: K = 5 is not recorded for all of them."
        elif len(left) > 1:
            text += f" Still tied after K = 5: {'; '.join(map(describe_reading, left[1:]))}."
    return text + (f" Still to be run for 100 epochs: {count(len(open_ones), 'reading')}." if open_ones else "")


def waiting(records: list[Record]) -> list[tuple]:
    """The readings with stride 4 that may still turn out nearest or tied: while there are any, none is chosen.

    What has not both runs to the end is out already where one diverged, where m = 512 ended without learning, or where
    m = 32 is more than two units further than the nearest: its best accuracy, when above the paper's, only moves away.
    """
    limit = min((distance(run_of(records, key, 32)) for key in tied(records)), default=math.inf) + TIED

    def undecided(key):
        small, large = run_of(records, key, 32), run_of(records, key, 512)
        if any(run and run.status == "diverged" for run in (small, large)) or (ended(small) and ended(large)):
            return False
        return not (finished(large) and final_accuracy(large) < LEARNS) and (small is None or least(small) <= limit)

    return [key for key in judged(records) if in_the_race(records, key) is not False and undecided(key)]


def least(run: Record) -> float:
    """The distance of step 2, or for an unfinished run what it will be at the least."""
    return distance(run) if finished(run) else max(0, best_accuracy(run) - PAPER_BEST[1]) / UNIT_BEST


def readings_table(records: list[Record]) -> pd.DataFrame:
    """One row per reading, the chosen one first: the first epochs, the 100 epochs, what became of it, and whether its
    times are possible on the paper's card."""
    rows, order = [], [*choose(records), *tied(records), *readings(records)]
    for key in dict.fromkeys(order):
        stride, padding, hidden_layers, reduction, scaling, drop_last, nesterov = key
        first = run_of(records, key, 32, epochs=10) or run_of(records, key, 32, epochs=15)
        large = run_of(records, key, 512, epochs=10)
        long, again = run_of(records, key, 32), run_of(records, key, 32, 5)
        rows.append({
            "gradients": reduction + nesterov * ", Nesterov", "inputs": SCALINGS[scaling].removeprefix("inputs "),
            "hidden layers": hidden_layers,
            "first convolution": f"stride {stride}" + (padding != "same") * f", '{padding}'",
            "outcome": outcome(records, key),
            "10 epochs: best, m = 32": _first(first), "10 epochs: best, m = 512": _first(large),
            "100 epochs: m = 32, best": _accuracy(long, best=True),
            "mean of the last ten": f"{last_ten(long):.4f}" if finished(long) else "",
            "100 epochs: m = 512, end": _accuracy(run_of(records, key, 512)),
            "distance from the paper": ("" if finished(long) else "at least ") + f"{least(long):.1f}" if long else "",
            **({"m = 32, K = 5: best": _accuracy(again, best=True)} if len(tied(records)) > 1 else {}),
            **{f"share of the card's peak, m = {m}": possible(key, m) for m in SECONDS},
        })  # fmt: skip
    return pd.DataFrame(rows)


def outcome(records: list[Record], key: tuple) -> str:
    """What the rule says of a reading so far, in words."""
    candidates, left, large = tied(records), choose(records), run_of(records, key, 512)
    runs = [run_of(records, key, m, epochs=epochs) for m in (32, 512) for epochs in (10, 100)]
    if any(run and run.status == "diverged" for run in [*runs, run_of(records, key, 32, 5)]):
        return "out: a loss not finite"
    if key in candidates:
        broken = len(candidates) == 1 or all(ended(run_of(records, one, 32, 5)) for one in candidates)
        first = "chosen" if broken and not waiting(records) else "nearest so far"
        return first if key == left[0] else "tied" if key in left else "lost the tie"
    if key not in judged(records):
        return "not part of the rule"
    if in_the_race(records, key) is False:
        return f"out: above {TOO_GOOD} in 10 epochs"
    if key in waiting(records):
        return "not decided yet"
    return "out: m = 512 does not learn" if finished(large) and final_accuracy(large) < LEARNS else "too far"


def _first(run) -> str:
    """The best accuracy of a short run."""
    if run is None or run.status == "diverged":
        return _accuracy(run)
    return f"{best_accuracy(run):.3f}" + (len(run.history) != 10) * f" ({len(run.history)} epochs)"


def _accuracy(run, best=False) -> str:
    """The final one; or the best, and the epochs near it."""
    if run is None or run.status == "diverged":
        return f"not finite in epoch {len(run.history)}" if run else ""
    near = epochs_near_best(run, UNIT_BEST)
    notes = [f"epochs {near[0]} to {near[-1]}"] if best else []
    notes += [] if finished(run) else [f"{len(run.history)} of {run.cell.epochs} epochs"]
    accuracy = f"{best_accuracy(run):.4f}" if best else f"{final_accuracy(run):.3f}"
    return accuracy + (f" ({', '.join(notes)})" if notes else "")


def possible(key: tuple, m: int) -> str:
    """The share of the card's peak that the paper's time for K = 5 takes with this reading: as counted directly, and
    with the multiplications that Winograd's algorithms leave."""
    cell = Cell(m=m, K=5, **dict(zip(OPEN, key)))
    per_second = 5 * 50_000 / SECONDS[m]
    return f"{flops_per_gradient(cell) * per_second / CARD:.0%}, {winograd_flops(cell) * per_second / CARD:.0%}"


def winograd_flops(cell: Cell) -> float:
    """As flops_per_gradient, with each convolution of stride 1 and a kernel of 3 or 5 by Winograd's F(t x t, r x r),
    (t + r - 1)^2 products for a tile of t x t outputs, the best t with t + r - 1 <= 8; transforms not counted."""
    flops = float(flops_per_gradient(cell))
    for c in (c for c in convolutions(cell) if c.stride == 1 and c.kernel <= 5):
        direct = (c.side_out * c.kernel) ** 2
        best = min((math.ceil(c.side_out / t) * (t + c.kernel - 1)) ** 2 for t in range(1, 10 - c.kernel))
        flops -= 3 * 2 * c.inputs * c.outputs * max(0, direct - best)
    return flops


def blocks(root) -> dict[str, str]:
    """Name -> Markdown: what docs/reading.md says of the records."""
    records = grid_records(root, "grids", "readings")
    found = {"table": markdown(readings_table(records)), "choice": describe_choice(records)}
    return found | {"seeds": describe_seeds(records, grid_records(root, "grids", "paper-seeds"))}


def describe_seeds(records: list[Record], seeds: list[Record]) -> str:
    """What the rule would have made of each seed of the chosen reading; seeds: runs, those of the paper's grid too."""
    far, said = distances(records), []
    chosen = next(iter(choose(records)), None)
    others = [away for key, away in far.items() if key != chosen]
    of_chosen = [run for run in seeds if finished(run) and tuple(getattr(run.cell, name) for name in OPEN) == chosen]
    for run in sorted((r for r in of_chosen if (r.cell.m, r.cell.K) == (32, 1)), key=lambda r: r.cell.seed):
        limit = min([distance(run), *others]) + TIED
        more = sum(away <= limit for away in others)
        said.append(f"{distance(run):.1f} with seed {run.cell.seed}" + f" ({count(more, 'reading')} tied)" * bool(more))
    return f"Distance of the chosen reading by the same formula: {', '.join(said) or 'not recorded yet'}."


def draw_readings(records: list[Record], grid: str = "readings") -> Figure:
    """Test accuracy of K = 1 against epochs, m = 32 and 512, sum and mean: every reading a curve; the paper's best."""
    figure = Figure(figsize=(10, 7), dpi=100, layout="constrained")
    panels = [(m, reduction) for m in (32, 512) for reduction in ("mean", "sum")]
    for ax, (m, reduction) in zip(figure.subplots(2, 2, sharex=True, sharey=True).flat, panels):
        for run in (run_of(records, key, m, epochs=None) for key in readings(records)):
            if run and run.cell.reduction == reduction:
                plain = "-." if run.cell.nesterov else "-"
                line = ":" if run.cell.stride == 1 else "--" if run.cell.hidden_layers else plain
                draw_curve(ax, [run], "epoch", "test_accuracy", COLORS[run.cell.scaling], line)
        if m == 32:
            ax.plot(PAPER_EPOCH[1], PAPER_BEST[1], marker="*", ms=13, color="black", ls="")
        draw_chance(ax, "test_accuracy")
        ax.set(title=f"m = {m}, K = 1, {reduction} of the gradients", xlabel="epochs")
        ax.set_ylabel("top-1 accuracy on the test set")
        ax.label_outer()
    lines = [Line2D([], [], color=color, label=SCALINGS[scaling]) for scaling, color in COLORS.items()]
    lines += [Line2D([], [], color="black", ls=line, label=text) for line, text in LINES.items()]
    lines.append(Line2D([], [], color="black", marker="*", ls="", ms=10, label="the paper's best, K = 1"))
    look = dict(ncols=3, frameon=False, handlelength=3, title_fontsize="x-large")
    title = "Every reading of the text; CIFAR-10, 50,000 images, n = 1"
    figure.legend(handles=lines, loc="outside upper center", title=title, **look)
    explanation = "Circle: the best accuracy. Cross: not finite from there. Bar: unfinished. Grey: chance."
    figure.supxlabel(caption_of(records, explanation, grid=grid), **SMALL)
    return figure
