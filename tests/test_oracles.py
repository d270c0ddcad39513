"""The training loop against what it must equal: plain PyTorch loops and formulas in float64."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from persist import Cell, train
from persist import data as datasets
from persist.model import build_model
from persist.training import build_optimizer, iterate, sgd_step

SMALL = dict(dataset="digits", train_size=200, test_size=50, width=0.05, padding="alexnet", epochs=2, lr=0.001)


def images_and_labels(cell, memory_format):
    split = datasets.load(cell).train
    images = datasets.scale(split.images, cell).contiguous(memory_format=memory_format)
    return images, torch.from_numpy(split.labels)


def plain_sgd(cell, epochs_of_batches, memory_format):
    """Ten lines of ordinary PyTorch, as anyone would write them."""
    images, labels = images_and_labels(cell, memory_format)
    model = build_model(cell).to(memory_format=memory_format)
    optimizer = torch.optim.SGD(model.parameters(), lr=cell.lr, momentum=cell.momentum)
    for batches in epochs_of_batches:
        for i in batches:
            optimizer.zero_grad()
            cross_entropy(model(images[i].contiguous(memory_format=memory_format)), labels[i], reduction=cell.reduction).backward()
            optimizer.step()
    return model


def our_weights(cell):
    """The weights after train's loop, run here over the same parts that train uses."""
    model = build_model(cell).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(cell, model)
    pipeline = datasets.PIPELINES[cell.pipeline](cell, datasets.load(cell).train, torch.device("cpu"))
    for epoch in range(1, cell.epochs + 1):
        iterate(cell, model, optimizer, pipeline.epoch(epoch))
    return model


def batches(cell):
    return [[torch.from_numpy(i) for i in datasets.minibatch_indices(cell, e, cell.train_size)] for e in range(1, cell.epochs + 1)]


def assert_same_weights(a, b, **tolerance):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values()):
        torch.testing.assert_close(x, y, msg=lambda text: f"{name}: {text}", **(tolerance or dict(rtol=0, atol=0)))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("m", [1, 32, 200])
def test_K_1_is_a_plain_loop_bitwise(m, reduction):
    cell = Cell(m=m, reduction=reduction, **SMALL)
    assert_same_weights(our_weights(cell), plain_sgd(cell, batches(cell), torch.channels_last))


def test_K_1_is_the_plain_loop_in_nchw_memory_within_rounding():
    cell = Cell(m=20, **{**SMALL, "epochs": 1})
    first_ten = [batches(cell)[0][:10]]
    assert len(first_ten[0]) == 10
    # another memory layout adds in another order: float32 rounding over ten steps
    assert_same_weights(our_weights(cell), plain_sgd(cell, first_ten, torch.contiguous_format), rtol=1e-5, atol=1e-5)


def test_K_2_is_the_doubled_list_of_minibatches():
    cell = Cell(m=32, K=2, **SMALL)
    doubled = [[i for i in epoch for _ in range(2)] for epoch in batches(cell)]
    assert_same_weights(our_weights(cell), plain_sgd(cell, doubled, torch.channels_last))


def test_spaced_reuse_is_the_epoch_gone_through_twice():
    cell = Cell(m=32, K=2, reuse="spaced", **SMALL)
    assert_same_weights(our_weights(cell), plain_sgd(cell, [epoch + epoch for epoch in batches(cell)], torch.channels_last))


def test_with_the_whole_training_set_as_minibatch_persistency_is_more_epochs():
    """m = n: the minibatch is always the same set, so K = 5 for 2 epochs makes the updates of K = 1 for 10."""
    reused = our_weights(Cell(m=200, K=5, **{**SMALL, "epochs": 2, "reduction": "mean", "lr": 0.05}))
    epochs = our_weights(Cell(m=200, K=1, **{**SMALL, "epochs": 10, "reduction": "mean", "lr": 0.05}))
    # each epoch shuffles the one minibatch: the same sum in another order, rounded in float32
    assert_same_weights(reused, epochs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("momentum_form", ["pytorch", "classical"])
@pytest.mark.parametrize("lr_policy", ["constant", "kmu"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_momentum_and_rates_are_the_formula_in_float64(reduction, lr_policy, momentum_form):
    cell = Cell(m=10, K=3, reduction=reduction, lr_policy=lr_policy, momentum_form=momentum_form, **{**SMALL, "epochs": 1, "momentum": 0.9})
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
            double_step(cell, model, optimizer, images[i].double(), labels[i], rate)
    for ours, expected in zip(model.parameters(), weights):
        torch.testing.assert_close(ours.detach(), expected, rtol=1e-6, atol=1e-9)  # the logits pass through float32


def double_step(cell, model, optimizer, images, labels, rate):
    sgd_step(cell, model, optimizer, images, labels, rate)


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


def test_the_record_is_what_evaluation_by_hand_gives():
    cell = Cell(m=32, K=2, **SMALL)
    record, model, data = train(cell), our_weights(cell), datasets.load(cell)
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
