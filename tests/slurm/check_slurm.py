"""docs/cluster.md, run on a real Slurm: `make test-slurm`, after tests/slurm/start.sh. Nothing is skipped."""

import re
import subprocess

import pytest
import torch
from helpers import numbers
from workshop import finish, make_workshop, processes_in, start, wait_for, write_grid

from persist import load_grid, load_records, train


def on_the_cluster(project, grid) -> list[str]:
    """The command of docs/cluster.md, for this grid and the partition of tests/slurm/start.sh."""
    [command] = re.findall(r"^make reproduce .*$", (project / "docs/cluster.md").read_text(), re.MULTILINE)
    assert "GRID=smoke PROFILE=slurm " in command and command.endswith('=PARTITION"')
    # READY= : what `make` would set up in .venv is what these tests run with
    return ["bash", "-c", command.replace("GRID=smoke ", f"GRID={grid} READY= ").replace("=PARTITION", "=trial")]


def jobs(folder) -> dict[str, str]:
    """Job id -> its comment, which has the name of its cell, of the jobs sent from this folder and no others."""
    lines = subprocess.run(
        ["squeue", "--noheader", "--format", "%i|%Z|%k"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return {job: comment for job, where, comment in (line.split("|", 2) for line in lines) if where == str(folder)}


@pytest.fixture
def workshop(project, tmp_path):
    yield make_workshop(project, tmp_path)
    if left := jobs(tmp_path):
        subprocess.run(["scancel", *left], check=True)


def test_the_smoke_grid_from_nothing_through_sbatch(project, workshop):
    engine = start(workshop, on_the_cluster(project, "smoke"))
    output = finish(engine)
    assert engine.returncode == 0, output
    assert output.count("has been submitted with SLURM jobid") == 15 and "17 of 17 steps (100%) done" in output
    records, cells = load_records(workshop / "runs/smoke"), load_grid(project / "grids/smoke.yaml").cells
    assert len(records) == 15 and {record.cell for record in records} == set(cells)
    assert {record.environment["threads"] for record in records} == {1}, "the cores of profiles/slurm"
    assert len(list((workshop / "runs/smoke").glob("figure*.png"))) == 5


def test_a_failing_cell_and_one_killed_by_scancel(project, workshop):
    """The others finish, the error is shown, and the same command picks the killed one up where it was."""
    cells = "{m: 32}, {m: 64, K: 2, train_size: 640, epochs: 300}, {m: 32, dataset: cifar10}"
    good, killed, failing = write_grid(workshop, "trouble", cells)
    (workshop / "cifar/cifar-10-batches-py").mkdir(parents=True)  # an empty one: damaged
    runs, environment = workshop / "runs/trouble", {"PERSIST_DATA": "cifar", "PERSIST_CHECKPOINT_EVERY": "0"}

    engine = start(workshop, on_the_cluster(project, "trouble"), **environment)
    wait_for((runs / f"unfinished/{killed.name}.pt").exists)
    [job] = [job for job, comment in jobs(workshop).items() if comment.endswith(killed.name)]
    subprocess.run(["scancel", job], check=True)
    output = finish(engine)
    assert engine.returncode != 0
    assert f"{failing.name}: DataError: CIFAR-10 in cifar/cifar-10-batches-py is damaged" in output, output
    assert f"{killed.name}: it was cut off" in output and "the same command goes on from there" in output
    [record] = load_records(runs)
    assert record.cell == good
    wait_for(lambda: not processes_in(workshop))  # nothing that scancel left running

    output = finish(start(workshop, on_the_cluster(project, "trouble"), **environment))
    assert output.count("has been submitted with SLURM jobid") == 2, output
    records = {record.cell: record for record in load_records(runs)}
    assert set(records) == {good, killed} and records[killed].resumed == 1 and records[good] == record
    assert numbers(records[killed]) == undisturbed(killed)


def undisturbed(cell):
    """The numbers of the same cell in one go, with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return numbers(train(cell))
    finally:
        torch.set_num_threads(threads)
