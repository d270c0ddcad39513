"""The grid smoke by `make reproduce`, through Snakemake and papermill, from nothing, as many runs at once as cores."""

import json
import os
import re

import pytest
from workshop import make_workshop, reproduce, state

from persist import load_grid, load_records

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(project, tmp_path_factory):
    folder = make_workshop(project, tmp_path_factory.mktemp("smoke"))
    return folder, *reproduce(folder, "smoke")


def test_the_smoke_grid_from_nothing(smoke, project):
    folder, code, output = smoke
    assert code == 0, output
    records = load_records(folder / "runs/smoke")
    assert {r.cell for r in records} == set(load_grid(project / "grids/smoke.yaml").cells) and len(records) == 15
    assert all(r.status == "finished" and len(r.environment["data_sha256"]) == 64 for r in records)
    assert not list((folder / "runs/smoke/unfinished").glob("*"))
    pictures = [folder / "runs/smoke" / f"figure{n}.{s}" for n in range(1, 6) for s in ("png", "svg")]
    assert all(p.stat().st_size > 10_000 for p in pictures)
    notebooks = list((folder / "runs/smoke/notebooks").glob("*.ipynb"))
    assert {p.stem for p in notebooks} == {r.cell.name for r in records}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_every_run_has_one_thread_on_a_core_of_its_own_and_all_cores_work(smoke):
    where = [record.environment for record in load_records(smoke[0] / "runs/smoke") if not record.environment["cuda"]]
    assert all(e["threads"] == len(e["pinned"]) == 1 for e in where)
    used = {e["pinned"][0] for e in where}
    assert used <= os.sched_getaffinity(0) and (len(used) > 1 or not where or len(os.sched_getaffinity(0)) == 1)


def test_progress_is_visible_while_it_runs(smoke):
    _, _, output = smoke
    assert "smoke: 0 of 15 " in output and re.search(r"smoke: 1[0-4] of 15 .*; about .* to go", output)
    assert output.count(": epoch 2/2, test loss") == 15 and "17 of 17 steps (100%) done" in output


def test_a_finished_grid_is_not_trained_again_for_a_time_stamp(smoke):
    folder, *_ = smoke
    before = state(folder / "runs/smoke")
    for path in (folder / "grids/smoke.yaml", folder / "notebooks/cell.ipynb"):
        os.utime(path)
    (folder / "grids/smoke.yaml").write_text("# a new comment\n" + (folder / "grids/smoke.yaml").read_text())
    code, output = reproduce(folder, "smoke")
    assert code == 0 and "Nothing to be done" in output and state(folder / "runs/smoke") == before


def test_only_a_deleted_run_is_trained_again_and_gives_the_same_numbers(smoke):
    folder, *_ = smoke
    before = state(folder / "runs/smoke")
    [gone] = (folder / "runs/smoke").glob("digits-m512-K5-kmu-*.json")
    old = json.loads(gone.read_text())
    gone.unlink()
    code, output = reproduce(folder, "smoke")
    assert code == 0, output
    after = state(folder / "runs/smoke")
    assert {name for name in after if after[name] != before[name]} == {gone.name} and set(after) == set(before)
    accuracies = [[e["test_accuracy"] for e in record["history"]] for record in (old, json.loads(gone.read_text()))]
    assert accuracies[0] == accuracies[1]
