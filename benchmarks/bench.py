"""How fast this project trains on this machine's CPU, beside what people would otherwise run, measured in turn.

    python benchmarks/bench.py    (what `make bench` runs: some 12 minutes on two idle cores; --quick: a trial)

Every round takes a sample of every arm, some seconds of training the paper's network on CIFAR-10, in another order.
Writes benchmarks/results/cpu-<device>.json, raw samples and where they were taken, for persist/evidence/speed.py.
"""

import argparse
import contextlib
import functools
import gc
import itertools
import json
import logging
import multiprocessing
import os
import random
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest import mock

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10

from persist import Cell, data, persistent, training
from persist.architecture import CLASSES
from persist.convolution import MAPS
from persist.evidence.speed import OTHERS, OURS, PARTS, SCHEMA, rates
from persist.model import build_model
from persist.provenance import environment
from persist.record import write_atomically

# Minibatch sizes, persistencies, rounds, seconds of a sample, examples that are profiled, examples of the data set.
FULL = {"ms": (32, 256, 512), "Ks": (1, 5), "rounds": 5, "seconds": 2.0, "profiled": 8192, "train_size": None}
QUICK = {"ms": (32,), "Ks": (1, 2), "rounds": 1, "seconds": 0.1, "profiled": 96, "train_size": 2048}
MEMORY = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**32))  # of a grid's runs: Snakefile


def network() -> nn.Sequential:
    """The network as anyone would write it."""
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, stride=4, padding=5), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(384, 256, 3, padding=1)),
        *(nn.ReLU(inplace=True), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 10)),
    )


def plain(model, loader, K, lr, momentum):
    """The loop as anyone would write it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    for _ in range(100):
        for images, labels in loader:
            for _ in range(K):
                optimizer.zero_grad()
                loss = cross_entropy(model(images), labels)
                loss.backward()
                optimizer.step()


def with_lightning(model, loader, lr, momentum):
    """The same with Lightning, without logger, checkpoints and progress bar."""
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def training_step(self, batch):
            return cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=lr, momentum=momentum)

    module = Module()
    module.model = model
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    lightning.Trainer(accelerator="cpu", devices=1, max_epochs=100, **off).fit(module, loader)


LAYOUTS = {  # this project's loop with PyTorch's convolutions: arm -> what gives them a memory order
    "nchw": lambda model, _: model.register_forward_pre_hook(lambda _, x: (x[0].contiguous(),)) and model,
    "channels_last": functools.partial(nn.Module.to, memory_format=torch.channels_last),
}


@functools.cache
def cifar10(mean, deviation) -> CIFAR10:
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, deviation)])
    return CIFAR10(os.environ.get("PERSIST_DATA") or "data", transform=transform)


def run(arm, cell, workers, cores, minibatches=None):
    """Train until what is called after every iteration ends it. minibatches: indices; None: the OTHERS shuffle."""
    if arm not in OTHERS:
        place = LAYOUTS.get(arm, training.place)
        with mock.patch.dict(MAPS, clear=arm in LAYOUTS), mock.patch.object(training, "place", place):
            return training.train(cell, device="cpu", cores=cores)
    options = {"batch_sampler": minibatches} if minibatches else dict(batch_size=cell.m, shuffle=True, drop_last=True)
    options |= {"dataset": cifar10(*data.channel_statistics(cell)), "num_workers": workers}
    model, rates = network(), (cell.lr, cell.momentum)
    model.load_state_dict(build_model(cell).state_dict())
    if arm == "plain":
        plain(model, DataLoader(**options), cell.K, *rates)
    elif arm == "lightning":
        with_lightning(model, persistent(DataLoader(**options), cell.K, numbered=False), *rates)
    else:
        from monai.data import ThreadDataLoader

        plain(model, ThreadDataLoader(repeats=cell.K, **options), 1, *rates)


class Done(Exception):
    """Ends a loop from within, with what was found out."""


def found(watch, arguments, arm, cell, workers, cores, minibatches=None):
    """What `watch(*arguments)` finds out, a generator that is sent the optimizer after every iteration of an arm."""
    watching = watch(*arguments)
    next(watching)
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: watching.send(optimizer))
    try:
        run(arm, cell, workers, cores, minibatches)
    except Done as done:
        return done.args[0]
    finally:
        hook.remove()
        gc.collect()  # ends workers that only a cycle still holds: they must not run beside the next sample


def clock(m, K, seconds, barrier=None):
    """Examples evaluated for a gradient, in how many seconds, in how many CPU seconds of this thread. Timed are whole
    minibatches, loading included, after some to warm up; then the runs of a sample wait for each other."""
    for _ in range(max(1, 128 // m) * K):
        yield
    if barrier:
        barrier.wait(300)
    start, cpu_start, examples = time.perf_counter(), time.thread_time(), 0
    while (taken := time.perf_counter() - start) < seconds:
        for _ in range(K):
            yield
        examples += m * K
    raise Done({"examples": examples, "seconds": taken, "cpu_seconds": time.thread_time() - cpu_start})


def loss(cell, iterations):
    """The loss on the first 1000 training images, in float64, so that only the weights can differ."""
    for _ in range(iterations):
        optimizer = yield
    model, first = network().double(), data.load(cell).train.take(range(1000))
    with torch.no_grad():
        for mine, trained in zip(model.parameters(), optimizer.param_groups[0]["params"], strict=True):
            mine.copy_(trained)
        logits = model(data.scale(first.images, cell).double())
    raise Done(float(cross_entropy(logits, torch.from_numpy(first.labels))))


def profile(cell, cores, steps) -> dict:
    """Seconds of the parts of so many steps, one thread, by the profiler's clock."""
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True)
    count, parts = itertools.count(-2), dict.fromkeys([*PARTS, "rest"], 0.0)  # two steps to warm up

    def tick():
        if (n := next(count)) == 0:
            profiler.start()
        elif n == steps:
            profiler.stop()
            raise Done

    with contextlib.suppress(Done):
        training.train(cell, device="cpu", cores=cores, on_minibatch=tick)
    for event in profiler.events():
        names, at = "", event
        while at:
            names, at = f"{names} {at.name.lower()}", at.cpu_parent
        part = next((part for part, text in PARTS.items() if text in names), "rest")
        linear = part == "transforms" and any(CLASSES in shape for shape in event.input_shapes if shape)
        parts["rest" if linear else part] += event.self_cpu_time_total / 1e6
    return {"m": cell.m, "steps": steps, "seconds": parts}


def begin(threads):
    torch.set_num_threads(threads)
    multiprocessing.set_start_method(None, force=True)  # of loaders' workers: what it is by default


def places(cores, threads, stack) -> dict[str, list[tuple]]:
    """Arm -> process and cores of each of its runs, which train at once; no cores: anywhere, with so many threads."""

    def start(threads, **variables):
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=begin, initargs=(threads,))
        with mock.patch.dict(os.environ, variables):
            pool.submit(int).result()  # it starts now, with these variables
        return stack.enter_context(pool)

    every, *each = start(threads), *(start(1, **MEMORY) for _ in cores)
    one = {arm: [(each[0], cores[: 2 if arm == "loader" else 1])] for arm in ("loader", "alone", *LAYOUTS)}
    return {arm: [(every, None)] for arm in OTHERS} | one | {"resident": [(p, [c]) for p, c in zip(each, cores)]}


def check(places, iterations=10) -> dict:
    """Losses after so many iterations, two on each minibatch. ValueError: they differ beyond a rounding in float32."""

    def after(iterations, arm):
        cell = Cell(m=32, K=2, lr=0.1, pipeline="loader" if arm == "loader" else "resident")
        (process, cores), minibatches = places[arm][0], data.minibatch_indices(cell, 1, cell.examples)[:iterations]
        return process.submit(found, loss, (cell, iterations), arm, cell, 1, cores, minibatches).result()

    first, losses = after(1, "plain"), {arm: after(iterations, arm) for arm in places}
    if max(losses.values()) - min(losses.values()) > torch.finfo(torch.float32).eps * first:
        raise ValueError(f"the arms do not train the same: from a loss of {first} they come to {losses}")
    return {"iterations": iterations, "first": first, "losses": losses}


def measure_all(cores, threads, stack, *, ms, Ks, rounds, seconds, profiled, train_size) -> dict:
    of = places(cores, threads, stack)
    barrier = stack.enter_context(multiprocessing.Manager()).Barrier(len(cores))

    def measure(arm, m, K, workers=0):
        pipeline = "loader" if arm == "loader" else "resident"
        cell = Cell(m=m, K=K, drop_last=True, pipeline=pipeline, train_size=train_size)
        timed = clock, (m, K, seconds, barrier if arm == "resident" else None)
        runs = [process.submit(found, *timed, arm, cell, workers, its) for process, its in of[arm]]
        return {"arm": arm, "m": m, "K": K, "workers": workers, "runs": [each.result() for each in runs]}

    checked, pairs = check(of), [(m, K) for m in ms for K in Ks]
    allowed = [workers for workers in (0, 1, 2, 4) if workers <= len(cores)]
    tried = take([[("plain", m, K, workers) for workers in allowed] for m, K in pairs], measure, rounds // 2 or 1)
    by_workers = rates([{**each, "arm": each["workers"]} for each in tried])["rate"]
    best = by_workers.groupby(["m", "K"]).median().idxmax(axis=1)
    arms = {K: [*OTHERS, *OURS] if K > 1 else of for K in Ks}
    groups = [[(arm, m, K, int(best[m, K]) if arm in OTHERS else 0) for arm in arms[K]] for m, K in pairs]
    samples = take(groups, measure, rounds)
    process, its = of["alone"][0]
    profiles = [process.submit(profile, Cell(m=m, train_size=train_size), its, profiled // m).result() for m in ms]
    return {"check": checked, "workers": tried, "samples": samples, "profile": profiles}


def take(groups, measure, rounds) -> list[dict]:
    """Measure everything once per round, in another order each; what is in a group, one after the other."""
    samples, rng, began = [], random.Random(0), time.monotonic()
    for n in range(rounds):
        for group in rng.sample(groups, len(groups)):
            samples += [{"round": n, **measure(*setting)} for setting in rng.sample(group, len(group))]
        print(f"round {n + 1} of {rounds}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return samples


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="benchmarks/bench.py", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="whether it runs; its numbers mean nothing")
    parser.add_argument("--output", default="benchmarks/results", help="folder for the result; default %(default)s")
    parser.add_argument("--replace", action="store_true", help="write over an older result of the same device")
    options = parser.parse_args(arguments)
    try:
        where = environment(device=None, data_sha256=data.load(Cell(m=1)).sha256)
        name = " ".join([where["device"], *where["preloaded"]]).lower()
        path = Path(options.output) / f"cpu-{re.sub(r'[^a-z0-9]+', '-', name).strip('-')}.json"
        if path.exists() and not options.replace:
            raise ValueError(f"{path} is there already; to write over it: --replace (make bench REPLACE=1)")
        cores, plan = sorted(os.sched_getaffinity(0)), QUICK if options.quick else FULL
        where |= {"cores": len(cores), "threads": 1 if options.quick else len(cores)}  # busy cores wait for each other
        with contextlib.ExitStack() as stack:
            measured = measure_all(cores, where["threads"], stack, **plan)
    except (ValueError, data.DataError) as error:
        sys.exit(f"error: {error}")
    head = {"schema": SCHEMA, "quick": options.quick, "plan": plan, "environment": where}
    write_atomically(path, (json.dumps(head | measured, indent=1, allow_nan=False) + "\n").encode())
    print(path)


if __name__ == "__main__":
    main()
