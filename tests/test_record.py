import copy
import json
import os
import stat
import subprocess
import sys

import pytest

from persist import Cell, Record, load_records
from persist.record import RecordError, copy_records, main, to_table
from helpers import make_record

CELL = Cell(m=32, K=2, dataset="digits", epochs=3)


def saved(tmp_path, record=None):
    record = record or make_record(CELL)
    path = tmp_path / f"{record.cell.name}.json"
    record.save(path)
    return path


def test_a_record_survives_the_disk(tmp_path):
    record = make_record(CELL)
    path = saved(tmp_path, record)
    assert Record.load(path) == record and load_records(tmp_path) == [record]
    assert os.listdir(tmp_path) == [path.name], "no temporary file is left"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_values_that_are_not_finite_are_null_on_the_disk(tmp_path):
    diverged = make_record(CELL, diverged_at=2)
    text = saved(tmp_path, diverged).read_text()
    assert "NaN" not in text and json.loads(text)["history"][-1]["test_loss"] is None
    diverged.history[-1]["test_loss"] = float("nan")
    with pytest.raises(ValueError):
        diverged.save(tmp_path / "x.json")
    assert len(os.listdir(tmp_path)) == 1, "nothing half-written is left"


def edit(**changes):
    return lambda fields: fields.update(changes)


def edit_history(index, **changes):
    return lambda fields: fields["history"][index].update(changes)


@pytest.mark.parametrize(
    "damage, message",
    [
        (edit(schema=2), "its schema is 2, this version reads 1"),
        (lambda f: f.pop("schema"), "its schema is None"),
        (lambda f: f.pop("status"), "must have the keys"),
        (edit(extra=1), "must have the keys"),
        (edit(status="fine"), "status must be one of finished, diverged, not 'fine'"),
        (edit(history=[]), "its history is empty"),
        (edit(resumed=-1), "resumed must be"),
        (edit(environment=None), "environment"),
        (lambda f: f["cell"].update(K=3), "gradients of epoch 1"),
        (lambda f: f["cell"].update(K=0), "K must be an int"),
        (lambda f: f["cell"].pop("seed"), "all fields of a Cell"),
        (lambda f: f["cell"].update(speed=1), "all fields of a Cell"),
        (lambda f: f["history"].pop(1), "the counters of epoch 2"),
        (lambda f: f["history"].pop(), "it is finished, but has 2 of 3 epochs"),
        (edit_history(0, epoch=7), "counters of epoch 1"),
        (edit_history(0, test_accuracy=1.5), "test_accuracy of epoch 1 is 1.5"),
        (edit_history(1, test_loss="low"), "test_loss of epoch 2 is 'low'"),
        (edit_history(1, test_loss=None), "only the last epoch"),
        (edit_history(1, train_seconds=None), "train_seconds of epoch 2 is None"),
        (edit_history(2, gradients=1), "epoch 3"),
        (edit_history(1, extra=1), "entry 2 of its history"),
        (edit(status="diverged"), "only the last epoch"),
    ],
)
def test_an_edited_record_is_refused_by_file_and_reason(tmp_path, damage, message):
    path = saved(tmp_path)
    fields = json.loads(path.read_text())
    damage(fields)
    path.write_text(json.dumps(fields))
    for load in (Record.load, lambda p: load_records(p.parent)):
        with pytest.raises(RecordError) as error:
            load(path)
        assert path.name in str(error.value) and message in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": NaN}', b"[" * 100_000])
def test_what_is_no_record_is_refused_by_name(tmp_path, content):
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match="some.json is not a record"):
        load_records(tmp_path)


def test_a_truncated_record_is_refused(tmp_path):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecordError, match="is not a record"):
        load_records(tmp_path)


def test_a_copy_under_another_name_is_refused(tmp_path):
    path = saved(tmp_path)
    (tmp_path / "copy.json").write_bytes(path.read_bytes())
    with pytest.raises(RecordError, match="copy.json holds the record of"):
        load_records(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RecordError, match="nowhere is not a folder"):
        load_records(tmp_path / "nowhere")


def test_to_table_has_a_row_per_record_and_epoch():
    table = to_table([make_record(CELL), make_record(Cell(m=64, dataset="digits", epochs=2))])
    assert len(table) == 5 and table.groupby("m").size().to_dict() == {32: 3, 64: 2}
    assert {"cell_name", "status", "K", "test_accuracy"} <= set(table.columns)


def test_records_are_copied_but_never_over_a_different_one(tmp_path, capsys):
    runs, results = tmp_path / "runs", tmp_path / "results"
    saved(runs)
    other = Cell(m=64, dataset="digits", epochs=1)
    saved(runs, make_record(other))
    assert copy_records(runs, results) == sorted([CELL.name, other.name])
    assert copy_records(runs, results) == [], "the same records again change nothing"
    changed = copy.deepcopy(make_record(CELL))
    changed.history[0]["test_accuracy"] = 0.123
    saved(runs, changed)
    (results / f"{other.name}.json").unlink()
    with pytest.raises(SystemExit) as error:
        main([str(runs), str(results)])
    assert CELL.name in str(error.value) and "REPLACE=1" in str(error.value)
    assert [p.stem for p in results.glob("*.json")] == [CELL.name], "nothing was copied"
    assert Record.load(results / f"{CELL.name}.json") == make_record(CELL)
    main([str(runs), str(results), "--replace"])
    assert Record.load(results / f"{CELL.name}.json") == changed
    assert "2 records copied" in capsys.readouterr().out


def test_a_reader_never_sees_half_a_record(tmp_path):
    """One process saves again and again, this one reads: every reading finds a whole record."""
    path = saved(tmp_path)
    code = f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
from persist import Record
record = Record.load({str(path)!r})
for _ in range(300):
    record.save({str(path)!r})
"""
    with subprocess.Popen([sys.executable, "-c", code]) as writer:
        readings = 0
        while writer.poll() is None:
            Record.load(path)
            readings += 1
    assert writer.returncode == 0 and readings > 10
