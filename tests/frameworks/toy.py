"""A toy problem whose loader yields the ids of its examples, so that a model can tell which it has seen; and the loop
by hand that every framework must agree with."""

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

EXAMPLES, M, K, EPOCHS, RATE = 24, 4, 3, 2, 0.5
EXAMPLE_IDS = torch.arange(EXAMPLES)


class Toy(torch.nn.Module):
    """Five features, three classes. Called with the ids of a minibatch, it returns the loss and adds them to `seen`."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("x", torch.randn(EXAMPLES, 5, generator=generator))
        self.register_buffer("y", torch.randint(3, (EXAMPLES,), generator=generator))
        self.linear = torch.nn.Linear(5, 3)
        torch.nn.init.zeros_(self.linear.bias)
        torch.nn.init.normal_(self.linear.weight, generator=generator)
        self.seen = []

    def forward(self, ids):
        self.seen.append(ids.tolist())
        return cross_entropy(self.linear(self.x[ids]), self.y[ids])


def new_loader(m=M):
    """Shuffled anew every epoch, in the same way each time that it is made."""
    return DataLoader(EXAMPLE_IDS, m, shuffle=True, generator=torch.Generator().manual_seed(1))


class Replay:
    """A loader of the minibatches that a model has seen K times each; iterated once more, those of its next epoch."""

    def __init__(self, seen):
        drawn = [torch.tensor(ids) for ids in seen[::K]]
        n = len(drawn) // EPOCHS
        self.epochs = iter([drawn[start : start + n] for start in range(0, len(drawn), n)])

    def __iter__(self):
        return iter(next(self.epochs))


def by_hand(loader, average=lambda gradient: None) -> Toy:
    """Persistency without any of our code: a loop in a loop. `average`: what ranks do to a gradient, in place."""
    model = Toy()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.5)
    for _ in range(EPOCHS):
        for ids in loader:
            for _ in range(K):
                optimizer.zero_grad()
                model(ids).backward()
                for parameter in model.parameters():
                    average(parameter.grad)
                optimizer.step()
    return model


def weights(model) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()
