"""The shape of the reduced AlexNet of Section 2.1 (after Masters and Luschi, arXiv 1804.07612), and what it costs."""

import dataclasses
import itertools

from persist.cell import Cell

KERNELS = (11, 5, 3, 3, 3)
CHANNELS = (64, 192, 384, 256, 256)
# of these kernels; with "same", (kernel - 1) / 2
PADDINGS = {"same": (5, 2, 1, 1, 1), "alexnet": (2, 2, 1, 1, 1)}
POOLED = (0, 1, 4)  # 2x2 max pooling with stride 2 follows these convolutions, as in AlexNet
HIDDEN = 256
CLASSES = 10
IMAGE = (3, 32, 32)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """`inputs` channels on maps of `side` x `side` -> `outputs` channels; `pooled`: a 2x2 max pooling follows."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    side: int
    pooled: bool

    @property
    def side_out(self) -> int:
        """Height and width of its output, before the pooling."""
        return (self.side + 2 * self.padding - self.kernel) // self.stride + 1


def convolutions(cell: Cell) -> list[Convolution]:
    """The five convolutions of the cell's network; `width` multiplies the channels, rounded, at least 1."""
    side, inputs, found = IMAGE[1], IMAGE[0], []
    for i, (kernel, channels, padding) in enumerate(zip(KERNELS, CHANNELS, PADDINGS[cell.padding], strict=True)):
        outputs, stride = max(1, round(cell.width * channels)), cell.stride if i == 0 else 1
        found.append(Convolution(inputs, outputs, kernel, stride, padding, side, i in POOLED))
        side, inputs = found[-1].side_out // (2 if i in POOLED else 1), outputs
    return found


def linear_layers(cell: Cell) -> list[tuple[int, int]]:
    """(inputs, outputs) of the linear layers: the hidden ones, then the one to the 10 classes."""
    last = convolutions(cell)[-1]
    features = last.outputs * (last.side_out // 2) ** 2
    return list(itertools.pairwise([features, *[max(1, round(cell.width * HIDDEN))] * cell.hidden_layers, CLASSES]))


def parameters(cell: Cell) -> int:
    """Weights and biases of the cell's network."""
    weights = [(c.inputs * c.kernel**2 + 1) * c.outputs for c in convolutions(cell)]
    return sum(weights) + sum((inputs + 1) * outputs for inputs, outputs in linear_layers(cell))


def flops_per_gradient(cell: Cell) -> int:
    """Floating-point operations of one example's forward and backward pass, counted directly: 2 for a multiply-add.

    Convolutions and linear layers only. Forward: 2 for each weight at each position of the output. Backward: as much
    again for the gradient of the weights, and as much for that of the inputs, which the first layer does not need.
    """
    forward = [2 * c.inputs * c.outputs * c.kernel**2 * c.side_out**2 for c in convolutions(cell)]
    linear = [2 * inputs * outputs for inputs, outputs in linear_layers(cell)]
    return 3 * sum(forward + linear) - forward[0]
