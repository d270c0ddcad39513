"""What is printed while runs train: a line or a bar for each evaluation, the state of a grid, what failed."""

import builtins
import json
import time

import pytest
from helpers import make_record

from persist import Cell
from persist.notebook.progress import Progress, duration, failures, grid_progress

CELL = Cell(m=32, K=5, lr_policy="kmu", dataset="digits", epochs=3)


@pytest.fixture(params=[{"batch": True}, {"jupyter": False}], ids=["batch", "no notebook"])
def nobody_looks(request, monkeypatch):
    """A notebook in batch, or plain Python."""
    monkeypatch.delenv("PERSIST_BATCH", raising=False)
    if request.param.get("batch"):
        monkeypatch.setenv("PERSIST_BATCH", "1")
        monkeypatch.setattr(builtins, "get_ipython", lambda: None, raising=False)


@pytest.fixture
def somebody_looks(monkeypatch):
    monkeypatch.delenv("PERSIST_BATCH", raising=False)
    monkeypatch.setattr(builtins, "get_ipython", lambda: None, raising=False)


def test_a_log_gets_one_line_per_epoch(nobody_looks, capsys):
    progress = Progress(CELL)
    for entry in make_record(CELL, diverged_at=3).history:
        progress(entry)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("m=32 K=5 kmu: epoch 1/3, test loss 2.8000, accuracy 0.4541, ")
    assert lines[2] == "m=32 K=5 kmu: epoch 3/3, test loss not finite, accuracy not finite, 0 s left"


def test_evaluations_within_an_epoch_are_told_by_its_part(nobody_looks, capsys):
    cell = Cell(m=100, dataset="digits", train_size=1000, epochs=2, evaluate_every=500)
    progress = Progress(cell)
    for entry in make_record(cell).history:
        progress(entry)
    epochs = [line.split(", ")[0] for line in capsys.readouterr().out.splitlines()]
    assert epochs == [f"m=100 K=1: epoch {part}/2" for part in ("0.5", "1", "1.5", "2")]


def test_the_time_left_of_a_resumed_run_counts_only_its_own_epochs(nobody_looks, capsys):
    """Of 101 epochs 90 were done before; one took ten seconds just now: ten such are left, some 100 seconds."""
    cell = Cell(m=32, dataset="digits", epochs=101)
    progress = Progress(cell)
    progress.started = time.monotonic() - 10
    progress(make_record(cell).history[90])
    before, now = capsys.readouterr().out.splitlines()
    assert before == "goes on after epoch 90, where a checkpoint was" and now.endswith(", 2 min left")


def test_where_somebody_looks_there_is_a_bar(somebody_looks, capsys):
    progress = Progress(CELL)
    for entry in make_record(CELL).history:
        progress(entry)
    out = capsys.readouterr().out
    for n, accuracy in ((1, 0.4541), (2, 0.6689), (3, 0.7992)):
        assert f"accuracy {accuracy}" in out and f"{n}/3" in out


def test_a_grid_counts_its_records(tmp_path):
    cells = [Cell(m=m, dataset="digits", epochs=2) for m in (32, 64, 128, 256)]
    assert grid_progress(cells, tmp_path).startswith("0 of 4 ")
    record = make_record(cells[0], seconds=29.0)  # wall: 2 * 29 + 2 = 60 s for 2 epochs; three such are left
    record.save(tmp_path / f"{cells[0].name}.json")
    (tmp_path / f"{cells[1].name}.json").write_text("damaged")
    make_record(cells[2], stopped_at=1).save(tmp_path / "unfinished" / f"{cells[2].name}.json")
    text = grid_progress(cells, tmp_path)
    assert text.startswith("1 of 4 ") and text.endswith("; about 3 min to go")
    for cell in cells:
        make_record(cell).save(tmp_path / f"{cell.name}.json")
    text = grid_progress(cells, tmp_path)
    assert text.startswith("4 of 4 ") and "to go" not in text


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
