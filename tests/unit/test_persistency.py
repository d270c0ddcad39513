import copy
import itertools
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, Subset
from torch.utils.data.distributed import DistributedSampler

from persist import learning_rate, persistent, spaced

sources = st.lists(st.integers(), max_size=20)
factors = st.integers(1, 7)


@given(sources, factors)
def test_each_batch_comes_K_times_in_a_row_numbered_from_1(batches, K):
    items = [object() for _ in batches]
    drawn = list(persistent(items, K))
    assert len(drawn) == len(persistent(items, K)) == K * len(items)
    for n, (k, batch) in enumerate(drawn):
        assert batch is items[n // K] and k == n % K + 1


@given(sources, factors)
def test_spaced_goes_through_the_source_K_times(batches, K):
    assert list(spaced(batches, K)) == [(k, b) for k in range(1, K + 1) for b in batches]
    assert len(spaced(batches, K)) == K * len(batches)


@given(sources, factors)
def test_both_use_every_batch_equally_often(batches, K):
    assert sorted(persistent(batches, K)) == sorted(spaced(batches, K))


@given(sources)
def test_K_1_is_the_source_itself(batches):
    assert [b for _, b in persistent(batches, 1)] == batches == [b for _, b in spaced(batches, 1)]


def test_it_is_lazy_and_works_on_endless_sources():
    drawn = []

    def source():
        for n in itertools.count():
            drawn.append(n)
            yield n

    reused = iter(persistent(source(), 3))
    assert [next(reused) for _ in range(4)] == [(1, 0), (2, 0), (3, 0), (1, 1)]
    assert drawn == [0, 1], "the next minibatch is drawn only when the last one is used up"


def test_a_data_loader_gives_a_new_epoch_each_time_and_the_same_object_within_one():
    loader = torch.utils.data.DataLoader(torch.arange(10), batch_size=4, shuffle=True)
    reused = persistent(loader, 3)
    assert len(reused) == 9
    for _ in range(2):
        epoch = list(reused)
        assert [k for k, _ in epoch] == [1, 2, 3] * 3
        assert all(epoch[n][1] is epoch[n - n % 3][1] for n in range(9))
        assert sorted(torch.cat([b for k, b in epoch if k == 1]).tolist()) == list(range(10))


def test_len_is_a_type_error_where_the_source_has_none():
    with pytest.raises(TypeError):
        len(persistent(iter([1, 2]), 2))
    assert list(persistent(iter([1, 2]), 2)) == [(1, 1), (2, 1), (1, 2), (2, 2)]


def test_an_error_in_the_source_reaches_the_caller():
    def broken():
        yield 1
        raise OSError("the disk is gone")

    reused = iter(persistent(broken(), 2))
    assert [next(reused), next(reused)] == [(1, 1), (2, 1)]
    with pytest.raises(OSError, match="the disk is gone"):
        next(reused)


@pytest.mark.parametrize("wrap", [persistent, spaced])
@pytest.mark.parametrize("K", [0, -1, 1.0, 2.5, True, False, "2", None, [2]])
def test_a_K_that_is_no_positive_int_is_refused_at_once(wrap, K):
    with pytest.raises((TypeError, ValueError), match="K must be an int >= 1"):
        wrap([1, 2], K)


def test_what_cannot_be_iterated_is_refused_at_once():
    with pytest.raises(TypeError, match="iterable of minibatches, not int"):
        persistent(3, 2)
    with pytest.raises(TypeError, match="re-iterable"):
        spaced(iter([1, 2]), 2)


DATASET = torch.arange(8)


def test_what_is_asked_of_it_or_set_on_it_is_the_sources():
    sampler = DistributedSampler(DATASET, num_replicas=2, rank=0)
    loader = DataLoader(DATASET, batch_size=2, sampler=sampler)
    reused = persistent(loader, 3, numbered=False)
    assert reused.sampler is sampler and reused.batch_sampler is loader.batch_sampler
    assert reused.dataset is DATASET and reused.batch_size == 2
    reused.sampler.set_epoch(7)
    assert sampler.epoch == 7
    reused.worker_init_fn = print
    assert loader.worker_init_fn is print
    for name in ("set_epoch", "state_dict", "nonsense"):
        assert not hasattr(reused, name), "a DataLoader has none"


def test_methods_of_the_source_can_be_called():
    class Stateful(list):
        def set_epoch(self, epoch):
            self.epoch = epoch

        def state_dict(self):
            return {"epoch": self.epoch}

        def __deepcopy__(self, memo):
            return Stateful(self)

    reused = persistent(Stateful([5, 6]), 2, numbered=False)
    reused.set_epoch(3)
    assert reused.state_dict() == {"epoch": 3}
    assert list(copy.deepcopy(reused)) == [5, 5, 6, 6], "a copy of it, not of its source"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda reused: pickle.loads(pickle.dumps(reused))])
def test_a_copy_goes_through_the_same_uses(duplicate):
    reused = duplicate(persistent([1, 2], 2))
    assert list(reused) == [(1, 1), (2, 1), (1, 2), (2, 2)] and len(reused) == 4
    assert not hasattr(reused, "sampler")


class Shard(IterableDataset):
    """A stream of which each process reads its own part."""

    def __iter__(self):
        return iter(range(4))


def marked(loader):
    loader.num_replicas = 2
    return loader


def alternate():
    return DistributedSampler(DATASET, num_replicas=2, rank=1)


SHARED = {
    "a sampler": lambda: DataLoader(DATASET, sampler=alternate()),
    "a batch sampler": lambda: DataLoader(DATASET, batch_sampler=BatchSampler(alternate(), 2, drop_last=True)),
    "said so": lambda: marked(DataLoader(Shard())),
    "a data set that says so": lambda: DataLoader(marked(Subset(DATASET, [0, 2])), shuffle=True),
}
NOT_SHARED = {
    "in order": lambda: DataLoader(DATASET),
    "shuffled": lambda: DataLoader(DATASET, shuffle=True),
    "a batch sampler": lambda: DataLoader(DATASET, batch_sampler=BatchSampler(RandomSampler(DATASET), 2, True)),
    "indices": lambda: DataLoader(DATASET, sampler=[0, 1, 2]),
    "a stream": lambda: DataLoader(Shard()),
    "shared out to one": lambda: DataLoader(DATASET, sampler=DistributedSampler(DATASET, num_replicas=1, rank=0)),
    "no loader": lambda: [1, 2, 3],
}


@pytest.fixture
def processes(monkeypatch):
    """torch.distributed says that so many processes train together."""

    def train_together(n):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: n)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)  # DataLoader asks

    return train_together


@pytest.mark.parametrize("loader", SHARED.values(), ids=SHARED)
def test_two_processes_with_a_share_each(processes, loader):
    processes(2)
    assert len(list(persistent(loader(), 3))) == 3 * len(list(loader()))


@pytest.mark.parametrize("wrap", [persistent, spaced, lambda loader, K: persistent(persistent(loader, K), K)])
@pytest.mark.parametrize("loader", NOT_SHARED.values(), ids=NOT_SHARED)
def test_all_data_in_each_of_two_processes_is_refused_before_the_first_minibatch(processes, loader, wrap):
    reused = wrap(loader(), 3)
    assert list(reused), "alone"
    processes(1)
    assert list(reused), "one process of one"
    processes(2)
    with pytest.raises(
        RuntimeError, match=r"2 processes.*DataLoader\(dataset, ..., sampler=DistributedSampler\(dataset\)\)"
    ):
        iter(reused)


def test_what_shares_out_the_data_by_itself_says_so(processes):
    processes(2)
    assert list(persistent([1, 2], 2, numbered=False, own_share=True)) == [1, 1, 2, 2]


def test_rates_by_hand():
    assert [learning_rate(0.001, k, "constant") for k in (1, 2, 3, 4, 5)] == [0.001] * 5
    assert [learning_rate(0.5, k, "kmu") for k in (1, 2, 3, 4, 5)] == [0.5, 1.0, 1.5, 2.0, 2.5]
    assert learning_rate(0.001, 1) == 0.001
    with pytest.raises(ValueError, match="policy must be one of .* not 'k\\*mu'"):
        learning_rate(0.001, 1, "k*mu")
