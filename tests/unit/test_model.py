import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from persist import Cell
from persist.model import ReducedAlexNet, build_model, bytes_per_iteration, flops_per_gradient


def layers(model, kind):
    return [layer for layer in model if isinstance(layer, kind)]


@pytest.mark.parametrize(
    "padding, paddings, features", [("same", (5, 2, 1, 1, 1), 4 * 4 * 256), ("alexnet", (2, 2, 1, 1, 1), 3 * 3 * 256)]
)
def test_the_network_is_the_papers(padding, paddings, features):
    model = ReducedAlexNet(padding=padding)
    convolutions, linear = layers(model, nn.Conv2d), layers(model, nn.Linear)
    assert [c.kernel_size for c in convolutions] == [(11, 11), (5, 5), (3, 3), (3, 3), (3, 3)]
    assert [c.out_channels for c in convolutions] == [64, 192, 384, 256, 256]
    assert all(c.stride == (1, 1) for c in convolutions) and [c.padding[0] for c in convolutions] == list(paddings)
    assert [(p.kernel_size, p.stride) for p in layers(model, nn.MaxPool2d)] == [(2, 2)] * 3
    assert [(f.in_features, f.out_features) for f in linear] == [(features, 256), (256, 10)]
    assert not layers(model, (nn.BatchNorm2d, nn.Dropout))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_two_hidden_layers_and_width():
    model = ReducedAlexNet(width=0.5, padding="alexnet", hidden_layers=2)
    assert [c.out_channels for c in layers(model, nn.Conv2d)] == [32, 96, 192, 128, 128]
    assert [f.out_features for f in layers(model, nn.Linear)] == [128, 128, 10]
    assert ReducedAlexNet(width=0.001)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_pooling_before_the_relu_is_pooling_after_it():
    """The order of AlexNet is convolution, ReLU, pooling; the maximum and the ReLU commute, and so do their gradients."""
    x = torch.randn(8, 4, 10, 10).round(decimals=1)  # rounded, so that there are ties and zeros
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = torch.randn(8, 4, 5, 5)
    pool = nn.MaxPool2d(2, 2)
    (pool(ours).relu() * weight).sum().backward()
    (pool(theirs.relu()) * weight).sum().backward()
    assert torch.equal(pool(ours).relu(), pool(theirs.relu())) and torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("padding, tflop", [("same", 69.7), ("alexnet", 42.0)])
def test_flops_of_an_epoch(padding, tflop):
    per_gradient = flops_per_gradient(Cell(m=32, padding=padding))
    assert per_gradient * 50_000 / 1e12 == pytest.approx(tflop, abs=0.05)


@pytest.mark.parametrize("fields", [{}, {"padding": "alexnet", "width": 0.3, "hidden_layers": 2}])
def test_flops_are_what_pytorch_counts(fields):
    with FlopCounterMode(display=False) as counter:
        build_model(Cell(m=1, **fields))(torch.zeros(1, 3, 32, 32)).sum().backward()
    assert flops_per_gradient(Cell(m=1, **fields)) == counter.get_total_flops()


@pytest.mark.parametrize("fields", [{}, {"padding": "alexnet", "width": 0.3, "hidden_layers": 2}])
def test_bytes_of_an_iteration_are_those_of_the_tensors(fields):
    outputs = []
    model = build_model(Cell(m=7, **fields))
    for layer in layers(model, (nn.Conv2d, nn.MaxPool2d, nn.Linear)):
        layer.register_forward_hook(lambda module, inputs, output: outputs.append(output.numel()))
    model(torch.zeros(7, 3, 32, 32))
    weights = sum(p.numel() for p in model.parameters())
    expected = {size: 32 * weights + size * (5 * sum(outputs) + 2 * 7 * 3 * 32 * 32) for size in (4, 2)}
    assert (
        bytes_per_iteration(Cell(m=7, **fields))
        == bytes_per_iteration(Cell(m=7, K=5, precision="tf32", **fields))
        == expected[4]
    )
    assert bytes_per_iteration(Cell(m=7, precision="bf16", **fields)) == expected[2]


def test_weights_are_a_function_of_the_seed_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a, b = build_model(Cell(m=32, K=1, seed=3, width=0.1)), build_model(Cell(m=512, K=5, lr=0.1, seed=3, width=0.1))
    assert torch.equal(before, torch.get_rng_state()), "the caller's random state is left as it was"
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    c = build_model(Cell(m=32, seed=4, width=0.1))
    assert not torch.equal(next(a.parameters()), next(c.parameters()))


def test_initialisation_is_pytorchs_default():
    torch.manual_seed(5)
    assert torch.equal(ReducedAlexNet(width=0.1)[0].weight, build_model(Cell(m=1, seed=5, width=0.1))[0].weight)
    torch.manual_seed(5)
    assert torch.equal(nn.Conv2d(3, 6, 11).weight, build_model(Cell(m=1, seed=5, width=0.1))[0].weight)
