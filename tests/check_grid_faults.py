"""Grids under faults, by `make reproduce`: kills, two engines, full and read-only disks, data that vanishes, damaged records.
The longer form of the first test is `make test-faults`."""

import os
import shutil
import signal
import subprocess

import pytest
import torch
from faults import kill_and_finish
from helpers import make_record, small_disk
from workshop import command, make_workshop, processes_in, reproduce, wait_for

from persist import load_grid, load_records, train
from persist.data import cores

BASE = "{dataset: digits, train_size: 64, test_size: 20, width: 0.03, padding: alexnet, epochs: 2, lr: 0.01}"
pytestmark = pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks for processes in /proc")


@pytest.fixture
def workshop(project, tmp_path):
    return make_workshop(project, tmp_path)


def write_grid(workshop, name, cells):
    path = workshop / f"grids/{name}.yaml"
    path.write_text(f"base: {BASE}\ncells: {cells}\n")
    return load_grid(path).cells


def assert_one_line(run, *parts):
    """It failed with one line of ours, and no traceback."""
    output = run.stdout + run.stderr
    assert run.returncode != 0 and "Traceback" not in output, output
    [line] = [line for line in output.splitlines() if "error: " in line.lower() and not line.startswith("make: ")]
    for part in parts:
        assert part in line, line


def test_two_kills_inside_a_cell_lose_nothing(project, tmp_path):
    text = f"base: {BASE}\ncells: [{{m: 32, K: 5, epochs: 100}}]\n"
    (tmp_path / "grid.yaml").write_text(text)
    [cell] = load_grid(tmp_path / "grid.yaml").cells
    threads = torch.get_num_threads()
    torch.set_num_threads(cores())  # as Snakemake sets them
    try:
        expected = {cell.name: train(cell)}
    finally:
        torch.set_num_threads(threads)
    figures = kill_and_finish(project, tmp_path, text, expected, kills=2, seed=0, say=lambda *_, **__: None)
    assert (
        figures
        == "kills tried: 2 (engine 1, papermill 1, kernel 0, group 0; inside a cell: 2; seed 0); records compared: 1, of them resumed: 1; lost: 0"
    )


def test_two_engines_one_of_them_without_make(workshop):
    """Nothing keeps them apart: both train the same cells. Each cell has one whole record in the end, the first that was saved."""
    cells = write_grid(workshop, "two", "[{m: 32, K: [1, 2]}]")
    plain = ["snakemake", "--profile", "profiles/default", "--nolock", "--config", "grid=two"]
    both = [
        subprocess.Popen(c, cwd=workshop, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for c in (command("two"), plain)
    ]
    seen = {}
    while any(engine.poll() is None for engine in both):
        for record in load_records(workshop / "runs/two") if (workshop / "runs/two").is_dir() else []:
            assert seen.setdefault(record.cell, record) == record, "a record that was saved never changes"
        try:
            both[0].wait(0.1)
        except subprocess.TimeoutExpired:
            pass
    outputs = [engine.communicate()[0] for engine in both]
    assert [engine.returncode for engine in both] == [0, 0], outputs
    assert {record.cell for record in load_records(workshop / "runs/two")} == set(cells)


def test_a_stale_lock_of_snakemake_needs_no_hand(workshop):
    """Plain snakemake, killed, leaves a lock; make goes on all the same."""
    write_grid(workshop, "stale", "[{m: 32, K: 1}]")
    engine = subprocess.Popen(
        ["snakemake", "--profile", "profiles/default", "--config", "grid=stale"],
        cwd=workshop,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    wait_for(lambda: any("bin/papermill" in line for line in processes_in(workshop).values()), 120)
    engine.kill()
    engine.wait()
    wait_for(lambda: not processes_in(workshop), 60)
    assert list((workshop / ".snakemake/locks").iterdir())
    assert reproduce(workshop, "stale").returncode == 0
    assert len(load_records(workshop / "runs/stale")) == 1


def test_data_that_vanishes_in_mid_run(workshop, cifar10_root):
    """The cell that trains has its data in memory; the next says what is missing; the same command goes on once it is back."""
    cells = write_grid(workshop, "vanish", "[{m: 32, K: [1, 2], dataset: cifar10, epochs: 30}]")
    shutil.copytree(
        cifar10_root / "cifar-10-batches-py",
        workshop / "data/cifar-10-batches-py",
        copy_function=lambda a, b: os.symlink(os.path.realpath(a), b),
    )
    # nothing is downloaded meanwhile
    environment = {"PERSIST_DATA": "data", "https_proxy": "http://127.0.0.1:9", "PERSIST_CHECKPOINT_EVERY": "0"}
    engine = subprocess.Popen(
        command("vanish"),
        cwd=workshop,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    wait_for(lambda: list((workshop / "runs/vanish").glob("checkpoints/*.pt")), 180)
    os.rename(workshop / "data", workshop / "gone")
    output, _ = engine.communicate(timeout=300)
    assert engine.returncode != 0
    [record] = load_records(workshop / "runs/vanish")
    [missing] = set(cells) - {record.cell}
    assert (
        f"{missing.name}: DataError: CIFAR-10 was not found: looked for the folder cifar-10-batches-py in" in output
        and "set PERSIST_DATA" in output
    )
    os.path.isdir(workshop / "data") and os.rmdir(workshop / "data")
    os.rename(workshop / "gone", workshop / "data")
    assert reproduce(workshop, "vanish", **environment).returncode == 0
    assert {r.cell for r in load_records(workshop / "runs/vanish")} == set(cells) and record in load_records(
        workshop / "runs/vanish"
    )


def test_a_full_or_read_only_disk_is_one_line_before_anything_trains(workshop):
    [cell] = write_grid(workshop, "disk", "[{m: 32, K: 1}]")
    (workshop / "runs").mkdir()
    with small_disk(workshop / "runs", 2**20):
        (workshop / "runs/.lock").touch()
        (workshop / "runs/filler").write_bytes(bytes(2**20 - 2**15))
        assert_one_line(
            reproduce(workshop, "disk"),
            "error: the folder of the records must be a folder that can be written, not 'runs/disk': No space left on device",
        )
    with small_disk(workshop / "runs", 2**20, "ro"):
        run = reproduce(workshop, "disk")
        assert (
            run.returncode != 0
            and "cannot touch 'runs/.lock': Read-only file system" in run.stderr
            and "Traceback" not in run.stderr
        )
        assert "another make reproduce" not in run.stdout


def test_a_damaged_record_is_one_line_before_anything_trains_and_stays(workshop):
    done, _ = write_grid(workshop, "damaged", "[{m: 32, K: [1, 2]}]")
    path = workshop / f"runs/damaged/{done.name}.json"
    make_record(done).save(path)
    truncated = path.read_bytes()[:-50]
    path.write_bytes(truncated)
    assert_one_line(
        reproduce(workshop, "damaged"),
        f"error: runs/damaged/{done.name}.json is not a record: ",
        "or delete it and train its cell again",
    )
    assert path.read_bytes() == truncated and len(list(path.parent.glob("*.json"))) == 1


def test_a_grid_stays_in_its_folder(workshop):
    """Its name is part of paths."""
    (workshop / "elsewhere.yaml").write_text(f"base: {BASE}\ncells: [{{m: 32}}]\n")
    message = "a grid is named like its file in grids/, without .yaml: letters, digits, - and _, beginning with a letter or digit, not "
    for name in ("../elsewhere", "smoke.yaml", "two words", "/tmp/x", "--help"):
        assert_one_line(reproduce(workshop, name), f"error: {message}{name!r}")
    plain = ["snakemake", "--profile", "profiles/default", "--config", "grid=../elsewhere"]
    run = subprocess.run(plain, cwd=workshop, capture_output=True, text=True)
    assert run.returncode != 0 and message in run.stderr and "Traceback" not in run.stderr
    assert not (workshop / "elsewhere").exists() and os.listdir(workshop / "runs") == [".lock"]


def test_snakemake_alone_refuses_a_broken_grid_without_a_traceback(workshop):
    (workshop / "grids/bad.yaml").write_text(f"base: {BASE}\ncells: [{{m: 0}}]\n")
    run = subprocess.run(
        ["snakemake", "--profile", "profiles/default", "--config", "grid=bad"],
        cwd=workshop,
        capture_output=True,
        text=True,
    )
    assert (
        run.returncode != 0
        and "grids/bad.yaml: m must be an int from 1 to 64" in run.stderr
        and "Traceback" not in run.stderr
    )


def test_ctrl_c_ends_all_and_says_how_to_go_on(workshop):
    write_grid(workshop, "stopped", "[{m: 32, K: 1}, {m: 32, K: 2, epochs: 100000}]")
    engine = subprocess.Popen(
        command("stopped"), cwd=workshop, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "PERSIST_CHECKPOINT_EVERY": "0"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test that runs in the background ignores it
    )  # fmt: skip
    wait_for(lambda: list((workshop / "runs/stopped").glob("checkpoints/*-e100000-*.pt")), 180)
    os.killpg(engine.pid, signal.SIGINT)
    output, _ = engine.communicate(timeout=120)
    assert (
        engine.returncode != 0
        and "What was trained is kept in runs/stopped; the same command goes on from there." in output
    )
    assert not list((workshop / "runs/stopped").glob("figure*")), "no figure is drawn for one who wants to stop"
    wait_for(lambda: not processes_in(workshop), 60)
