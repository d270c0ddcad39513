"""What is printed while runs train: a line or a bar for each evaluation, the state of a grid, what failed."""

import builtins
import json

import pytest
from helpers import make_record

from persist import Cell
from persist.notebook.progress import duration, failures, grid_progress, interactive, progress_line

CELL = Cell(m=32, K=5, lr_policy="kmu", dataset="digits", epochs=3)


def test_a_line_says_which_run_how_far_what_it_reached_and_the_time_left():
    # wall: 20 s for each epoch and its use of K = 5, and 1 s for each evaluation
    lines = [progress_line(CELL, entry) for entry in make_record(CELL, seconds=20, diverged_at=3).history]
    assert lines == [
        "m=32 K=5 kmu: epoch 1/3, test loss 2.8000, accuracy 0.4541, 3 min left",
        "m=32 K=5 kmu: epoch 2/3, test loss 1.6500, accuracy 0.6689, 2 min left",
        "m=32 K=5 kmu: epoch 3/3, test loss not finite, accuracy not finite, 0 s left",
    ]


def test_evaluations_within_an_epoch_are_told_by_its_part():
    cell = Cell(m=100, dataset="digits", train_size=1000, epochs=2, evaluate_every=500)
    lines = [progress_line(cell, entry).split(", ") for entry in make_record(cell, seconds=9).history]
    assert [line[0] for line in lines] == [f"m=100 K=1: epoch {part}/2" for part in ("0.5", "1", "1.5", "2")]
    assert [line[-1] for line in lines] == ["30 s left", "20 s left", "10 s left", "0 s left"]


def test_somebody_looks_at_a_notebook_that_does_not_run_in_batch(monkeypatch):
    monkeypatch.delenv("PERSIST_BATCH", raising=False)
    assert not interactive(), "plain Python"
    monkeypatch.setattr(builtins, "get_ipython", lambda: None, raising=False)
    assert interactive()
    monkeypatch.setenv("PERSIST_BATCH", "1")
    assert not interactive()


def test_a_grid_counts_its_records(tmp_path):
    cells = [Cell(m=m, dataset="digits", epochs=2) for m in (32, 64, 128, 256)]
    assert grid_progress(cells, tmp_path) == "0 of 4 runs done"
    record = make_record(cells[0], seconds=29.0)  # wall: 30 s for an epoch
    record.save(tmp_path / f"{cells[0].name}.json")
    make_record(cells[2], seconds=89, stopped_at=1).save(tmp_path / "unfinished" / f"{cells[2].name}.json")  # 90 s
    (tmp_path / "unfinished" / f"{cells[3].name}.json").write_text("damaged")  # the checkpoint beside it counts
    # five epochs are left, at the mean of the three that are done: 50 s
    assert grid_progress(cells, tmp_path) == "1 of 4 runs done, 1 begun; about 4 min to go, one run after the other"
    for cell in cells:
        make_record(cell).save(tmp_path / f"{cell.name}.json")
    assert grid_progress(cells, tmp_path) == "4 of 4 runs done"


def test_the_cells_that_failed_are_named_with_their_errors(tmp_path):
    cells = [Cell(m=m, dataset="digits", epochs=2) for m in (32, 64, 128, 256)]
    make_record(cells[0]).save(tmp_path / f"{cells[0].name}.json")
    error = {"output_type": "error", "ename": "DataError", "evalue": "CIFAR-10 in data is damaged", "traceback": []}
    notebook = json.dumps(
        {"cells": [{"cell_type": "markdown"}, {"cell_type": "code", "outputs": [{"output_type": "stream"}, error]}]}
    )
    (tmp_path / "notebooks").mkdir()
    # one that has a record since; one that failed; one cut off
    for cell, content in zip(cells, (notebook, notebook, notebook[:-40])):
        (tmp_path / f"notebooks/{cell.name}.ipynb").write_text(content)
    assert failures(cells, tmp_path) == [
        f"{cells[1].name}: DataError: CIFAR-10 in data is damaged (in {tmp_path}/notebooks/{cells[1].name}.ipynb)",
        f"{cells[2].name}: it was cut off (in {tmp_path}/notebooks/{cells[2].name}.ipynb)",
    ]


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min"), (7200, "2.0 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
