"""One page to read, made from results/ and figures/: report/index.html. Imports no torch.

The page is one file. It loads nothing from elsewhere: pictures are data URIs, the style is inside, there is no script.
"""

import base64
import re
from pathlib import Path

import jinja2
import mistune
from markupsafe import Markup

from persist.evidence.answers import answers
from persist.evidence.curves import commits, count, describe_hardware
from persist.evidence.kinds import kind_of
from persist.evidence.page import verdicts
from persist.evidence.tables import markdown, summary
from persist.grids import Grid, find_records, load_grid
from persist.record import Record, write_atomically

# links to other pages: this one stands alone
ASIDE = re.compile(r"\s+\(\[[^]]*\]\(docs/[^)]*\)\)|;\s+\[how\]\(docs/[^)]*\)")
PAGE = re.compile(r"\[([^]]*)\]\(docs/[^)]*\)")
TEMPLATE = Path(__file__).with_name("report.html.jinja")
COMMENT = re.compile(r"<!-- (.*?) -->")  # matplotlib keeps each text of an SVG picture as a comment
LEGIBLE = 1.09  # CSS pixels for each point of a picture's width: its smallest text, 8.33 points, is 9 pixels high then


def write_report(root, folder) -> Path:
    """Write the page of the project in `root` to folder/index.html, which is returned.

    Raises RecordError for a damaged record, ValueError for a grid that cannot be read, OSError for a file.
    """
    path = Path(folder) / "index.html"
    write_atomically(path, build(root).encode())
    return path


def build(root) -> str:
    """The page, as HTML: the grids that have records, the paper's first."""
    root = Path(root)
    results, paths = root / "results", sorted(root.glob("grids/*.yaml"))
    grids = [load_grid(path) for path in sorted(paths, key=lambda path: not path.stem.startswith("paper"))]
    found = [(grid, find_records(grid.cells, [results / grid.name])) for grid in grids]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text()).render(
        idea=_pictures(root / "figures", ["idea"]),
        grids=[_section(root, grid, records) for grid, records in found if records],
        answers=_html(PAGE.sub(r"\1", ASIDE.sub("", answers(results, root / "grids")))),
        verdicts=_html(verdicts(results, root / "grids")),
    )


def alt_text(svg: str) -> str:
    """What a picture of this project says in words: the texts that are in it, without the numbers at its axes."""
    texts = dict.fromkeys(text for text in COMMENT.findall(svg) if re.search(r"[^\W\d]{2}|=", text))
    sentences = sorted(texts, key=lambda text: not re.match(r"Figure \d|m = ", text))  # titles first
    return " ".join(text if text.endswith(".") else f"{text}." for text in sentences)


def _section(root: Path, grid: Grid, records: list[Record]) -> dict:
    """For the template: what a grid is (the comment in its file), how it ran, its pictures and its table."""
    lines = (root / "grids" / f"{grid.name}.yaml").read_text().splitlines()
    hours = sum(record.history[-1]["wall_seconds"] for record in records) / 3600
    unfinished = sum(record.status == "unfinished" for record in records)
    ran = (
        f"{len(records)} of {count(len(grid.cells), 'run')} recorded"
        + (f", {unfinished} of them unfinished" if unfinished else "")
        + f"; {hours:.2g} hours in all. {describe_hardware(records)}; commit {commits(records)}."
    )
    return {
        "name": grid.name,
        "comment": " ".join(line.lstrip("# ") for line in lines if line.startswith("#")),
        "ran": ran,
        "pictures": _pictures(root / "figures" / grid.name, kind_of(grid).pictures(grid)),
        "table": _html(markdown(summary(records))),
    }


def _pictures(folder: Path, names) -> list[dict]:
    """For the template, of the pictures that are drawn already: the least width in pixels at which each can be read,
    its words, itself as a data URI."""
    pictures = []
    for name in (name for name in names if (folder / f"{name}.svg").exists()):
        svg = (folder / f"{name}.svg").read_text()
        uri = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
        points = float(re.search(r'<svg [^>]*?width="([\d.]+)pt"', svg)[1])
        pictures.append({"name": name, "alt": alt_text(svg), "uri": uri, "width": round(LEGIBLE * points)})
    return pictures


def _html(text: str) -> Markup:
    return Markup(mistune.create_markdown(plugins=["table"])(text))
