"""Every notebook in a real JupyterLab, run from top to bottom in Chromium; the controls of explore.ipynb."""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import nbformat.reader
import pytest
from playwright.sync_api import TimeoutError

from persist.grids import find_records, load_grid

NOTEBOOKS = sorted(path.stem for path in Path(__file__).parents[2].glob("notebooks/*.ipynb"))
MINUTE = 60_000  # milliseconds


class Notebook:
    """A notebook open in JupyterLab."""

    def __init__(self, browser, lab, name):
        self.lab = lab
        self.page = browser.new_page(viewport={"width": 1400, "height": 1000})
        self.opened = time.monotonic()
        self.page.goto(lab.address(name))
        self.page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=MINUTE)

    def run_all(self):
        """Until the kernel is at it. Now and then JupyterLab marks all cells as waiting, but sends the kernel nothing
        or hears nothing from it: then the page is loaded anew, with a new kernel, which counts its cells from 1."""
        started = r"/\d/.test(prompts[0]) || document.querySelector('#jp-main-statusbar').innerText.includes('| Busy')"
        for _ in range(3):
            self.page.locator("#jp-main-statusbar").get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=MINUTE)
            with contextlib.suppress(TimeoutError):
                self.page.get_by_role("menuitem", name="Run", exact=True).click()
                self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click(timeout=MINUTE / 4)
                return self.wait_for_prompts(started, MINUTE / 2)
            self.lab.end_kernels()
            self.page.reload()
            self.page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=MINUTE)
        pytest.fail(f"nothing runs; the prompts are {self.prompts()}")

    def prompts(self):
        return [text.strip() for text in self.page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()]

    def wait_for_prompts(self, condition, timeout):
        found = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(prompt => prompt.innerText)"
        self.page.wait_for_function(f"() => {{ const prompts = {found}; return {condition} }}", timeout=timeout)

    def wait_until_done(self, timeout=4 * MINUTE):
        """Until no code cell waits for its turn; all of them have their number then, in order, or one has failed."""
        try:
            self.wait_for_prompts("/\\d/.test(prompts[0]) && !prompts.some(text => text.includes('*'))", timeout)
        except TimeoutError:
            status = self.page.locator("#jp-main-statusbar").inner_text()
            pytest.fail(f"after {timeout / 1000:g} s the prompts are {self.prompts()}, and below stands {status!r}")
        prompts = self.prompts()
        assert prompts == [f"[{n}]:" for n in range(1, len(prompts) + 1)], self.page.locator(
            ".jp-OutputArea-output"
        ).all_inner_texts()[-1]

    def save(self, path):
        """Save it with Ctrl+S; returns the notebook that was saved."""
        path.unlink()
        self.page.keyboard.press("Control+s")
        end = time.monotonic() + 30
        while True:
            try:
                return nbformat.read(path, as_version=4)
            except (OSError, nbformat.reader.NotJSONError):  # not there yet, or half written
                assert time.monotonic() < end, f"{path.name} was not saved"
                time.sleep(0.1)

    def screenshot(self, path):
        self.page.screenshot(path=path)

    # the panel of explore.ipynb

    def press(self, label):
        self.page.locator(".jupyter-button:enabled", has_text=label).click(timeout=MINUTE)

    def wait_for_status(self, pattern, timeout=3 * MINUTE):
        self.page.locator(".widget-html-content").filter(has_text=re.compile(f"^({pattern})$")).first.wait_for(
            timeout=timeout
        )

    def move_slider(self, label, key, times, to):
        slider = self.page.locator(".widget-hslider").filter(has_text=label)
        for _ in range(times):
            slider.locator(".noUi-handle").press(key)
        slider.locator(".widget-readout", has_text=re.compile(f"^{to}$")).wait_for(timeout=MINUTE)

    def wait_for_alt(self, pattern):
        self.page.wait_for_function(
            f"() => /{pattern}/.test(document.querySelector('.widget-html-content img').alt)", timeout=3 * MINUTE
        )

    def alt(self):
        return self.page.locator(".widget-html-content img").get_attribute("alt")

    def rows(self):
        rows = self.page.locator(".widget-html-content tbody tr").all()
        return [row.locator("td").all_inner_texts() for row in rows]


@pytest.fixture
def notebook(browser, lab, project, copy, screenshots):
    opened = []

    def open_notebook(name):
        without_outputs = nbformat.read(project / f"notebooks/{name}.ipynb", as_version=4)
        for cell in without_outputs.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(without_outputs, copy / f"notebooks/{name}.ipynb")
        opened.append(Notebook(browser, lab, name))
        return opened[-1]

    yield open_notebook
    for each in opened:
        each.page.screenshot(path=screenshots / "last-seen.png")  # where a test failed, this shows at what
        each.page.close()
    lab.end_kernels()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_top_to_bottom(notebook, project, copy, screenshots, name):
    """Its cells run in order without an error, and the pictures of the committed notebook are there again."""
    path = copy / "notebooks" / f"{name}.ipynb"
    expected = pictures(project / "notebooks" / path.name)
    page = notebook(name)
    page.run_all()
    page.wait_until_done()
    page.screenshot(screenshots / f"{name}.png")
    saved = page.save(path)
    assert [cell.execution_count for cell in saved.cells if cell.cell_type == "code"] == list(
        range(1, len(page.prompts()) + 1)
    )
    if name != "explore":  # there, controls take the place of the picture
        assert pictures(path) >= expected


def test_explore_trains_stops_and_compares(notebook, project, screenshots):
    grid = load_grid(project / "grids/preview.yaml")
    records = find_records(grid.cells, [project / "results/preview"])
    recorded = sum((r.cell.m, r.cell.lr_policy) == (256, "constant") for r in records)
    rate = f"{grid.cells[0].lr:g}"
    others = slowdown()
    page = notebook("explore")
    page.run_all()
    page.wait_until_done()
    page.press("Train")
    page.wait_for_status(r"epoch \d+ of 30, .* left")
    waited = time.monotonic() - page.opened
    first = (
        f"from opening explore.ipynb to the first moving curve: {waited:.1f} s; other work: {others:.1f} times slower\n"
    )
    (screenshots / "explore-seconds.txt").write_text(first)
    assert re.search(rf"run 1: m = 256, K = 5, µ = {rate} has 0\.\d+ after epoch \d", page.alt()), "the first point"
    page.wait_for_alt("after epoch ([5-9]|1\\d)")
    page.screenshot(screenshots / "explore-1-training.png")
    page.wait_for_status("finished")
    assert page.rows()[0][:5] == ["1", "256", "5", rate, "30 of 30"] and len(page.rows()) == 1 + recorded

    # another K by its slider, then stop: what was trained stays
    page.move_slider("persistency K", "ArrowLeft", 4, to=1)
    page.press("Train")
    page.wait_for_status(r"epoch ([2-9]|1\d) of 30, .* left")
    page.press("Stop")
    page.wait_for_status(r"stopped; \d+ of 30 epochs are kept")
    second = page.rows()[1]
    assert second[:4] == ["2", "256", "1", rate] and re.fullmatch(r"\d+ of 30", second[4])
    assert "run 1: m = 256, K = 5" in page.alt() and "run 2: m = 256, K = 1" in page.alt()
    page.page.locator(".widget-checkbox input").click()
    page.page.wait_for_function(
        "() => document.querySelectorAll('.widget-html-content tbody tr').length == 2", timeout=MINUTE
    )
    page.page.locator(".widget-checkbox input").click()

    # the policy, and another m, for which nothing is recorded
    page.page.locator(".widget-dropdown").filter(has_text="learning rate").locator("select").select_option(
        "kµ at the k-th use"
    )
    page.move_slider("minibatch size m", "ArrowLeft", 1, to=128)
    page.page.get_by_text("No run of m = 128 is recorded yet").wait_for(timeout=MINUTE)
    page.press("Train")
    page.wait_for_status("finished")
    assert page.rows()[2][:4] == ["3", "128", "1", f"k × {rate}"]
    page.move_slider("minibatch size m", "ArrowRight", 1, to=256)
    page.page.get_by_text("No run of m = 128 is recorded yet").wait_for(state="hidden", timeout=MINUTE)
    page.screenshot(screenshots / "explore-2-compared.png")
    assert waited <= 15 * others, first


def slowdown() -> float:
    """How many times slower than on an idle machine a program runs here now, because of other work."""
    command = [sys.executable, "-c", "import torch"]
    subprocess.run(command, check=True, start_new_session=True)  # once before, so that the disk is not in the way
    before, start = os.times(), time.monotonic()
    # a session of its own, as a kernel is: Linux shares the CPUs out between sessions
    subprocess.run(command, check=True, start_new_session=True)
    wall, after = time.monotonic() - start, os.times()
    computed = after.children_user - before.children_user + after.children_system - before.children_system
    return max(1.0, wall / computed)


def pictures(path) -> int:
    """How many pictures the outputs of a saved notebook hold."""
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)
