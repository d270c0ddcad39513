"""The paper's run of m = 32, K = 1 once more, in plain PyTorch. Nothing here comes from `persist`, so that an error in
the package cannot hide in both. Network and settings are those of the chosen reading (docs/reading.md).

    python tests/independent/rerun.py DATA STATE [EPOCHS] > CURVE

DATA is the folder that holds cifar-10-batches-py. STATE is a file, written after each epoch, from which the same
command goes on after a stop. About two hours on one core. On stdout the curve, a line an epoch: its number,
training loss, test loss, test accuracy. When it has ended, CURVE is kept as tests/independent/rerun.json.

Two things are done as the package does them, so that both start from the same weights and draw the same minibatches,
and can be compared epoch by epoch: PyTorch's own initialisation after seed 0, in the order of the layers, and the
shuffle of each epoch, which is numpy's for the seed (0, epoch).
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.datasets import CIFAR10

MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training set, per channel


def build_network() -> nn.Sequential:
    """The reduced AlexNet with a stride of 4 and no hidden layer; the maps are 8, 4, 2, 2, 2 and, pooled, 1 wide."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip


def read(folder: str, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (n, 3, 32, 32), normalised per channel, and labels (n,)."""
    data = CIFAR10(folder, train=train)
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).float() / 255
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1), torch.tensor(
        data.targets
    )


def rerun(train, test, epochs: int, state: Path, m: int = 32):
    """Train for so many epochs, or on from what the file `state` holds, which is written after each one. Yields of all
    their numbers, training losses, test losses and test accuracies."""
    network = build_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.5)
    criterion = nn.CrossEntropyLoss()
    lines, script = [], Path(__file__).read_text()
    if state.exists():
        weights, momenta, lines, before = torch.load(state)
        if before != script:
            raise ValueError(f"{state} was written by another version of this script")
        network.load_state_dict(weights)
        optimizer.load_state_dict(momenta)
    yield from lines[:epochs]
    for epoch in range(len(lines) + 1, epochs + 1):
        order = torch.from_numpy(np.random.default_rng([0, epoch]).permutation(len(train[1])))
        total = 0.0
        for indices in order.split(m):
            loss = criterion(network(train[0][indices]), train[1][indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(indices)
        with torch.no_grad():
            outputs = torch.cat([network(images) for images in test[0].split(1000)])
        accuracy = (outputs.argmax(1) == test[1]).double().mean().item()
        lines.append([epoch, total / len(order), criterion(outputs.double(), test[1]).item(), accuracy])
        written = state.with_name(f"{state.name}.new")
        torch.save((network.state_dict(), optimizer.state_dict(), lines, script), written)
        written.rename(state)  # whole or not at all
        yield lines[-1]


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, state, epochs = sys.argv[1], Path(sys.argv[2]), int((sys.argv[3:] or ["100"])[0])
    for line in rerun(read(folder, True), read(folder, False), epochs, state):
        print(json.dumps(line), flush=True)
