import dataclasses
import io
import subprocess
import sys

import pytest
import torch
from helpers import numbers

from persist import Cell, Record, train
from persist import checkpoint as checkpoints
from persist import device as devices
from persist.device import resolve_device
from persist.evidence.select import machine
from persist.record import CLOCKS

SMALL = Cell(m=32, dataset="digits", train_size=100, test_size=50, width=0.05, lr=0.05, epochs=3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"K": 3, "lr_policy": "kmu"},
        {"stride": 1, "padding": "alexnet"},
        {"pipeline": "loader"},
        {"momentum_form": "classical", "K": 2},
    ],
)
def test_two_runs_of_a_cell_give_the_same_record_but_for_times(changes):
    cell = dataclasses.replace(SMALL, **changes)
    first = train(cell)
    torch.manual_seed(12345)
    torch.rand(7)
    second = train(cell)
    assert numbers(first) == numbers(second)
    assert first.environment == second.environment


def test_both_pipelines_train_to_the_same_record():
    a, b = train(SMALL), train(dataclasses.replace(SMALL, pipeline="loader"))
    assert numbers(a)[1:] == numbers(b)[1:]


def test_counters_are_cumulative_and_clocks_do_not_run_back():
    cell = dataclasses.replace(SMALL, K=5)
    entries = []
    record = train(cell, on_epoch=entries.append)
    assert entries == record.history and [e["epoch"] for e in entries] == [1, 2, 3]
    assert [e["samples"] for e in entries] == [100, 200, 300]
    assert [e["gradients"] for e in entries] == [500, 1000, 1500]
    assert [e["iterations"] for e in entries] == [20, 40, 60]  # 4 minibatches: 32, 32, 32, 4
    for before, after in zip(entries, entries[1:]):
        assert 0 < before["train_seconds"] < after["train_seconds"]
    assert all(e["wall_seconds"] > e["train_seconds"] for e in entries)


def test_unfinished_evaluations_inside_an_epoch_resume_bitwise(tmp_path):
    """Evaluations that do not end an epoch: the run goes on in its middle."""
    cell, path = dataclasses.replace(SMALL, K=2, evaluate_every=150, reuse="fresh"), tmp_path / "checkpoint.pt"

    def interrupt(entry):
        if len(Record.load(path.with_suffix(".json")).history) == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(cell, checkpoint=path, checkpoint_every=0, on_epoch=interrupt)
    so_far = Record.load(path.with_suffix(".json"))
    assert so_far.status == "unfinished" and so_far.history[-1]["epoch"] == 1 and so_far.history[-1]["gradients"] == 300
    resumed, unbroken = train(cell, checkpoint=path), train(cell)
    assert resumed.resumed == 1 and numbers(resumed) == numbers(unbroken)
    assert resumed.continues(so_far) and unbroken.continues(so_far) and not so_far.continues(resumed)


def test_spaced_reuse_loads_the_examples_again():
    record = train(dataclasses.replace(SMALL, K=5, reuse="spaced", epochs=1))
    assert (record.history[0]["samples"], record.history[0]["gradients"]) == (500, 500)


def test_without_the_last_partial_minibatch():
    record = train(dataclasses.replace(SMALL, drop_last=True, epochs=1))
    assert (record.history[0]["samples"], record.history[0]["iterations"]) == (96, 3)


def test_cells_that_differ_only_in_K_start_alike():
    """At a rate too small to matter, the first epoch sees the initial weights and the same minibatches."""
    losses = {train(dataclasses.replace(SMALL, K=K, lr=1e-30, epochs=1)).history[0]["train_loss"] for K in (1, 2, 5)}
    assert len(losses) == 1


def test_persistency_learns_more_per_epoch_here():
    """K = 5 makes five times the updates: at this small rate its loss after three epochs is lower."""
    cell = dataclasses.replace(SMALL, train_size=1000, width=0.125, epochs=6)
    assert train(dataclasses.replace(cell, K=5)).history[-1]["test_loss"] < train(cell).history[-1]["test_loss"] - 0.1


@pytest.mark.parametrize("lr", [1e3, 1e30])
def test_a_run_that_diverges_stops_there_and_says_so(lr, tmp_path):
    record = train(dataclasses.replace(SMALL, reduction="sum", lr=lr, epochs=50))
    assert record.status == "diverged" and len(record.history) < 50
    last = record.history[-1]
    assert last["train_loss"] is None or last["test_loss"] is None
    assert all(e["test_loss"] is not None for e in record.history[:-1])
    record.save(tmp_path / "r.json")
    assert Record.load(tmp_path / "r.json") == record


def settings():
    return (
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
        torch.is_grad_enabled(),
    )


def test_the_callers_settings_come_back():
    def stop(entry):
        assert settings() != before, "they are changed while it trains"
        raise RuntimeError("stop")

    before = settings()
    with pytest.raises(RuntimeError, match="stop"):
        train(SMALL, on_epoch=stop)
    assert settings() == before


def test_tf32_is_off():
    with devices.strict_arithmetic():
        assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert torch.are_deterministic_algorithms_enabled()


class Interrupted(Exception):
    pass


def interrupt_after(epochs):
    def on_epoch(entry):
        if entry["epoch"] == epochs:
            raise Interrupted

    return on_epoch


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"K": 2, "lr_policy": "kmu"},
        {"momentum_form": "classical"},
        {"K": 2, "reuse": "fresh"},
        {"K": 2, "reuse": "spaced"},
    ],
)
def test_a_resumed_run_is_bitwise_an_unbroken_one(tmp_path, changes):
    cell, path = dataclasses.replace(SMALL, epochs=5, **changes), tmp_path / "checkpoint.pt"
    for epochs in (2, 3):
        with pytest.raises(Interrupted):
            train(cell, checkpoint=path, checkpoint_every=0, on_epoch=interrupt_after(epochs))
    seen = []
    clock = torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)["history"][-1]
    resumed = train(cell, checkpoint=path, on_epoch=seen.append)
    assert [e["epoch"] for e in seen] == [4, 5] and resumed.resumed == 2
    assert numbers(resumed) == numbers(train(cell))
    assert resumed.history[2] == clock, "the epochs before stay as they were"
    for name in CLOCKS:  # continued: they do not start anew, and the time in between does not count
        assert clock[name] < resumed.history[3][name] < resumed.history[4][name]


def test_a_run_that_goes_on_elsewhere_names_both_machines(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    for epochs, library in ((1, ""), (2, "/x/fast.so /y/faster.so"), (3, "")):
        monkeypatch.setenv("LD_PRELOAD", library)
        with pytest.raises(Interrupted):
            train(SMALL, checkpoint=path, checkpoint_every=0, on_epoch=interrupt_after(epochs))
    resumed, unbroken = train(dataclasses.replace(SMALL), checkpoint=path), train(SMALL)
    libraries = [part["preloaded"] for part in resumed.environment["earlier"]]
    assert libraries == [[], ["fast.so", "faster.so"]] and resumed.environment["preloaded"] == []
    assert machine(resumed) != machine(unbroken) and "earlier" not in unbroken.environment


@pytest.mark.parametrize(
    "damage, message",
    [
        ("another cell", "it belongs to another cell"),
        ("another code", "it was written by another version of the code"),
        ("a flipped byte", "it is damaged"),
        ("truncated", "it is damaged"),
        ("empty", "it is damaged"),
        ("a pickle", "it is damaged"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_not_used(tmp_path, monkeypatch, damage, message):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Interrupted):
        train(
            dataclasses.replace(SMALL, seed=int(damage == "another cell")),
            checkpoint=path,
            checkpoint_every=0,
            on_epoch=interrupt_after(2),
        )
    content = bytearray(path.read_bytes())
    if damage == "another code":
        monkeypatch.setattr(checkpoints, "CODE", "changed")
    elif damage == "a flipped byte":
        content[len(content) // 2] ^= 1
    elif damage == "truncated":
        del content[-1000:]
    elif damage == "empty":
        content.clear()
    elif damage == "a pickle":
        content = b"cos\nsystem\n(S'touch /tmp/owned'\ntR."
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=f"is not used, the run starts anew: {message}"):
        record = train(SMALL, checkpoint=path)
    assert record.resumed == 0 and numbers(record) == numbers(train(SMALL))


def test_a_device_that_is_not_there_is_refused():
    assert resolve_device("cpu") == torch.device("cpu")
    for device in ("tpu", "cuda:99", "", 3):
        with pytest.raises(ValueError, match="device must be one of cpu"):
            resolve_device(device)


def test_peak_memory_of_the_papers_largest_cell_stays_below_4_GiB(cifar10_root):
    """One iteration of m = 512 at full width on all of CIFAR-10, and one evaluation batch, in a process of its own."""
    code = f"""
import resource, torch
from persist import Cell, data, training
from persist.model import build_model
cell = Cell(m=512)
loaded = data.load(cell, {str(cifar10_root)!r})
resident = data.Resident(cell, loaded.train, torch.device("cpu"))
test = data.scale(loaded.test.images, cell)
model = build_model(cell)
optimizer = training.build_optimizer(cell, model)
images, labels = next(iter(resident.minibatches(1)))
for _ in range(2):
    training.sgd_step(cell, model, optimizer, images, labels, cell.lr)
training.evaluate(model, test[:1000], torch.from_numpy(loaded.test.labels[:1000]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peak = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert peak * (1 if sys.platform == "darwin" else 1024) < 4 * 2**30  # macOS gives bytes, Linux KiB
