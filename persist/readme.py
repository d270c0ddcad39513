"""The tables of the README, written from records by a command and never by hand.

    python -m persist.readme results grids README.md       (what `make figures` runs)

Between `<!-- table: NAME -->` and `<!-- end -->` stands the table of the records of the grid NAME.
"""

import argparse
import math
import re
import statistics
import sys
from pathlib import Path

from persist.cell import load_grid
from persist.controls import comparison_table, describe_controls
from persist.figures import best, by_cell, describe_data, describe_hardware, describe_model, describe_step, timed_by_figure, varying
from persist.precision import describe_precision, precision_table, precisions
from persist.readings import describe_reading, readings_table
from persist.record import Record, RecordError, load_grid_records, was_shared, write_atomically
from persist.sweep import describe_choice, sweep_table

MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(records: list[Record]) -> str:
    """A Markdown table, one row per cell with all of its seeds, and under it what ran."""
    fields, cells = varying(records), dict(enumerate(by_cell(records)))
    most, of_time = max(map(len, cells.values())), timed_by_figure(cells)
    heads = ["m", "K", "learning rate", *fields, *(["seeds"] if most > 1 else []), "best test accuracy", "at epoch", "final test accuracy", "iterations", "seconds"]
    rows = []
    for number, runs in cells.items():
        cell, tops = runs[0].cell, [best([run]) for run in runs]
        lost = [run.history[-1] for run in runs if run.status == "diverged"]
        if None in tops or lost and len(runs) > 1:
            tops = []  # no mean of those that are left
        done = [run for run in of_time[number] if run.status == "finished"] or of_time[number]
        final = mean_and_range([run.history[-1]["test_accuracy"] for run in runs], ".4f") if not lost else _diverged(lost, len(runs))
        rate = "µ" if cell.lr_policy == "constant" else "kµ"
        iterations = f"{max(run.history[-1]['iterations'] for run in runs):,}"
        seconds = mean_and_range([run.history[-1]["train_seconds"] for run in done], ".0f")
        rows.append(
            [cell.m, cell.K, rate, *(getattr(cell, field) for field in fields), *([len(runs)] if most > 1 else []),
             mean_and_range([accuracy for accuracy, _ in tops], ".4f"), mean_and_range([epoch for _, epoch in tops], ".0f"), final, iterations, seconds]
        )  # fmt: skip
    note = "One run per row." if most == 1 else "Means over the seeds, in brackets the smallest and the largest; the best is that of each run, where the figures mark that of the mean."
    shown = [run for runs in of_time.values() for run in runs]
    if len(shown) < len(records):
        note += f" Seconds: of {len(shown)} of the {len(records)} runs, on {describe_hardware(shown)}{'' if any(map(was_shared, shown)) else ', with nothing else running'}."
    return f"{markdown(heads, rows)}\n{what_ran(records, note)}\n"


def mean_and_range(values, form) -> str:
    """The mean, and in brackets the smallest and the largest where they differ; - of nothing."""
    if not values:
        return "-"
    mean, low, high = (format(value, form) for value in (statistics.fmean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low}-{high})"


def _diverged(lost, n) -> str:
    epochs = ", ".join(str(last["epoch"]) for last in lost)
    return f"diverged in epoch {epochs}" + ("" if n == 1 else f" ({len(lost)} of {n} seeds)")


def markdown(heads, rows) -> str:
    """A table in Markdown; the columns of numbers are set to the right."""
    marks = ["---:" if all(isinstance(row[i], (int, float)) or str(row[i])[:1] in "0123456789+-" for row in rows) else "---" for i in range(len(heads))]
    return "".join("| " + " | ".join(map(str, row)) + " |\n" for row in (heads, marks, *rows))


def controls(records: list[Record], beside: list[Record]) -> str:
    """The comparisons of the controls with reuse, what they show in words, and what ran."""
    table = comparison_table(records, beside)
    rows = []
    for _, row in table.iterrows():
        lost = row["the control"] == "diverged"
        best, gap = ("-", "-") if lost else (f"{row['best accuracy']:.4f}", f"{row['difference']:+.4f} ± {row['±']:.4f}")
        rows.append((row["m"], row["control"], row["against"], row["in common"], best, f"{row['of the other']:.4f}", gap, row["pairs"], row["the control"]))
    heads = ["m", "control", "against", "in common", "best accuracy", "of the other", "difference", "n", "outcome"]
    note = (
        "µ and the epochs are those of K = 1 and K = 5; each arm changes them as its name says. Compared is the best accuracy over as many evaluations of both arms, the mean of the seeds that both have. "
        "n: runs of each arm, paired by seed. ±: with one run of each, two standard errors of the two test accuracies, which know nothing of the spread between seeds; with several, the 95 % interval over the pairs."
    )
    return f"{markdown(heads, rows)}\n{describe_controls(records, beside)}\n\n{what_ran([*beside, *records], note)}\n"


def precision(records: list[Record], beside: list[Record]) -> str:
    """How far other precisions are from fp32, beside how far its seeds are from each other, and what ran."""
    everything = [*beside, *records]

    def distances(row, mean, most):
        return "-" if math.isnan(row[mean]) else f"{row[mean]:.4f}, {row[most]:.4f}"

    rows = [
        (row["m"], row["K"], "µ" if row["policy"] == "constant" else "kµ", row["precision"], row["seeds"], distances(row, "from fp32", "at most"),
         distances(row, "two seeds apart", "apart at most"), row["within the spread"],
         f"{row['curve']:+.4f} ± {row['± of the curve']:.4f}", f"{row['best accuracy']:+.4f} ± {row['± of the best']:.4f}")
        for _, row in precision_table(everything).iterrows()
    ]  # fmt: skip
    heads = ["m", "K", "learning rate", "precision", "seeds", "from fp32, same seed: mean, most", "two seeds in fp32: mean, most", "within the spread", "mean accuracy less fp32's", "best accuracy less fp32's"]
    note = (
        "Distances are those of two accuracy curves, the mean over the epochs. ±: the 95 % interval over the pairs of seeds; with fewer than three, no less than two standard errors of the two test accuracies."
    )
    used = [run for of_cell in precisions(everything).values() for runs in of_cell.values() for run in runs]
    return f"{markdown(heads, rows)}\n{describe_precision(everything)}\n\n{what_ran(used, note)}\n"


def readings(records: list[Record], beside: list[Record]) -> str:
    """What became of each reading."""
    table = readings_table([*beside, *records])
    heads = ["reading", "m", "K", "minibatches", "outcome", "last loss", "best accuracy"]
    rows = [
        (describe_reading((row["reduction"], row["padding"], row["scaling"], row["hidden_layers"])), row["m"], row["K"], f"{row['minibatches']:,}", row["outcome"],
         "not finite" if row["last loss"] != row["last loss"] else f"{row['last loss']:.3f}", f"{row['best accuracy']:.4f}")
        for _, row in table.iterrows()
    ]  # fmt: skip
    return f"{markdown(heads, rows)}\n{describe_data(records[0].cell)}. {describe_hardware(records)}. One run per row.\n"


def sweep(records: list[Record], beside: list[Record]) -> str:
    """The learning rates of a sweep with their held-out accuracies, and what was chosen."""
    rows = [
        (row["m"], row["K"], "µ" if row["policy"] == "constant" else "kµ", f"{row['learning rate']:g}", row["epochs"], f"{row['held-out accuracy']:.4f}",
         f"{row['standard error']:.4f}", "yes" if row["trained"] else "no")
        for _, row in sweep_table(records).iterrows()
    ]  # fmt: skip
    heads = ["m", "K", "policy", "learning rate µ", "epochs", "held-out accuracy (0: diverged)", "standard error", "trained"]
    cell = records[0].cell
    step = describe_step(cell).replace(f"µ = {cell.lr:g}, ", "")  # which differs from row to row
    ran = f"{describe_data(cell)}. {describe_model(cell)}. {step}; {cell.precision}. {describe_hardware(records)}. One run per row."
    return f"{markdown(heads, rows)}\nBy the sweep's rule, {describe_choice(records)}. {ran}\n"


# The notebook that reads a grid's records -> its table in the README and in the report.
TABLES = {
    "notebooks/figures.ipynb": lambda records, beside: table([*beside, *records]),
    "notebooks/sweep.ipynb": sweep,
    "notebooks/readings.ipynb": readings,
    "notebooks/controls.ipynb": controls,
    "notebooks/precision.ipynb": precision,
}


def what_ran(records: list[Record], runs: str = "One run per row.") -> str:
    """Data, model, learning rate (of the first), hardware and n of a grid's records, in one paragraph."""
    cell, environments = records[0].cell, [record.environment for record in records]
    text = (
        f"{describe_data(cell)}. {describe_model(cell)}. {describe_step(cell)}; {', '.join(sorted({record.cell.precision for record in records}))}. "
        f"{describe_hardware(records)}, torch {', '.join(sorted({e['torch'] for e in environments}))}. {runs}"
    )
    codes = {e.get("code") for e in environments}
    if len(codes) > 1:
        text += f" Recorded with {len(codes)} versions of the code."
    shared = sum(map(was_shared, records))
    if shared == len(records):
        text += " Other work ran on the machine meanwhile: the seconds say little."
    elif shared:
        text += f" Other work ran on the machine during {shared} of the {len(records)} runs: their seconds say little."
    return text


def fill(text: str, results, grids) -> str:
    """The text with every marked table made anew from its records; one without records stays as it is."""

    def replace(match):
        if not (Path(results) / match[2]).is_dir():
            return match[0]
        make = TABLES[load_grid(Path(grids) / f"{match[2]}.yaml").notebook]
        records, beside = load_grid_records(results, grids, match[2])
        return match[1] + make(records, beside) + match[3] if records else match[0]

    return MARKED.sub(replace, text)


def replace_marked(text: str, name: str, content: str) -> str:
    """The text with what stands between `<!-- NAME -->` and `<!-- end -->` replaced. Raises ValueError without the marks."""
    before, mark, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not mark or not end:
        raise ValueError(f"the text has no place marked <!-- {name} --> ... <!-- end -->")
    return before + mark + content + end + after


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m persist.readme", description="Write the README's tables from records.")
    parser.add_argument("results")
    parser.add_argument("grids")
    parser.add_argument("readme")
    options = parser.parse_args(arguments)
    try:
        write_atomically(options.readme, fill(Path(options.readme).read_text(), options.results, options.grids).encode())
    except (RecordError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(options.readme)


if __name__ == "__main__":
    main()
