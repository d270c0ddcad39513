"""The table of a grid: one row per configuration with all of its seeds. Tables and paragraphs as Markdown."""

import statistics
import textwrap

import pandas as pd

from persist.evidence.curves import describe_hardware, span
from persist.evidence.select import best, by_cell, machine, of_one_core, seconds, varying
from persist.record import Record


def summary(records: list[Record]) -> pd.DataFrame:
    """One row per configuration: best and final accuracy and what a run cost, means over its seeds."""
    several = len(set(map(machine, records))) > 1  # then seconds of different rows are not to be compared
    rows, clock = [], "seconds of one core" if all(map(of_one_core, records)) else "seconds"
    for runs in by_cell(records):
        cell, lasts = runs[0].cell, [run.history[-1] for run in runs]
        tops, lows = ([best([run], of) or {} for run in runs] for of in ("test_accuracy", "test_loss"))
        rows.append({
            "m": cell.m, "K": cell.K, "learning rate": "µ" if cell.lr_policy == "constant" else "kµ",
            **{field: getattr(cell, field) for field in varying(records)},
            "seeds": len(runs), "epochs": _epochs(runs),
            "best test accuracy": ranged([top.get("test_accuracy") for top in tops], 4),
            "at epoch": ranged([top.get("epoch") for top in tops], 1),
            "lowest test loss": ranged([low.get("test_loss") for low in lows], 3),
            "lowest at epoch": ranged([low.get("epoch") for low in lows], 1),
            "final test accuracy": ranged([last["test_accuracy"] for last in lasts], 4),
            "final test loss": ranged([last["test_loss"] for last in lasts], 3),
            "iterations": f"{max(last['iterations'] for last in lasts):,}",
            "gradients": f"{max(last['gradients'] for last in lasts):,}",
            clock: ranged([seconds(run, run.history[-1]) for run in runs], 0),
            **({"on": describe_hardware(runs)} if several else {}),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _epochs(runs) -> str:
    text = span([run.history[-1]["epoch"] for run in runs])
    if any(run.status == "unfinished" for run in runs):
        return f"{text} of {runs[0].cell.epochs}"
    lost = sum(run.status == "diverged" for run in runs)
    return f"{text}: {lost} of {len(runs)} diverged" if lost else text


def ranged(values, digits: int, middle=statistics.fmean) -> str:
    """The mean, and in brackets the smallest and the largest where they differ; a dash where one is missing."""
    if None in list(values):
        return "-"
    numbers = (min(values), middle(values), max(values))
    low, middle, high = (f"{number:,.{digits}f}".removesuffix(".0") for number in numbers)
    return middle if low == high else f"{middle} ({low} to {high})"


def markdown(table: pd.DataFrame) -> str:
    """The table as GitHub shows it: columns with numbers to the right."""
    if table.empty:
        return "Not recorded yet."
    numeric = [all(str(value)[:1] in "+-0123456789" for value in table[name]) for name in table]
    rows = [list(table), *table.itertuples(index=False)]
    head, *rest = (f"| {' | '.join(map(str, row))} |" for row in rows)
    return "\n".join([head, f"|{'|'.join(' ---: ' if right else ' --- ' for right in numeric)}|", *rest])


def wrapped(text: str) -> str:
    """A paragraph, or an item of a list, in lines of at most 120 characters; none ends within `m = 32`."""
    look = dict(subsequent_indent="  " * text.startswith("- "), break_on_hyphens=False, break_long_words=False)
    return textwrap.fill(text.replace(" = ", "\xa0=\xa0"), 120, **look).replace("\xa0", " ")
