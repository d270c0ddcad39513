"""CUDA graphs. On the CPU the functions that would be captured run as they are; the capture itself needs a GPU."""

import dataclasses
import functools

import pytest
import torch

from persist import Cell, train
from persist import data as datasets
from persist import graph
from persist.model import build_model
from persist.record import TIMES
from persist.training import build_optimizer, evaluate, iterate

# 3 minibatches of 32 and one of 4 examples
SMALL = Cell(m=32, K=3, lr_policy="kmu", dataset="digits", train_size=100, test_size=50, width=0.05, padding="alexnet", reduction="mean", lr=0.05, epochs=3)
CPU = torch.device("cpu")


def numbers(record):
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in record.history]


@pytest.mark.parametrize("changes", [{}, {"K": 1}, {"momentum": 0.0}, {"momentum_form": "classical"}, {"reduction": "sum", "lr": 0.001}, {"drop_last": True}, {"precision": "bf16"}])
def test_what_is_captured_trains_to_the_same_record_bitwise(changes):
    cell = dataclasses.replace(SMALL, **changes)
    assert numbers(train(cell, device="cpu", graph=True)) == numbers(train(cell, device="cpu"))


def test_a_run_with_graphs_goes_on_from_a_checkpoint_of_one_without(tmp_path):
    def stop(entry):
        if entry["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SMALL, device="cpu", checkpoint=tmp_path / "c.pt", checkpoint_every=0, on_epoch=stop)
    resumed = train(SMALL, device="cpu", checkpoint=tmp_path / "c.pt", graph=True)
    assert resumed.resumed == 1 and numbers(resumed) == numbers(train(SMALL, device="cpu"))


@pytest.mark.parametrize("changes, message", [({"pipeline": "loader"}, "needs pipeline='resident', not 'loader'"), ({"reuse": "spaced"}, "needs reuse='consecutive', not 'spaced'")])
def test_what_no_graph_can_run_is_refused(changes, message):
    with pytest.raises(ValueError, match=f"graph=True {message}"):
        train(dataclasses.replace(SMALL, **changes), graph=True)


def parts(device=CPU):
    cell = dataclasses.replace(SMALL, epochs=1)
    resident = datasets.Resident(cell, datasets.load(cell).train, device)
    model = build_model(cell).to(device, memory_format=torch.channels_last)
    return cell, resident, model, build_optimizer(cell, model)


def state(model, optimizer):
    return [t.detach().clone() for t in (*model.parameters(), *(s["momentum_buffer"] for s in optimizer.state.values()))]


@pytest.mark.parametrize("iterations", [0, 2])
def test_a_warm_up_is_undone_in_place(iterations):
    cell, resident, model, optimizer = parts()
    batches = list(resident.epoch(1))
    iterate(cell, model, optimizer, batches[:iterations])
    before = state(model, optimizer)
    with graph.restored(model, optimizer):
        places = [t.data_ptr() for t in (*model.parameters(), *(s["momentum_buffer"] for s in optimizer.state.values()))]
        iterate(cell, model, optimizer, batches)
        assert not all(torch.equal(a, b) for a, b in zip(state(model, optimizer), before))
    after = state(model, optimizer)
    assert len(after) == 2 * len(list(model.parameters()))
    if iterations:
        assert all(torch.equal(a, b) for a, b in zip(after, before))
    else:
        assert all(torch.equal(a, b) for a, b in zip(after, build_model(cell).parameters()))
        assert not any(t.any() for t in after[len(after) // 2 :])
    assert places == [t.data_ptr() for t in (*model.parameters(), *(s["momentum_buffer"] for s in optimizer.state.values()))]


def test_each_minibatch_is_one_run_of_what_was_captured_for_its_size(monkeypatch):
    runs = []

    def spy(function, device):
        return lambda: runs.append(function()) or runs[-1]

    monkeypatch.setattr(graph, "capture", spy)
    cell, resident, model, optimizer = parts()
    epoch = resident.epoch(1)
    iterations = graph.GraphedIterations(functools.partial(iterate, cell, model, optimizer), resident, {32, 4})
    total, count = iterations(epoch)
    assert len(runs) == len(epoch) == 4 and count == 100
    cell, resident, model, optimizer = parts()
    expected, _ = iterate(cell, model, optimizer, resident.epoch(1))
    assert torch.equal(total, expected)
    assert torch.equal(iterations.indices[4], epoch.indices[-1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu_graphs_and_plain_steps_agree_and_repeat(precision):
    cell = dataclasses.replace(SMALL, precision=precision)
    plain, first, second = train(cell, device="cuda"), train(cell, device="cuda", graph=True), train(cell, device="cuda", graph=True)
    assert numbers(first) == numbers(second) and first.environment["graph"]
    for a, b in zip(plain.history, first.history):
        # the same kernels, which cuDNN may choose otherwise within a capture
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=1e-2 if precision == "bf16" else 1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs a GPU")
def test_on_a_gpu_the_evaluation_is_replayed():
    cell, _, model, _ = parts(torch.device("cuda"))
    test = datasets.load(cell).test
    images, labels = datasets.scale(test.images, cell).cuda(), torch.from_numpy(test.labels).cuda()
    run = functools.partial(evaluate, cell, model, images, labels)
    replay = graph.capture(run, torch.device("cuda"))
    with torch.no_grad():
        model[-1].bias += 1.0  # replays see what the weights are now
    torch.testing.assert_close(replay(), run())
