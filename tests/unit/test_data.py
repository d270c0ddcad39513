import hashlib
import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from persist import Cell
from persist import data as datasets
from persist.data import CHANNEL_STATISTICS, FOLDER, DataError, Loader, Resident, load, minibatch_indices, scale

CPU = torch.device("cpu")


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data = load(Cell(m=1, dataset="digits"))
    assert_sizes(data, Cell(m=1, dataset="digits"))
    images = np.concatenate([data.train.images, data.test.images])
    assert images.dtype == np.uint8 and (images.min(), images.max()) == (0, 255)
    small = np.rint(images[:, ::4, ::4, 0] / 255 * 16)
    assert sorted(map(bytes, small.astype(np.uint8))) == sorted(map(bytes, load_digits().images.astype(np.uint8)))
    assert (images == images[:, :, :, :1]).all() and (images[:, ::4, ::4] == images[:, 3::4, 3::4]).all()
    assert set(np.bincount(data.test.labels) > 20) == {True}


def test_the_split_and_the_subsets_are_fixed():
    whole, part = (
        load(Cell(m=1, dataset="digits")),
        load(Cell(m=1, dataset="digits", train_size=100, test_size=50, seed=9)),
    )
    assert part.sha256 == whole.sha256
    larger = load(Cell(m=1, dataset="digits", train_size=101, test_size=51))
    assert (part.train.images == larger.train.images[:100]).all() and (
        part.test.labels == larger.test.labels[:50]
    ).all()
    assert digest(part.train.images) == digest(load(Cell(m=1, dataset="digits", train_size=100)).train.images)


def test_heldout_images_are_training_images_and_not_trained_on():
    cell = Cell(m=1, dataset="digits", train_size=1000, evaluate_on="heldout")
    data, whole = load(cell), load(Cell(m=1, dataset="digits"))
    assert len(data.train.labels) == 1000 and len(data.test.labels) == 437
    together = np.concatenate([data.train.images, data.test.images])
    assert sorted(map(digest, together)) == sorted(map(digest, whole.train.images))


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1), st.integers(1, 1000), st.booleans())
def test_minibatches_are_a_partition_of_the_epoch(n, m, seed, epoch, drop_last):
    m = min(m, n)
    cell = Cell(m=m, dataset="digits", train_size=n, seed=seed, drop_last=drop_last)
    indices = minibatch_indices(cell, epoch, n)
    assert len(indices) == cell.minibatches and sum(map(len, indices)) == cell.examples
    assert all(len(i) == m for i in indices[:-1]) and 1 <= len(indices[-1]) <= m
    drawn = np.concatenate(indices)
    assert len(set(drawn)) == len(drawn) and set(drawn) <= set(range(n)) and (drop_last or len(drawn) == n)


def test_minibatches_depend_on_seed_and_epoch_alone():
    a, b = Cell(m=32, K=1, seed=1), Cell(m=32, K=5, lr=0.5, pipeline="loader", seed=1)
    assert all((x == y).all() for x, y in zip(minibatch_indices(a, 3, 100), minibatch_indices(b, 3, 100)))
    orders = [np.concatenate(minibatch_indices(Cell(m=32, seed=s), e, 100)).tolist() for s in (0, 1) for e in (1, 2)]
    assert len({tuple(o) for o in orders}) == 4, "every epoch and every seed has an order of its own"


@pytest.mark.parametrize("scaling", ["unit", "symmetric", "channel"])
def test_both_pipelines_give_the_same_minibatches_bitwise(scaling):
    cell = Cell(m=64, dataset="digits", train_size=150, scaling=scaling)
    train = load(cell).train
    resident, loader = Resident(cell, train, CPU), Loader(cell, train, CPU)
    for epoch in (1, 2):
        a, b = list(resident.minibatches(epoch)), list(loader.minibatches(epoch))
        assert len(a) == len(b) == len(resident.minibatches(epoch)) == len(loader.minibatches(epoch)) == 3
        for (x, y), (u, v) in zip(a, b):
            assert torch.equal(x, u) and torch.equal(y, v)
            assert x.is_contiguous(memory_format=torch.channels_last) and u.is_contiguous(
                memory_format=torch.channels_last
            )


@pytest.mark.parametrize("pipeline", [Resident, Loader])
def test_minibatches_can_be_gone_through_again(pipeline):
    """As spaced reuse does: the same minibatches in the same order; another pass has another order."""
    cell = Cell(m=64, dataset="digits", train_size=150)
    first, second = (pipeline(cell, load(cell).train, CPU).minibatches(epoch) for epoch in (1, 2))
    orders = [torch.cat([labels for _, labels in source]) for source in (first, first, second)]
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def test_scalings_by_hand():
    images = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    images[0, 0, 0] = 255
    for scaling, low, high in (("unit", (0, 0, 0), (1, 1, 1)), ("symmetric", (-1, -1, -1), (1, 1, 1))):
        scaled = scale(images, Cell(m=1, scaling=scaling))
        assert scaled.shape == (1, 3, 32, 32) and scaled.dtype == torch.float32
        assert scaled[0, :, 5, 5].tolist() == list(low) and scaled[0, :, 0, 0].tolist() == list(high)
    mean, deviation = CHANNEL_STATISTICS["cifar10"]
    expected = [(1 - m) / d for m, d in zip(mean, deviation)]
    assert scale(images, Cell(m=1, scaling="channel"))[0, :, 0, 0].tolist() == pytest.approx(expected, rel=1e-6)


def assert_sizes(data, cell):
    """A cell knows them without reading the data."""
    for split, n in ((data.train, cell.examples), (data.test, cell.test_examples)):
        assert split.images.shape == (n, 32, 32, 3) and split.labels.shape == (n,)


def assert_channel_statistics(name, images):
    pixels = images.reshape(-1, 3)
    for computed, constants in zip((pixels.mean(axis=0) / 255, pixels.std(axis=0) / 255), CHANNEL_STATISTICS[name]):
        assert computed.round(4).tolist() == list(constants)


def test_channel_statistics_of_digits():
    assert_channel_statistics("digits", load(Cell(m=1, dataset="digits")).train.images)


def test_the_real_cifar10(cifar10_root):
    data = load(Cell(m=1), cifar10_root)
    assert_sizes(data, Cell(m=1))
    assert (
        np.bincount(data.train.labels).tolist() == [5000] * 10 and np.bincount(data.test.labels).tolist() == [1000] * 10
    )
    assert_channel_statistics("cifar10", data.train.images)


def test_PERSIST_DATA_is_the_default_root(cifar10_root, monkeypatch):
    monkeypatch.setenv("PERSIST_DATA", str(cifar10_root))
    assert len(load(Cell(m=1)).train.labels) == 50_000


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("damage", ["a flipped byte", "truncated", "missing"])
def test_a_damaged_file_is_refused_by_name_and_left_as_it_is(cifar10_root, tmp_path, name, damage):
    (tmp_path / FOLDER).mkdir()
    for file in (cifar10_root / FOLDER).iterdir():
        (tmp_path / FOLDER / file.name).symlink_to(file.resolve())
    bad = tmp_path / FOLDER / name
    content = bytearray(bad.read_bytes())
    bad.unlink()
    if damage == "a flipped byte":
        content[len(content) // 2] ^= 1
    elif damage == "truncated":
        del content[len(content) // 2 :]
    if damage != "missing":
        bad.write_bytes(content)
    before = sorted(os.listdir(tmp_path / FOLDER))
    with pytest.raises(DataError) as error:
        load(Cell(m=1), tmp_path)
    assert f"{name} ({'it is missing' if damage == 'missing' else 'its checksum is wrong'})" in str(error.value)
    assert str(error.value).count("(") == 1, "only the damaged file is named"
    assert sorted(os.listdir(tmp_path / FOLDER)) == before and (damage == "missing" or bad.read_bytes() == content)


def test_a_download_that_fails_says_what_was_looked_for_and_how_to_mend_it(tmp_path, monkeypatch):
    import torchvision.datasets

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", refuse)
    with pytest.raises(DataError) as error:
        load(Cell(m=1), tmp_path / "nowhere")
    for part in (FOLDER, str(tmp_path / "nowhere"), "no network", "set PERSIST_DATA", "https://", "unpack it in"):
        assert part in str(error.value)
    assert os.listdir(tmp_path) == [], "nothing half-downloaded is left"


def test_a_missing_data_set_is_downloaded_by_torchvision(cifar10_root, tmp_path, monkeypatch):
    import torchvision.datasets

    def download(self):
        shutil.copytree(cifar10_root / FOLDER, os.path.join(self.root, FOLDER))

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", download)
    assert len(load(Cell(m=1), tmp_path).test.labels) == 10_000
    assert os.listdir(tmp_path) == [FOLDER]


def test_an_unwritable_or_absurd_root_is_an_error_too(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cifar-10-batches-py"):
        load(Cell(m=1), tmp_path / "file")


@pytest.mark.parametrize("root", [5, ["data"], True])
def test_a_root_that_is_no_path_is_refused(root):
    with pytest.raises(ValueError, match="data_root must be the path of a folder"):
        load(Cell(m=1), root)


def test_a_tilde_is_ones_home(cifar10_root, monkeypatch):
    monkeypatch.setenv("HOME", str(cifar10_root.parent))
    assert len(load(Cell(m=1), f"~/{cifar10_root.name}").test.labels) == 10_000


def test_digits_never_stand_in_for_cifar10(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "_download_cifar10", lambda root: (_ for _ in ()).throw(DataError("gone")))
    with pytest.raises(DataError, match="gone"):
        load(Cell(m=1), tmp_path)
