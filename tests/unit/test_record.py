import copy
import json
import os
import stat
import subprocess
import sys

import pytest
from helpers import make_record

from persist import Cell, Record, load_records
from persist.record import RecordError, copy_records, load_grid_records, main, to_table

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
        (edit(environment=None), "its environment must say at least device"),
        (edit(environment={}), "its environment must say at least device"),
        (lambda f: f["cell"].update(K=3), "iterations of epoch 1"),
        (lambda f: f["cell"].update(K=0), "K must be an int"),
        (lambda f: f["cell"].pop("seed"), "all fields of a Cell"),
        (lambda f: f["cell"].update(speed=1), "all fields of a Cell"),
        (lambda f: f["history"].pop(1), "epoch of epoch 2 is 3"),
        (lambda f: f["history"].pop(), "it is finished, but has 2 of 3 epochs"),
        (edit_history(0, epoch=7), "epoch of epoch 1 is 7, of its cell it is 1"),
        (edit_history(0, samples=1), "samples of epoch 1 is 1, of its cell it is 1437"),
        (edit_history(0, iterations=1), "iterations of epoch 1"),
        (edit_history(1, train_seconds=0.5), "the clocks of epoch 2 run back"),
        (edit_history(1, load=None), "load of epoch 2 is None"),
        (edit_history(0, test_accuracy=1.5), "test_accuracy of epoch 1 is 1.5"),
        (edit_history(1, test_loss="low"), "test_loss of epoch 2 is 'low'"),
        (edit_history(1, test_loss=None), "only the last epoch"),
        (edit_history(1, train_seconds=None), "train_seconds of epoch 2 is None"),
        (edit_history(2, gradients=1), "gradients of epoch 3"),
        (edit_history(1, extra=1), "entry 2 of its history"),
        (edit(status="diverged"), "only the last epoch"),
        # a number that could be: only the digest tells
        (edit_history(1, test_accuracy=0.99), "it was changed after it was saved"),
        (edit_history(2, train_loss=0.1), "it was changed after it was saved"),
        (edit(resumed=3), "it was changed after it was saved"),
        (lambda f: f["environment"].update(device="A better GPU"), "it was changed after it was saved"),
        (edit(sha256="0" * 64), "it was changed after it was saved"),
        (lambda f: f.pop("sha256"), "it has no sha256: an older version saved it, or it was changed since"),
        (edit(sha256=None), "it has no sha256"),
        *(
            (
                lambda f, key=key, value=value: f["environment"].update({key: value}),
                f"{key} of its environment must be {allowed}, not {value!r}",
            )
            for key, value, allowed in (
                ("threads", "two", "an int >= 1"),
                ("threads", 0, "an int >= 1"),
                ("threads", True, "an int >= 1"),
                ("cuda", 13.0, "a text, or null on the CPU"),
                ("device", None, "a text"),
                ("torch", None, "a text"),
                ("data_sha256", 0, "a text"),
            )
        ),
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
        assert str(error.value).endswith("Put the file back as it was, or delete it and train its cell again"), (
            "it says what to do"
        )


def test_another_layout_of_the_same_json_is_the_same_record(tmp_path):
    path = saved(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert Record.load(path) == make_record(CELL)


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
    runs, results, grid = tmp_path / "runs", tmp_path / "results", tmp_path / "some.yaml"
    other = Cell(m=64, dataset="digits", epochs=1)
    grid.write_text("base: {dataset: digits}\ncells:\n- {m: 32, K: 2, epochs: 3}\n- {m: 64, epochs: 1}\n")
    saved(runs)
    saved(runs, make_record(other))
    saved(runs, make_record(Cell(m=99, dataset="digits", epochs=1)))  # left over from an older grid
    main([str(grid), str(runs), str(results)])
    assert {r.cell for r in load_records(results)} == {CELL, other} and "2 records copied" in capsys.readouterr().out
    assert copy_records(runs, results, [CELL, other]) == [], "the same records again change nothing"
    changed = copy.deepcopy(make_record(CELL))
    changed.history[0]["test_accuracy"] = 0.123
    saved(runs, changed)
    (results / f"{other.name}.json").unlink()
    with pytest.raises(SystemExit) as error:
        main([str(grid), str(runs), str(results)])
    assert CELL.name in str(error.value) and "REPLACE=1" in str(error.value)
    assert [p.stem for p in results.glob("*.json")] == [CELL.name], "nothing was copied"
    assert Record.load(results / f"{CELL.name}.json") == make_record(CELL)
    main([str(grid), str(runs), str(results), "--replace"])
    assert Record.load(results / f"{CELL.name}.json") == changed
    (results / f"{CELL.name}.json").write_text("damaged")
    with pytest.raises(RecordError, match="REPLACE=1"):
        copy_records(runs, results, [CELL])
    assert copy_records(runs, results, [CELL], replace=True) == [CELL.name]
    with pytest.raises(SystemExit, match="there is no such grid; the grids in .* are: some"):
        main([str(tmp_path / "nosuch.yaml"), str(runs), str(results)])


def test_only_the_cells_asked_for_are_loaded(tmp_path):
    saved(tmp_path)
    (tmp_path / "other.json").write_text("not looked at")
    assert load_records(tmp_path, [CELL]) == [make_record(CELL)] and load_records(tmp_path, []) == []


def test_of_the_grid_beside_only_its_cells_are_loaded(tmp_path):
    (tmp_path / "some.yaml").write_text("base: {dataset: digits}\nbeside: other\ncells: [{m: 32, K: 2, epochs: 3}]\n")
    (tmp_path / "other.yaml").write_text(
        "base: {dataset: digits}\ncells: [{m: 64, epochs: 1}, {m: 32, K: 2, epochs: 3}]\n"
    )
    saved(tmp_path / "some")
    assert load_grid_records(tmp_path, tmp_path, "some") == ([make_record(CELL)], []), "it was never run"
    beside = make_record(Cell(m=64, dataset="digits", epochs=1))
    saved(tmp_path / "other", beside)
    saved(tmp_path / "other", make_record(Cell(m=99, dataset="digits", epochs=1)))  # left over from an older grid
    saved(tmp_path / "other")  # a cell of both grids counts once
    assert load_grid_records(tmp_path, tmp_path, "some") == ([make_record(CELL)], [beside])


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
