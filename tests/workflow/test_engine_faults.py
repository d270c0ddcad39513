"""Grids and runs under faults: kills, Ctrl-C, two engines, data that vanishes. The longer form of the first test is
`make test-faults`."""

import os
import shutil
import signal
import sys

import pytest
from faults import kill_and_finish
from workshop import (
    TINY,
    command,
    finish,
    make_workshop,
    processes_in,
    start,
    wait_for,
    write_grid,
)

from persist import load_records
from persist.record import RecordError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks for processes in /proc"),
]
AT_ONCE = min(2, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else 1


@pytest.fixture
def workshop(project, tmp_path):
    return make_workshop(project, tmp_path)


def records_in(folder):
    """Those that can be read just now; a run that ends takes its unfinished record away."""
    try:
        return load_records(folder)
    except (FileNotFoundError, RecordError) as error:
        assert "is not a folder" in str(error) or isinstance(error, FileNotFoundError), error
        return []


def test_two_kills_inside_runs_lose_nothing(project, tmp_path):
    """Two runs at once, where there are two cores: engine or papermill killed after a checkpoint, and all goes on."""
    grid = {"resources": "{gpu: 0, mem_mb: 1000}", "base": f"{{{TINY}}}", "cells": "[{m: 32, K: [5, 2], epochs: 200}]"}
    text = "\n".join(f"{key}: {value}" for key, value in grid.items())
    figures = kill_and_finish(project, tmp_path, text, kills=2, seed=0, say=lambda text: None)
    assert figures.startswith("kills tried: 2 (engine 1, papermill 1, kernel 0, group 0; inside a run: 2; seed 0)")
    assert f"runs at once: {AT_ONCE}; records compared: 2, of them resumed: " in figures
    assert "resumed: 0" not in figures and figures.endswith("lost: 0")


def test_a_run_whose_kernel_dies_is_tried_once_more_from_its_checkpoint(workshop):
    [cell] = write_grid(workshop, "dies", "{m: 32, K: 5, epochs: 300}")
    engine = start(workshop, command("dies"), PERSIST_CHECKPOINT_EVERY="0")
    wait_for((workshop / f"runs/dies/unfinished/{cell.name}.pt").exists)
    [kernel] = [pid for pid, line in processes_in(workshop).items() if "ipykernel_launcher" in line]
    os.kill(kernel, signal.SIGKILL)
    output = finish(engine)
    [record] = load_records(workshop / "runs/dies")
    assert engine.returncode == 0 and record.resumed == 1, output


def test_ctrl_c_ends_all_and_says_how_to_go_on(workshop):
    """Meanwhile: two runs at once, each with one thread on a core of its own; what they have so far can be recorded."""
    write_grid(workshop, "stopped", "{m: 32, K: [1, 2], epochs: 100000}")
    unfinished = workshop / "runs/stopped/unfinished"
    engine = start(workshop, command("stopped"), PERSIST_CHECKPOINT_EVERY="0")
    wait_for(lambda: len(records_in(unfinished)) == AT_ONCE)
    running = records_in(unfinished)
    assert all(r.status == "unfinished" and r.environment["threads"] == 1 for r in running)
    assert len({tuple(r.environment["pinned"]) for r in running}) == AT_ONCE, "no core for two"
    record = start(workshop, [sys.executable, "-m", "persist", "record", "stopped"])
    assert f"{AT_ONCE} records copied into results/stopped" in finish(record)
    assert all(r.status == "unfinished" for r in load_records(workshop / "results/stopped"))
    os.killpg(engine.pid, signal.SIGINT)
    output = finish(engine)
    assert engine.returncode != 0
    assert "What was trained is kept in runs/stopped; the same command goes on from there." in output
    assert not list((workshop / "runs/stopped").glob("figure*")), "no figure is drawn for one who wants to stop"
    wait_for(lambda: not processes_in(workshop))
    assert len(list(unfinished.glob("*.pt"))) == AT_ONCE, "from where it goes on"


def test_a_stale_lock_needs_no_hand_and_of_two_engines_one_waits(workshop):
    """Plain snakemake, killed, leaves a lock, and make goes on all the same; then make keeps a second make out."""
    write_grid(workshop, "two", "{m: 32, K: [1, 2]}")
    plain = start(workshop, ["snakemake", "--workflow-profile", "profiles/default", "--config", "grid=two"])
    wait_for(lambda: any("bin/papermill" in line for line in processes_in(workshop).values()))
    plain.kill()
    finish(plain)
    wait_for(lambda: not processes_in(workshop))
    assert list((workshop / ".snakemake/locks").iterdir())
    engines = [start(workshop, command("two")) for _ in range(2)]
    outputs = [finish(engine) for engine in engines]
    assert [engine.returncode for engine in engines] == [0, 0], outputs
    assert sorted("another engine trains here: waiting for it" in output for output in outputs) == [False, True]
    assert sorted("Nothing to be done" in output for output in outputs) == [False, True]
    assert len(load_records(workshop / "runs/two")) == 2


def persist_train(workshop, fields, **more):
    typed = [sys.executable, "-m", "persist", "train", *(f"--{word}" for word in fields.split())]
    return start(workshop, typed, PERSIST_CHECKPOINT_EVERY="0", PERSIST_BATCH="1", **more)


def test_two_processes_that_train_the_same_run_leave_one_whole_record(workshop):
    """Nothing keeps them apart: the second may even go on from the first one's checkpoint."""
    fields = "m=32 K=2 dataset=digits train_size=100 test_size=50 width=0.05 epochs=150"
    both, seen = [persist_train(workshop, fields) for _ in range(2)], []
    while any(process.poll() is None for process in both):
        seen += records_in(workshop / "runs/mine")
    outputs = [finish(process) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    [record] = load_records(workshop / "runs/mine")
    # times may be those of either: both can find at the same moment that there is no record yet
    assert all(other.continues(record) and record.continues(other) for other in seen)
    assert not list((workshop / "runs/mine/unfinished").glob("*"))


def test_data_that_vanish_in_mid_run(workshop, cifar10_root):
    """The run that trains has its data in memory; the next says what is missing, and trains once they are back."""
    fields = "m=32 K={} dataset=cifar10 train_size=64 test_size=20 width=0.03 epochs={}"
    shutil.copytree(
        cifar10_root / "cifar-10-batches-py",
        workshop / "data/cifar-10-batches-py",
        copy_function=lambda a, b: os.symlink(os.path.realpath(a), b),
    )
    offline = {"PERSIST_DATA": "data", "https_proxy": "http://127.0.0.1:9"}  # nothing is downloaded meanwhile
    first = persist_train(workshop, fields.format(1, 500), **offline)
    wait_for(lambda: list((workshop / "runs/mine").glob("unfinished/*.json")))
    os.rename(workshop / "data", workshop / "gone")
    second = persist_train(workshop, fields.format(2, 2), **offline)
    assert "error: CIFAR-10 was not found: looked for the folder cifar-10-batches-py in" in finish(second)
    finish(first)
    assert (first.returncode, second.returncode) == (0, 1) and len(load_records(workshop / "runs/mine")) == 1
    os.rename(workshop / "gone", workshop / "data")
    assert "epoch 2/2" in finish(persist_train(workshop, fields.format(2, 2), **offline))
    assert len(load_records(workshop / "runs/mine")) == 2
