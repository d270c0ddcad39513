"""Full disks, read-only folders, hostile files: a clear error or the run goes on, and nothing is lost."""

import contextlib
import hashlib
import io
import os
import pickle
import resource
import signal

import pytest
import torch
from helpers import numbers, small_disk

from persist import Cell, Record, load_records, train
from persist import record as records
from persist.data import DataError, load
from persist.notebook import runner
from persist.notebook.runner import train_or_load

SMALL = Cell(m=32, dataset="digits", train_size=100, test_size=50, width=0.25, lr=0.05, epochs=3)


@contextlib.contextmanager
def file_size_limit(size):
    """The stand-in for a full disk where nothing can be mounted: no file of this process grows beyond so many bytes."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def fill(folder, leave):
    """Fill the disk below `folder` but for so many bytes."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    (folder / "filler").write_bytes(bytes(max(0, free - leave)))


def files(folder):
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != "filler"
    )


def test_a_checkpoint_that_the_disk_cannot_hold_does_not_stop_the_run(tmp_path):
    with small_disk(tmp_path, 2**18):  # a checkpoint takes more, a record a few thousand bytes
        with pytest.warns(
            UserWarning,
            match="no checkpoint after evaluation 1, the run goes on: .*No space left on device; nothing was written",
        ):
            record = train(SMALL, checkpoint=tmp_path / "cell.pt", checkpoint_every=0)
        assert files(tmp_path) == [], "no part of a checkpoint is left"
        record.save(tmp_path / f"{SMALL.name}.json")
        assert load_records(tmp_path) == [record]
    assert numbers(record) == numbers(train(SMALL))


def test_the_same_by_a_limit_on_the_size_of_files(tmp_path):
    with file_size_limit(2**16):
        with pytest.warns(
            UserWarning,
            match="no checkpoint after evaluation 1, the run goes on: .*File too large; nothing was written",
        ):
            record = train(SMALL, checkpoint=tmp_path / "cell.pt", checkpoint_every=0)
        assert files(tmp_path) == []
        with pytest.raises(OSError, match=r"File too large; nothing was written: .*some\.bin"):
            records.write_atomically(tmp_path / "some.bin", bytes(2**17))
        assert files(tmp_path) == []
    assert numbers(record) == numbers(train(SMALL))


def test_a_checkpoint_that_no_longer_fits_leaves_the_last_one_whole(tmp_path):
    with small_disk(tmp_path, 2**23):
        checkpoint = tmp_path / "cell.pt"

        def disk_fills(entry):
            if entry["epoch"] == 2:
                fill(tmp_path, leave=2**14)

        with pytest.warns(UserWarning, match="no checkpoint after evaluation 3"):
            unbroken = train(SMALL, checkpoint=checkpoint, checkpoint_every=0, on_epoch=disk_fills)
        assert files(tmp_path) == ["cell.json", "cell.pt"]
        assert Record.load(tmp_path / "cell.json").history == unbroken.history[:2]
        seen = []
        resumed = train(SMALL, checkpoint=checkpoint, checkpoint_every=1e9, on_epoch=seen.append)
    assert [entry["epoch"] for entry in seen] == [3] and resumed.resumed == 1
    assert numbers(resumed) == numbers(unbroken)


def test_a_record_that_the_disk_cannot_hold_is_an_error_that_says_so_and_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSIST_CHECKPOINT_EVERY", "0")

    def filling(cell, entry):
        if entry["epoch"] == 3:
            fill(tmp_path, leave=0)

    with small_disk(tmp_path, 2**23):
        results, unfinished = tmp_path / "runs/mine", [f"runs/mine/unfinished/{SMALL.name}.{s}" for s in ("json", "pt")]
        with monkeypatch.context() as patch:
            patch.setattr(runner, "progress_line", filling)
            with pytest.raises(OSError) as error:
                train_or_load(SMALL, results)
        for part in (
            "the record was not saved",
            "No space left on device",
            SMALL.name,
            "Make room",
            "goes on from the last checkpoint",
        ):
            assert part in str(error.value)
        assert load_records(results) == [] and files(tmp_path) == unfinished
        (tmp_path / "filler").unlink()
        record = train_or_load(SMALL, results)
        assert files(tmp_path) == [f"runs/mine/{SMALL.name}.json"] and record.resumed == 1
    assert numbers(record) == numbers(train(SMALL))


def test_a_disk_that_is_full_already_is_refused_before_anything_trains(tmp_path, monkeypatch):
    monkeypatch.setattr("persist.training.train", lambda *args, **kwargs: pytest.fail("it trained"))
    with small_disk(tmp_path, 2**20):
        fill(tmp_path, leave=0)
        with pytest.raises(
            ValueError, match="results_dir must be a folder that can be written, not .*: No space left on device"
        ):
            train_or_load(SMALL, tmp_path)
        assert files(tmp_path) == []


def test_a_read_only_folder_is_refused_before_anything_trains(tmp_path, monkeypatch):
    monkeypatch.setattr("persist.training.train", lambda *args, **kwargs: pytest.fail("it trained"))
    with (
        small_disk(tmp_path, 2**20, "ro"),
        pytest.raises(
            ValueError, match="results_dir must be a folder that can be written, not .*: Read-only file system"
        ),
    ):
        train_or_load(SMALL, tmp_path)


class Touching:
    """Unpickled, it would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("form", ["pickle", "torch", "torch, within a checkpoint"])
def test_a_hostile_checkpoint_is_not_executed_and_the_cell_starts_anew(tmp_path, form):
    """With the right digest in front, which is no secret."""
    owned, path, buffer = tmp_path / "owned", tmp_path / "cell.pt", io.BytesIO()
    if form == "pickle":
        buffer.write(pickle.dumps(Touching(owned)))
    else:
        torch.save(Touching(owned) if form == "torch" else {"cell": SMALL.as_dict(), "model": Touching(owned)}, buffer)
    path.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    with pytest.warns(UserWarning, match="is not used, the run starts anew: it is no checkpoint"):
        record = train(SMALL, checkpoint=path, checkpoint_every=1e9)
    assert not owned.exists() and record.resumed == 0 and numbers(record) == numbers(train(SMALL))


def test_a_checkpoint_of_another_form_or_a_folder_in_its_place_is_not_used(tmp_path):
    path, buffer = tmp_path / "cell.pt", io.BytesIO()
    torch.save({"cell": SMALL.as_dict(), "epoch": 2}, buffer)
    path.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    with pytest.warns(UserWarning, match="it is no checkpoint"):
        train(SMALL, checkpoint=path, checkpoint_every=1e9)
    (tmp_path / "folder.pt").mkdir()
    with pytest.warns(UserWarning, match="it cannot be read"):
        train(SMALL, checkpoint=tmp_path / "folder.pt", checkpoint_every=1e9)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_hostile_file_of_cifar10_is_not_opened(cifar10_root, tmp_path, name):
    """They are pickles: only those with the known checksums are."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file in (cifar10_root / folder.name).iterdir():
        (folder / file.name).symlink_to(file.resolve())
    (folder / name).unlink()
    (folder / name).write_bytes(pickle.dumps(Touching(tmp_path / "owned")))
    with pytest.raises(DataError, match=f"{name} \\(its checksum is wrong\\)"):
        load(Cell(m=32), tmp_path)
    assert not (tmp_path / "owned").exists()
    pickle.loads((folder / name).read_bytes()).close()
    assert (tmp_path / "owned").exists(), "opened, it would have"


@pytest.mark.parametrize("folder", ["results", "runs"])
def test_records_are_read_as_data_alone(tmp_path, folder):
    """A pickle, or Python, under a record's name is refused and not executed."""
    for content in (pickle.dumps(Touching(tmp_path / "owned")), f"open({str(tmp_path / 'owned')!r}, 'w')".encode()):
        path = tmp_path / f"{folder}.json"
        path.write_bytes(content)
        with pytest.raises(records.RecordError, match="is not a record"):
            Record.load(path)
    assert not (tmp_path / "owned").exists()
