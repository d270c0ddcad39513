"""The recorded evidence in results/, and the pages and pictures made from it."""

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest
from matplotlib.testing.compare import compare_images

from persist import Cell, load_grid, load_records
from persist.evidence import page, speed
from persist.evidence.curves import save
from persist.evidence.idea import draw_idea
from persist.evidence.kinds import kind_of

PROJECT = Path(__file__).resolve().parents[2]
RECORDED = sorted(path.name for path in (PROJECT / "results").glob("*/") if any(path.glob("*.json")))


@pytest.mark.parametrize("name", RECORDED)
def test_a_record_is_of_its_grid_and_says_where_it_ran(name):
    cells = load_grid(PROJECT / f"grids/{name}.yaml").cells
    records = load_records(PROJECT / "results" / name)
    assert {record.cell for record in records} <= set(cells)
    for record in records:
        e = record.environment
        assert (
            all(e[key] for key in ("torch", "torchvision", "numpy", "python", "device", "code")) and e["threads"] >= 1
        )
        assert len(e["git_commit"]) == 40 and not e["git_modified"], "it ran from a commit, as committed"
    assert len({(record.cell.dataset, record.environment["data_sha256"]) for record in records}) == 1


def test_runs_recorded_of_two_processors_differ_in_times_alone():
    """docs/reproduce.md says so of these two: an Intel one, and an AMD one with the preloaded library."""
    cells = [Cell(m=m) for m in (32, 512)]
    there, here = (load_records(PROJECT / "results" / name, cells) for name in ("readings", "paper"))
    assert len(there) == len(here) == len(cells)
    for one, other in zip(there, here):
        assert one.environment["cpu"] != other.environment["cpu"] and one.status == "finished"
        assert one.continues(other) and other.continues(one)


def test_records_hold_no_path_of_a_machine():
    for path in (PROJECT / "results").rglob("*.json"):
        assert "/" not in path.read_text(), path


def test_the_committed_pages_say_what_the_records_say(tmp_path, monkeypatch):
    """`make publish` would change nothing in README.md and docs/."""
    monkeypatch.chdir(PROJECT)
    for path in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        shutil.copy(path, tmp_path)
        page.fill(tmp_path / path.name)
        assert (tmp_path / path.name).read_text() == path.read_text(), f"{path}: make publish"


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
def test_the_committed_pictures_are_what_the_records_give(name, tmp_path):
    """`make publish` would draw the same, but for the rasterisation of another version of a font."""
    grid = load_grid(PROJECT / f"grids/{name}.yaml")
    command = ["papermill", kind_of(grid).notebook, tmp_path / "read.ipynb", "-p", "grid", name]
    subprocess.run([*command, "-p", "figures_dir", tmp_path, "--log-level", "ERROR"], cwd=PROJECT, check=True)
    recorded = [cell for cell in grid.cells if (PROJECT / f"results/{name}/{cell.name}.json").exists()]
    for picture in kind_of(grid).pictures(dataclasses.replace(grid, cells=recorded)):
        committed = PROJECT / f"figures/{name}/{picture}"
        assert committed.with_suffix(".svg").stat().st_size > 5_000
        differs = compare_images(f"{committed}.png", str(tmp_path / f"{picture}.png"), tol=1)  # None: they do not
        assert differs is None, f"make publish: {differs}"


@pytest.mark.slow
def test_so_are_those_that_need_no_record(tmp_path):
    save(draw_idea(), tmp_path, "idea")
    pictures = {"idea": "idea"}
    for result in speed.load(PROJECT / "benchmarks/results"):
        save(speed.draw(result), tmp_path, result["name"])
        pictures[result["name"]] = f"speed/{result['name']}"
    for name, committed in pictures.items():
        differs = compare_images(str(PROJECT / f"figures/{committed}.png"), str(tmp_path / f"{name}.png"), tol=1)
        assert differs is None, f"make publish: {differs}"
