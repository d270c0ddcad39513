"""Grids by `make reproduce`, through Snakemake and papermill, each in a folder of its own: what fails, diverges, loads,
is unfinished, is of another kind or is refused."""

import os
import subprocess
from pathlib import Path

import nbformat
import pytest
from helpers import make_record
from workshop import PATIENCE, environment, make_workshop, reproduce, state, write_grid

from persist import load_grid, load_records
from persist.evidence.kinds import kind_of
from persist.grids import find_records

pytestmark = pytest.mark.slow


@pytest.fixture
def workshop(project, tmp_path):
    return make_workshop(project, tmp_path)


def errors(notebook):
    outputs = [o for cell in nbformat.read(notebook, as_version=4).cells for o in cell.get("outputs", [])]
    return [output.ename for output in outputs if output.output_type == "error"]


def test_runs_that_diverge_fail_and_load_in_the_order_of_the_grid(workshop):
    """On one core. A failing run, on a damaged CIFAR-10, stops no other; the rest is drawn with what there is."""
    diverges, fails, loads, plain = write_grid(
        workshop,
        "mixed",
        "{m: 32, K: 5, lr: 1.0e+30, epochs: 9}, {m: 512, K: 2, dataset: cifar10, train_size: 512, epochs: 9}, "
        "{m: 32, K: 2, pipeline: loader}, {m: 32, K: 1}",
    )
    (workshop / "cifar/cifar-10-batches-py").mkdir(parents=True)
    runs, so_far = workshop / "runs/mixed", workshop / "runs/mixed/unfinished" / f"{fails.name}.json"
    so_far.parent.mkdir(parents=True)
    so_far.write_text("damaged")  # nothing that a run needs; but nothing can be drawn from it
    code, output = reproduce(workshop, "mixed", "--cores", "1", PERSIST_DATA="cifar")
    assert code != 0 and "Not finished. What was trained is kept in runs/mixed" in output
    assert f"{fails.name}: DataError: CIFAR-10 in cifar/cifar-10-batches-py is damaged: " in output
    assert errors(runs / f"notebooks/{fails.name}.ipynb") == ["DataError"]
    assert "Nothing was drawn; why stands in runs/mixed/drawing.log" in output
    assert f"{fails.name}.json is not a record" in (runs / "drawing.log").read_text()

    ended = sorted(runs.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    assert [path.stem for path in ended] == [cell.name for cell in (diverges, loads, plain)], "the order of the grid"
    records = {record.cell: record for record in load_records(runs)}
    assert [records[cell].status for cell in (diverges, loads, plain)] == ["diverged", "finished", "finished"]
    assert len(records[diverges].history) < 9
    if len(os.sched_getaffinity(0)) > 1 and not records[plain].environment["cuda"]:
        assert len(set(records[loads].environment["pinned"])) == 2 and len(records[plain].environment["pinned"]) == 1

    # once more: what is there stays, only the failed run is tried again; one that is unfinished is drawn as such
    before = state(runs) | {so_far.name: None}
    make_record(fails, stopped_at=4).save(so_far)
    code, output = reproduce(workshop, "mixed", PERSIST_DATA="cifar")
    assert code != 0 and output.count("epoch 1/") == 0 and "Nothing was drawn" not in output
    assert state(runs) | {so_far.name: None} == before
    assert [r.status for r in find_records([diverges, fails, loads, plain], [runs])].count("unfinished") == 1
    assert all((runs / f"figure{n}.png").stat().st_size > 10_000 for n in (1, 3)), "m = 32 and 512"
    assert "<td>4 of 9</td>" in (runs / "read.ipynb").read_text()


GRIDS = [load_grid(path) for path in sorted((Path(__file__).parents[2] / "grids").glob("*.yaml"))]
OF_EACH_KIND = {grid.kind: grid for grid in GRIDS if grid.kind != "figures"}  # those are drawn in the other tests


@pytest.mark.parametrize("grid", OF_EACH_KIND.values(), ids=OF_EACH_KIND)
def test_each_kind_of_grid_is_drawn_by_its_own_notebook(workshop, grid):
    """The records are there already; those of the grid beside it come from results/, where none were trained here."""
    for cell in grid.cells:
        make_record(cell).save(workshop / f"runs/{grid.name}/{cell.name}.json")
    for cell in load_grid(workshop / f"grids/{grid.beside}.yaml").cells if grid.beside else []:
        make_record(cell).save(workshop / f"results/{grid.beside}/{cell.name}.json")
    code, output = reproduce(workshop, grid.name)
    assert code == 0, output
    for picture in kind_of(grid).pictures(grid):
        for suffix in ("png", "svg"):
            assert (workshop / f"runs/{grid.name}/{picture}.{suffix}").stat().st_size > 10_000
    assert not errors(workshop / f"runs/{grid.name}/read.ipynb")


def test_snakemake_alone_refuses_a_broken_grid_and_a_name_that_leads_elsewhere_without_a_traceback(workshop):
    write_grid(workshop, "bad", "{m: 32}")
    (workshop / "grids/bad.yaml").write_text("cells: [{m: 0}]\n")
    (workshop / "elsewhere.yaml").write_text("cells: [{m: 32}]\n")
    for name, message in (
        ("bad", "grids/bad.yaml: m must be an int from 1 to 50000"),
        ("../elsewhere", "a grid is named like its file in grids/, without .yaml: "),
    ):
        plain = ["snakemake", "--workflow-profile", "profiles/default", "--config", f"grid={name}"]
        run = subprocess.run(
            plain, cwd=workshop, env=environment(workshop), capture_output=True, text=True, timeout=PATIENCE
        )
        assert run.returncode != 0 and message in run.stderr and "Traceback" not in run.stderr, run.stderr
    assert not (workshop / "elsewhere").exists() and not (workshop / "runs").exists()
