"""The README's cluster section, run on a real Slurm: `make test-slurm`, after tests/slurm/start.sh. Nothing is skipped."""

import os
import re
import subprocess

import pytest
import torch
from helpers import numbers
from workshop import make_workshop, processes_in, wait_for

from persist import load_grid, load_records, train

PATIENCE = 1800  # seconds; every job starts Python three times, and a busy machine is slow


def readme_command(project, grid) -> str:
    """The command of the README's cluster section, for this grid and the partition of tests/slurm/start.sh."""
    section = re.search(r"\n## On a cluster\n(.*?)\n## ", (project / "README.md").read_text(), re.DOTALL)[1]
    [command] = re.findall(r"^make reproduce .*$", section, re.MULTILINE)
    assert "GRID=smoke PROFILE=slurm " in command and command.endswith('=PARTITION"')
    # READY= : what `make` would set up in .venv is what these tests run with
    return command.replace("GRID=smoke ", f"GRID={grid} READY= ").replace("=PARTITION", "=trial")


def start(project, folder, grid, **environment):
    return subprocess.Popen(
        readme_command(project, grid),
        shell=True,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


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
    engine = start(project, workshop, "smoke")
    output, _ = engine.communicate(timeout=PATIENCE)
    assert engine.returncode == 0, output
    assert output.count("has been submitted with SLURM jobid") == 15 and "17 of 17 steps (100%) done" in output
    records = load_records(workshop / "runs/smoke")
    assert {record.cell for record in records} == set(load_grid(project / "grids/smoke.yaml").cells) and len(
        records
    ) == 15
    assert {record.environment["threads"] for record in records} == {1}, "the cores of profiles/slurm"
    assert len(list((workshop / "runs/smoke").glob("figure*.png"))) == 5


def test_a_failing_cell_and_one_killed_by_scancel(project, workshop):
    """The others finish, the error is shown, and the same command picks the killed one up where it was."""
    base = "{dataset: digits, train_size: 640, test_size: 20, width: 0.03, padding: alexnet, epochs: 2, lr: 0.01}"
    cells = "[{m: 32, K: 1}, {m: 64, K: 2, epochs: 100}, {m: 32, K: 1, dataset: cifar10}]"
    (workshop / "grids/trouble.yaml").write_text(
        f"base: {base}\nresources: {{gpu: 0, mem_mb: 2000, runtime: 10}}\ncells: {cells}\n"
    )
    good, killed, failing = load_grid(workshop / "grids/trouble.yaml").cells
    (workshop / "cifar/cifar-10-batches-py").mkdir(parents=True)  # an empty one: damaged
    runs, environment = workshop / "runs/trouble", {"PERSIST_DATA": "cifar", "PERSIST_CHECKPOINT_EVERY": "0"}

    engine = start(project, workshop, "trouble", **environment)
    wait_for((runs / f"checkpoints/{killed.name}.pt").exists, PATIENCE)
    [job] = [job for job, comment in jobs(workshop).items() if comment.endswith(killed.name)]
    subprocess.run(["scancel", job], check=True)
    output, _ = engine.communicate(timeout=PATIENCE)
    assert engine.returncode != 0
    assert f"{failing.name}: DataError: CIFAR-10 in cifar/cifar-10-batches-py is damaged" in output, output
    assert f"{killed.name}: it was cut off" in output and "the same command goes on from there" in output
    [record] = load_records(runs)
    assert record.cell == good
    wait_for(lambda: not processes_in(workshop), 60)  # nothing that scancel left running

    again = start(project, workshop, "trouble", **environment)
    output, _ = again.communicate(timeout=PATIENCE)
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
