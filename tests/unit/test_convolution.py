"""Convolutions of small maps against float64, the library's convolution and matrices worked out by hand."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from persist import Cell
from persist.architecture import convolutions, linear_layers
from persist.convolution import MAPS, SmallMapConv2d, SmallMapPool2d, cyclic, matrices, toeplitz
from persist.model import build_model

SHAPES = sorted(MAPS)


def convolved(side, kernel):
    """The convolution as a tensor, y[i] = sum over j, t of it[i, j, t] x[j] w[t], from its definition."""
    expected = np.zeros((side**2, side**2, kernel**2))
    for (i, a), (j, b), (s, t) in itertools.product(
        *(itertools.product(range(n), repeat=2) for n in (side, side, kernel))
    ):
        expected[i * side + a, j * side + b, s * kernel + t] = (s, t) == (j - i + kernel // 2, b - a + kernel // 2)
    return expected


@pytest.mark.parametrize("side, kernel", SHAPES)
def test_the_products_add_up_to_the_convolution(side, kernel):
    A, G, B = (matrix.numpy() for matrix in matrices(side, kernel, torch.float64))
    np.testing.assert_allclose(np.einsum("it,tw,tx->ixw", A, G, B), convolved(side, kernel), atol=1e-13)


def test_the_matrices_by_hand():
    A, G, B = toeplitz()
    assert A.shape == (4, 9) and G.shape == (9, 9) and B.shape == (9, 4)
    # at 45 degrees both pixels of a row weigh the same: half the sum of the four pixels, and of the taps ...
    np.testing.assert_allclose(B[0], [0.5] * 4)
    np.testing.assert_allclose(A[:, 0], [0.5] * 4)
    # ... w0, w1, w2 = the values of t^2, t, 1 at equal angles: 2/3 of w1 and 1/3 of the others, by hand
    np.testing.assert_allclose(G[0], np.outer([1, 4, 1], [1, 4, 1]).ravel() / 9)
    A, G, B = cyclic(4, 5)
    assert A.shape == (16, 52) and G.shape == (52, 25) and B.shape == (52, 16)
    assert B[0].tolist() == [1] * 16 and G[0].tolist() == [1] * 25  # frequency 0: the sums
    np.testing.assert_allclose(A[:, 0], 1 / 36)


@pytest.mark.parametrize("side, kernel", SHAPES)
@pytest.mark.parametrize("m, inputs, outputs", [(1, 1, 1), (3, 5, 2), (32, 64, 192), (200, 17, 96), (7, 256, 33)])
def test_as_exact_as_the_library(side, kernel, m, inputs, outputs):
    """Outputs and all gradients against float64: at most three times the error of the library's convolution."""
    torch.manual_seed(m)
    ours = SmallMapConv2d(inputs, outputs, kernel, side)
    library = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    library.load_state_dict(ours.state_dict())
    exact = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2).double()
    exact.load_state_dict(ours.state_dict())
    x, weights = torch.randn(m, inputs, side, side), torch.randn(m, outputs, side, side)
    found = []
    for layer in (ours, library, exact):
        at = x.clone().to(layer.bias.dtype).requires_grad_()
        y = layer(at)
        (y * weights).sum().backward()
        found.append([t.detach().double() for t in (y, at.grad, layer.weight.grad, layer.bias.grad)])
    for mine, theirs, truth in zip(*found, strict=True):
        assert mine.shape == truth.shape
        # a sum of two or three terms the library rounds once or twice; the transforms round their own sums besides
        few_roundings = 3 * torch.finfo(torch.float32).eps * truth.norm()
        assert (mine - truth).norm() <= torch.maximum(3 * (theirs - truth).norm(), few_roundings)


def test_float64_is_computed_in_float64():
    layer = SmallMapConv2d(3, 4, 5, 4).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), conv2d(x, layer.weight, layer.bias, padding=2), rtol=1e-12, atol=1e-12)


def test_pooling_is_the_librarys_bitwise_ties_and_gradients_included():
    x = torch.randn(5, 6, 4, 4).round(decimals=1)  # rounded, so that there are ties
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = torch.randn(5, 6, 2, 2)
    in_order = ours.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1)
    (SmallMapPool2d()(in_order) * weights).sum().backward()
    (nn.MaxPool2d(2)(theirs) * weights).sum().backward()
    assert torch.equal(SmallMapPool2d()(in_order), nn.MaxPool2d(2)(theirs)) and torch.equal(ours.grad, theirs.grad)


def library_network(cell):
    """The same network of the library's layers alone."""
    layers = []
    for c in convolutions(cell):
        layers += [nn.Conv2d(c.inputs, c.outputs, c.kernel, stride=c.stride, padding=c.padding)]
        layers += [nn.MaxPool2d(2), nn.ReLU()] if c.pooled else [nn.ReLU()]
    layers.append(nn.Flatten())
    for inputs, outputs in linear_layers(cell):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("fields", [{}, {"width": 0.1, "hidden_layers": 2}, {"stride": 1, "padding": "alexnet"}])
def test_state_dict_loads_into_a_network_of_plain_layers_and_gives_the_same(fields):
    model = build_model(Cell(m=32, **fields))
    plain = library_network(Cell(m=32, **fields))
    plain.load_state_dict(model.state_dict())
    x = torch.randn(16, 3, 32, 32)
    torch.testing.assert_close(model(x), plain(x), rtol=1e-5, atol=1e-6)  # float32 sums in another order
    model.load_state_dict(plain.state_dict())
    small = [layer for layer in model if isinstance(layer, SmallMapConv2d)]
    assert len(small) == (0 if fields.get("stride") == 1 else 4)
    # in the memory order that makes their transform one matrix product, gradient included
    model(x).sum().backward()
    assert all(p.permute(2, 3, 1, 0).is_contiguous() for c in small for p in (c.weight, c.weight.grad))
