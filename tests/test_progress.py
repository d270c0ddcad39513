import json
import subprocess

import pytest
from helpers import make_record

from persist import Cell, load_grid
from persist.notebook.progress import Progress, check_precisions, duration, failures, grid_progress, main

CELL = Cell(m=32, K=5, lr_policy="kmu", dataset="digits", epochs=3)


def test_a_log_gets_one_line_per_epoch(capsys, monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    progress = Progress(CELL)
    for entry in make_record(CELL, diverged_at=3).history:
        progress(entry)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("m=32 K=5 kmu: epoch 1/3, test loss 2.8000, accuracy 0.4541, ")
    assert lines[2] == "m=32 K=5 kmu: epoch 3/3, test loss not finite, accuracy not finite, 0 s left"


def test_the_time_left_of_a_resumed_run_counts_only_its_own_epochs(capsys, monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    cell = Cell(m=32, dataset="digits", epochs=101)
    progress, now = Progress(cell), iter([0.0, 10.0, 20.0])
    monkeypatch.setattr("persist.notebook.progress.time.monotonic", lambda: next(now))
    progress.started = next(now)
    for entry in make_record(cell).history[90:92]:
        progress(entry)
    assert [line.rsplit(", ", 1)[-1] for line in capsys.readouterr().out.splitlines()] == [
        "where a checkpoint was", "2 min left", "90 s left",
    ]  # fmt: skip


def test_in_jupyter_there_is_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "cell.ipynb")
    progress = Progress(CELL)
    for entry in make_record(CELL).history:
        progress(entry)
    out = capsys.readouterr().out
    for n, accuracy in ((1, 0.4541), (2, 0.6689), (3, 0.7992)):
        assert f"accuracy {accuracy}" in out and f"{n}/3" in out


def test_a_grid_counts_its_records(tmp_path):
    cells = [Cell(m=m, dataset="digits", epochs=2) for m in (32, 64, 128, 256)]
    assert grid_progress(cells, tmp_path) == "0 of 4 cells done, 1 starts now, 3 left"
    record = make_record(cells[0], seconds=29.0)  # wall: 2 * 29 + 2 = 60 s for 2 epochs
    record.save(tmp_path / f"{cells[0].name}.json")
    (tmp_path / f"{cells[1].name}.json").write_text("damaged")
    assert grid_progress(cells, tmp_path) == "1 of 4 cells done, 1 starts now, 2 left; about 3 min to go"
    for cell in cells:
        make_record(cell).save(tmp_path / f"{cell.name}.json")
    assert grid_progress(cells, tmp_path) == "4 of 4 cells done"


def test_the_cells_that_failed_are_named_with_their_errors(tmp_path):
    cells = [Cell(m=m, dataset="digits", epochs=2) for m in (32, 64, 128, 256)]
    make_record(cells[0]).save(tmp_path / f"{cells[0].name}.json")
    error = {"output_type": "error", "ename": "DataError", "evalue": "CIFAR-10 in data is damaged", "traceback": []}
    notebook = json.dumps(
        {"cells": [{"cell_type": "markdown"}, {"cell_type": "code", "outputs": [{"output_type": "stream"}, error]}]}
    )
    (tmp_path / "notebooks").mkdir()
    for cell, content in zip(
        cells, (notebook, notebook, notebook[:-40])
    ):  # one that has a record since; one that failed; one cut off
        (tmp_path / f"notebooks/{cell.name}.ipynb").write_text(content)
    assert failures(cells, tmp_path) == [
        f"{cells[1].name}: DataError: CIFAR-10 in data is damaged (in {tmp_path}/notebooks/{cells[1].name}.ipynb)",
        f"{cells[2].name}: it was cut off (in {tmp_path}/notebooks/{cells[2].name}.ipynb)",
    ]


def test_what_is_wrong_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids/some.yaml").write_text("cells: [{m: 32, dataset: digits}]\n")
    (tmp_path / "runs").write_text("a file where the folder belongs")
    with pytest.raises(
        SystemExit, match="^error: grids/other.yaml: there is no such grid; the grids in grids are: some$"
    ):
        main(["other"])
    with pytest.raises(SystemExit, match="^error: a grid is named like its file in grids/"):
        main(["../grids/some"])
    with pytest.raises(
        SystemExit,
        match="^error: the folder of the records must be a folder that can be written, not 'runs/some': Not a directory$",
    ):
        main(["some"])


def test_a_precision_that_this_machine_lacks_is_refused_where_the_cells_will_train(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids/some.yaml").write_text(
        "base: {dataset: digits, epochs: 2}\ncells: [{m: 32}, {m: 32, K: [2, 5], precision: tf32}]\n"
    )
    cells = load_grid("grids/some.yaml").cells
    with pytest.raises(SystemExit) as error:
        main(["--here", "some"])
    message = str(error.value)
    assert (
        message.startswith("error: precision 'tf32' needs an NVIDIA GPU of compute capability 8.0 or newer, not cpu")
        and "\n" not in message
    )
    assert (
        f"2 of 3 cells need it: {cells[1].name} and 1 more. Train the grid on such a GPU (on a cluster with PROFILE=slurm)"
        in message
    )
    main(["some"])  # as on the login node of a cluster
    for cell in cells[1:]:
        make_record(cell).save(tmp_path / f"runs/some/{cell.name}.json")
    main(["--here", "some"])  # those that need it were trained elsewhere
    assert capsys.readouterr().out.splitlines()[-1].startswith("some: 2 of 3 cells done")


@pytest.mark.parametrize("profile, here", [([], True), (["PROFILE=default"], True), (["PROFILE=slurm"], False)])
def test_make_asks_this_machine_only_where_it_trains(project, profile, here):
    run = subprocess.run(
        ["make", "--dry-run", "reproduce", "GRID=paper", "READY=", *profile],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = [line for line in run.stdout.splitlines() if "persist.notebook.progress" in line]
    assert ("--here" in line) == here and '-- "$grid"' in line


def test_a_gpu_without_tf32_is_refused_too(tmp_path, monkeypatch):
    cell = Cell(m=32, dataset="digits", precision="tf32")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device=None: (7, 5))
    with pytest.raises(ValueError, match="8.0 or newer, not cuda.*1 of 1 cells need it: digits-m32"):
        check_precisions([cell], tmp_path)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device=None: (8, 0))
    check_precisions([cell], tmp_path)


@pytest.mark.parametrize("name", ["--help", "-x", "_x", ""])
def test_the_name_of_a_grid_is_no_option(name):
    with pytest.raises(
        SystemExit, match="^error: a grid is named like its file in grids/.* beginning with a letter or digit, not "
    ):
        main(["--here", "--", name])


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min"), (7200, "2.0 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
