"""Pages whose tables and numbers come from the records: README.md and docs/*.md.

What stands between `<!-- NAME -->` and `<!-- end -->`, each a line of its own, is replaced by the block of that name.
"""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

from persist.evidence import readings, speed
from persist.evidence.answers import answers, behind_loaders, recorded, seeds
from persist.evidence.claims import judge_all, verdict_table
from persist.evidence.kinds import KINDS
from persist.evidence.select import grid_records
from persist.evidence.tables import markdown, wrapped
from persist.record import write_atomically

MARK = r"^[ \t]*<!-- (?P<name>[\w -]+) -->[ \t]*\n"
BLOCK = re.compile(rf"(?P<mark>{MARK}).*?(?P<end>^[ \t]*<!-- end -->)", re.DOTALL | re.MULTILINE)


def fill(path, root="results") -> None:
    """Replace what stands between marks in the file. Raises ValueError, naming the file, for a mark without a block, or
    without its end."""
    text, blocks = Path(path).read_text(), {}
    marks = re.findall(MARK, f"{text}\n", re.MULTILINE)
    for name, end in itertools.zip_longest(marks[::2], marks[1::2]):
        if name == "end" or end != "end":
            what = "has no mark before it" if name == "end" else "has no <!-- end --> before the next mark"
            raise ValueError(f"{path}: <!-- {name} --> {what}")
    for topic in {match["name"].split()[0] for match in BLOCK.finditer(text)} & set(BLOCKS):
        blocks |= {f"{topic} {name}".strip(): block for name, block in BLOCKS[topic](root).items()}

    def block(match):
        if match["name"] not in blocks:
            raise ValueError(f"{path}: no block is named {match['name']!r}; they begin with {', '.join(BLOCKS)}")
        return f"{match['mark']}{blocks[match['name']].strip()}\n{match['end']}"

    filled = BLOCK.sub(block, text)
    if filled != text:
        write_atomically(path, filled.encode())


def verdicts(root, grids="grids") -> str:
    """Markdown: every claim of the paper, judged by what is recorded."""
    tie = len(readings.tied(grid_records(root, grids, "readings"))) > 1
    used = [(32, 1), (32, 5)] if tie else [(32, 1)]
    records = grid_records(root, grids, "paper-seeds")
    return verdict_table(judge_all(records, behind_loaders(root, grids), used))


def _recorded(root) -> dict[str, str]:
    table, judged = recorded(root), verdicts(root).partition("\n")[0]
    rows = table.itertuples(index=False)
    runs = ", ".join(f"{name} {n}" + f" ({hours} h)" * (hours != "-") for name, n, *_, hours in rows)
    short = wrapped(f"Verdicts so far: {judged} Runs so far (hours of the whole grid on one core, about): {runs}.")
    return {"": markdown(table), "short": short}


# The first word of a block's name -> all such blocks, by the rest of their names, made of the records in a folder.
BLOCKS: dict[str, Callable[[str], dict[str, str]]] = {
    **{name: kind.blocks for name, kind in KINDS.items()},
    "answers": lambda root: {"": answers(root)},
    "seeds": lambda root: {"": markdown(seeds(root))},
    "recorded": _recorded,
    "verdicts": lambda root: {"": verdicts(root)},
    "speed": lambda root: speed.blocks(speed.load()),
}
