"""The method of the paper, and nothing else: which minibatch comes next, and at which learning rate.

Knows no model, no data set and no torch: the generators work on any iterable of minibatches.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

LR_POLICIES = ("constant", "kmu")
_OWN = ("batches", "K", "numbered", "own_share")  # attributes of persistent itself


class persistent:
    """Reuse each minibatch for K consecutive SGD iterations (Section 1 of arXiv 1806.07353).

    Yields ``(k, batch)`` for k = 1..K, the same object K times, before it draws the next minibatch;
    with ``numbered=False`` the bare batches, for frameworks that expect those of a loader.

    batches: any iterable of minibatches, a torch ``DataLoader`` included; it is iterated once per iteration over
        this object, so a re-iterable source gives a new epoch each time.
    own_share: whether each of several processes that train together has a share of its own in batches already; what
        torch's ``DistributedSampler`` or accelerate shared out is seen to be so.
    K: the persistency, an int >= 1. K = 1 is ordinary, "disposable" minibatch SGD.

    ``len()`` is K times the source's, where the source has one. An error in the source reaches the caller. What else
    is asked of it or set on it (``sampler``, ``dataset``, ``set_epoch``, ``worker_init_fn``, ...) is the source's.
    Raises TypeError where K is not an int or batches is not iterable, ValueError where K < 1. Iterating raises
    RuntimeError where several processes of torch.distributed train together and nothing shows that each gets a share of
    its own: frameworks put their distributed sampler only into what is itself a ``DataLoader``.
    """

    def __init__(self, batches: Iterable, K: int, *, numbered: bool = True, own_share: bool = False):
        self.batches, self.K, self.numbered, self.own_share = _iterable(batches), _persistency(K), numbered, own_share

    def __iter__(self) -> Iterator:
        if not self.own_share:
            _check_shares(self.batches)  # here and not in the generator: before anything trains
        return self._uses()

    def _uses(self) -> Iterator:
        for batch in self.batches:
            for k in range(1, self.K + 1):
                yield (k, batch) if self.numbered else batch

    def __len__(self) -> int:
        return self.K * len(self.batches)  # pyright: ignore[reportArgumentType]

    def __getattr__(self, name: str) -> Any:
        if name in _OWN or name.startswith("__"):  # not there yet while a copy is made; how to copy the source
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.batches, name)

    def __setattr__(self, name: str, value: Any):
        if name in _OWN:
            super().__setattr__(name, value)
        else:
            setattr(self.batches, name, value)


class spaced(persistent):
    """A control: the same K uses of every minibatch, but spread out: the whole epoch is gone through K times.

    Yields ``(k, batch)``; in pass k = 1..K over the source every minibatch comes once. The source must give the same
    minibatches in the same order each time (it is iterated K times), so an iterator is refused with a TypeError.
    """

    def __init__(self, batches: Iterable, K: int):
        super().__init__(batches, K)
        if isinstance(batches, Iterator):
            name = type(batches).__name__
            raise TypeError(f"batches must be re-iterable (a list, a DataLoader), not the iterator {name}")

    def _uses(self) -> Iterator:
        for k in range(1, self.K + 1):
            for batch in self.batches:
                yield k, batch


def fresh(passes: Iterable[Iterable], K: int) -> Iterator:
    """A control: no reuse. Yields ``(k, batch)`` for every minibatch of every pass, one after the other, with k = 1..K
    over and over: the rates of persistency, each on a new minibatch."""
    k = 0
    for batches in passes:
        for batch in batches:
            yield k + 1, batch
            k = (k + 1) % K


def learning_rate(mu: float, k: int, policy: str = "constant") -> float:
    """The learning rate of the k-th use of a minibatch, k = 1..K.

    "constant": mu (Section 2.1). "kmu": k * mu (Section 3, Figures 4 and 5). Raises ValueError for another policy.
    """
    if policy == "constant":
        return mu
    if policy == "kmu":
        return k * mu
    raise ValueError(f"policy must be one of {LR_POLICIES}, not {policy!r}")


def _persistency(K) -> int:
    if type(K) is not int:  # bool is an int to isinstance
        raise TypeError(f"K must be an int >= 1, not {K!r}")
    if K < 1:
        raise ValueError(f"K must be an int >= 1, not {K}")
    return K


def _iterable(batches):
    if not (hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")):
        raise TypeError(f"batches must be an iterable of minibatches, not {type(batches).__name__}")
    return batches


def _check_shares(batches):
    """Raise RuntimeError where several processes train together, unless each is seen to have its own share. torch is
    not imported for it: where it is not loaded, there is one process."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    if not (distributed and distributed.is_available() and distributed.is_initialized()):
        return
    processes = distributed.get_world_size()
    if processes == 1 or _has_shares(batches):
        return
    raise RuntimeError(
        f"{processes} processes train together, and this {type(batches).__name__} may give all of the data to each of "
        "them. Give the DataLoader a sampler: DataLoader(dataset, ..., sampler=DistributedSampler(dataset)), with "
        "Lightning in train_dataloader(); with accelerate, wrap what prepare() returns: "
        "persistent(accelerator.prepare(loader), K). If each process has its own share already, by other means (an "
        "IterableDataset that yields a share, say): persistent(batches, K, own_share=True)"
    )


def _has_shares(part) -> bool:
    """Whether a loader, its data set or one of its samplers is shared out among processes: torch's DistributedSampler
    and those derived from it say among how many (num_replicas), as do accelerate's samplers and data sets
    (num_processes) and the `state` of its loaders that dispatch."""
    among = [getattr(part, "num_replicas", 1), getattr(part, "num_processes", 1)]
    among.append(getattr(getattr(part, "state", None), "num_processes", 1))
    if any(isinstance(n, int) and n > 1 for n in among):
        return True
    inner = (getattr(part, name, None) for name in ("dataset", "sampler", "batch_sampler"))
    return any(_has_shares(each) for each in inner if each is not None)
