"""MONAI's ThreadDataLoader(repeats=K), which cites the paper, as an oracle for the sequence of minibatches."""

import pytest
import torch
from monai.data import DistributedSampler, ThreadDataLoader
from toy import EXAMPLE_IDS, M, new_loader

from persist import persistent

shuffled = dict(batch_size=M, shuffle=True)


def repeats(K):
    return ThreadDataLoader(EXAMPLE_IDS, repeats=K, generator=torch.Generator().manual_seed(1), **shuffled)


@pytest.mark.parametrize("K", [1, 2, 3, 5])
def test_the_sequence_is_that_of_repeats(K):
    reused, theirs = persistent(new_loader(), K, numbered=False), repeats(K)
    for _ in range(2):
        ours, oracle = list(reused), list(theirs)
        assert len(ours) == len(reused) == K * len(theirs) and torch.equal(torch.stack(ours), torch.stack(oracle))
        assert [a is b for a, b in zip(ours, ours[1:])] == [a is b for a, b in zip(oracle, oracle[1:])]


def test_its_loader_can_be_the_source():
    reused = persistent(repeats(1), 3, numbered=False)
    assert torch.equal(torch.stack(list(reused)), torch.stack(list(repeats(3))))


def test_its_distributed_sampler_counts_as_one(two_processes):
    sampler = DistributedSampler(EXAMPLE_IDS, num_replicas=2, rank=0)
    iter(persistent(ThreadDataLoader(EXAMPLE_IDS, batch_size=M, sampler=sampler), 2))
    with pytest.raises(RuntimeError, match="this ThreadDataLoader may give all of the data to each"):
        iter(persistent(repeats(1), 2))
