"""The idea in one picture: what K does to the sequence of minibatches and to the learning rate. Imports no torch."""

from matplotlib.figure import Figure

from persist.evidence.figures import PAPER_K, style
from persist.persistency import learning_rate, persistent

ITERATIONS = 10  # what the picture shows of each sequence


def draw_idea(Ks=PAPER_K) -> Figure:
    """Above, one strip per K: which minibatch each SGD iteration uses; a tick marks each one that is new. Below: the
    learning rate of the same iterations, constant and kµ. Both come from `persistent` and `learning_rate` themselves."""
    figure = Figure(figsize=(10, 1.4 + 0.55 * len(Ks) + 2.2), layout="constrained")
    strips, rates = figure.subplots(2, 1, sharex=True, height_ratios=(0.55 * len(Ks) + 0.4, 2.2))
    for row, K in enumerate(Ks):
        uses = [(k, batch) for (k, batch), _ in zip(persistent(range(1, ITERATIONS + 1), K), range(ITERATIONS))]
        _draw_strip(strips, -row, K, uses)
        _draw_rate(rates, K, [learning_rate(1.0, k, "kmu") for k, _ in uses])
    strips.set(
        yticks=[-row for row in range(len(Ks))],
        yticklabels=[f"K = {K}" for K in Ks],
        xlim=(0.45, ITERATIONS + 2.3),
        ylim=(-len(Ks) + 0.45, 0.55),
    )
    strips.set_title("the minibatch that each SGD iteration uses", loc="left")
    strips.tick_params(length=0)
    rates.set_title("the learning rate: constant µ, or kµ at the k-th use of a minibatch", loc="left")
    rates.set(xlabel="SGD iteration", ylim=(0, max(Ks) + 0.6), yticks=range(1, max(Ks) + 1))
    rates.set_yticklabels(["µ", *(f"{k}µ" for k in range(2, max(Ks) + 1))])
    rates.set_xticks(range(1, ITERATIONS + 1))
    rates.grid(axis="y", alpha=0.25)
    for ax in (strips, rates):
        ax.spines[:].set_visible(False)
    return figure


def _draw_strip(ax, y, K, uses):
    color, _ = style(K)
    for iteration, (k, batch) in enumerate(uses, start=1):
        new = k == 1
        ax.barh(y, 0.94, left=iteration - 0.47, height=0.72, color=color, alpha=0.95 if new else 0.3, lw=0)
        ax.text(
            iteration,
            y,
            f"B{batch}",
            ha="center",
            va="center",
            color="white" if new and K != 2 else "black",
            fontsize="small",
        )
    loaded = len({batch for _, batch in uses})
    ax.text(ITERATIONS + 0.7, y, f"{loaded} minibatches\nloaded", va="center", fontsize="small")


def _draw_rate(ax, K, rates):
    color, line = style(K)
    edges = [0.53 + n for n in range(ITERATIONS + 1)]
    # K = 1 is the constant rate of every K
    ax.stairs(rates, edges, baseline=None, color=color, ls=line, lw=2)
    ax.text(
        ITERATIONS + 0.7,
        rates[-1],
        "constant, any K" if K == 1 else f"kµ, K = {K}",
        va="center",
        color=color,
        fontsize="small",
    )
