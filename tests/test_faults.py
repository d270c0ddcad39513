"""Full disks, read-only folders, hostile files: a clear error or the run goes on, and nothing is lost."""

import contextlib
import hashlib
import importlib
import io
import os
import pickle
import resource
import shutil
import signal

import pytest
import torch
from helpers import make_record, numbers, small_disk

from persist import Cell, Record, load_records, train
from persist import record as records
from persist.data import DataError, load
from persist.notebook.runner import train_or_load

SMALL = Cell(
    m=32,
    dataset="digits",
    train_size=100,
    test_size=50,
    width=0.25,
    padding="alexnet",
    reduction="mean",
    lr=0.05,
    epochs=3,
)


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
            match=r"no checkpoint after epoch 1, the run goes on without: .*No space left on device; nothing was written: .*\.pt",
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
            match="no checkpoint after epoch 1, the run goes on without: .*File too large; nothing was written",
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

        with pytest.warns(UserWarning, match="no checkpoint after epoch 3"):
            unbroken = train(SMALL, checkpoint=checkpoint, checkpoint_every=0, on_epoch=disk_fills)
        assert files(tmp_path) == ["cell.pt"]
        seen = []
        resumed = train(SMALL, checkpoint=checkpoint, checkpoint_every=1e9, on_epoch=seen.append)
    assert [entry["epoch"] for entry in seen] == [3] and resumed.resumed == 1
    assert numbers(resumed) == numbers(unbroken)


def test_a_record_that_the_disk_cannot_hold_is_an_error_that_says_so_and_the_cell_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSIST_CHECKPOINT_EVERY", "0")
    from persist import run

    class Filling(run.Progress):
        def __call__(self, entry):
            super().__call__(entry)
            if entry["epoch"] == 3:
                fill(tmp_path, leave=0)

    with small_disk(tmp_path, 2**23):
        with monkeypatch.context() as patch:
            patch.setattr(run, "Progress", Filling)
            with pytest.raises(OSError) as error:
                train_or_load(SMALL, tmp_path)
        for part in (
            "the record was not saved",
            "No space left on device",
            SMALL.name,
            "Make room",
            "goes on from the last checkpoint",
        ):
            assert part in str(error.value)
        assert load_records(tmp_path) == [] and files(tmp_path) == [f"checkpoints/{SMALL.name}.pt"]
        (tmp_path / "filler").unlink()
        record = train_or_load(SMALL, tmp_path)
        assert files(tmp_path) == [f"{SMALL.name}.json"] and record.resumed == 1
    assert numbers(record) == numbers(train(SMALL))


def test_a_disk_that_is_full_already_is_refused_before_anything_trains(tmp_path, monkeypatch):
    monkeypatch.setattr("persist.notebook.runner.train", lambda *args, **kwargs: pytest.fail("it trained"))
    with small_disk(tmp_path, 2**20):
        fill(tmp_path, leave=0)
        with pytest.raises(
            ValueError, match="results_dir must be a folder that can be written, not .*: No space left on device"
        ):
            train_or_load(SMALL, tmp_path)
        assert files(tmp_path) == []


def test_a_read_only_folder_is_refused_before_anything_trains(tmp_path, monkeypatch):
    monkeypatch.setattr("persist.notebook.runner.train", lambda *args, **kwargs: pytest.fail("it trained"))
    with (
        small_disk(tmp_path, 2**20, "ro"),
        pytest.raises(
            ValueError, match="results_dir must be a folder that can be written, not .*: Read-only file system"
        ),
    ):
        train_or_load(SMALL, tmp_path)


def test_copying_records_to_where_nothing_can_be_written_is_a_line_and_no_traceback(tmp_path):
    (tmp_path / "grid.yaml").write_text("cells: [{m: 32, dataset: digits, epochs: 3}]\n")
    make_record(Cell(m=32, dataset="digits", epochs=3)).save(
        tmp_path / "runs" / f"{Cell(m=32, dataset='digits', epochs=3).name}.json"
    )
    (tmp_path / "results").mkdir()
    with (
        small_disk(tmp_path / "results", 2**20, "ro"),
        pytest.raises(SystemExit, match="error: .*Read-only file system; nothing was written: "),
    ):
        records.main([str(tmp_path / name) for name in ("grid.yaml", "runs", "results/some")])


def test_another_process_that_was_faster_keeps_its_record(tmp_path, monkeypatch, capsys):
    from persist import run

    first = train(SMALL)

    class Overtaken(run.Progress):
        def __call__(self, entry):
            if entry["epoch"] == 2:
                first.save(tmp_path / f"{SMALL.name}.json")

    monkeypatch.setattr(run, "Progress", Overtaken)
    assert train_or_load(SMALL, tmp_path) == first
    assert "another process has saved" in capsys.readouterr().out and load_records(tmp_path) == [first]


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", ""])
def test_an_interval_that_is_no_number_is_refused_by_name(tmp_path, monkeypatch, value):
    monkeypatch.setenv("PERSIST_CHECKPOINT_EVERY", value)
    with pytest.raises(ValueError, match=f"PERSIST_CHECKPOINT_EVERY must be a number of seconds >= 0, not {value!r}"):
        train_or_load(SMALL, tmp_path)
    assert files(tmp_path) == []


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
    with pytest.warns(UserWarning, match="is not used, the cell starts anew: it is no checkpoint"):
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


@pytest.mark.parametrize(
    "module, arguments",
    [
        ("draw", "results grids figures"),
        ("readme", "results grids README.md"),
        ("claims", "results grids README.md"),
        ("report", ". report"),
        ("record", "grids/reduced.yaml results/reduced elsewhere"),
        ("progress", "reduced"),
    ],
)
def test_every_command_that_reads_records_names_a_damaged_one_in_a_line(
    project, tmp_path, monkeypatch, module, arguments
):
    shutil.copytree(project / "results/reduced", tmp_path / "results/reduced")
    shutil.copytree(project / "grids", tmp_path / "grids")
    shutil.copy(project / "README.md", tmp_path)
    (tmp_path / "runs").symlink_to("results")  # progress looks there
    damaged = sorted((tmp_path / "results/reduced").glob("*.json"))[3]
    damaged.write_text(damaged.read_text()[:-100])
    before = (tmp_path / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SystemExit,
        match=f"^error: (results|runs)/reduced/{damaged.name} is not a record: .* delete it and train its cell again$",
    ):
        importlib.import_module(f"persist.{module}").main(arguments.split())
    assert (
        (tmp_path / "README.md").read_text() == before
        and not (tmp_path / "figures").exists()
        and not (tmp_path / "elsewhere").exists()
    )
