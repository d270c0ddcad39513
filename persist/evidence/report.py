"""One page to read, made from results/ and figures/: report/index.html. Imports no torch.

The page is one file. It loads nothing from elsewhere: pictures are data URIs, the style is inside, there is no script.
"""

import base64
import io
import re
from pathlib import Path

import jinja2
import matplotlib
import mistune
from markupsafe import Markup

from persist.evidence.answers import answers
from persist.evidence.curves import count, describe_hardware
from persist.evidence.idea import draw_idea
from persist.evidence.kinds import kind_of
from persist.evidence.page import verdicts
from persist.evidence.tables import markdown, summary
from persist.grids import Grid, find_records, load_grid
from persist.record import Record, write_atomically

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
    root, grids = Path(root), []
    for path in sorted(root.glob("grids/*.yaml"), key=lambda path: (not path.stem.startswith("paper"), path.stem)):
        grid = load_grid(path)
        if records := find_records(grid.cells, [root / "results" / grid.name]):
            grids.append(_section(root, grid, records))
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text()).render(
        idea=_picture("idea", _svg(draw_idea())),
        grids=grids,
        answers=_html(answers(root / "results", root / "grids")),
        verdicts=_html(verdicts(root / "results", root / "grids")),
    )


def alt_text(svg: str) -> str:
    """What a picture of this project says in words: the texts that are in it, without the numbers at its axes."""
    texts = dict.fromkeys(text for text in COMMENT.findall(svg) if re.search(r"[^\W\d]{2}|=", text))
    titles = [text for text in texts if re.match(r"Figure \d|m = ", text)]
    sentences = dict.fromkeys([*titles, *texts])
    return " ".join(text if text.endswith(".") else f"{text}." for text in sentences)


def _section(root: Path, grid: Grid, records: list[Record]) -> dict:
    """For the template: what a grid is (the comment in its file), how it ran, its pictures, as far as they are drawn,
    and its table."""
    lines = (root / "grids" / f"{grid.name}.yaml").read_text().splitlines()
    comment = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    paths = [root / "figures" / grid.name / f"{name}.svg" for name in kind_of(grid).pictures(grid)]
    return {
        "name": grid.name,
        "comment": comment,
        "ran": _how_it_ran(grid, records),
        "pictures": [_picture(path.stem, path.read_text()) for path in paths if path.exists()],
        "table": _html(markdown(summary(records))),
    }


def _how_it_ran(grid: Grid, records: list[Record]) -> str:
    hours = sum(record.history[-1]["wall_seconds"] for record in records) / 3600
    unfinished = sum(record.status == "unfinished" for record in records)
    going = f", {unfinished} of them unfinished" if unfinished else ""
    commits = sorted({(record.environment.get("git_commit") or "unknown")[:7] for record in records})
    runs = f"{len(records)} of {count(len(grid.cells), 'run')} recorded{going}; {hours:.2g} hours in all"
    return f"{runs}. {describe_hardware(records)}; commit {', '.join(commits)}."


def _picture(name: str, svg: str) -> dict:
    """For the template: the picture as a data URI, its words, the least width in pixels at which it can be read."""
    uri = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    points = float(re.search(r'<svg [^>]*?width="([\d.]+)pt"', svg)[1])
    return {"name": name, "alt": alt_text(svg), "uri": uri, "width": round(LEGIBLE * points)}


def _svg(figure) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "report"}):  # no random ids
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _html(text: str) -> Markup:
    return Markup(mistune.create_markdown(plugins=["table"])(text))
