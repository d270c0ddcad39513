"""Which network, which loss? The paper's text leaves choices open, or states what its times hardly allow; each
combination is a reading of it. Reads records only; imports no torch.

The rule, committed before any run of 100 epochs:

1. Start. Every reading with stride 4 trains for 10 epochs at m = 32 and 512, K = 1. It stays in the race unless a loss
   is not finite, or its best accuracy at m = 32 is above 0.67 already (the paper's best in 100 epochs: 0.6364). The
   text's stride 1, which the paper's times hardly allow and which costs 10 to 16 times as much, trains for 15 epochs
   at m = 32, to see whether it is above 0.67 by then; it is not run for 100.
2. Distance. 100 epochs of m = 32, K = 1, seed 0: |best accuracy - 0.6364| / 0.0068 (one standard error of the
   difference of two test accuracies) + |mean of the last ten epochs - 0.60| / 0.02, among the readings with which
   m = 512, K = 1 trains (ends at twice the accuracy of chance or more). The nearest is chosen; those within two units
   of it are tied.
3. Ties. Tied readings train m = 32 and 512 with K = 5. In this order: the best accuracy at m = 32, K = 5 nearest to
   0.6445 (others stay if within one unit, 0.0068, of the nearest); the most of the two ranges of epochs within one unit
   of the best that contain the paper's epoch (80 for K = 1, 30 for K = 5); the text's sum of the gradients. Still tied:
   the first in the order of the grid; all are published.

What was used for the choice is never called reproduced.
"""

import statistics

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from persist.architecture import convolutions, flops_per_gradient
from persist.cell import Cell
from persist.evidence.compare import best_accuracy, final_accuracy
from persist.evidence.curves import SMALL, caption_of, draw_chance, draw_curve
from persist.record import Record

OPEN = ("stride", "padding", "hidden_layers", "reduction", "scaling", "drop_last", "nesterov")  # what makes a reading
TOO_GOOD = 0.67  # a best accuracy above it within the first epochs is not the paper's
PAPER_BEST, PAPER_EPOCH = {1: 0.6364, 5: 0.6445}, {1: 80, 5: 30}  # at m = 32, by K
PAPER_END = 0.60
UNIT_BEST, UNIT_END, TIED = 0.0068, 0.02, 2.0
LEARNS = 0.2  # test accuracy, twice that of chance
COLORS = {"channel": "#0072B2", "symmetric": "#D55E00", "unit": "#009E73"}
# A GTX 1080 Ti: 3 584 cores, 2 FLOP each, at 1.58 GHz. The paper's seconds for an epoch of K = 5 at m = 32; and at
# m = 256, where the time "does not grow significantly with K": at most 1.25 times the 7 s of K = 1, taken from m = 32.
CARD = 3584 * 2 * 1.58e9
SECONDS = {32: 20.0, 256: 1.25 * 7.0}


def reading(cell: Cell) -> tuple:
    """The values of the open fields: a key for a reading."""
    return tuple(getattr(cell, name) for name in OPEN)


def describe_reading(key: tuple) -> str:
    """A reading in words."""
    fields = dict(zip(OPEN, key))
    hidden = {0: "no hidden layer", 1: "one hidden layer"}.get(fields["hidden_layers"], "two hidden layers")
    words = [f"{fields['reduction']} of the gradients", f"inputs '{fields['scaling']}'", hidden]
    words += [f"stride {fields['stride']}", f"padding '{fields['padding']}'"]
    words += ["last minibatch dropped"] if fields["drop_last"] else []
    return ", ".join(words + (["Nesterov's momentum"] if fields["nesterov"] else []))


def run_of(records: list[Record], key: tuple, m: int, K: int = 1, epochs: int | None = None) -> Record | None:
    """The run of a reading with this m and K, else as in the paper, seed 0; of several the longest."""
    found = [r for r in records if r.cell == Cell(m=m, K=K, epochs=epochs or r.cell.epochs, **dict(zip(OPEN, key)))]
    return max(found, key=lambda r: len(r.history), default=None)


def readings(records: list[Record]) -> list[tuple]:
    """All readings that have a run, in the order of the records."""
    return list(dict.fromkeys(reading(record.cell) for record in records))


def in_the_race(records: list[Record], key: tuple) -> bool | None:
    """Step 1 of the rule; None while a run that it needs is not there or not finished."""
    runs = [run_of(records, key, m, epochs=10) for m in (32, 512)]
    if any(run and run.status == "diverged" for run in runs) or (runs[0] and best_accuracy(runs[0]) > TOO_GOOD):
        return False
    return True if all(run and run.status == "finished" for run in runs) else None


def distance(run: Record | None) -> float | None:
    """Step 2 of the rule, of a finished run of m = 32, K = 1 over 100 epochs."""
    if run is None or run.status != "finished" or run.cell.epochs != 100:
        return None
    end = statistics.fmean(entry["test_accuracy"] for entry in run.history[-10:])
    return abs(best_accuracy(run) - PAPER_BEST[1]) / UNIT_BEST + abs(end - PAPER_END) / UNIT_END


def learns(run: Record | None) -> bool:
    """Whether a finished run ends at twice the accuracy of chance or more."""
    return run is not None and run.status == "finished" and final_accuracy(run) >= LEARNS


def best_epochs(run: Record) -> tuple[int, int]:
    """The first and the last epoch whose accuracy is within one unit of the best."""
    near = [e["epoch"] for e in run.history if (e["test_accuracy"] or 0) >= best_accuracy(run) - UNIT_BEST]
    return near[0], near[-1]


def tied(records: list[Record]) -> list[tuple]:
    """Step 2 of the rule: the nearest reading and those within two units of it, the nearest first."""
    far = {key: distance(run_of(records, key, 32, epochs=100)) for key in readings(records)}
    far = {key: d for key, d in far.items() if d is not None and learns(run_of(records, key, 512, epochs=100))}
    return sorted((key for key, d in far.items() if d <= min(far.values()) + TIED), key=far.get)


def choose(records: list[Record]) -> list[tuple]:
    """The readings that are left after all steps of the rule, the chosen one first; empty while step 2 has none.

    Where ties lack a run of K = 5, or more than one reading is left, `describe_choice` says so.
    """
    left = tied(records)
    of_K_5 = {key: run_of(records, key, 32, 5, epochs=100) for key in left}
    if len(left) < 2 or not all(run and run.status == "finished" for run in of_K_5.values()):
        return left
    far = {key: abs(best_accuracy(run) - PAPER_BEST[5]) / UNIT_BEST for key, run in of_K_5.items()}
    left = [key for key in left if far[key] <= min(far.values()) + 1]
    hits = {key: _hits(run_of(records, key, 32, epochs=100), of_K_5[key]) for key in left}
    left = [key for key in left if hits[key] == max(hits.values())]
    return [key for key in left if dict(zip(OPEN, key))["reduction"] == "sum"] or left


def _hits(*runs) -> int:
    ranges = [(best_epochs(run), PAPER_EPOCH[run.cell.K]) for run in runs]
    return sum(first <= epoch <= last for (first, last), epoch in ranges)


def describe_choice(records: list[Record]) -> str:
    """The outcome of the rule so far, in words."""
    candidates, left = tied(records), choose(records)
    if not left:
        return "No reading is chosen yet: 100 epochs of m = 32 and 512 are not recorded for any that stays in the race."
    waiting = [
        key for key in readings(records) if in_the_race(records, key) and run_of(records, key, 32, epochs=100) is None
    ]
    text = f"Chosen: {describe_reading(left[0])}."
    if len(candidates) > 1:
        text += f" Tied by distance: {len(candidates)} readings."
        if not all(learns(run_of(records, key, 32, 5, epochs=100)) for key in candidates):
            text += " The tie is not broken yet: K = 5 is not recorded for all of them."
        elif len(left) > 1:
            text += f" Still tied after K = 5: {'; '.join(map(describe_reading, left[1:]))}."
    return text + (f" Not yet run for 100 epochs: {len(waiting)} readings." if waiting else "")


def readings_table(records: list[Record]) -> pd.DataFrame:
    """One row per reading: the first epochs, the 100 epochs, and whether its times are possible on the paper's card."""
    chosen = choose(records)
    order = [*chosen, *(key for key in tied(records) if key not in chosen)]
    rows = []
    for key in sorted(readings(records), key=lambda key: order.index(key) if key in order else len(order)):
        long, large, five = (run_of(records, key, m, K, epochs=100) for m, K in ((32, 1), (512, 1), (32, 5)))
        rows.append(
            {
                "reading": describe_reading(key),
                "first epochs, m = 32": _reached(
                    run_of(records, key, 32, epochs=10) or run_of(records, key, 32, epochs=15)
                ),
                "m = 512": _reached(run_of(records, key, 512, epochs=10)),
                "100 epochs, m = 32: best": _best(long),
                "last ten": _last_ten(long),
                "m = 512: end": _reached(large),
                "distance": None if distance(long) is None else f"{distance(long):.1f}",
                "m = 32, K = 5: best": _best(five),
                **{f"share of the card, m = {m}": possible(key, m) for m in SECONDS},
                "": "chosen" if key == (chosen or [None])[0] else "tied" if key in order else "",
            }
        )
    return pd.DataFrame(rows).fillna("")


def _reached(run) -> str | None:
    if run is None:
        return None
    if run.status == "diverged":
        return f"not finite in epoch {len(run.history)}"
    so_far = "" if run.status == "finished" else f" ({len(run.history)} of {run.cell.epochs} epochs)"
    return f"{final_accuracy(run):.3f}{so_far}"


def _best(run) -> str | None:
    if run is None or run.status == "diverged":
        return _reached(run)
    first, last = best_epochs(run)
    so_far = "" if run.status == "finished" else f", {len(run.history)} of {run.cell.epochs} epochs"
    return f"{best_accuracy(run):.4f} (epochs {first} to {last}{so_far})"


def _last_ten(run) -> str | None:
    if run is None or run.status != "finished":
        return None
    return f"{statistics.fmean(e['test_accuracy'] for e in run.history[-10:]):.4f}"


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
    for c in convolutions(cell):
        direct = (c.side_out * c.kernel) ** 2
        tiles = {t: -(-c.side_out // t) for t in range(1, 10 - c.kernel)}
        if c.stride == 1 and c.kernel <= 5:
            best = min((n * (t + c.kernel - 1)) ** 2 for t, n in tiles.items())
            flops -= 3 * 2 * c.inputs * c.outputs * max(0, direct - best)
    return flops


def draw_readings(records: list[Record]) -> Figure:
    """Test accuracy of K = 1 against epochs, m = 32 and 512, sum and mean: every reading a curve; the paper's best."""
    figure = Figure(figsize=(10, 7), dpi=100, layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for row, m in zip(axes, (32, 512)):
        for ax, reduction in zip(row, ("mean", "sum")):
            for key in readings(records):
                run = run_of(records, key, m)
                if run and run.cell.reduction == reduction:
                    line = "-" if run.cell.stride == 4 and run.cell.hidden_layers == 0 else "--"
                    draw_curve(
                        ax,
                        [run],
                        "epoch",
                        "test_accuracy",
                        COLORS[run.cell.scaling],
                        line if run.cell.stride == 4 else ":",
                    )
            if m == 32:
                ax.plot(PAPER_EPOCH[1], PAPER_BEST[1], marker="*", ms=13, color="black", ls="")
            draw_chance(ax, "test_accuracy")
            ax.set_title(f"m = {m}, K = 1, {reduction} of the gradients")
        row[0].set_ylabel("top-1 accuracy on the test set")
    for ax in axes[1]:
        ax.set_xlabel("epochs")
    lines = [Line2D([], [], color=color, label=f"inputs '{scaling}'") for scaling, color in COLORS.items()]
    lines += [
        Line2D([], [], color="black", ls=ls, label=text)
        for ls, text in (
            ("-", "stride 4, no hidden layer"),
            ("--", "stride 4, one hidden layer"),
            (":", "stride 1, one hidden layer"),
        )
    ]
    lines.append(Line2D([], [], color="black", marker="*", ls="", ms=10, label="the paper's best, K = 1"))
    figure.legend(handles=lines, loc="outside upper center", ncols=4, frameon=False, handlelength=3)
    explanation = "Circle: the best accuracy. Cross: not finite from there. Bar: unfinished. Grey: chance."
    figure.supxlabel(caption_of(records, explanation), **SMALL)
    return figure
