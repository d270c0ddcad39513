"""Every snippet of the README and of docs/ runs, as printed: those of a page one after the other.

Two HTML comments, which no reader of the page sees, say more: `<!-- python ... -->` holds lines for the test alone,
`<!-- not run: why -->` before a snippet keeps it from being run.
"""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from workshop import environment, make_workshop

from persist import load_grid

PROJECT = Path(__file__).resolve().parents[2]
SNIPPET = re.compile(
    r"(?:<!-- not run: .+ -->\n+)?^( *)```python\n(.*?)^ *```$|^( *)<!-- python\n(.*?)^ *-->$", re.M | re.S
)
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.M | re.S)
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


def fenced(page: Path, language: str) -> list[str]:
    """The snippets of a page in a language; "": shell commands."""
    return [snippet for name, snippet in FENCED.findall(page.read_text()) if name == language]


def script(text: str) -> str:
    """The snippets of a page, each on the lines where it stands there, so that errors name the line of the page."""
    lines = [""] * text.count("\n")
    for match in SNIPPET.finditer(text):
        if match[0].startswith("<!-- not run"):
            continue
        group = 2 if match[2] is not None else 4
        first = text.count("\n", 0, match.start(group))
        code = textwrap.dedent(match[group]).splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if script(page.read_text()).strip()], ids=lambda page: page.name
)
def test_the_snippets_of_a_page_run(page, tmp_path):
    program = tmp_path / f"{page.name}.py"
    program.write_text(script(page.read_text()))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = [sys.executable, program.name]
    result = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if fenced(page, "")], ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page, tmp_path):
    """In a copy of the project. Of `make` only what it would call: a grid takes hours, and other tests train some."""
    workshop = make_workshop(PROJECT, tmp_path)
    (workshop / ".venv").symlink_to(sys.prefix)
    lines = [line for snippet in fenced(page, "") for line in snippet.splitlines()]
    for line in lines:
        command = re.sub(r"\bmake ", "make --dry-run READY= READABLE= ", line)
        run = ["bash", "-c", command]
        result = subprocess.run(
            run, cwd=workshop, env=environment(workshop), capture_output=True, text=True, timeout=240
        )
        assert result.returncode == 0, f"{line}: {result.stderr[-3000:]}"


def test_the_grids_of_the_pages_can_be_read(tmp_path):
    grids = [grid for page in PAGES for grid in fenced(page, "yaml")]
    for grid in grids:
        (tmp_path / "mine.yaml").write_text(grid)
        assert load_grid(tmp_path / "mine.yaml").cells
    assert grids


def test_no_snippet_is_overlooked():
    """Whatever the fence looks like: as many snippets are found as there are lines that open one."""
    for page in PAGES:
        text = page.read_text()
        opened = re.findall(r"^ *(?:```|~~~) *(?:py|python|python3)\b.*$", text, re.M | re.I)
        assert {name for name, _ in FENCED.findall(text)} <= {"", "python", "yaml"}, page.name
        assert len(opened) == sum(match[2] is not None for match in SNIPPET.finditer(text)), page.name
    assert "docs/your_loop.md" in [str(page.relative_to(PROJECT)) for page in PAGES if script(page.read_text()).strip()]


def test_what_is_run_and_where():
    page = "A\n\n```python\na = 1\n```\n- B\n\n  <!-- python\n  b = 2\n  -->\n"
    kept_out = "\n<!-- not run: there is no c -->\n```python\nc\n```\n"
    assert script(page + kept_out).splitlines() == ["", "", "", "a = 1", "", "", "", "", "b = 2", *[""] * 6]
