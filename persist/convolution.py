"""Convolutions of small maps with fewer multiplications, on the CPU.

A convolution of stride 1 with "same" padding maps pixels x to pixels y = sum over the taps w; on a map of 2x2 or 4x4
most of its products meet the zeros of the padding. It is bilinear in x and w, so it can be computed as

    y = A [(B x) * (G w)]

with fixed matrices: B x are T sums of pixels, G w are T sums of taps, and `*` stands for T matrix products of the
minibatch's (m, channels) with the weights' (channels, channels) (Winograd, Arithmetic complexity of computations,
SIAM 1980). T counts the multiplications for each pair of channels:

    2x2 map, 3x3 kernel:  36 as counted, 16 without the padding, T =  9 (`toeplitz`)
    4x4 map, 5x5 kernel: 400 as counted, 196 without the padding, T = 52 (`cyclic`)

Activations stay in the memory order (height, width, m, channels) and weights in (height, width, in, out), in which
B, G and A are single matrix products. Shapes, parameters and state_dict are those of torch.nn.Conv2d.
"""

import functools

import numpy as np
import torch
from torch import nn
from torch.nn.functional import max_pool2d


def toeplitz() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, G, B) of a 2x2 map and a 3x3 kernel, T = 9.

    In one dimension y0 = w1 x0 + w2 x1 and y1 = w0 x0 + w1 x1: a Toeplitz matrix, the transpose of the multiplication
    of two polynomials of degree 1, which three points determine (Toom-Cook; at the points 0, 1 and infinity Karatsuba's
    scheme). Points (cos t, sin t) of the projective line at equal angles keep the rounding errors close to those of the
    plain sum, Karatsuba's double them. In two dimensions each matrix is the Kronecker product with itself.
    """
    t = np.pi / 4 + np.pi / 3 * np.arange(3)
    cos, sin = np.cos(t), np.sin(t)
    B = np.stack([cos, sin], axis=1)  # x at the points
    G = np.linalg.inv(np.stack([cos**2, cos * sin, sin**2]))  # the product, of degree 2, from its values, transposed
    A = np.stack([sin, cos])
    return np.kron(A, A), np.kron(G, G), np.kron(B, B)


def cyclic(side: int, kernel: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, G, B) of a side x side map and a kernel of side + 1, by the discrete Fourier transform of length side + 2.

    Pixels are at most side - 1 apart and taps reach side / 2 far, so that a cyclic convolution of that length, n, wraps
    around only where it meets zeros. With x and w at one of the n x n frequencies, w conjugated, y there is z = x w.
    Frequencies equal to their own negative are real: one product each. The others come in conjugate pairs, of which one
    is enough: one complex product, made of three real ones, p0 = Re x Re w, p1 = Im x Im w and
    p2 = (Re x + Im x) (Re w + Im w), of which Re z = p0 - p1 and Im z = p2 - p0 - p1. Side 4: 4 + 3 * 16 = 52 products.
    """
    n, reach = side + 2, kernel // 2
    rows, columns, taps = [], [], []
    pixel, tap = (np.indices((s, s)).reshape(2, -1) for s in (side, kernel))
    frequencies = {min((a, b), (-a % n, -b % n)) for a in range(n) for b in range(n)}
    for a, b in sorted(frequencies):
        angle = 2 * np.pi / n
        x = np.exp(-1j * angle * ([a, b] @ pixel))
        w = np.exp(1j * angle * ([a, b] @ (tap - reach)))  # a correlation: the tap at d meets the pixel at y + d
        y = np.exp(1j * angle * ([a, b] @ pixel)) / n**2
        if (a, b) == (-a % n, -b % n):
            rows += [x.real]
            taps += [w.real]
            columns += [y.real]
        else:
            rows += [x.real, x.imag, x.real + x.imag]
            taps += [w.real, w.imag, w.real + w.imag]
            columns += [2 * (y.real + y.imag), 2 * (y.imag - y.real), -2 * y.imag]  # of 2 Re(z y)
    return np.array(columns).T, np.array(taps), np.array(rows)


MAPS = {(2, 3): toeplitz, (4, 5): functools.partial(cyclic, 4, 5)}  # (side of the map, kernel) that is made faster


@functools.cache
def matrices(side: int, kernel: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A (side * side, T), G (T, kernel * kernel) and B (T, side * side)."""
    A, G, B = (torch.from_numpy(matrix).to(dtype).contiguous() for matrix in MAPS[side, kernel]())
    return A, G, B


class SmallMapConv2d(nn.Conv2d):
    """torch.nn.Conv2d(inputs, outputs, kernel, padding="same") for maps of `side` x `side`, one of MAPS. On the CPU its
    output lies in memory as (height, width, m, channels); elsewhere it is the library's."""

    def __init__(self, inputs: int, outputs: int, kernel: int, side: int):
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        self.side = side
        in_order = self.weight.detach().permute(2, 3, 1, 0).contiguous()
        self.weight = nn.Parameter(in_order.permute(3, 2, 0, 1))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(m, inputs, side, side) -> (m, outputs, side, side)."""
        if input.device.type != "cpu":
            return super().forward(input)
        m, side, kernel = len(input), self.side, self.kernel_size[0]
        A, G, B = matrices(side, kernel, input.dtype)
        pixels = input.permute(2, 3, 0, 1).reshape(side * side, m * self.in_channels)
        taps = self.weight.permute(2, 3, 1, 0).reshape(kernel * kernel, self.in_channels * self.out_channels)
        products = torch.bmm(
            (B @ pixels).view(-1, m, self.in_channels), (G @ taps).view(-1, self.in_channels, self.out_channels)
        )
        bias = self.bias.expand(m, -1).reshape(1, -1)  # pyright: ignore[reportOptionalMemberAccess]
        y = torch.addmm(bias, A, products.view(-1, m * self.out_channels))
        return y.view(side, side, m, self.out_channels).permute(2, 3, 0, 1)


class SmallMapPool2d(nn.MaxPool2d):
    """torch.nn.MaxPool2d(2, 2) of what a SmallMapConv2d gives, in its memory order: minibatch and channels are one."""

    def __init__(self):
        super().__init__(2, 2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(m, channels, side, side) -> (m, channels, side / 2, side / 2)."""
        if input.device.type != "cpu":
            return super().forward(input)  # pyright: ignore[reportReturnType]
        m, channels, side, _ = input.shape
        pooled = max_pool2d(input.reshape(1, m * channels, side, side), 2)
        return pooled.reshape(m, channels, side // 2, side // 2)
