"""The grid smoke by `make reproduce`, through Snakemake and papermill, from nothing."""

import json
import os

import pytest
from workshop import make_workshop, reproduce, state

from persist import load_grid, load_records


@pytest.fixture(scope="module")
def smoke(project, tmp_path_factory):
    folder = make_workshop(project, tmp_path_factory.mktemp("smoke"))
    return folder, reproduce(folder, "smoke")


def test_the_smoke_grid_from_nothing(smoke, project):
    folder, run = smoke
    assert run.returncode == 0, run.stderr
    records = load_records(folder / "runs/smoke")
    assert {r.cell for r in records} == set(load_grid(project / "grids/smoke.yaml").cells) and len(records) == 15
    assert all(r.status == "finished" and len(r.environment["data_sha256"]) == 64 for r in records)
    pictures = [folder / "runs/smoke" / f"figure{n}.{s}" for n in range(1, 6) for s in ("png", "svg")]
    assert all(p.stat().st_size > 10_000 for p in pictures)
    notebooks = list((folder / "runs/smoke/notebooks").glob("*.ipynb"))
    assert {p.stem for p in notebooks} == {r.cell.name for r in records}


def test_cells_are_trained_in_the_order_of_the_grid(smoke):
    folder, _ = smoke
    written = sorted((folder / "runs/smoke").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    assert [path.stem for path in written] == [cell.name for cell in load_grid(folder / "grids/smoke.yaml").cells]


def test_progress_is_visible_while_it_runs(smoke):
    output = smoke[1].stdout + smoke[1].stderr
    assert "smoke: 0 of 15 cells done, 1 starts now, 14 left" in output
    assert "smoke: 14 of 15 cells done, 1 starts now, 0 left; about" in output
    assert output.count(": epoch 2/2, test loss") == 15 and "17 of 17 steps (100%) done" in output


def test_a_finished_grid_is_not_trained_again_for_a_time_stamp(smoke):
    folder, _ = smoke
    before = state(folder / "runs/smoke")
    for path in (folder / "grids/smoke.yaml", folder / "notebooks/cell.ipynb"):
        os.utime(path)
    (folder / "grids/smoke.yaml").write_text("# a new comment\n" + (folder / "grids/smoke.yaml").read_text())
    run = reproduce(folder, "smoke")
    assert run.returncode == 0 and "Nothing to be done" in run.stdout + run.stderr
    assert state(folder / "runs/smoke") == before


def test_only_a_deleted_cell_is_trained_again_and_gives_the_same_numbers(smoke):
    folder, _ = smoke
    before = state(folder / "runs/smoke")
    [gone] = (folder / "runs/smoke").glob("digits-m512-K5-kmu-*.json")
    old = json.loads(gone.read_text())
    gone.unlink()
    assert reproduce(folder, "smoke").returncode == 0
    after = state(folder / "runs/smoke")
    assert {name for name in after if after[name] != before[name]} == {gone.name} and set(after) == set(before)
    accuracies = [[e["test_accuracy"] for e in record["history"]] for record in (old, json.loads(gone.read_text()))]
    assert accuracies[0] == accuracies[1]
