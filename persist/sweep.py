"""The choice of one learning rate for a reduced grid, from records on held-out training images.

The rule: at K = 1 in the middle m, the smallest rate whose final accuracy is within one standard error of the best one;
but no larger than the largest rate at which a bold cell of the grid, with K = 5, still trains, that is, ends with finite
losses and twice the accuracy of chance (one class in ten). Of the sum of the gradients the boldest m is the largest, which
makes the largest steps; of the mean the smallest, which makes the most. Each sweep's grid says which cell it takes.
"""

import math

import pandas as pd
from matplotlib.figure import Figure

from persist.figures import describe_data, describe_model, describe_step
from persist.record import Record


def sweep_table(records: list[Record]) -> pd.DataFrame:
    """One row per cell: m, K, policy, learning rate, epochs; final held-out accuracy (0 where diverged), its standard
    error, and whether it trained."""
    rows = []
    for record in sorted(records, key=lambda r: (r.cell.K, r.cell.lr)):
        cell, accuracy = record.cell, record.history[-1]["test_accuracy"] or 0.0
        rows.append(
            {
                "m": cell.m,
                "K": cell.K,
                "policy": cell.lr_policy,
                "learning rate": cell.lr,
                "epochs": cell.epochs,
                "held-out accuracy": accuracy,
                "standard error": math.sqrt(accuracy * (1 - accuracy) / cell.test_examples),
                "trained": record.status == "finished" and accuracy >= 0.2,
            }
        )
    return pd.DataFrame(rows)


def choose_rate(records: list[Record]) -> float | None:
    """The learning rate that the rule of this module chooses; None where the bold cell trains at none of the rates.

    Raises ValueError for records that are not of a sweep: evaluated on held-out images, the same in all but the rate
    at K = 1, and the same in all but the rate at another K.
    """
    for K1 in (True, False):
        settings = {tuple(v for k, v in r.cell.as_dict().items() if k != "lr") for r in records if (r.cell.K == 1) == K1}
        if len(settings) != 1 or any(r.cell.evaluate_on != "heldout" for r in records):
            raise ValueError("a sweep has cells with K = 1 and cells with one larger K, on held-out images; each kind differs in the rate alone")
    table = sweep_table(records)
    plain, bold = table[table.K == 1], table[table.K > 1]
    top = plain.loc[plain["held-out accuracy"].idxmax()]
    good = plain.loc[plain["held-out accuracy"] >= top["held-out accuracy"] - top["standard error"], "learning rate"].min()
    bound = bold.loc[bold["trained"], "learning rate"].max()
    return None if math.isnan(bound) else float(min(good, bound))


def describe_choice(records: list[Record]) -> str:
    chosen = choose_rate(records)
    return "chosen: none, the bold cell trains at none of these rates" if chosen is None else f"chosen: µ = {chosen:g}"


def draw_sweep(records: list[Record]) -> Figure:
    """Final held-out accuracy, with its standard error, against the learning rate; the chosen rate is marked."""
    table, chosen = sweep_table(records), choose_rate(records)
    figure = Figure(figsize=(9, 5), layout="constrained")
    ax = figure.subplots()
    for (m, K, policy), rows in table.groupby(["m", "K", "policy"]):
        color, line = ("#0072B2", "-") if K == 1 else ("#009E73", "-.")
        label = f"m = {m}, K = {K}, {policy}, {rows['epochs'].iloc[0]} epochs"
        ax.errorbar(rows["learning rate"], rows["held-out accuracy"], yerr=rows["standard error"], marker="o", capsize=4, color=color, ls=line, label=label)
    if chosen is not None:
        ax.axvline(chosen, color="#D55E00", ls=":")
    ax.set(xscale="log", xlabel="learning rate µ", ylabel="accuracy on the held-out images (0: diverged)")
    ax.set_xticks(rates := sorted(set(table["learning rate"])), [f"{rate:g}" for rate in rates])
    ax.minorticks_off()
    figure.legend(loc="outside upper center", ncols=2, frameon=False, title=describe_choice(records))
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    cell = records[0].cell
    step = describe_step(cell).replace(f"µ = {cell.lr:g}, ", "")
    figure.supxlabel(f"{describe_data(cell)}.\n{describe_model(cell)}. {step}.", fontsize="small", ha="left", x=0.01)
    return figure
