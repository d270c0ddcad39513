"""The training loop against what it must equal: plain PyTorch loops and formulas in float64."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from test_convolution import library_network
from torch.nn.functional import cross_entropy

from persist import Cell, train
from persist import data as datasets
from persist.model import build_model
from persist.training import build_optimizer, sgd_step

SMALL = dict(dataset="digits", train_size=200, test_size=50, width=0.05, epochs=2, lr=0.001)


def images_and_labels(cell, memory_format):
    split = datasets.load(cell).train
    images = datasets.scale(split.images, cell).contiguous(memory_format=memory_format)
    return images, torch.from_numpy(split.labels)


def plain_sgd(cell, epochs_of_batches, memory_format=torch.channels_last, network=build_model):
    """Ten lines of ordinary PyTorch, as anyone would write them."""
    images, labels = images_and_labels(cell, memory_format)
    model = network(cell)
    optimizer = torch.optim.SGD(model.parameters(), lr=cell.lr, momentum=cell.momentum)
    for batches in epochs_of_batches:
        for i in batches:
            optimizer.zero_grad()
            cross_entropy(
                model(images[i].contiguous(memory_format=memory_format)), labels[i], reduction=cell.reduction
            ).backward()
            optimizer.step()
    return model


def our_weights(cell, folder):
    """The weights that train() leaves, from its last checkpoint."""
    train(cell, checkpoint=folder / "weights.pt", checkpoint_every=0)
    model = build_model(cell)
    model.load_state_dict(torch.load(io.BytesIO((folder / "weights.pt").read_bytes()[32:]), weights_only=True)["model"])
    return model


def batches(cell):
    return [
        [torch.from_numpy(i) for i in datasets.minibatch_indices(cell, e, cell.train_size)]
        for e in range(1, cell.epochs + 1)
    ]


def assert_same_weights(a, b, **tolerance):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values()):
        torch.testing.assert_close(
            x, y, msg=lambda text, name=name: f"{name}: {text}", **(tolerance or dict(rtol=0, atol=0))
        )


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("m", [1, 32, 200])
def test_K_1_is_a_plain_loop_bitwise(m, reduction, tmp_path):
    cell = Cell(m=m, reduction=reduction, **SMALL)
    assert_same_weights(our_weights(cell, tmp_path), plain_sgd(cell, batches(cell)))


def test_K_1_is_the_loop_with_the_librarys_layers_in_nchw_memory_within_rounding(tmp_path):
    cell = Cell(m=20, **{**SMALL, "epochs": 1})

    def plain_network(cell):
        network = library_network(cell)
        network.load_state_dict(build_model(cell).state_dict())
        return network

    expected = plain_sgd(cell, batches(cell), torch.contiguous_format, plain_network)
    assert len(batches(cell)[0]) == 10
    # other products and another memory order add in another order: float32 rounding over ten steps
    assert_same_weights(our_weights(cell, tmp_path), expected, rtol=1e-5, atol=1e-5)


def test_K_2_is_the_doubled_list_of_minibatches(tmp_path):
    cell = Cell(m=32, K=2, **SMALL)
    doubled = [[i for i in epoch for _ in range(2)] for epoch in batches(cell)]
    assert_same_weights(our_weights(cell, tmp_path), plain_sgd(cell, doubled))


def test_spaced_reuse_is_the_epoch_gone_through_twice(tmp_path):
    cell = Cell(m=32, K=2, reuse="spaced", **SMALL)
    assert_same_weights(our_weights(cell, tmp_path), plain_sgd(cell, [epoch + epoch for epoch in batches(cell)]))


@pytest.mark.parametrize("evaluate_every", [None, 170])
def test_fresh_minibatches_are_K_times_the_epochs_of_K_1(evaluate_every, tmp_path):
    cell = Cell(m=32, K=3, reuse="fresh", evaluate_every=evaluate_every, **SMALL)
    ordinary = dataclasses.replace(cell, K=1, epochs=6, reuse="consecutive", evaluate_every=None)
    assert_same_weights(our_weights(cell, tmp_path), plain_sgd(ordinary, batches(ordinary)))


def test_nesterov_is_pytorchs(tmp_path):
    cell = Cell(m=32, nesterov=True, **SMALL)
    assert not torch.equal(our_weights(cell, tmp_path)[0].weight, plain_sgd(cell, batches(cell))[0].weight)
    optimizer = build_optimizer(cell, build_model(cell))
    assert optimizer.defaults["nesterov"] and optimizer.defaults["momentum"] == 0.5


def test_with_the_whole_training_set_as_minibatch_persistency_is_more_epochs(tmp_path):
    """m = n: the minibatch is always the same set, so K = 5 for 2 epochs makes the updates of K = 1 for 10."""
    reused = our_weights(Cell(m=200, K=5, **{**SMALL, "epochs": 2, "lr": 0.05}), tmp_path)
    (tmp_path / "weights.pt").unlink()
    epochs = our_weights(Cell(m=200, K=1, **{**SMALL, "epochs": 10, "lr": 0.05}), tmp_path)
    # each epoch shuffles the one minibatch: the same sum in another order, rounded in float32
    assert_same_weights(reused, epochs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("momentum_form", ["pytorch", "classical"])
@pytest.mark.parametrize("lr_policy", ["constant", "kmu"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_momentum_and_rates_are_the_formula_in_float64(reduction, lr_policy, momentum_form):
    cell = Cell(
        m=10,
        K=3,
        reduction=reduction,
        lr_policy=lr_policy,
        momentum_form=momentum_form,
        **{**SMALL, "epochs": 1, "momentum": 0.9},
    )
    images, labels = (t[:20] for t in images_and_labels(cell, torch.channels_last))
    model = build_model(cell).double()
    weights = [p.detach().clone() for p in model.parameters()]
    velocity = [torch.zeros_like(w) for w in weights]
    optimizer = build_optimizer(cell, model)
    for i in (slice(0, 10), slice(10, 20)):
        for k in (1, 2, 3):
            rate = cell.lr * (k if lr_policy == "kmu" else 1)
            gradient = sum_of_gradients(cell, weights, images[i].double(), labels[i])
            if reduction == "mean":
                gradient = [g / 10 for g in gradient]
            for j, g in enumerate(gradient):
                if momentum_form == "pytorch":
                    velocity[j] = 0.9 * velocity[j] + g
                    weights[j] = weights[j] - rate * velocity[j]
                else:
                    velocity[j] = 0.9 * velocity[j] + rate * g
                    weights[j] = weights[j] - velocity[j]
            sgd_step(cell, model, optimizer, images[i].double(), labels[i], rate)
    for ours, expected in zip(model.parameters(), weights):
        torch.testing.assert_close(ours.detach(), expected, rtol=1e-9, atol=1e-12)


def sum_of_gradients(cell, weights, images, labels):
    """The gradients of the single examples, one at a time, added up."""
    model = build_model(cell).double()
    with torch.no_grad():
        for p, w in zip(model.parameters(), weights):
            p.copy_(w)
    total = [torch.zeros_like(w) for w in weights]
    for image, label in zip(images, labels):
        loss = -torch.log_softmax(model(image[None]), dim=1)[0, label]
        total = [t + g for t, g in zip(total, torch.autograd.grad(loss, list(model.parameters())))]
    return total


def test_the_record_is_what_evaluation_by_hand_gives(tmp_path):
    cell = Cell(m=32, K=2, **SMALL)
    record, model, data = train(cell), our_weights(cell, tmp_path), datasets.load(cell)
    with torch.no_grad():
        logits = model(datasets.scale(data.test.images, cell)).double().numpy()
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    last = record.history[-1]
    assert last["test_accuracy"] == np.mean(logits.argmax(axis=1) == data.test.labels)
    assert last["test_loss"] == pytest.approx(-np.log(probability[range(50), data.test.labels]).mean(), rel=1e-6)


def test_train_loss_is_the_mean_at_the_first_use():
    """With a rate too small to matter, every first use sees the initial weights."""
    cell = Cell(m=32, K=3, **{**SMALL, "lr": 1e-30, "epochs": 1})
    images, labels = images_and_labels(cell, torch.channels_last)
    expected = cross_entropy(build_model(cell)(images).double(), labels).item()
    for reduction in ("sum", "mean"):
        record = train(dataclasses.replace(cell, reduction=reduction))
        assert record.history[0]["train_loss"] == pytest.approx(expected, rel=1e-6)
