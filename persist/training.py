"""train(cell) -> Record: the one training loop."""

import itertools
import math
import os
from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import cross_entropy

from persist import data as datasets
from persist.cell import Cell
from persist.checkpoint import Checkpoint
from persist.device import clocks, pinned, place, resolve_device, strict_arithmetic
from persist.model import build_model
from persist.persistency import fresh, learning_rate, persistent, spaced
from persist.provenance import environment, nvidia_driver
from persist.record import Record

EVALUATION_BATCH = 1000  # examples; bounds the memory of an evaluation, changes no result beyond rounding
CHECKPOINT_EVERY = 30.0  # seconds


def train(
    cell: Cell,
    *,
    data_root: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    cores: list[int] | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: float = CHECKPOINT_EVERY,
    on_epoch: Callable[[dict], object] | None = None,
    on_minibatch: Callable[[], object] | None = None,
) -> Record:
    """Train the cell's network with minibatch persistency and evaluate it after every epoch (Section 2.1), or as
    its ``evaluate_every`` says. Returns the record of the run; nothing but a checkpoint is written.

    cell: what to train, with m, K and all that the paper's text leaves open.
    data_root: folder with CIFAR-10; default PERSIST_DATA, else ./data.
    device: "cpu", "cuda", "cuda:1", ...; default CUDA where there is one, else the CPU.
    cores: numbers of the CPU cores to run on: one thread on the first, the worker of the pipeline "loader" on the
        second. Default: as many threads as torch is set to, anywhere.
    checkpoint: path of a file from which an interrupted run goes on, and which it writes meanwhile, with the record so
        far beside it (see persist.checkpoint); checkpoint_every: seconds, at least, from one to the next.
    on_epoch: called with each new entry of the record's history.
    on_minibatch: called, without arguments, before the first use of each minibatch. What either raises ends the
        training and reaches the caller.

    Stops at the first evaluation whose loss is not finite; the record's status is then "diverged".
    Raises persist.data.DataError, or ValueError for a device that is not there.
    """
    device = resolve_device(device)
    data = datasets.load(cell, data_root)
    with pinned(cores), strict_arithmetic():
        pipeline = datasets.PIPELINES[cell.pipeline](
            cell, data.train, device, cores[1] if cores and cores[1:] else None
        )
        test_images = datasets.scale(data.test.images, cell).to(device)
        test_labels = torch.from_numpy(data.test.labels).to(device)
        model = place(build_model(cell), device)
        optimizer = build_optimizer(cell, model)
        where = describe(device, data.sha256, cores)
        saved = Checkpoint(checkpoint, cell, where, checkpoint_every) if checkpoint else None
        history = saved.restore(model, optimizer) if saved else []
        evaluations = cell.evaluations()
        before = (
            history[-1] if history else dict.fromkeys(("iterations", "train_seconds", "cpu_seconds", "wall_seconds"), 0)
        )
        iteration, loss_sum, examples = before["iterations"], 0.0, 0
        start, cpu_start = clocks(device)
        for k, (images, labels) in iterations(cell, pipeline, iteration):
            drawn = k == 1 or cell.reuse != "consecutive"
            if drawn and on_minibatch:
                on_minibatch()
            loss = sgd_step(cell, model, optimizer, images, labels, learning_rate(cell.lr, k, cell.lr_policy))
            if drawn:
                # stays on the device, in float64: no synchronisation before the evaluation
                loss_sum += loss.double() * (1 if cell.reduction == "sum" else len(labels))
                examples += len(labels)
            iteration += 1
            if iteration < evaluations[len(history)]["iterations"]:
                continue
            trained, cpu_trained = clocks(device)
            test_loss, test_accuracy = evaluate(model, test_images, test_labels)
            evaluated, _ = clocks(device)
            entry = {
                **evaluations[len(history)],
                "train_seconds": before["train_seconds"] + trained - start,
                "cpu_seconds": before["cpu_seconds"] + cpu_trained - cpu_start,
                "wall_seconds": before["wall_seconds"] + evaluated - start,
                "train_loss": finite(float(loss_sum) / examples),
                "test_loss": finite(test_loss),
                # where the outputs are not numbers, their argmax predicts nothing
                "test_accuracy": test_accuracy if math.isfinite(test_loss) else None,
            }
            history.append(entry)
            if saved and not diverged(entry):
                saved.save(model, optimizer, history)
            if on_epoch:
                on_epoch(entry)
            if diverged(entry):
                break
            before, loss_sum, examples = entry, 0.0, 0
            start, cpu_start = clocks(device)
    status = "diverged" if diverged(history[-1]) else "finished"
    return Record(cell, history, where, status, saved.resumed if saved else 0)


def iterations(cell: Cell, pipeline: datasets.Resident | datasets.Loader, done: int = 0) -> Iterator[tuple[int, tuple]]:
    """(k, minibatch) of every iteration after the first `done` ones; a minibatch is (images, labels) on the device."""
    before, skipped = divmod(done, cell.K * cell.minibatches)
    for epoch in range(before + 1, cell.epochs + 1):
        yield from itertools.islice(_uses(cell, pipeline, epoch), skipped, None)
        skipped = 0


def _uses(cell, pipeline, epoch):
    if cell.reuse == "consecutive":
        return persistent(pipeline.minibatches(epoch), cell.K)
    if cell.reuse == "spaced":
        return spaced(pipeline.minibatches(epoch), cell.K)
    passes = range((epoch - 1) * cell.K + 1, epoch * cell.K + 1)  # the shuffles of as many epochs of K = 1
    return fresh(map(pipeline.minibatches, passes), cell.K)


def sgd_step(
    cell: Cell,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    rate: float,
) -> torch.Tensor:
    """One SGD iteration on a minibatch: forward, backward, update. Returns the loss, a scalar on the device."""
    loss = cross_entropy(model(images), labels, reduction=cell.reduction)
    optimizer.zero_grad()
    if cell.momentum_form == "pytorch":
        optimizer.param_groups[0]["lr"] = rate
        loss.backward()
    else:
        (rate * loss).backward()
    optimizer.step()
    return loss.detach()


def build_optimizer(cell: Cell, model: torch.nn.Module) -> torch.optim.SGD:
    """SGD with momentum (Section 2.1) in PyTorch's form, v <- momentum * v + g, w <- w - rate * v; or, for the
    classical form v <- momentum * v + rate * g, w <- w - v, with a rate of 1 (sgd_step scales the gradient)."""
    rate = cell.lr if cell.momentum_form == "pytorch" else 1.0
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=cell.momentum, nesterov=cell.nesterov)


@torch.inference_mode()
def evaluate(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Over images (n, 3, 32, 32) and labels (n,): mean loss (in float64) and top-1 accuracy."""
    loss = correct = 0
    for x, y in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
        logits = model(x)
        loss += cross_entropy(logits.double(), y, reduction="sum")
        correct += (logits.argmax(dim=1) == y).sum()
    return float(loss) / len(labels), int(correct) / len(labels)


def describe(device: torch.device, data_sha256: str, cores: list[int] | None) -> dict:
    """The environment of a run, for its record."""
    cuda = device.type == "cuda"
    return environment(
        device=torch.cuda.get_device_name(device) if cuda else None,
        data_sha256=data_sha256,
        cuda=torch.version.cuda if cuda else None,
        driver=nvidia_driver() if cuda else None,
        threads=torch.get_num_threads(),
        pinned=cores,
    )


def diverged(entry: dict) -> bool:
    """Whether a loss of this evaluation is not finite."""
    return entry["train_loss"] is None or entry["test_loss"] is None


def finite(value: float) -> float | None:
    """The value, or None where it is not finite."""
    return value if math.isfinite(value) else None
