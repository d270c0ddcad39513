"""What docs/your_loop.md says of a loop in plain PyTorch."""

import pytest
import torch
from toy import EPOCHS, RATE, K, Toy, by_hand, new_loader, weights

from persist import persistent


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.5)


def test_it_trains_like_a_loop_by_hand():
    model, reused = Toy(), persistent(new_loader(), K)
    optimizer = sgd(model)
    for _ in range(EPOCHS):
        for _, ids in reused:
            loss = model(ids)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    hand = by_hand(new_loader())
    assert model.seen == hand.seen and torch.equal(weights(model), weights(hand))


def test_accumulating_over_the_uses_of_a_minibatch_undoes_them():
    def trained(loader, accumulate):
        model = Toy()
        optimizer = sgd(model)
        for n, ids in enumerate(loader, start=1):
            (model(ids) / accumulate).backward()
            if n % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
        return weights(model)

    once = trained(new_loader(), 1)
    torch.testing.assert_close(trained(persistent(new_loader(), K, numbered=False), K), once)


@pytest.mark.parametrize("K", [1, 2, 5])
def test_the_momentum_of_batchnorm_that_remembers_as_many_minibatches(K):
    """At fixed weights K updates with 1 - (1 - a)^(1/K) are one with a."""
    once, reusing = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    reusing.momentum = 1 - (1 - reusing.momentum) ** (1 / K)
    minibatches = torch.randn(6, 8, 3, generator=torch.Generator().manual_seed(0)) + 1
    for k, minibatch in persistent(minibatches, K):
        reusing(minibatch)
        if k == 1:
            once(minibatch)
    torch.testing.assert_close(reusing.running_mean, once.running_mean)
    torch.testing.assert_close(reusing.running_var, once.running_var)
