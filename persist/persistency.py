"""The method of the paper, and nothing else: which minibatch comes next, and at which learning rate.

Knows no model, no data set and no torch: the generators work on any iterable of minibatches.
"""

from collections.abc import Iterable, Iterator
from typing import Any

LR_POLICIES = ("constant", "kmu")


class persistent:
    """Reuse each minibatch for K consecutive SGD iterations (Section 1 of arXiv 1806.07353).

    Yields ``(k, batch)`` for k = 1..K, the same object K times, before it draws the next minibatch;
    with ``numbered=False`` the bare batches, for frameworks that expect those of a loader.

    batches: any iterable of minibatches, a torch ``DataLoader`` included; it is iterated once per iteration over
        this object, so a re-iterable source gives a new epoch each time.
    K: the persistency, an int >= 1. K = 1 is ordinary, "disposable" minibatch SGD.

    ``len()`` is K times the source's, where the source has one. An error in the source reaches the caller. What else
    is asked of it (``sampler``, ``dataset``, ...) the source answers.
    Raises TypeError where K is not an int or batches is not iterable, ValueError where K < 1.
    """

    def __init__(self, batches: Iterable, K: int, *, numbered: bool = True):
        self.batches, self.K, self.numbered = _iterable(batches), _persistency(K), numbered

    def __iter__(self) -> Iterator:
        for batch in self.batches:
            for k in range(1, self.K + 1):
                yield (k, batch) if self.numbered else batch

    def __len__(self) -> int:
        return self.K * len(self.batches)

    def __getattr__(self, name: str) -> Any:
        if name == "batches":  # not there yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.batches, name)


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

    def __iter__(self) -> Iterator:
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
