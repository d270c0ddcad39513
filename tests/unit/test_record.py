import json
import os
import stat
import subprocess
import sys

import pytest
from helpers import make_record
from hypothesis import given
from hypothesis import strategies as st

from persist import Cell, Record, load_records
from persist.record import CLOCKS, RecordError

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
        (edit(schema=1), "its schema is 1, this version reads 2"),
        (lambda f: f.pop("schema"), "its schema is None"),
        (lambda f: f.pop("status"), "must have the keys"),
        (edit(extra=1), "must have the keys"),
        (edit(status="fine"), "status must be one of finished, diverged, unfinished, not 'fine'"),
        (edit(history=[]), "its history is empty"),
        (edit(resumed=-1), "resumed must be"),
        (edit(environment=None), "its environment must say at least device"),
        (edit(environment={}), "its environment must say at least device"),
        (lambda f: f["cell"].update(K=3), "iterations of evaluation 1"),
        (lambda f: f["cell"].update(K=0), "K must be an int"),
        (lambda f: f["cell"].pop("seed"), "all fields of a Cell"),
        (lambda f: f["cell"].update(speed=1), "all fields of a Cell"),
        (lambda f: f["history"].pop(1), "epoch of evaluation 2 is 3"),
        (lambda f: f["history"].pop(), "it is finished, but has 2 of 3 evaluations"),
        (edit_history(0, epoch=7), "epoch of evaluation 1 is 7, of its cell it is 1"),
        (edit_history(0, samples=1), "samples of evaluation 1 is 1, of its cell it is 1437"),
        (edit_history(0, iterations=1), "iterations of evaluation 1"),
        (edit_history(1, train_seconds=0.5), "the clocks of evaluation 2 run back"),
        (edit_history(1, cpu_seconds=None), "cpu_seconds of evaluation 2 is None"),
        (edit_history(1, cpu_seconds=0.5), "the clocks of evaluation 2 run back"),
        (edit_history(0, test_accuracy=1.5), "test_accuracy of evaluation 1 is 1.5"),
        (edit_history(1, test_loss="low"), "test_loss of evaluation 2 is 'low'"),
        (edit_history(1, test_loss=None), "only the last evaluation"),
        (edit_history(1, train_seconds=None), "train_seconds of evaluation 2 is None"),
        (edit_history(2, gradients=1), "gradients of evaluation 3"),
        (edit_history(1, extra=1), "entry 2 of its history"),
        (edit(status="diverged"), "only the last evaluation"),
        (edit(status="unfinished"), "it is unfinished, but has 3 of 3 evaluations"),
        (lambda f: f["history"].append(f["history"][-1]), "it has 4 evaluations, of its cell it is 3"),
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


ends = st.sampled_from([{"stopped_at": 1}, {"stopped_at": 2}, {"diverged_at": 1}, {"diverged_at": 3}, {}])


@given(ends, ends)
def test_a_record_continues_itself_and_what_it_was_before(one, two):
    a, b = make_record(CELL, **one), make_record(CELL, seconds=2.0, **two)  # other times do not matter
    assert a.continues(a) and make_record(CELL, seconds=2.0, **one).continues(a)
    if one != two:
        assert not (a.continues(b) and b.continues(a)), "of two different records at most one is the other's beginning"
        assert a.continues(b) == (len(a.history) > len(b.history) and b.status == "unfinished")
    assert not make_record(Cell(m=32, dataset="digits", epochs=3), **one).continues(a), "it is another cell's"


@pytest.mark.parametrize("name", ["train_loss", "test_loss", "test_accuracy"])
def test_a_record_with_another_number_is_no_continuation(name):
    short, long = make_record(CELL, stopped_at=2), make_record(CELL)
    assert long.continues(short)
    short.history[0][name] /= 2
    assert not long.continues(short)
    for clock in CLOCKS:
        short.history[0][clock] = 0.0
    short.history[0][name] *= 2
    assert long.continues(short), "times are no numbers of a run"


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RecordError, match="nowhere is not a folder"):
        load_records(tmp_path / "nowhere")


def test_only_the_cells_asked_for_are_loaded(tmp_path):
    saved(tmp_path)
    (tmp_path / "other.json").write_text("not looked at")
    assert load_records(tmp_path, [CELL]) == [make_record(CELL)] and load_records(tmp_path, []) == []


def test_a_record_that_goes_away_meanwhile_is_passed_over(tmp_path, monkeypatch):
    for K in (1, 2):
        make_record(Cell(m=32, K=K, epochs=2)).save(tmp_path / f"{Cell(m=32, K=K, epochs=2).name}.json")
    load = Record.load

    def late(path):
        if "K1" in path.name:
            path.unlink()
        return load(path)

    monkeypatch.setattr(Record, "load", late)
    assert [record.cell.K for record in load_records(tmp_path)] == [2]
    (tmp_path / "link.json").symlink_to("nowhere.json")
    with pytest.raises(FileNotFoundError, match="link.json"):
        load_records(tmp_path)


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
