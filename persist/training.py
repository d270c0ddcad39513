"""train(cell) -> Record: the one training loop."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import math
import os
import subprocess
import time
import warnings
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from persist import data as datasets
from persist.cell import Cell
from persist.graph import GraphedIterations, capture, restored
from persist.memory import kept_memory
from persist.model import build_model
from persist.persistency import learning_rate, persistent, spaced
from persist.record import CLOCKS, Record, counters, environment, was_shared, write_atomically

REUSE = {"consecutive": persistent, "spaced": spaced}
EVALUATION_BATCH = 1000  # examples; bounds the memory of an evaluation, changes no result beyond rounding
CHECKPOINT_EVERY = 30.0  # seconds, at least, between two checkpoints


def train(cell: Cell, *, data_root=None, device=None, checkpoint=None, checkpoint_every=CHECKPOINT_EVERY, on_epoch=None, on_minibatch=None, graph=False) -> Record:
    """Train the cell's network with minibatch persistency and evaluate it after every epoch (Section 2.1).

    data_root: folder with CIFAR-10; default PERSIST_DATA, else ./data.
    device: "cpu", "cuda", "cuda:1", ...; default CUDA where there is one, else the CPU.
    checkpoint: path of a file from which an interrupted run goes on, and which it writes meanwhile; the caller
        deletes it once the record is saved. A checkpoint of another cell or code, or a damaged one, is not used (a
        warning says so) and replaced. Where it cannot be written (a full disk), a warning says so and the run goes on.
    checkpoint_every: seconds, at least, between two checkpoints; they are written at the end of an epoch.
    on_epoch: called with each new entry of the record's history.
    on_minibatch: called, without arguments, before the first use of each minibatch. What either raises ends the training and
        reaches the caller. Not with graph.
    graph: on CUDA, replay the K iterations on a minibatch, and the evaluation, as CUDA graphs (persist/graph.py; never
        run yet): the same numbers within rounding, in less time. Needs the pipeline "resident" and consecutive reuse.

    Stops at the first epoch whose loss is not finite; the record's status is then "diverged".
    Raises persist.data.DataError, or ValueError for a device that is not there, or a cell that no graph can run.
    """
    if graph and on_minibatch:
        raise ValueError("on_minibatch must be None with graph=True, which replays a whole minibatch at once")
    device = resolve_device(device)
    check_precision(cell, device)
    if graph:
        _check_graph(cell)
    data = datasets.load(cell, data_root)
    where = environment(  # read now: the checkout may change while it trains
        torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        data.sha256,
        cuda=torch.version.cuda if device.type == "cuda" else None,
        threads=torch.get_num_threads(),
        driver=_driver() if device.type == "cuda" else None,
        graph=graph and device.type == "cuda",
        code=CODE,
    )
    with _arithmetic(cell.precision), kept_memory():
        pipeline = datasets.PIPELINES[cell.pipeline](cell, data.train, device)
        test_images = datasets.scale(data.test.images, cell).to(device)
        test_labels = torch.from_numpy(data.test.labels).to(device)
        model = build_model(cell).to(device, memory_format=torch.channels_last)
        optimizer = build_optimizer(cell, model)
        history, resumed = _restore(checkpoint, cell, model, optimizer)
        run_epoch = functools.partial(iterate, cell, model, optimizer)
        run_evaluation = functools.partial(evaluate, cell, model, test_images, test_labels)
        if graph or device.type == "cuda":
            with restored(model, optimizer):
                run_epoch, run_evaluation = _warmed_up(run_epoch, run_evaluation, pipeline, device, graph)
        saved = time.monotonic()
        while not _ended(cell, history):
            before = history[-1] if history else dict.fromkeys(CLOCKS, 0.0)
            start = _now(device)
            batches = pipeline.epoch(len(history) + 1)
            if on_minibatch:
                batches = _Announced(batches, on_minibatch)
            loss, count = run_epoch(batches)
            train_loss = float(loss) / count
            trained = _now(device)
            loss, correct = run_evaluation()
            entry = _entry(cell, len(history) + 1, train_loss, float(loss) / len(test_labels), int(correct) / len(test_labels))
            entry["train_seconds"] = before["train_seconds"] + trained - start
            entry["wall_seconds"] = before["wall_seconds"] + _now(device) - start
            history.append(entry)
            if checkpoint and time.monotonic() - saved >= checkpoint_every:
                _save_checkpoint(checkpoint, cell, model, optimizer, history, resumed)
                saved = time.monotonic()
            if on_epoch:
                on_epoch(entry)
    status = "diverged" if _diverged(history[-1]) else "finished"
    record = Record(cell=cell, history=history, environment=where, status=status, resumed=resumed)
    return dataclasses.replace(record, environment={**where, "shared": was_shared(record)})


def iterate(cell: Cell, model, optimizer, batches) -> tuple[torch.Tensor, int]:
    """K iterations on each minibatch. Returns the sum over the examples of their losses at the first use, k = 1 (a
    scalar on the device), and the number of examples."""
    total = count = 0
    for k, (images, labels) in REUSE[cell.reuse](batches, cell.K):
        loss = sgd_step(cell, model, optimizer, images, labels, learning_rate(cell.lr, k, cell.lr_policy))
        if k == 1:
            # stays on the device, in float64: no synchronisation within the epoch
            total += loss.double() * (1 if cell.reduction == "sum" else len(labels))
            count += len(labels)
    return total, count


def sgd_step(cell: Cell, model, optimizer, images, labels, rate: float) -> torch.Tensor:
    """One SGD iteration on a minibatch: forward, backward, update. Returns the loss, a scalar on the device."""
    with _autocast(cell, images.device):
        logits = model(images)
    loss = cross_entropy(logits.float(), labels, reduction=cell.reduction)
    optimizer.zero_grad(set_to_none=True)
    if cell.momentum_form == "pytorch":
        optimizer.param_groups[0]["lr"] = rate
        loss.backward()
    else:
        (rate * loss).backward()
    optimizer.step()
    return loss.detach()


def build_optimizer(cell: Cell, model) -> torch.optim.SGD:
    """SGD with momentum (Section 2.1) in PyTorch's form, v <- momentum * v + g, w <- w - rate * v; or, for the
    classical form v <- momentum * v + rate * g, w <- w - v, with a rate of 1 (sgd_step scales the gradient)."""
    rate = cell.lr if cell.momentum_form == "pytorch" else 1.0
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=cell.momentum)


@torch.inference_mode()
def evaluate(cell: Cell, model, images, labels) -> tuple[torch.Tensor, torch.Tensor]:
    """Over images (n, 3, 32, 32) and labels (n,): (sum of the losses, number of right top-1 predictions), scalars on the device."""
    loss = correct = 0
    for x, y in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH)):
        with _autocast(cell, x.device):
            logits = model(x)
        loss += cross_entropy(logits.double(), y, reduction="sum")
        correct += (logits.argmax(dim=1) == y).sum()
    return loss, correct


def estimate_seconds(cell: Cell, *, data_root=None, device=None, budget: float = 0.3) -> float:
    """Seconds that train(cell) is expected to take, evaluations included, from a measurement of about `budget` seconds
    on a throwaway model."""
    device = resolve_device(device)
    data = datasets.load(cell, data_root)
    with _arithmetic(cell.precision), kept_memory():
        model = build_model(cell).to(device, memory_format=torch.channels_last)
        optimizer = build_optimizer(cell, model)
        few = data.train.take(range(cell.m))
        images = datasets.scale(few.images, cell).to(device)
        labels = torch.from_numpy(few.labels).to(device)
        test_images = datasets.scale(data.test.images[:EVALUATION_BATCH], cell).to(device)
        test_labels = torch.from_numpy(data.test.labels[:EVALUATION_BATCH]).to(device)
        iteration = _time(lambda: sgd_step(cell, model, optimizer, images, labels, 0.0), device, budget * 3 / 4)
        evaluation = _time(lambda: evaluate(cell, model, test_images, test_labels), device, budget / 4)
    per_epoch = cell.K * cell.examples / cell.m * iteration + cell.test_examples / len(test_labels) * evaluation
    return cell.epochs * per_epoch


def resolve_device(device=None) -> torch.device:
    """The torch device; None: CUDA where there is one, else the CPU. Raises ValueError for one that is not there."""
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device is None:
        device = "cuda" if cuda else "cpu"
    allowed = ["cpu", *(["cuda"] if cuda else []), *(f"cuda:{i}" for i in range(cuda))]
    if str(device) not in allowed:
        raise ValueError(f"device must be one of {', '.join(allowed)}, or None to choose, not {device!r}")
    return torch.device(device)


def check_precision(cell, device):
    """Raise ValueError where the device has no such arithmetic. TF32 in name only would be recorded as something that it is not."""
    if cell.precision == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        raise ValueError(f"precision 'tf32' needs an NVIDIA GPU of compute capability 8.0 or newer, not {device}; 'fp32' and 'bf16' run anywhere")


class _Announced:
    """The minibatches, with a call before each is used; re-iterable where they are."""

    def __init__(self, batches, call):
        self.batches, self.call = batches, call

    def __iter__(self):
        for batch in self.batches:
            self.call()
            yield batch


def _driver() -> str | None:
    """The version of NVIDIA's driver; None where nvidia-smi is not to be had."""
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def _entry(cell, epoch, train_loss, test_loss, test_accuracy) -> dict:
    return {
        **counters(cell, epoch),
        "train_loss": _finite(train_loss),
        "test_loss": _finite(test_loss),
        # where the outputs are not numbers, their argmax predicts nothing
        "test_accuracy": test_accuracy if math.isfinite(test_loss) else None,
        "load": os.getloadavg()[0],
    }


def _finite(value: float):
    return value if math.isfinite(value) else None


def _diverged(entry) -> bool:
    return entry["train_loss"] is None or entry["test_loss"] is None


def _ended(cell, history) -> bool:
    return len(history) == cell.epochs or bool(history) and _diverged(history[-1])


def _check_graph(cell):
    for field, needed in (("pipeline", "resident"), ("reuse", "consecutive")):
        if getattr(cell, field) != needed:
            raise ValueError(f"graph=True needs {field}={needed!r}, not {getattr(cell, field)!r}")


def _warmed_up(run_epoch, run_evaluation, pipeline, device, graph):
    """Both functions, or their CUDA graphs, after a first use outside the clock, which changes the model."""
    epoch = pipeline.epoch(1)
    if graph:
        return GraphedIterations(run_epoch, pipeline, {len(index) for index in epoch.indices}), capture(run_evaluation, device)
    run_epoch([next(iter(epoch))])
    run_evaluation()
    return run_epoch, run_evaluation


def _autocast(cell, device):
    # a forward pass casts each weight once, so there is nothing to cache; and a CUDA graph must not read a cache
    return torch.autocast(device.type, torch.bfloat16, enabled=cell.precision == "bf16", cache_enabled=False)


@contextlib.contextmanager
def _arithmetic(precision: str):
    """Deterministic kernels, and TF32 on CUDA only where asked for; the caller's settings come back afterwards."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [backend.fp32_precision for backend in backends]
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    benchmark = torch.backends.cudnn.benchmark
    try:
        for backend in backends:
            backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        torch.use_deterministic_algorithms(True)
        # a safeguard against reading fresh memory, which costs a fifth of a step on the CPU; nothing here reads any
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = False  # it may choose another kernel in another run
        yield
    finally:
        for backend, value in zip(backends, before):
            backend.fp32_precision = value
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark


def _now(device) -> float:
    """Seconds, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _time(action, device, budget) -> float:
    """Median seconds of one call, after a warm-up call, repeated for about `budget` seconds but at least once."""
    action()
    seconds, end = [], time.perf_counter() + budget
    while not seconds or time.perf_counter() < end:
        start = _now(device)
        action()
        seconds.append(_now(device) - start)
    return sorted(seconds)[len(seconds) // 2]


def _digest_code() -> str:
    """Of the files that decide the numbers: a checkpoint of another version is not continued."""
    digest = hashlib.sha256(torch.__version__.encode())
    for name in ("cell", "data", "graph", "model", "persistency", "training"):
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


STATE = {"cell", "code", "model", "optimizer", "history", "resumed"}  # what a checkpoint holds
CODE = _digest_code()  # of the code that runs, whatever becomes of the files meanwhile


def _save_checkpoint(path, cell, model, optimizer, history, resumed):
    state = {
        "cell": cell.as_dict(),
        "code": CODE,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": history,
        "resumed": resumed,
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        # its digest in front: torch.load does not notice a changed byte
        write_atomically(path, hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    except OSError as error:
        # the disk may have room again when the record is written, and hours of training are worth more than a checkpoint
        warnings.warn(f"no checkpoint after epoch {len(history)}, the run goes on without: {error}", stacklevel=3)


def _restore(path, cell, model, optimizer) -> tuple[list[dict], int]:
    """Continue from the checkpoint, where there is a good one. Returns the history so far and the times resumed.

    The minibatches are a function of seed and epoch, so there is no random state to restore.
    """
    if not path or not Path(path).exists():
        return [], 0
    try:
        state = _read_checkpoint(path, cell)
    except ValueError as error:
        warnings.warn(f"the checkpoint {path} is not used, the cell starts anew: {error}", stacklevel=3)
        return [], 0
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["history"], state["resumed"] + 1


def _read_checkpoint(path, cell) -> dict:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from None
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise ValueError("it is damaged")
    try:
        state = torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
    except Exception:  # torch has no one error for this; with weights_only nothing in the file was executed
        raise ValueError("it is no checkpoint") from None
    if not isinstance(state, dict) or set(state) != STATE:
        raise ValueError("it is no checkpoint")
    if state["cell"] != cell.as_dict():
        raise ValueError("it belongs to another cell")
    if state["code"] != CODE:
        raise ValueError("it was written by another version of the code")
    return state
