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
COMMENT = re.compile(r"<!-- (.*?) -->")  # matplotlib keeps each text of an SVG picture as a comment
WIDE = '<span class="wide" tabindex="0">{}</span>'  # what is wider than the page scrolls in it; also within a paragraph
LEGIBLE = 1.09  # CSS pixels for each point of a picture's width: its smallest text, 8.33 points, is 9 pixels high then


def write_report(root, folder) -> Path:
    """Write the page of the project in `root` to folder/index.html, which is returned. Raises OSError for a file."""
    path = Path(folder) / "index.html"
    write_atomically(path, build(root).encode())
    return path


def build(root) -> str:
    """The page, as HTML."""
    pages = [Page(name, Path(root) / path) for name, path in PAGES.items()]
    for page in pages:
        markdown = mistune.create_markdown(renderer=page, plugins=["table"])
        page.html = Markup(markdown(page.path.read_text()))
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text()).render(pages=pages)


class Page(mistune.HTMLRenderer):
    """Markdown as HTML, for one page of several: links to the others lead to their places in this file, of links to
    other files the words stay; what is wide scrolls; comments are left out."""

    def __init__(self, name: str, path: Path):
        super().__init__()
        self.name, self.path, self.title, self.html = name, path, name, ""

    def heading(self, text: str, level: int, **attrs) -> str:
        """With an anchor like GitHub's."""
        self.title = Markup(text) if level == 1 else self.title
        anchor = re.sub(r"<.*?>|[^\w\s-]", "", text).lower().replace(" ", "-")
        return super().heading(text, level, id=f"{self.name}-{anchor}")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if url.startswith("http"):
            return super().link(text, url, title)
        file, _, anchor = url.partition("#")
        page = Path(file).stem if file.endswith(".md") else self.name if not file else None
        return f'<a href="#{page}{anchor and f"-{anchor}"}">{text}</a>' if page in PAGES else text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """As a data URI, with its words; never so narrow that it cannot be read. Its name where it is not drawn yet."""
        path = (self.path.parent / url).with_suffix(".svg")
        if not path.exists():
            return f"{text}: not drawn yet"
        svg = path.read_text()
        width = round(LEGIBLE * float(re.findall(r'<svg [^>]*?width="([\d.]+)pt"', svg)[0]))
        style = "max-width: 100%" if width < 600 else f"width: 100%; min-width: {width}px"
        uri = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
        return WIDE.format(f'<img src="{uri}" alt="{html.escape(alt_text(svg))}" style="{style}">')

    def table(self, text: str) -> str:
        """Of the claims: those whose first column is where."""
        claims = ' class="claims"' if re.findall(r"<th\b.*?>(.*?)<", text)[0] == "where" else ""
        return WIDE.format(f"<table{claims}>\n{text}</table>") + "\n"

    def block_html(self, html: str) -> str:
        return "" if html.startswith("<!--") else super().block_html(html)


def alt_text(svg: str) -> str:
    """What a picture of this project says in words: the texts that are in it, without the numbers at its axes."""
    texts = dict.fromkeys(text for text in COMMENT.findall(svg) if re.search(r"[^\W\d]{2}|=", text))
    sentences = sorted(texts, key=lambda text: not re.match(r"Figure \d|m = ", text))  # titles first
    return " ".join(text if text.endswith(".") else f"{text}." for text in sentences)
