"""One page to read, made from the records: figures, verdicts, speed, notebooks, and how it was run. Imports no torch.

    python -m persist.evidence.report . report       (what `make report` runs)

The page is one file. It loads nothing from elsewhere: pictures are data URIs, the style is inside, there is no script.
"""

import argparse
import base64
import io
import re
import sys
from pathlib import Path

import jinja2
import matplotlib
import mistune
import nbformat
from markupsafe import Markup
from persist.readme import TABLES

from persist.cell import load_grid
from persist.evidence.claims import judge_all, to_markdown
from persist.evidence.figures import draw_all, stacked
from persist.notebook.idea import draw_idea
from persist.record import RecordError, load_grid_records, load_records, was_shared, write_atomically

TEMPLATE = Path(__file__).with_name("report.html.jinja")
BENCH = "bench"  # the folder of the benchmark's figures
LINKED = re.compile(r"^!\[.*\n?", re.MULTILINE)  # a picture by itself on a line of Markdown
SPEED = re.compile(r"<!-- speed -->\n(.*?)<!-- end -->", re.DOTALL)
COMMENT = re.compile(r"<!-- (.*?) -->")  # matplotlib keeps each text of an SVG picture as a comment
FIRST = ("figure", "readings", "controls", "sweep")  # the order of a grid's pictures; others follow by name


def build(root) -> str:
    """The page, from the results, figures, grids, notebooks and README in a project's folder.

    Raises RecordError for a damaged record, ValueError for a grid or a notebook that cannot be read, OSError for a missing file.
    """
    root = Path(root)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    grids = {folder.name: load_records(folder) for folder in _folders(root / "results")}
    shown = {
        folder.name: _pictures(folder, grids.get(folder.name))
        for folder in _folders(root / "figures")
        if folder.name != BENCH
    }
    return environment.from_string(TEMPLATE.read_text()).render(
        idea=_picture("idea", _svg(draw_idea())),
        grids=[
            (name, pictures, _html(_table(root, name)) if grids.get(name) else "")
            for name, pictures in sorted(shown.items(), key=_order)
        ],
        verdicts=_html(to_markdown(judge_all(root / "results", root / "grids"))),
        speed=_speed(root),
        bench=_pictures(root / "figures" / BENCH, None),
        notebooks=[_notebook(path) for path in sorted((root / "notebooks").glob("*.ipynb"))],
        runs=[_how_it_ran(name, records) for name, records in grids.items() if records],
        highlighting=_highlighting(),
    )


def alt_text(svg: str) -> str:
    """What a picture of this project says in words: the texts that are in it, without the numbers at its axes."""
    texts = dict.fromkeys(text for text in COMMENT.findall(svg) if re.search(r"[^\W\d]{2}|=", text))
    titles = [text for text in texts if re.match(r"Figure \d|m = ", text)]
    return " ".join(_sentence(text) for text in [*titles, *(text for text in texts if text not in titles)])


def _table(root, name) -> str:
    """A grid's table, as in the README."""
    grid, (records, beside) = (
        load_grid(root / "grids" / f"{name}.yaml"),
        load_grid_records(root / "results", root / "grids", name),
    )
    return TABLES[grid.notebook](records, beside) if records and (beside or not grid.beside) else ""


def _folders(parent) -> list[Path]:
    return [folder for folder in sorted(parent.iterdir()) if folder.is_dir()] if parent.is_dir() else []


def _order(item):
    """The paper's own grid first, then the reduced one."""
    name, _ = item
    known = ("paper", "reduced", "preview")
    return (known.index(name) if name in known else len(known), name)


def _pictures(folder, records) -> list[dict]:
    """The SVG pictures of a folder, the paper's figures first; those of Figures 1-5 also with their panels stacked."""

    def order(path):
        return ([path.stem.startswith(first) for first in FIRST] + [True]).index(True), path.stem

    stacks = (
        {name: _svg(stacked(figure)) for name, figure in draw_all(records).items()}
        if (folder / "figure1.svg").exists() and records
        else {}
    )
    return [
        _picture(path.stem, path.read_text(), stacks.get(path.stem)) for path in sorted(folder.glob("*.svg"), key=order)
    ]


def _picture(name, svg, narrow=None) -> dict:
    """For the template: the picture and, for a phone, its narrow form as data URIs, and its words."""
    return {"name": name, "alt": alt_text(svg), "uri": _uri(svg), "narrow": narrow and _uri(narrow)}


def _uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _svg(figure) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "report"}):  # no random ids
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _speed(root) -> str:
    """What the README says of the speed, between its marks, without the pictures; nothing where there are no measurements behind it."""
    found = SPEED.search((root / "README.md").read_text())
    measured = list((root / "benchmarks" / "results").glob("**/*.json"))
    return _html(LINKED.sub("", found[1])) if found and measured else ""


def _how_it_ran(name, records) -> dict:
    """Where and with what a grid was run, from the environments of its records."""

    def of(key):
        return (
            ", ".join(sorted({str(r.environment[key]) for r in records if r.environment.get(key) is not None})) or "-"
        )

    commits = sorted(
        {
            (r.environment.get("git_commit") or "unknown")[:10]
            + (" (modified)" if r.environment.get("git_modified") else "")
            for r in records
        }
    )
    shared = sum(was_shared(r) for r in records)
    return {
        "grid": name, "runs": len(records), "device": of("device"), "threads": of("threads"), "CUDA": of("cuda"), "torch": of("torch"), "python": of("python"),
        "platform": of("platform"), "commit": ", ".join(commits), "hours": f"{sum(r.history[-1]['wall_seconds'] for r in records) / 3600:.2f}",
        "beside other work": shared,
    }  # fmt: skip


def _notebook(path) -> dict:
    """A committed notebook as HTML, with a text for every picture and its links within the page."""
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    try:
        notebook, heading = nbformat.read(path, as_version=4), path.stem
        title = notebook.cells[0].source.splitlines()[0].lstrip("# ")
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, nbformat.ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path} is not a notebook that begins with its title ({type(error).__name__}: {reason}): put it back as it was"
        ) from None
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = next(
                (line.lstrip("# ") for line in reversed(cell.source.splitlines()) if line.startswith("#")), heading
            )
            cell.source = re.sub(r"\]\((\w+)\.ipynb\)", r"](#notebook-\1)", cell.source)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                drawn_by = (cell.source.splitlines() or ["a cell"])[-1].partition("  #")[0]
                output.metadata["image/png"] = {"alt": f"{heading}. Drawn by {drawn_by}, in {path.name}."}
    notebook.cells[0].source = "\n".join(notebook.cells[0].source.splitlines()[1:])
    # lines that were printed one by one are one block
    exporter = HTMLExporter(
        template_name="basic", exclude_anchor_links=True, preprocessors=[CoalesceStreamsPreprocessor(enabled=True)]
    )
    body, _ = exporter.from_notebook_node(notebook)
    # several notebooks have headings of the same name: an id must be there once, and nothing links to these
    return {"name": path.stem, "title": title, "body": Markup(re.sub(r"(<h[1-6]) id=\"[^\"]*\"", r"\1", body))}


def _highlighting() -> Markup:
    """The colours of code, light and dark."""
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    return Markup(f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}")


def _html(markdown: str) -> Markup:
    return Markup(mistune.create_markdown(plugins=["table"])(markdown))


def _sentence(text: str) -> str:
    return text if text.endswith(".") else text + "."


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m persist.evidence.report", description="Write one self-contained page from the records."
    )
    parser.add_argument("project", help="folder with results, figures, grids, notebooks and README.md")
    parser.add_argument("report", help="folder for index.html")
    options = parser.parse_args(arguments)
    path = Path(options.report) / "index.html"
    try:
        write_atomically(path, build(options.project).encode())
    except (RecordError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(path)


if __name__ == "__main__":
    main()
