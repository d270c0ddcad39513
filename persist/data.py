"""Data sets as tensors: CIFAR-10 (torchvision) and scikit-learn's digits; the order of the minibatches; the two
input pipelines. Never one data set in the place of another: what cannot be read is an error."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from persist.cell import Cell

FOLDER = "cifar-10-batches-py"  # as torchvision leaves it
# Mean and standard deviation per channel over the full training set, of pixels in [0, 1]; a test recomputes them.
CHANNEL_STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "digits": ((0.3055,) * 3, (0.3760,) * 3),
}
SUBSET_SEED = 180607353  # of the fixed permutations behind train_size and test_size; independent of Cell.seed


class DataError(Exception):
    """The data set is missing, incomplete or not the one it should be. The message says where and what to do."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Images (n, 32, 32, 3) uint8, and labels (n,) int64, both in memory."""

    images: np.ndarray
    labels: np.ndarray

    def take(self, indices: Sequence[int] | range | np.ndarray) -> "Split":
        return Split(self.images[indices], self.labels[indices])


@dataclasses.dataclass(frozen=True)
class Data:
    """What a cell trains on (`train`), what it is evaluated on (`test`), and the sha256 of the whole data set."""

    train: Split
    test: Split
    sha256: str


def load(cell: Cell, data_root: str | os.PathLike | None = None) -> Data:
    """The cell's training and evaluation examples. data_root: default PERSIST_DATA, else ./data.

    Raises DataError where the data set cannot be had or is damaged.
    """
    root = data_root or os.environ.get("PERSIST_DATA") or "data"
    if not isinstance(root, (str, os.PathLike)):
        raise ValueError(f"data_root must be the path of a folder, or None for PERSIST_DATA or ./data, not {root!r}")
    train, test, sha256 = _read(cell.dataset, os.path.expanduser(root))
    order = np.random.default_rng(SUBSET_SEED).permutation(len(train.labels))
    n = len(order) if cell.train_size is None else cell.train_size
    if cell.evaluate_on == "heldout":
        test = train.take(order[n:][: cell.test_size])
    elif cell.test_size is not None:
        test = test.take(np.random.default_rng(SUBSET_SEED + 1).permutation(len(test.labels))[: cell.test_size])
    if cell.train_size is not None:
        train = train.take(order[:n])
    return Data(train, test, sha256)


def minibatch_indices(cell: Cell, epoch: int, n: int) -> list[np.ndarray]:
    """The minibatches of one pass (1, 2, ...), as indices into n training examples: a new shuffle for each.

    A function of the seed and the pass alone, hence the same for every K, pipeline and device, and for a resumed run.
    """
    order = np.random.default_rng([cell.seed, epoch]).permutation(n)
    order = order[: n - n % cell.m] if cell.drop_last else order
    return [order[i : i + cell.m] for i in range(0, len(order), cell.m)]


def scale(images: np.ndarray, cell: Cell) -> torch.Tensor:
    """uint8 images (n, 32, 32, 3) -> float32 (n, 3, 32, 32) in channels-last memory, scaled as `cell.scaling` says."""
    scaled = torch.from_numpy(images).to(torch.float32).div_(255)
    mean, deviation = channel_statistics(cell)
    return scaled.sub_(torch.tensor(mean)).div_(torch.tensor(deviation)).permute(0, 3, 1, 2)


def channel_statistics(cell: Cell) -> tuple[tuple, tuple]:
    """(mean, deviation) per channel that the scaling subtracts from and divides into pixels in [0, 1]."""
    return {
        "unit": ((0.0,) * 3, (1.0,) * 3),
        "symmetric": ((0.5,) * 3, (0.5,) * 3),
        "channel": CHANNEL_STATISTICS[cell.dataset],
    }[cell.scaling]


class Resident:
    """Input pipeline "resident": the whole training set as one tensor on the device, gathered there by index."""

    def __init__(self, cell: Cell, train: Split, device: torch.device, worker_core: int | None = None):
        # Kept as (n, 32, 32, 3), so that gathering a minibatch copies contiguous rows and gives channels-last memory.
        self.images = scale(train.images, cell).permute(0, 2, 3, 1).to(device)
        self.labels = torch.from_numpy(train.labels).to(device)
        self.cell, self.device = cell, device

    def minibatches(self, epoch: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        """Those of one pass over the training set, a re-iterable of (images, labels) on the device."""
        indices = np.concatenate(minibatch_indices(self.cell, epoch, len(self.labels)))
        return _Mapped(self._gather, torch.from_numpy(indices).to(self.device).split(self.cell.m))

    def _gather(self, i):
        return self.images.index_select(0, i).permute(0, 3, 1, 2), self.labels.index_select(0, i)


class Loader:
    """Input pipeline "loader": torchvision's ToTensor and Normalize behind a DataLoader with one worker process, pinned
    memory and a copy to the device per minibatch: what most people run, and where persistency saves loading."""

    def __init__(self, cell: Cell, train: Split, device: torch.device, worker_core: int | None = None):
        from torchvision import transforms

        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*channel_statistics(cell))])
        self.cell, self.train, self.device, self.worker_core = cell, train, device, worker_core

    def __len__(self):
        return len(self.train.labels)

    def __getitem__(self, i):
        from PIL import Image

        return self.transform(Image.fromarray(self.train.images[i])), self.train.labels[i]

    def minibatches(self, epoch: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        """Those of one pass over the training set, a re-iterable of (images, labels) on the device: Resident's."""
        batches = torch.utils.data.DataLoader(
            self,  # pyright: ignore[reportArgumentType]
            batch_sampler=minibatch_indices(self.cell, epoch, len(self)),  # pyright: ignore[reportArgumentType]
            num_workers=1,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=self._start_worker,
        )
        return _Mapped(self._to_device, batches)

    def _start_worker(self, _):
        if self.worker_core is not None:
            os.sched_setaffinity(0, {self.worker_core})

    def _to_device(self, batch):
        images, labels = batch
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        return images, labels.to(self.device, non_blocking=True)


@dataclasses.dataclass(frozen=True)
class _Mapped:
    """function(item) of each item, as often as it is iterated."""

    function: Callable
    items: Iterable

    def __iter__(self):
        return map(self.function, self.items)

    def __len__(self):
        return len(self.items)  # pyright: ignore[reportArgumentType]


PIPELINES = {"resident": Resident, "loader": Loader}


@functools.lru_cache(maxsize=1)
def _read(dataset: str, root: str) -> tuple[Split, Split, str]:
    train, test = _read_digits() if dataset == "digits" else _read_cifar10(Path(root))
    digest = hashlib.sha256()
    for split in (train, test):
        digest.update(split.images)  # pyright: ignore[reportArgumentType]
        digest.update(split.labels)  # pyright: ignore[reportArgumentType]
    return train, test, digest.hexdigest()


def _read_digits() -> tuple[Split, Split]:
    """scikit-learn's 1797 digits of 8x8 pixels, each pixel repeated 4x4, in three equal channels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    images = np.ascontiguousarray(np.repeat(images.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3))
    order = np.random.default_rng(SUBSET_SEED).permutation(len(images))
    everything = Split(images, digits.target.astype(np.int64))
    return everything.take(order[:1437]), everything.take(order[1437:])


def _read_cifar10(root: Path) -> tuple[Split, Split]:
    from torchvision.datasets import CIFAR10

    if not (root / FOLDER).exists():
        _download_cifar10(root)
    try:
        # torchvision verifies the checksums of all files before it opens any of these pickles
        train, test = CIFAR10(root, train=True), CIFAR10(root, train=False)
    except RuntimeError:
        raise DataError(_damage(root)) from None
    train, test = (Split(np.ascontiguousarray(d.data), np.array(d.targets, dtype=np.int64)) for d in (train, test))
    return train, test


def _damage(root: Path) -> str:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    files = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
    bad = [
        f"{name} ({'its checksum is wrong' if (root / FOLDER / name).is_file() else 'it is missing'})"
        for name, md5 in files
        if not check_integrity(root / FOLDER / name, md5)
    ]
    return (
        f"CIFAR-10 in {root / FOLDER} is damaged: {', '.join(bad)}. Nothing was changed there. Put intact files in "
        f"their place, or move {FOLDER} away and it is downloaded again."
    )


def _download_cifar10(root: Path):
    """Download into a temporary folder beside, so that a download that breaks off leaves nothing half there."""
    from torchvision.datasets import CIFAR10

    new = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder, _socket_timeout(30):
            CIFAR10(folder, download=True)
            os.rename(Path(folder) / FOLDER, root / FOLDER)
    except (OSError, RuntimeError) as error:
        if (root / FOLDER).exists():  # another process was faster
            return
        if new and root.is_dir():
            with contextlib.suppress(OSError):  # something else is in it by now
                root.rmdir()
        raise DataError(
            f"CIFAR-10 was not found: looked for the folder {FOLDER} in {root.resolve()}, then tried to download "
            f"{CIFAR10.url}, which failed ({error}). Either set PERSIST_DATA (or data_root) to a folder that holds "
            f"{FOLDER}, or download that file on another machine and unpack it in {root.resolve()}. "
            f"Without CIFAR-10, dataset='digits' needs no download."
        ) from None


@contextlib.contextmanager
def _socket_timeout(seconds):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
