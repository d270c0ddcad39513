"""What the cell notebook and `persist train` call."""

import builtins
import dataclasses
import os
import re
import tempfile
from pathlib import Path

import pytest
import torch
from helpers import make_record, numbers

from persist import Cell, Record, load_records, train
from persist import data as datasets
from persist.notebook import runner
from persist.notebook.parameters import check_parameters
from persist.notebook.progress import progress_line
from persist.notebook.runner import describe, train_or_load
from persist.record import RecordError

SMALL = Cell(m=32, dataset="digits", train_size=100, test_size=50, width=0.05, lr=0.05, epochs=3)
MINE = Path("runs/mine")


@pytest.fixture(autouse=True)
def project_of_its_own(tmp_path, monkeypatch):
    """An empty folder, and locks of cores of its own: the reader's runs may hold those of this machine."""
    monkeypatch.chdir(tmp_path)
    # a short path: a DataLoader's worker opens a socket in it, and waits for ever where the name has over 107 letters
    with tempfile.TemporaryDirectory(prefix="p") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture
def never_trained(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("it trained")

    monkeypatch.setattr("persist.training.train", refuse)
    monkeypatch.setattr(runner, "estimate_seconds", refuse)


@pytest.fixture
def at_each_epoch(monkeypatch):
    """Calls the function that it is given with every entry, as the progress is shown."""

    def hook(function):
        def watching(cell, entry):
            function(entry)
            return progress_line(cell, entry)

        monkeypatch.setattr(runner, "progress_line", watching)

    return hook


def save(record, folder=MINE):
    record.save(Path(folder) / f"{record.cell.name}.json")


def test_a_cell_is_trained_once_and_again_only_by_force(capsys):
    first = train_or_load(SMALL, MINE)
    assert [p.name for p in MINE.glob("*.json")] == [f"{SMALL.name}.json"]
    out = capsys.readouterr().out
    assert re.match(r"expected: \d+ s\n", out) and out.count("m=32 K=1: epoch") == 3
    again, out = train_or_load(SMALL, MINE), capsys.readouterr().out
    assert again == first and "force trains it again" in out and "another version" not in out
    forced = train_or_load(SMALL, MINE, force=True)
    assert forced != first and numbers(forced) == numbers(first)
    assert not list((MINE / "unfinished").glob("*"))


def test_curves_grow_only_where_somebody_sees_them(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("persist.notebook.live.live_curves", lambda cell: lambda entry: shown.append(entry["epoch"]))
    monkeypatch.setattr(builtins, "get_ipython", lambda: None, raising=False)
    monkeypatch.setenv("PERSIST_BATCH", "1")
    train_or_load(SMALL, "runs/batch")
    assert shown == [] and capsys.readouterr().out.count(": epoch") == 3
    monkeypatch.delenv("PERSIST_BATCH")
    train_or_load(SMALL, "lab/mine")
    assert shown == [1, 2, 3] and ": epoch" not in capsys.readouterr().out


def test_while_a_run_trains_its_record_so_far_is_unfinished_and_goes_when_it_ends(monkeypatch, at_each_epoch):
    monkeypatch.setenv("PERSIST_CHECKPOINT_EVERY", "0")
    seen = []

    def look(entry):
        assert not list(MINE.glob("*.json")), "a record appears where it belongs only once the run has ended"
        [record] = load_records(MINE / "unfinished")
        seen.append(record)

    at_each_epoch(look)
    record = train_or_load(SMALL, MINE)
    assert [(r.status, len(r.history)) for r in seen] == [("unfinished", 1), ("unfinished", 2), ("unfinished", 2)]
    assert all(record.continues(r) and r.history == record.history[: len(r.history)] for r in seen)
    assert load_records(MINE) == [record] and not list((MINE / "unfinished").iterdir())


def test_an_interrupted_run_goes_on(monkeypatch, at_each_epoch, capsys):
    monkeypatch.setenv("PERSIST_CHECKPOINT_EVERY", "0")

    def interrupt(entry):
        if entry["epoch"] == 2:
            raise KeyboardInterrupt

    at_each_epoch(interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_or_load(SMALL, MINE)
    assert not list(MINE.glob("*.json")) and [r.status for r in load_records(MINE / "unfinished")] == ["unfinished"]
    at_each_epoch(lambda entry: None)
    record = train_or_load(SMALL, MINE)
    assert f"goes on from {MINE}/unfinished/{SMALL.name}.pt" in capsys.readouterr().out
    assert record.resumed == 1 and len(record.history) == 3 and not list((MINE / "unfinished").iterdir())
    assert numbers(record) == numbers(train(SMALL))


def test_force_starts_anew_although_there_is_a_checkpoint(monkeypatch, at_each_epoch):
    monkeypatch.setenv("PERSIST_CHECKPOINT_EVERY", "0")

    def interrupt(entry):
        raise KeyboardInterrupt

    at_each_epoch(interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_or_load(SMALL, MINE)
    at_each_epoch(lambda entry: None)
    assert train_or_load(SMALL, MINE, force=True).resumed == 0


def test_another_process_that_was_faster_keeps_its_record(at_each_epoch, capsys):
    first = train(SMALL)
    at_each_epoch(lambda entry: save(first))
    assert train_or_load(SMALL, MINE) == first
    assert "another process has saved" in capsys.readouterr().out and load_records(MINE) == [first]


@pytest.mark.parametrize("place", ["runs/other", "results/other"])
@pytest.mark.parametrize("ended", [{}, {"diverged_at": 2}])
def test_what_another_grid_has_trained_or_recorded_is_taken_from_there(never_trained, place, ended, capsys):
    record = make_record(SMALL, **ended)
    save(record, place)
    assert train_or_load(SMALL, MINE) == record == Record.load(MINE / f"{SMALL.name}.json")
    assert f"taken from {place}/{SMALL.name}.json" in capsys.readouterr().out


def test_what_its_own_grid_has_recorded_is_trained_all_the_same():
    """`persist grid preview` in a fresh clone really trains."""
    save(make_record(SMALL), "results/mine")
    record = train_or_load(SMALL, MINE)
    assert record != make_record(SMALL) and numbers(record) == numbers(train(SMALL))


@pytest.mark.parametrize("place", ["runs/other", "results/other"])
def test_what_is_unfinished_or_damaged_elsewhere_is_not_taken(place):
    save(make_record(SMALL, stopped_at=2), place)
    assert numbers(train_or_load(SMALL, MINE)) == numbers(train(SMALL))
    (MINE / f"{SMALL.name}.json").unlink()
    Path(place, f"{SMALL.name}.json").write_text("{")
    assert numbers(train_or_load(SMALL, MINE)) == numbers(train(SMALL))
    assert Path(place, f"{SMALL.name}.json").read_text() == "{"


def test_by_force_nothing_is_taken_from_elsewhere():
    save(make_record(SMALL), "runs/other")
    assert numbers(train_or_load(SMALL, MINE, force=True)) == numbers(train(SMALL))
    assert load_records("runs/other") == [make_record(SMALL)]


def test_a_record_is_shown_where_nothing_can_be_written(never_trained, monkeypatch, capsys):
    save(make_record(SMALL))
    monkeypatch.setattr(runner, "check_writable", lambda *arguments: pytest.fail("it tried to write"))
    assert train_or_load(SMALL, MINE) == make_record(SMALL)
    assert "another version of the code trained it" in capsys.readouterr().out


@pytest.mark.parametrize("force", ["false", 0, None, 1])
def test_a_force_that_is_no_bool_is_refused(never_trained, force):
    with pytest.raises(ValueError, match="force must be True or False, not "):
        train_or_load(SMALL, MINE, force=force)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_trains(never_trained):
    Path("file").write_text("")
    for folder in ("file", "file/below", "/proc/nowhere"):
        with pytest.raises(ValueError, match="results_dir must be a folder that can be written, not "):
            train_or_load(SMALL, folder)
    for folder in (None, 5, ["runs"]):
        with pytest.raises(ValueError, match="results_dir must be the path of a folder, not "):
            train_or_load(SMALL, folder)


@pytest.mark.parametrize("name, kind", [("CHECKPOINT_EVERY", "float"), ("CORES", "int")])
@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", ""])
def test_a_setting_that_is_no_number_is_refused_by_name(never_trained, monkeypatch, name, kind, value):
    monkeypatch.setenv(f"PERSIST_{name}", value)
    with pytest.raises(ValueError, match=f"PERSIST_{name} must be a finite {kind} >= 0, not {value!r}"):
        train_or_load(SMALL, MINE)
    assert not list(MINE.rglob("*.json"))


def test_a_damaged_record_is_not_overwritten(never_trained):
    MINE.mkdir(parents=True)
    path = MINE / f"{SMALL.name}.json"
    path.write_text("{")
    with pytest.raises(RecordError, match="is not a record"):
        train_or_load(SMALL, MINE)
    assert path.read_text() == "{"


def cores() -> set[int]:
    """Those that this process may use; the test is skipped where it cannot have two of its own."""
    found = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    if len(found) < 2:
        pytest.skip("needs two cores that can be pinned")
    return found


def test_a_run_with_a_core_of_its_own_trains_there_with_one_thread(monkeypatch, at_each_epoch):
    monkeypatch.setenv("PERSIST_CORES", "1")
    before, where = (cores(), torch.get_num_threads()), []
    at_each_epoch(lambda entry: where.append((os.sched_getaffinity(0), torch.get_num_threads())))
    record = train_or_load(SMALL, MINE)
    [core] = record.environment["pinned"]
    assert where == [({core}, 1)] * 3 and core in before[0] and record.environment["threads"] == 1
    assert (os.sched_getaffinity(0), torch.get_num_threads()) == before, "afterwards as before"


def test_a_run_behind_a_loader_has_two_cores_and_its_worker_the_second(tmp_path, monkeypatch, at_each_epoch):
    monkeypatch.setenv("PERSIST_CORES", "2")
    cores()
    main, item, read = [], datasets.Loader.__getitem__, tmp_path / "read"

    def tell(self, i):
        """Runs in the worker."""
        with open(read, "a") as file:
            file.write(f"{os.getpid()} {sorted(os.sched_getaffinity(0))}\n")
        return item(self, i)

    monkeypatch.setattr(datasets.Loader, "__getitem__", tell)
    at_each_epoch(lambda entry: main.append(os.sched_getaffinity(0)))
    record = train_or_load(dataclasses.replace(SMALL, pipeline="loader"), MINE)
    first, second = record.environment["pinned"]
    assert first != second and record.environment["threads"] == 1 and main == [{first}] * 3
    processes, affinities = zip(*(line.split(" ", 1) for line in read.read_text().splitlines()))
    assert set(affinities) == {f"[{second}]"} and len(affinities) == 3 * SMALL.train_size
    assert len(set(processes)) == 3 and str(os.getpid()) not in processes, "one worker for each epoch"


def test_description():
    text = describe(Cell(m=512, K=5, stride=1, padding="alexnet", hidden_layers=1))
    for part in (
        "m512-K5",
        "minibatches of up to 512 examples: 98",
        "uses of each (consecutive): 5",
        "iterations: 490",
        "gradients: 250,000",
        "epochs: 100",
        "839.7 MFLOP per gradient",
        "2.1e+04 TFLOP",
    ):
        assert part in text, part


def test_unknown_parameters_are_refused_and_own_variables_are_not():
    known = ["m", "K"]
    check_parameters(["", "import os", "m = 1", "# Parameters\nm = 3\nK = 5\n", "x = 3"], known)
    with pytest.raises(ValueError, match="unknown parameter 'epoch': this notebook has m, K"):
        check_parameters(["m = 1", "# Parameters\nm = 3\nepoch = 5\n"], known)
