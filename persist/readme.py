"""The tables of the README, written from records by a command and never by hand.

    python -m persist.readme results README.md       (what `make figures` runs)

Between `<!-- table: NAME -->` and `<!-- end -->` stands the table of the records in results/NAME.
"""

import argparse
import re
import sys
from pathlib import Path

from persist.figures import best, describe_data, describe_hardware, describe_model, describe_step, varying
from persist.record import Record, RecordError, load_records, was_shared, write_atomically

MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(records: list[Record]) -> str:
    """A Markdown table, one row per record, and under it what ran."""
    fields = varying(records)
    heads = ["m", "K", "learning rate", *fields, "best test accuracy", "at epoch", "final test accuracy", "iterations", "seconds"]
    rows = [heads, ["---:"] * len(heads)]
    for record in sorted(records, key=lambda r: (r.cell.lr_policy, r.cell.m, r.cell.K, r.cell.name)):
        cell, last, top = record.cell, record.history[-1], best([record])
        accuracy, epoch = (f"{top[0]:.4f}", top[1]) if top else ("-", "-")
        final = f"{last['test_accuracy']:.4f}" if record.status == "finished" else f"diverged in epoch {last['epoch']}"
        rate = "µ" if cell.lr_policy == "constant" else "kµ"
        special = [getattr(cell, field) for field in fields]
        rows.append([cell.m, cell.K, rate, *special, accuracy, epoch, final, f"{last['iterations']:,}", f"{last['train_seconds']:.0f}"])
    return "\n".join([*("| " + " | ".join(map(str, row)) + " |" for row in rows), "", what_ran(records), ""])


def what_ran(records: list[Record]) -> str:
    """Data, model, learning rate, hardware and n of a grid's records, in one paragraph."""
    cell, environments = records[0].cell, [record.environment for record in records]
    text = (
        f"{describe_data(cell)}. {describe_model(cell)}. {describe_step(cell)}; {cell.precision}. "
        f"{describe_hardware(records)}, torch {', '.join(sorted({e['torch'] for e in environments}))}. One run per row."
    )
    if any(was_shared(record) for record in records):
        text += " Other work ran on the machine meanwhile: the seconds say little."
    return text


def fill(text: str, results) -> str:
    """The text with every marked table made anew from its records; one without records stays as it is."""

    def replace(match):
        folder = Path(results) / match[2]
        records = load_records(folder) if folder.is_dir() else []
        return match[1] + table(records) + match[3] if records else match[0]

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
    parser.add_argument("readme")
    options = parser.parse_args(arguments)
    try:
        write_atomically(options.readme, fill(Path(options.readme).read_text(), options.results).encode())
    except (RecordError, OSError) as error:
        sys.exit(f"error: {error}")
    print(options.readme)


if __name__ == "__main__":
    main()
