"""The reduced AlexNet as a module, and nothing that trains it."""

import torch
from torch import nn

from persist.architecture import Convolution, convolutions, linear_layers
from persist.cell import Cell
from persist.convolution import MAPS, SmallMapConv2d, SmallMapPool2d


class ReducedAlexNet(nn.Sequential):
    """Five convolutions, three poolings, hidden layer(s), 10 outputs (logits), as persist.architecture says.

    Input: (n, 3, 32, 32) float. Output: (n, 10). No batch normalisation, no dropout (Section 2.1).
    """

    def __init__(self, cell: Cell):
        layers = [layer for convolution in convolutions(cell) for layer in _block(convolution)]
        layers.append(nn.Flatten())
        for inputs, outputs in linear_layers(cell):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        super().__init__(*layers[:-1])  # no ReLU on the logits


def _block(c: Convolution) -> list[nn.Module]:
    """A convolution, its pooling, if any, and its ReLU: after the pooling it is the same at a quarter of the work."""
    if c.stride == 1 and c.padding == c.kernel // 2 and (c.side, c.kernel) in MAPS:
        convolution, pool = SmallMapConv2d(c.inputs, c.outputs, c.kernel, c.side), SmallMapPool2d()
    else:
        convolution = nn.Conv2d(c.inputs, c.outputs, c.kernel, stride=c.stride, padding=c.padding)
        pool = nn.MaxPool2d(2, 2)
    return [convolution, *([pool] if c.pooled else []), nn.ReLU()]


def build_model(cell: Cell) -> ReducedAlexNet:
    """The cell's network on the CPU, with PyTorch's default initialisation drawn from the cell's seed.

    The weights depend on the seed and on the shape of the network alone; the global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(cell.seed)  # torch.manual_seed would reseed CUDA's too
        return ReducedAlexNet(cell)
