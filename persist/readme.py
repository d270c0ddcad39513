"""The tables of the README, written from records by a command and never by hand.

    python -m persist.readme results README.md       (what `make figures` runs)

Between `<!-- table: NAME -->` and `<!-- end -->` stands the table of the records in results/NAME.
"""

import argparse
import re
import sys
from pathlib import Path

from persist.figures import best, caption
from persist.record import Record, RecordError, load_records, write_atomically

MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(records: list[Record]) -> str:
    """A Markdown table, one row per cell, and under it what ran."""
    rows = ["| m | K | learning rate | best test accuracy | at epoch | final test accuracy | iterations | seconds |", "|" + " ---: |" * 8]
    for record in sorted(records, key=lambda r: (r.cell.lr_policy, r.cell.m, r.cell.K, r.cell.seed)):
        cell, last, top = record.cell, record.history[-1], best([record])
        accuracy, epoch = (f"{top[0]:.4f}", str(top[1])) if top else ("-", "-")
        final = f"{last['test_accuracy']:.4f}" if record.status == "finished" else f"diverged in epoch {last['epoch']}"
        rate = "µ" if cell.lr_policy == "constant" else "kµ"
        rows.append(f"| {cell.m} | {cell.K} | {rate} | {accuracy} | {epoch} | {final} | {last['iterations']:,} | {last['train_seconds']:.0f} |")
    # the epochs may differ from cell to cell: the table's last line is for what they share
    shared = caption({1: records}).replace("\n", " ").replace("n = " + str(len(records)) + " runs per curve", "one run per cell")
    shared = re.sub(r" Circle: .*", "", re.sub(r", \d+ epochs", f", {_epochs(records)} epochs", shared))
    if any(record.environment["shared"] for record in records):
        shared += " Other work ran on the machine meanwhile: the seconds say little."
    return "\n".join([*rows, "", shared, ""])


def _epochs(records) -> str:
    epochs = {(r.cell.m, r.cell.epochs) for r in records}
    if len({e for _, e in epochs}) == 1:
        return str(records[0].cell.epochs)
    return " / ".join(str(e) for _, e in sorted(epochs)) + f" (m = {' / '.join(str(m) for m, _ in sorted(epochs))})"


def fill(text: str, results) -> str:
    """The text with every marked table made anew from its records; RecordError for one without records."""

    def replace(match):
        records = load_records(Path(results) / match[2])
        if not records:
            raise RecordError(f"no records in {results}/{match[2]} for the table of that name")
        return match[1] + table(records) + match[3]

    return MARKED.sub(replace, text)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m persist.readme", description="Write the README's tables from records.")
    parser.add_argument("results")
    parser.add_argument("readme")
    options = parser.parse_args(arguments)
    try:
        write_atomically(options.readme, fill(Path(options.readme).read_text(), options.results).encode())
    except (RecordError, OSError) as error:
        sys.exit(f"error: {error}")
    print(options.readme)


if __name__ == "__main__":
    main()
