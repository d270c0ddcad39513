"""The project's pages as one page to read: README.md and docs/ in report/index.html. Imports no torch.

The page is one file. It loads nothing from elsewhere: pictures are data URIs, the style is inside, there is no script.
"""

import base64
import html
import re
from pathlib import Path

import jinja2
import mistune
from markupsafe import Markup

from persist.record import write_atomically

DOCS = ("results", "payoff", "payoff-plan", "time", "reading", "speed", "reproduce", "your_loop", "cluster")
PAGES = {"README": "README.md"} | {name: f"docs/{name}.md" for name in DOCS}
TEMPLATE = Path(__file__).with_name("report.html.jinja")
COMMENT = re.compile(r"<!--\s(.*?)\s-->", re.DOTALL)  # in a page: marks; in an SVG picture: each of its texts
LINK = re.compile(r'<a href="(?!http)(?:[^"#]*?([\w-]+)\.md)?[^"#]*(?:#([^"]*))?">(.*?)</a>', re.DOTALL)
TITLE = re.compile(r"<h1[^>]*>(.*?)</h1>")
HEADING = re.compile(r"<(h\d)>(.*?)</h\d>")
PICTURE = re.compile(r'<img src="([^"]*)" alt="([^"]*)"[^>]*>')
TABLE = re.compile(r"<table>(.*?)</table>", re.DOTALL)
WIDE = '<span class="wide" tabindex="0">{}</span>'  # what is wider than the page scrolls in it; also within a paragraph
LEGIBLE = 1.09  # CSS pixels for each point of a picture's width: its smallest text, 8.33 points, is 9 pixels high then


def write_report(root, folder) -> Path:
    """Write the page of the project in `root` to folder/index.html, which is returned. Raises OSError for a file."""
    path = Path(folder) / "index.html"
    write_atomically(path, build(root).encode())
    return path


def build(root) -> str:
    """The page, as HTML."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages = {name: Markup(_html(name, Path(root) / path)) for name, path in PAGES.items()}
    titles = {name: Markup(TITLE.search(page)[1]) for name, page in pages.items()}
    return environment.from_string(TEMPLATE.read_text()).render(pages=pages, titles=titles)


def alt_text(svg: str) -> str:
    """What a picture of this project says in words: the texts that are in it, without the numbers at its axes."""
    texts = dict.fromkeys(text for text in COMMENT.findall(svg) if re.search(r"[^\W\d]{2}|=", text))
    sentences = sorted(texts, key=lambda text: not re.match(r"Figure \d|m = ", text))  # titles first
    return " ".join(text if text.endswith(".") else f"{text}." for text in sentences)


def _html(name: str, path: Path) -> str:
    """A page: links to the others lead to their places in this one, of links to other files the words stay."""

    def heading(h):  # as GitHub names it
        anchor = re.sub(r"<.*?>|[^\w\s-]", "", h[2]).lower().replace(" ", "-")
        return f'<{h[1]} id="{name}-{anchor}">{h[2]}</{h[1]}>'

    def link(a):
        page = a[1] or (name if a[2] else None)
        return f'<a href="#{page}{f"-{a[2]}" if a[2] else ""}">{a[3]}</a>' if page in PAGES else a[3]

    text = mistune.create_markdown(plugins=["table"])(COMMENT.sub("", path.read_text()))
    text = LINK.sub(link, HEADING.sub(heading, text))
    text = PICTURE.sub(lambda picture: _picture((path.parent / picture[1]).with_suffix(".svg"), picture[2]), text)
    claims = re.compile(r"\s*<thead>\s*<tr>\s*<th>where<")
    return TABLE.sub(lambda t: WIDE.format(f"<table{' class=claims' * bool(claims.match(t[1]))}>{t[1]}</table>"), text)


def _picture(path: Path, name: str) -> str:
    """The picture as a data URI, with its words; never so narrow that it cannot be read. Its name where it is not drawn
    yet: a grid may not be recorded."""
    if not path.exists():
        return f"{name}: not drawn yet"
    svg = path.read_text()
    width = round(LEGIBLE * float(re.search(r'<svg [^>]*?width="([\d.]+)pt"', svg)[1]))
    style = "max-width: 100%" if width < 600 else f"width: 100%; min-width: {width}px"
    uri = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    return WIDE.format(f'<img src="{uri}" alt="{html.escape(alt_text(svg))}" style="{style}">')
