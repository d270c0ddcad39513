"""Grids by `make reproduce`, through Snakemake and papermill, each in a folder of its own: what fails, waits, stands beside or is refused."""

import re
import shutil
import subprocess

import nbformat
import pytest
from helpers import make_record
from workshop import command, make_workshop, reproduce, state

from persist import load_grid, load_records

TINY = "{dataset: digits, train_size: 64, test_size: 20, width: 0.03, padding: alexnet, epochs: 2, lr: 0.01}"


@pytest.fixture
def workshop(project, tmp_path):
    return make_workshop(project, tmp_path)


def test_a_failing_cell_stops_no_other_and_a_diverging_one_is_recorded(workshop):
    """The cell on a damaged CIFAR-10 fails; one diverges; two are sound."""
    (workshop / "grids/mixed.yaml").write_text(
        f"base: {TINY}\ncells:\n- {{m: 32, K: [1, 2]}}\n- {{m: 32, K: 1, dataset: cifar10}}\n- {{m: 32, K: 5, lr: 1.0e+30, epochs: 9}}\n"
    )
    (workshop / "cifar/cifar-10-batches-py").mkdir(parents=True)
    run = reproduce(workshop, "mixed", PERSIST_DATA=str(workshop / "cifar"))
    assert run.returncode != 0
    assert "DataError: CIFAR-10 in" in run.stderr and "data_batch_1 (it is missing)" in run.stderr
    records = {(r.cell.dataset, r.cell.K): r for r in load_records(workshop / "runs/mixed")}
    assert {key: r.status for key, r in records.items()} == {
        ("digits", 1): "finished",
        ("digits", 2): "finished",
        ("digits", 5): "diverged",
    }
    assert len(records["digits", 5].history) < 9
    [failed] = (workshop / "runs/mixed/notebooks").glob("cifar10-*.ipynb")
    outputs = [o for cell in nbformat.read(failed, as_version=4).cells for o in cell.get("outputs", [])]
    assert [o.ename for o in outputs if o.output_type == "error"] == ["DataError"]
    assert len(list((workshop / "runs/mixed").glob("figure*.png"))) == 5, "the figures are drawn with what there is"
    # once more: what is there stays, only the failed cell is tried again
    before = state(workshop / "runs/mixed")
    again = reproduce(workshop, "mixed", PERSIST_DATA=str(workshop / "cifar"))
    assert again.returncode != 0 and state(workshop / "runs/mixed") == before
    assert (again.stdout + again.stderr).count("epoch 1/") == 0


@pytest.mark.skipif(not shutil.which("flock"), reason="the lock is util-linux's flock")
def test_a_second_engine_waits_for_the_first(workshop):
    (workshop / "grids/two.yaml").write_text(f"base: {TINY}\ncells:\n- {{m: 32, K: [1, 2]}}\n")
    both = [
        subprocess.Popen(command("two"), cwd=workshop, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outputs = [engine.communicate(timeout=300)[0] for engine in both]
    assert [engine.returncode for engine in both] == [0, 0], outputs
    assert sorted("Nothing to be done" in output for output in outputs) == [False, True]
    assert len(load_records(workshop / "runs/two")) == 2


@pytest.mark.parametrize(
    "grid, pictures",
    [
        ("reduced-controls", ["controls-m32", "controls-m512-kmu"]),
        ("readings-start", ["readings"]),
        ("reduced-precision", ["precision-m32", "precision-m512"]),
    ],
)
def test_another_notebook_reads_a_grid_that_names_it(workshop, grid, pictures):
    """Its records are there already; those of the grid beside it come from results/ where none were trained here."""
    for cell in load_grid(workshop / f"grids/{grid}.yaml").cells:
        make_record(cell).save(workshop / f"runs/{grid}/{cell.name}.json")
    for cell in load_grid(workshop / "grids/reduced.yaml").cells:
        make_record(cell).save(workshop / f"results/reduced/{cell.name}.json")
    run = reproduce(workshop, grid)
    assert run.returncode == 0, run.stderr
    assert all(
        (workshop / f"runs/{grid}/{picture}.{s}").stat().st_size > 10_000
        for picture in pictures
        for s in ("png", "svg")
    )
    [notebook] = (workshop / f"runs/{grid}").glob("*.ipynb")
    assert ("K = 1 with 5µ" in notebook.read_text()) == (grid == "reduced-controls")
    assert ('beside_dir = \\"results/reduced\\"' in notebook.read_text()) == (grid != "readings-start")


def test_the_records_beside_come_from_the_folder_that_has_most_of_them(workshop):
    """A few that were trained here do not hide the recorded ones; where both are complete, those trained here are taken."""
    for cell in load_grid(workshop / "grids/reduced-controls.yaml").cells:
        make_record(cell).save(workshop / f"runs/reduced-controls/{cell.name}.json")
    cells = load_grid(workshop / "grids/reduced.yaml").cells

    def beside():
        command = [
            "snakemake",
            "--workflow-profile",
            "profiles/default",
            "--config",
            "grid=reduced-controls",
            "--dry-run",
            "--printshellcmds",
            "--quiet",
            "host",
        ]
        run = subprocess.run(command, cwd=workshop, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return re.search("beside_dir: ([^']*)'", run.stdout + run.stderr)[1]

    assert beside() == "null"
    make_record(cells[0]).save(workshop / f"runs/reduced/{cells[0].name}.json")
    assert beside() == "runs/reduced"
    for cell in cells:
        make_record(cell).save(workshop / f"results/reduced/{cell.name}.json")
    assert beside() == "results/reduced"
    for cell in cells:
        make_record(cell).save(workshop / f"runs/reduced/{cell.name}.json")
    assert beside() == "runs/reduced"


def test_a_grid_without_one_beside_it_reads_no_other_records(workshop):
    """Not those that the notebook reads where it is opened by hand."""
    (workshop / "grids/alone.yaml").write_text(
        f"base: {TINY}\nnotebook: notebooks/controls.ipynb\ncells: [{{m: 32, K: 5, reuse: spaced}}]\n"
    )
    command = [
        "snakemake",
        "--workflow-profile",
        "profiles/default",
        "--config",
        "grid=alone",
        "--dry-run",
        "--printshellcmds",
        "--quiet",
        "host",
    ]
    run = subprocess.run(command, cwd=workshop, capture_output=True, text=True)
    assert (
        run.returncode == 0
        and "notebooks/controls.ipynb" in run.stdout + run.stderr
        and "-y 'beside_dir: null'" in run.stdout + run.stderr
    )


def test_where_nothing_can_be_drawn_the_failures_are_told_all_the_same(workshop):
    """A sweep with one record and a cell that fails: TF32 on a CPU, refused when it would train."""
    (workshop / "grids/half.yaml").write_text(
        f"base: {TINY}\nnotebook: notebooks/sweep.ipynb\ncells: [{{m: 32, K: 1}}, {{m: 32, K: 5, precision: tf32}}]\n"
    )
    good, failing = load_grid(workshop / "grids/half.yaml").cells
    run = subprocess.run(
        ["snakemake", "--workflow-profile", "profiles/default", "--config", "grid=half"],
        cwd=workshop,
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0 and [r.cell for r in load_records(workshop / "runs/half")] == [good]
    assert (
        f"{failing.name}: ValueError: precision 'tf32' needs an NVIDIA GPU" in run.stderr
        and "Not finished. What was trained is kept in runs/half" in run.stderr
    )
    assert "Nothing was drawn of the cells that are there; why stands in runs/half/drawing.log" in run.stderr
    assert (workshop / "runs/half/drawing.log").stat().st_size > 0


def test_a_bad_grid_is_refused_before_anything_trains(workshop):
    (workshop / "grids/bad.yaml").write_text(f"base: {TINY}\ncells:\n- {{m: 32, K: [1, 0]}}\n")
    run = reproduce(workshop, "bad")
    assert run.returncode != 0 and run.stderr.startswith(
        "error: grids/bad.yaml: K must be an int from 1 to 1000000, not 0 (in "
    )
    assert reproduce(workshop, "nosuch").stderr.startswith(
        "error: grids/nosuch.yaml: there is no such grid; the grids in grids are: bad, controls, paper"
    )
    assert not state(workshop / "runs")
