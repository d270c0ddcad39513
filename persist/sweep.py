"""The choice of one learning rate for a reduced grid, from records on held-out training images."""

import math

import pandas as pd
from matplotlib.figure import Figure

from persist.figures import describe_data, describe_model, describe_step
from persist.record import Record


def sweep_table(records: list[Record]) -> pd.DataFrame:
    """One row per learning rate: final held-out accuracy (0 where diverged), its standard error, final loss, status."""
    rows = []
    for record in sorted(records, key=lambda r: r.cell.lr):
        last = record.history[-1]
        accuracy = last["test_accuracy"] or 0.0
        rows.append(
            {
                "learning rate": record.cell.lr,
                "held-out accuracy": accuracy,
                "standard error": math.sqrt(accuracy * (1 - accuracy) / record.cell.test_examples),
                "held-out loss": last["test_loss"],
                "status": record.status,
            }
        )
    return pd.DataFrame(rows).set_index("learning rate")


def choose_rate(records: list[Record]) -> float:
    """The smallest rate whose final held-out accuracy is within one standard error of the best one.

    Raises ValueError unless the records differ in nothing but the rate and are evaluated on held-out images.
    """
    settings = {tuple(v for k, v in r.cell.as_dict().items() if k != "lr") for r in records}
    if len(settings) != 1 or records[0].cell.evaluate_on != "heldout":
        raise ValueError("a sweep's records differ in the learning rate alone and are evaluated on held-out images")
    table = sweep_table(records)
    top = table.loc[table["held-out accuracy"].idxmax()]
    return float(table.index[table["held-out accuracy"] >= top["held-out accuracy"] - top["standard error"]].min())


def draw_sweep(records: list[Record]) -> Figure:
    """Final held-out accuracy, with its standard error, against the learning rate; the chosen one is marked."""
    table, chosen, cell = sweep_table(records), choose_rate(records), records[0].cell
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    ax = figure.subplots()
    ax.errorbar(table.index, table["held-out accuracy"], yerr=table["standard error"], marker="o", capsize=4, color="#0072B2")
    ax.plot(chosen, table["held-out accuracy"][chosen], marker="o", ms=13, mfc="none", color="#D55E00", ls="", label=f"chosen: {chosen:g}")
    ax.set(xscale="log", xlabel="learning rate µ", ylabel="accuracy on the held-out images", title=f"m = {cell.m}, K = {cell.K}, {cell.epochs} epochs")
    ax.legend()
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    step = describe_step(cell).replace(f"µ = {cell.lr:g}, ", "")
    figure.supxlabel(f"{describe_data(cell)}.\n{describe_model(cell)}. {step}.", fontsize="small", ha="left", x=0.01)
    return figure
