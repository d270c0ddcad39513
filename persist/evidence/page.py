"""Pages whose tables and numbers come from the records: README.md and docs/*.md.

What stands between `<!-- NAME -->` and `<!-- end -->` is replaced by what BLOCKS has under NAME.
"""

import re
from collections.abc import Callable
from pathlib import Path

from persist.evidence import answers, loading, payoff, readings, speed, tables
from persist.evidence.claims import judge_all, paper_records, verdict_table
from persist.grids import load_grid, load_grid_records
from persist.record import Record, write_atomically

PAYOFF = ("answer", "outcome", "contrasts", "arms", "rates", "rates picture", "chart", "check")
MARK = re.compile(r"(<!-- (?P<name>[\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(path, root="results") -> None:
    """Replace what stands between marks in the file. Raises ValueError, naming the file, for a mark without a block."""

    def block(match):
        if match["name"] not in BLOCKS:
            raise ValueError(f"{path}: no block is named {match['name']!r}; there are {', '.join(BLOCKS)}")
        return f"{match[1]}{BLOCKS[match['name']](root).strip()}\n{match[3]}"

    text = Path(path).read_text()
    filled = MARK.sub(block, text)
    if filled != text:
        write_atomically(path, filled.encode())


def records_of(name: str, root, grids="grids") -> list[Record]:
    """Those of a grid and of the one beside it; none where the grid is not there."""
    path = Path(grids) / f"{name}.yaml"
    if not path.exists():
        return []
    records, beside = load_grid_records(load_grid(path), root, grids)
    return records + beside


def verdicts(root, grids="grids") -> str:
    """Markdown: every claim of the paper, judged by what is recorded."""
    tie = len(readings.tied(_readings(root, grids))) > 1
    used = [(32, 1), (32, 5)] if tie else [(32, 1)]
    measured = loading.ratios(records_of("loading", root, grids))
    return verdict_table(judge_all(paper_records(root, grids), measured, used))


def _readings(root, grids="grids"):
    return records_of("readings", root, grids) or records_of("readings-start", root, grids)


def _loading(name):
    return lambda root: loading.blocks(records_of("loading", root), loading.load_monai())[name]


def _payoff(name):
    return lambda root: payoff.blocks(root)[name]


def _table(name):
    return lambda root: tables.markdown(tables.summary(records_of(name, root)))


BLOCKS: dict[str, Callable[[str], str]] = {
    "answers": answers.answers,
    "recorded": answers.recorded,
    "table paper": _table("paper-seeds"),
    "table preview": _table("preview"),
    "verdicts": verdicts,
    **{f"loading {name}": _loading(name) for name in ("when", "table", "picture", "alone", "monai", "paper")},
    **{f"payoff {name}": _payoff(name) for name in PAYOFF},
    **{name: lambda _, make=make: make(speed.load()) for name, make in speed.BLOCKS.items()},
    "readings table": lambda root: tables.markdown(readings.readings_table(_readings(root))),
    "readings choice": lambda root: readings.describe_choice(_readings(root)),
}
