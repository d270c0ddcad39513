import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from persist import Cell
from persist.architecture import PADDINGS, flops_per_gradient, linear_layers, parameters
from persist.model import ReducedAlexNet, build_model

SHAPES = [
    {},
    {"hidden_layers": 1},
    {"stride": 1},
    {"stride": 1, "padding": "alexnet", "hidden_layers": 1},
    {"stride": 1, "padding": "alexnet", "width": 0.3, "hidden_layers": 2},
]


def layers(model, kind):
    return [layer for layer in model if isinstance(layer, kind)]


def written_out(stride, padding, hidden_layers) -> nn.Sequential:
    """The network of Section 2.1, written out with the library's layers at full width."""
    block, sizes = [], [3, 64, 192, 384, 256, 256]
    for i, kernel in enumerate((11, 5, 3, 3, 3)):
        block += [nn.Conv2d(sizes[i], sizes[i + 1], kernel, stride if i == 0 else 1, padding[i]), nn.ReLU()]
        block += [nn.MaxPool2d(2, 2)] if i in (0, 1, 4) else []
    head = [layer for _ in range(hidden_layers) for layer in (nn.LazyLinear(256), nn.ReLU())]
    return nn.Sequential(*block, nn.Flatten(), *head, nn.LazyLinear(10))


@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
@pytest.mark.parametrize(
    "stride, padding, paddings, features",
    [
        (4, "same", (5, 2, 1, 1, 1), 256),
        (1, "same", (5, 2, 1, 1, 1), 4 * 4 * 256),
        (1, "alexnet", (2, 2, 1, 1, 1), 3 * 3 * 256),
    ],
)
def test_the_network_is_the_papers(stride, padding, paddings, features, hidden_layers):
    """With the weights of the network written out it gives the outputs of that one, within rounding."""
    cell = Cell(m=32, stride=stride, padding=padding, hidden_layers=hidden_layers)
    model, expected = ReducedAlexNet(cell), written_out(stride, paddings, hidden_layers)
    images = torch.randn(2, 3, 32, 32)
    outputs = expected(images)
    assert linear_layers(cell)[0][0] == layers(expected, nn.Linear)[0].in_features == features
    model.load_state_dict(dict(zip(model.state_dict(), expected.state_dict().values(), strict=True)))
    torch.testing.assert_close(model(images), outputs, rtol=1e-4, atol=1e-5)  # float32, sums of up to 3456 products


def test_stride_4_with_the_padding_of_alexnet_leaves_no_map():
    """Which is why Cell refuses it: the library refuses it as well."""
    with pytest.raises(RuntimeError, match="Output size is too small"):
        written_out(4, PADDINGS["alexnet"], 0)(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("width", [0.001, 0.3, 0.5, 1.2])
def test_the_width_multiplies_channels_and_hidden_nodes(width):
    full, model = (build_model(Cell(m=1, stride=1, hidden_layers=2, width=w)) for w in (1.0, width))
    *sizes, (ten, outputs) = [
        (p.shape[0], q.shape[0]) for p, q in zip(full.parameters(), model.parameters(), strict=True)
    ]
    assert all(abs(outputs - width * channels) <= 0.5 or outputs == 1 for channels, outputs in sizes[:-1])
    assert ten == outputs == 10 and model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_pooling_before_the_relu_is_pooling_after_it():
    """AlexNet's order is convolution, ReLU, pooling; the maximum and the ReLU commute, and so do their gradients."""
    x = torch.randn(8, 4, 10, 10).round(decimals=1)  # rounded, so that there are ties and zeros
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = torch.randn(8, 4, 5, 5)
    pool = nn.MaxPool2d(2, 2)
    (pool(ours).relu() * weight).sum().backward()
    (pool(theirs.relu()) * weight).sum().backward()
    assert torch.equal(pool(ours).relu(), pool(theirs.relu())) and torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    "fields, tflop",  # 1394, 840 and 87 MFLOP for a gradient, counted by hand
    [
        ({"stride": 1, "hidden_layers": 1}, 69.7),
        ({"stride": 1, "hidden_layers": 1, "padding": "alexnet"}, 42.0),
        ({}, 4.35),
    ],
)
def test_flops_of_an_epoch(fields, tflop):
    assert flops_per_gradient(Cell(m=32, **fields)) * 50_000 / 1e12 == pytest.approx(tflop, abs=0.05)


@pytest.mark.parametrize("fields", SHAPES)
def test_flops_and_parameters_are_what_pytorch_counts(fields):
    """Of the network with the library's convolutions: ours takes fewer products, and is not what is compared."""
    cell = Cell(m=1, **fields)
    if cell.width == 1:
        network = written_out(cell.stride, PADDINGS[cell.padding], cell.hidden_layers)
    else:
        network = build_model(cell)  # its maps are those of stride 1, where it has the library's convolutions
        assert cell.stride == 1
    network(torch.zeros(1, 3, 32, 32))
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 32, 32)).sum().backward()
    assert flops_per_gradient(cell) == counter.get_total_flops()
    assert parameters(cell) == sum(p.numel() for p in network.parameters())
    assert parameters(cell) == sum(p.numel() for p in build_model(cell).parameters())


def test_weights_are_a_function_of_the_seed_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a, b = build_model(Cell(m=32, K=1, seed=3, width=0.1)), build_model(Cell(m=512, K=5, lr=0.1, seed=3, width=0.1))
    assert torch.equal(before, torch.get_rng_state()), "the caller's random state is left as it was"
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    c = build_model(Cell(m=32, seed=4, width=0.1))
    assert not torch.equal(next(a.parameters()), next(c.parameters()))


@pytest.mark.parametrize("fields", SHAPES)
def test_initialisation_is_pytorchs_default(fields):
    """The same seed gives the library's layers the same weights, drawn in the same order."""
    cell = Cell(m=1, seed=5, **{**fields, "width": 1.0})
    shapes = [(c.in_channels, c.out_channels, c.kernel_size) for c in layers(build_model(cell), nn.Conv2d)]
    torch.manual_seed(5)
    drawn = [nn.Conv2d(*shape) for shape in shapes] + [nn.Linear(*shape) for shape in linear_layers(cell)]
    expected = [p for layer in drawn for p in layer.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(build_model(cell).parameters(), expected, strict=True))
