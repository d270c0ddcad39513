"""The package against a rerun of m = 32, K = 1 in plain PyTorch (rerun.py): over a few iterations, and, recorded, over
the 100 epochs of the paper."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rerun import read, rerun

from persist import Cell, load_records, train
from persist.evidence.compare import best_accuracy

CURVE = Path(__file__).with_name("rerun.json")


def test_a_few_minibatches_of_it_are_those_of_the_package(cifar10_root, tmp_path):
    """Two epochs of 320 images, the rerun stopped between them. To rounding: the same sums, in another order."""
    cell = Cell(m=32, train_size=320, test_size=1000, epochs=2)
    record = train(cell, data_root=cifar10_root, device="cpu")
    images, labels = read(str(cifar10_root), True)
    chosen = torch.from_numpy(np.random.default_rng(180607353).permutation(len(labels))[:320])
    other = torch.from_numpy(np.random.default_rng(180607354).permutation(10_000)[:1000])
    test_images, test_labels = read(str(cifar10_root), False)
    examples = (images[chosen], labels[chosen]), (test_images[other], test_labels[other])
    for epochs in (1, 2):
        lines = [*rerun(*examples, epochs, tmp_path / "state.pt")]
    assert lines == [*rerun(*examples, 2, tmp_path / "another.pt")]
    for entry, (epoch, train_loss, test_loss, accuracy) in zip(record.history, lines, strict=True):
        assert entry["epoch"] == epoch
        assert entry["train_loss"] == pytest.approx(train_loss, rel=1e-5)
        assert entry["test_loss"] == pytest.approx(test_loss, rel=1e-5)
        assert entry["test_accuracy"] == pytest.approx(accuracy, abs=0.002)  # two of 1000, at a tie of two outputs


def test_the_recorded_curve_lies_on_that_of_the_package():
    """The first epochs follow each other until rounding has grown; after that the two runs differ as two seeds do."""
    (record,) = (r for r in load_records("results/paper") if r.cell == Cell(m=32, K=1))
    curve = np.array([json.loads(line) for line in CURVE.read_text().splitlines()])
    ours = np.array([[e["epoch"], e["train_loss"], e["test_loss"], e["test_accuracy"]] for e in record.history])
    assert (curve[:, 0] == ours[:, 0]).all() and len(curve) == 100
    assert np.abs(curve - ours)[:5, 1:].max() < 0.005  # losses and accuracies while the network learns slowly
    # a tenth of the range that training losses go through; one epoch may jump, their median may not
    assert np.median(np.abs(curve - ours)[:, 1]) < 0.05
    # twice the standard error of the difference of two test accuracies is 0.0136
    assert abs(curve[:, 3].max() - best_accuracy(record)) < 0.0136
    assert abs(curve[-10:, 3].mean() - ours[-10:, 3].mean()) < 0.02
