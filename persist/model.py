"""The reduced AlexNet of Section 2.1 (after Masters and Luschi, arXiv 1804.07612), and nothing that trains it."""

import math

import torch
from torch import nn

from persist.cell import Cell

KERNELS = (11, 5, 3, 3, 3)
CHANNELS = (64, 192, 384, 256, 256)
# of these kernels; with "same", (kernel - 1) / 2
PADDINGS = {"same": (5, 2, 1, 1, 1), "alexnet": (2, 2, 1, 1, 1)}
POOLED = (0, 1, 4)  # 2x2 max pooling with stride 2 follows these convolutions, as in AlexNet
HIDDEN = 256
CLASSES = 10
IMAGE = (3, 32, 32)


class ReducedAlexNet(nn.Sequential):
    """Five convolutions of stride 1, three poolings, hidden layer(s) of 256 nodes, 10 outputs (logits).

    Input: (n, 3, 32, 32) float. Output: (n, 10). `width` multiplies channels and hidden nodes, rounded, at least 1.
    No batch normalisation and no dropout (Section 2.1).
    """

    def __init__(self, *, width: float = 1.0, padding: str = "same", hidden_layers: int = 1):
        channels = [max(1, round(width * c)) for c in CHANNELS]
        hidden = max(1, round(width * HIDDEN))
        side, inputs, layers = IMAGE[1], IMAGE[0], []
        for i, (kernel, outputs, pad) in enumerate(zip(KERNELS, channels, PADDINGS[padding])):
            layers.append(nn.Conv2d(inputs, outputs, kernel, padding=pad))
            side += 2 * pad - kernel + 1
            if i in POOLED:
                # before the ReLU, not after: the same function and gradient, at a quarter of the ReLU's work
                layers.append(nn.MaxPool2d(2, 2))
                side //= 2
            layers.append(nn.ReLU(inplace=True))
            inputs = outputs
        layers.append(nn.Flatten())
        inputs *= side * side
        for _ in range(hidden_layers):
            layers += [nn.Linear(inputs, hidden), nn.ReLU(inplace=True)]
            inputs = hidden
        super().__init__(*layers, nn.Linear(inputs, CLASSES))


def build_model(cell: Cell) -> nn.Module:
    """The cell's network on the CPU, with PyTorch's default initialisation drawn from the cell's seed.

    The weights depend on the seed and on the shape of the network alone; the global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(cell.seed)  # torch.manual_seed would reseed CUDA's too
        return ReducedAlexNet(width=cell.width, padding=cell.padding, hidden_layers=cell.hidden_layers)


def flops_per_gradient(cell: Cell) -> int:
    """Floating-point operations of one example's forward and backward pass (a multiply-add counts as two).

    Convolutions and linear layers only. Forward: 2 for each weight at each position of the output. Backward: as much
    again for the gradient of the weights, and as much for that of the inputs, which the first layer does not need.
    """
    forward = [2 * layer.weight.numel() * side * side for layer, side in _layers(cell) if not isinstance(layer, nn.MaxPool2d)]
    return 3 * sum(forward) - forward[0]


def bytes_per_iteration(cell: Cell) -> int:
    """Bytes that one iteration on a minibatch of m moves where no cache keeps any, and every ReLU is part of the layer before it.

    Weights, float32, 8 times: read forward and backward; their gradient written; then the update, which reads gradient,
    momentum and weights and writes the last two. Outputs of convolutions, poolings and linear layers, in the cell's
    precision, 5 times: written, read forward and backward; their gradient written and read. Images: read twice.
    """
    weights, outputs, channels = 0, 0, IMAGE[0]
    for layer, side in _layers(cell):
        weights += sum(p.numel() for p in layer.parameters())
        channels = channels if isinstance(layer, nn.MaxPool2d) else len(layer.weight)
        outputs += channels * side * side
    size = 2 if cell.precision == "bf16" else 4
    return 8 * 4 * weights + cell.m * size * (5 * outputs + 2 * math.prod(IMAGE))


def _layers(cell: Cell):
    """(convolution, pooling or linear layer, height and width of its output: 1 of a linear layer)."""
    side = IMAGE[1]
    for layer in build_model(cell):
        if isinstance(layer, nn.Conv2d):
            side += 2 * layer.padding[0] - layer.kernel_size[0] + 1
        elif isinstance(layer, nn.MaxPool2d):
            side //= 2
        elif isinstance(layer, nn.Linear):
            side = 1
        else:
            continue
        yield layer, side
