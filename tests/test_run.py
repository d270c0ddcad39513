"""What the cell notebook calls."""

import pytest

from persist import Cell, run
from persist.notebook.parameters import check_parameters
from persist.notebook.runner import describe, train_or_load
from persist.record import RecordError

SMALL = Cell(m=32, dataset="digits", train_size=100, test_size=50, width=0.05, padding="alexnet", lr=0.001, epochs=3)


@pytest.fixture
def never_trained(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("it trained")

    monkeypatch.setattr(run, "train", refuse)
    monkeypatch.setattr(run, "estimate_seconds", refuse)


def test_a_cell_is_trained_once_and_again_only_by_force(tmp_path, capsys):
    first = train_or_load(SMALL, tmp_path)
    assert [p.name for p in tmp_path.glob("*.json")] == [f"{SMALL.name}.json"]
    assert capsys.readouterr().out.count("m=32 K=1: epoch") == 3
    again, out = train_or_load(SMALL, tmp_path), capsys.readouterr().out
    assert again == first and "force=True" in out and "another version" not in out
    forced = train_or_load(SMALL, tmp_path, force=True)
    assert forced != first and [e["test_loss"] for e in forced.history] == [e["test_loss"] for e in first.history]
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_curves_grow_only_where_somebody_sees_them(tmp_path, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr("persist.notebook.live.LiveCurves.__init__", lambda self, cell: None)
    monkeypatch.setattr("persist.notebook.live.LiveCurves.__call__", lambda self, entry: shown.append(entry["epoch"]))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    train_or_load(SMALL, tmp_path / "log")
    assert shown == [] and capsys.readouterr().out.count("epoch") == 3
    monkeypatch.setenv("JPY_SESSION_NAME", "cell.ipynb")
    train_or_load(SMALL, tmp_path / "lab")
    assert shown == [1, 2, 3] and "3/3" in capsys.readouterr().out


def test_an_interrupted_cell_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSIST_CHECKPOINT_EVERY", "0")

    class Interrupting(run.Progress):
        def __call__(self, entry):
            if entry["epoch"] == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "Progress", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            train_or_load(SMALL, tmp_path)
    assert not list(tmp_path.glob("*.json"))
    record = train_or_load(SMALL, tmp_path)
    assert record.resumed == 1 and len(record.history) == 3 and not list((tmp_path / "checkpoints").glob("*"))


def test_a_record_is_shown_where_nothing_can_be_written(tmp_path, never_trained, monkeypatch, capsys):
    from helpers import make_record

    make_record(SMALL).save(tmp_path / f"{SMALL.name}.json")
    monkeypatch.setattr(run, "check_writable", lambda *arguments: pytest.fail("it tried to write"))
    assert train_or_load(SMALL, tmp_path) == make_record(SMALL)
    assert "another version of the code trained it" in capsys.readouterr().out


@pytest.mark.parametrize("force", ["false", 0, None, 1])
def test_a_force_that_is_no_bool_is_refused(tmp_path, never_trained, force):
    with pytest.raises(ValueError, match="force must be True or False, not "):
        train_or_load(SMALL, tmp_path, force=force)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_trains(tmp_path, never_trained):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nowhere"):
        with pytest.raises(ValueError, match="results_dir must be a folder that can be written, not "):
            train_or_load(SMALL, folder)
    for folder in (None, 5, ["runs"]):
        with pytest.raises(ValueError, match="results_dir must be the path of a folder, not "):
            train_or_load(SMALL, folder)


def test_a_damaged_record_is_not_overwritten(tmp_path, never_trained):
    path = tmp_path / f"{SMALL.name}.json"
    path.write_text("{")
    with pytest.raises(RecordError, match="is not a record"):
        train_or_load(SMALL, tmp_path)
    assert path.read_text() == "{"


def test_description():
    text = describe(Cell(m=512, K=5, padding="alexnet"))
    for part in (
        "m512-K5",
        "minibatches of up to 512 examples: 98",
        "uses of each (consecutive): 5",
        "iterations: 490",
        "gradients: 250,000",
        "epochs: 100",
        "2.1e+04 TFLOP",
    ):
        assert part in text, part


def test_unknown_parameters_are_refused_and_own_variables_are_not():
    known = ["m", "K"]
    check_parameters(["", "import os", "m = 1", "# Parameters\nm = 3\nK = 5\n", "x = 3"], known)
    with pytest.raises(ValueError, match="unknown parameter 'epoch': this notebook has m, K"):
        check_parameters(["m = 1", "# Parameters\nm = 3\nepoch = 5\n"], known)
