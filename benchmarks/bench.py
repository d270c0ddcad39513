"""How fast this project trains, measured side by side with what people would otherwise run, interleaved in one run.

    python benchmarks/bench.py                  (what `make bench` runs; some 25 minutes on two CPU cores)
    python benchmarks/bench.py --quick          a tiny network, a few seconds of everything: does it run at all?

Pipelines: "plain" and "lightning" (baselines.py), this project's "loader" and "resident"; all train the same network on
CIFAR-10. A sample is a slice of an epoch: the clock runs from the end of one iteration to the end of the same use of a later minibatch,
so that it holds whole minibatches, loading included, and no start. On a GPU a slice is an epoch, on the CPU it is about SLICE gradients.
Every round measures everything once, in another order; ratios are taken within a round.

Writes benchmarks/results/<device>.json (-graph, -bf16: with these options), over an older one only with --replace: the raw samples and the environment. persist/speed.py makes tables and figures of it.
"""

import argparse
import contextlib
import copy
import dataclasses
import functools
import gc
import json
import logging
import os
import random
import re
import sys
import time
import warnings
from pathlib import Path
from unittest import mock

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parent))
from baselines import plain, shuffling_loader, training_set, with_lightning
from persist.graph import GraphedIterations, restored
from persist.memory import kept_memory

from persist import Cell, training
from persist import data as datasets
from persist.evidence.speed import SCHEMA, describe
from persist.model import build_model, bytes_per_iteration, flops_per_gradient
from persist.record import environment, write_atomically

WORKERS = (2, 4, 8)  # of the plain loop's DataLoader: the best of these, up to the cores; measured beside it: none
BASE = dict(padding="alexnet", scaling="channel", reduction="mean")  # the grid `paper`'s reading


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured."""

    width: float = 1.0
    table: tuple = tuple((m, K) for m in (32, 256, 512) for K in (1, 2, 5))
    slice: int = 1024  # gradients of a sample on the CPU; at least one minibatch with its K uses
    rounds: int = 3  # at least
    matmul: int = 2048  # rows and columns
    copy: int = 256  # MiB: more than any cache holds
    scale_m: tuple = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)  # at K = 1
    scale_K: tuple = ((32, (1, 2, 3, 5, 8, 16)), (256, (1, 2, 4, 8, 16)))
    scale_examples: tuple = (256, 512, 1024, 2048, 4096)  # whole epochs at m = 32, K = 1
    scale_slice: int = 512  # gradients
    profile: tuple = (32, 5)  # minibatches, times
    minutes: float = 11.0  # for the table: as many rounds as fit
    scale_minutes: float = 6.0


GPU = Plan(matmul=8192, copy=4096, scale_examples=(1000, 5000, 10_000, 25_000, 50_000), profile=(1000, 5))
QUICK = Plan(
    width=0.0625, table=((32, 1), (32, 2)), slice=64, rounds=2, matmul=256, copy=8,
    scale_m=(8, 32), scale_K=((32, (1, 3)),), scale_examples=(64, 100), scale_slice=64, profile=(4, 2), minutes=0.0, scale_minutes=0.0,
)  # fmt: skip


class Done(Exception):
    """The clock has run: ends a loop from within."""


class Stopwatch:
    """Counts iterations; `seconds` is what `iterations` of them took, after the first one(s) outside the clock."""

    def __init__(self, device, iterations: int):
        self.device, self.iterations = device, iterations
        self.count, self.start = 0, None

    def tick(self, optimizer=None, *_, iterations=1):
        self.count += iterations
        if self.start is None:
            self.first, self.start = self.count, self._mark()
        elif self.count >= self.first + self.iterations:
            self.seconds = self._since(self.start)
            raise Done

    def _mark(self):
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _since(self, start) -> float:
        end = self._mark()
        if self.device.type != "cuda":
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1000


def run(loop, tick):
    """Run a training loop that has no end; tick(optimizer, ...) is called after every update and ends it by Done."""
    hook = register_optimizer_step_post_hook(tick)
    try:
        loop()
    except Done:
        pass
    finally:
        hook.remove()
        gc.collect()  # ends the loaders' workers that only a cycle still holds: they must not run beside the next sample


@dataclasses.dataclass
class Bench:
    """The pipelines on a device. `workers`: m -> workers of the loaders."""

    device: torch.device
    root: str
    width: float
    graph: bool
    memory_format: torch.memory_format = torch.channels_last  # of resident and loader
    workers: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        cell = self.cell(1, 1)
        self.train = datasets.load(cell, self.root).train
        self.dataset = training_set(self.root, *datasets.channel_statistics(cell))
        self.resident = datasets.Resident(cell, self.train, self.device)

    def cell(self, m, K, **changes) -> Cell:
        return Cell(**{**BASE, **dict(m=m, K=K, width=self.width, lr=0.001), **changes})

    def loop(self, pipeline, cell, stopwatch=None, loader=None):
        """A training loop without an end. loader: the baselines' DataLoader, else a shuffling one."""
        if pipeline in ("plain", "lightning"):
            loader = loader or shuffling_loader(self.dataset, cell.m, self.workers[cell.m], self.device)
            baseline = plain if pipeline == "plain" else with_lightning
            return functools.partial(baseline, build_model(cell), loader, cell.K, cell.lr, cell.momentum, self.device)
        return functools.partial(self._ours, pipeline, cell, stopwatch)

    def _ours(self, pipeline, cell, stopwatch):
        with training._arithmetic(cell.precision), kept_memory():
            source = self.source(pipeline, cell)
            model = build_model(cell).to(self.device, memory_format=self.memory_format)
            optimizer = training.build_optimizer(cell, model)
            iterate = functools.partial(training.iterate, cell, model, optimizer)
            if self.graph and pipeline == "resident":
                with restored(model, optimizer):
                    iterate = GraphedIterations(iterate, source, {len(i) for i in source.epoch(1).indices})
            for epoch in range(1, 10**9):
                batches = source.epoch(epoch)
                if self.memory_format == torch.contiguous_format:
                    batches = ((images.contiguous(), labels) for images, labels in batches)
                iterate(
                    _Ticking(batches.indices, cell.K, stopwatch) if isinstance(iterate, GraphedIterations) else batches
                )

    def source(self, pipeline, cell, examples=None):
        if pipeline == "loader":
            return datasets.Loader(cell, self.train, self.device, workers=self.workers[cell.m])
        source = copy.copy(self.resident)  # the scaled images once, not per cell
        source.cell, source.images, source.labels = (
            cell,
            self.resident.images[:examples],
            self.resident.labels[:examples],
        )
        return source

    def sample(self, pipeline, m, K, precision, gradients) -> dict:
        cell = self.cell(
            m,
            K,
            precision="fp32" if precision == "default" else precision,
            pipeline="loader" if pipeline == "loader" else "resident",
        )
        minibatches = cell.examples // m - 1 if self.device.type == "cuda" else max(1, round(gradients / (m * K)))
        return dict(
            pipeline=pipeline, precision=precision, m=m, K=K, workers=0 if pipeline == "resident" else self.workers[m],
            minibatches=minibatches, gradients=minibatches * m * K, seconds=self.seconds(pipeline, cell, minibatches),
        )  # fmt: skip

    def seconds(self, pipeline, cell, minibatches) -> float:
        """Of so many minibatches with all their uses, after a start outside the clock."""
        stopwatch = Stopwatch(self.device, minibatches * cell.K)
        # of a graph only the warm-up and the capture call an optimizer's step; its replays tick by themselves
        tick = _ignore if self.graph and pipeline == "resident" else stopwatch.tick
        run(self.loop(pipeline, cell, stopwatch), tick)
        return stopwatch.seconds


def _ignore(*_):
    pass


@dataclasses.dataclass
class _Ticking:
    """The minibatches of a graphed epoch, which tick once they are replayed."""

    minibatches: tuple
    K: int
    stopwatch: Stopwatch

    @property
    def indices(self):
        for index in self.minibatches:
            yield index
            self.stopwatch.tick(iterations=self.K)


def rounds(settings, measure, minutes, at_least, rng) -> list[dict]:
    """Measure every setting once per round, in another order each, as many rounds as fit into the minutes."""
    samples, start = [], time.monotonic()
    for number in range(1000):
        taken = time.monotonic() - start
        if number >= at_least and taken * (number + 1) / number > 60 * minutes:
            break
        for group in rng.sample(settings, len(settings)):  # what is compared stands side by side
            samples += [{"round": number, **measure(*setting)} for setting in rng.sample(group, len(group))]
        print(f"round {number + 1}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return samples


def matmul_rate(device, precision, n) -> dict:
    """Floating-point operations per second of an n x n matrix product: the best of a few."""
    with training._arithmetic(precision):
        a, b = (
            torch.randn(n, n, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
            for _ in range(2)
        )
        seconds = []
        for _ in range(8):
            start = training._now(device)
            a @ b
            seconds.append(training._now(device) - start)
    return dict(precision=precision, n=n, flops_per_second=2 * n**3 / min(seconds[1:]))


def copy_rate(device, mebibytes) -> float:
    """Bytes per second of a copy, those read and those written: the best of a few."""
    source, seconds = torch.ones(mebibytes * 2**18, device=device), []
    target = torch.empty_like(source)
    for _ in range(8):
        start = training._now(device)
        target.copy_(source)
        seconds.append(training._now(device) - start)
    return 2 * mebibytes * 2**20 / min(seconds[1:])


def choose_workers(bench, ms, rng, gradients) -> list[dict]:
    """The plain loop's best number of workers at each m, K = 1: what all loaders then take. Without workers it is measured too, which on a
    CPU with few cores can be faster, and resident beside them."""
    candidates = [w for w in WORKERS if w <= datasets.cores()] or [1]

    def measure(pipeline, m, workers):
        bench.workers[m] = workers
        return bench.sample(pipeline, m, 1, "default" if pipeline == "plain" else "fp32", gradients)

    settings = [[("resident", m, None), *(("plain", m, w) for w in (0, *candidates))] for m in ms]
    samples = rounds(settings, measure, minutes=0, at_least=3, rng=rng)
    for m in ms:
        bench.workers[m] = min(
            candidates,
            key=lambda w: min(
                s["seconds"] for s in samples if (s["pipeline"], s["m"], s["workers"]) == ("plain", m, w)
            ),
        )
    return samples


def layouts(bench, ms, rng, gradients) -> list[dict]:
    """The resident pipeline in channels-last memory, which it takes, and in NCHW; fp32, K = 1, without a graph."""
    of = {
        name: dataclasses.replace(bench, graph=False, memory_format=layout)
        for name, layout in (("channels_last", torch.channels_last), ("nchw", torch.contiguous_format))
    }
    settings = [[(name, m) for name in of] for m in ms]
    return rounds(
        settings,
        lambda name, m: {"layout": name, **of[name].sample("resident", m, 1, "fp32", gradients)},
        minutes=0,
        at_least=5,
        rng=rng,
    )


def check(bench, precisions) -> dict:
    """That all pipelines train the same: on the same minibatches, the largest difference of a weight from the plain loop's after 10
    iterations (5 minibatches of 32, used twice), beside the largest change of a weight."""
    cell = bench.cell(32, 2, lr=0.01)
    loader = DataLoader(bench.dataset, batch_sampler=datasets.minibatch_indices(cell, 1, len(bench.dataset)))
    start = [p.detach() for p in build_model(cell).parameters()]

    def weights(pipeline, cell):
        kept = []

        def tick(optimizer, *_, count=iter(range(1, 11))):
            if next(count) == 10:
                kept.extend(p.detach().cpu() for group in optimizer.param_groups for p in group["params"])
                raise Done

        run(bench.loop(pipeline, cell, loader=loader), tick)
        return kept

    def distance(a, b):
        return max(float((x - y).abs().max()) for x, y in zip(a, b))

    bench = dataclasses.replace(bench, graph=False, workers={32: 0})
    expected = weights("plain", cell)
    ours = {
        f"{pipeline} {p}": (pipeline, dataclasses.replace(cell, precision=p, pipeline=pipeline))
        for pipeline, p in [("loader", "fp32"), *(("resident", p) for p in precisions)]
    }
    pipelines = {"lightning": ("lightning", cell), **ours}
    return {
        "iterations": 10,
        "largest_change": distance(expected, start),
        "largest_difference": {name: distance(expected, weights(*pipeline)) for name, pipeline in pipelines.items()},
    }


def profile(bench, minibatches, times) -> dict:
    """Where the time of the training loop goes at m = 32, K = 1, resident, fp32: all but forward, backward and update is overhead."""
    cell = bench.cell(32, 1)
    seconds = dict.fromkeys(("forward", "backward", "update"), 0.0)

    def timed(part, function):
        def call(*arguments, **keywords):
            nonlocal seconds
            start = training._now(bench.device)
            try:
                return function(*arguments, **keywords)
            finally:
                seconds[part] += training._now(bench.device) - start

        return call

    with training._arithmetic("fp32"), kept_memory():
        model = build_model(cell).to(bench.device, memory_format=torch.channels_last)
        optimizer = training.build_optimizer(cell, model)
        optimizer.step, optimizer.zero_grad = timed("update", optimizer.step), timed("update", optimizer.zero_grad)
        source, total = bench.source("resident", cell, 32 * minibatches), 0.0
        with (
            mock.patch.object(training, "cross_entropy", timed("forward", training.cross_entropy)),
            mock.patch.object(torch.Tensor, "backward", timed("backward", torch.Tensor.backward)),
        ):
            for epoch in range(1, 2 + times):
                start = training._now(bench.device)
                loss, _ = training.iterate(cell, timed("forward", model), optimizer, source.epoch(epoch))
                float(loss)
                total += training._now(bench.device) - start
                if epoch == 1:  # the warm-up
                    total, seconds = 0.0, seconds.fromkeys(seconds, 0.0)
    return {
        "m": 32,
        "K": 1,
        "iterations": minibatches * times,
        "seconds": total,
        **seconds,
        "overhead": 1 - sum(seconds.values()) / total,
    }


def replayed(bench) -> dict | None:
    """With --graph: the part of an epoch's time at m = 32, K = 1 in which the replays run on the GPU, by events."""
    if not bench.graph:
        return None
    events, replay = [], torch.cuda.CUDAGraph.replay

    def timed(graph):
        pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        pair[0].record()
        replay(graph)
        pair[1].record()
        events.append(pair)

    cell = bench.cell(32, 1)
    minibatches = cell.examples // 32 - 1
    with mock.patch.object(torch.cuda.CUDAGraph, "replay", timed):
        seconds = bench.seconds("resident", cell, minibatches)
    inside = events[1 : 1 + minibatches]  # the clock starts after the first
    return {"m": 32, "K": 1, "seconds": seconds, "replays": sum(a.elapsed_time(b) for a, b in inside) / 1000}


def whole_epoch(bench, examples) -> dict:
    """Seconds of one whole epoch of so many examples, m = 32, K = 1, shuffling and the last partial minibatch included."""
    cell = bench.cell(32, 1, train_size=examples)
    with training._arithmetic("fp32"), kept_memory():
        model = build_model(cell).to(bench.device, memory_format=torch.channels_last)
        optimizer, source = training.build_optimizer(cell, model), bench.source("resident", cell, examples)
        training.iterate(cell, model, optimizer, [next(iter(source.epoch(1)))])
        start = training._now(bench.device)
        loss, _ = training.iterate(cell, model, optimizer, source.epoch(2))
        float(loss)
        return dict(
            pipeline="resident",
            precision="fp32",
            m=32,
            K=1,
            examples=examples,
            seconds=training._now(bench.device) - start,
        )


def cost_of_scale(bench, plan, rng) -> list[dict]:
    """Samples of the resident pipeline in fp32 over m, over K, and of whole epochs over the number of examples."""
    slices = {*((m, 1) for m in plan.scale_m), *((m, K) for m, Ks in plan.scale_K for K in Ks)}
    settings = [[("slice", m, K)] for m, K in sorted(slices)] + [[("epoch", n, None)] for n in plan.scale_examples]

    def measure(kind, n, K):
        return {
            "kind": kind,
            **(bench.sample("resident", n, K, "fp32", plan.scale_slice) if kind == "slice" else whole_epoch(bench, n)),
        }

    return rounds(settings, measure, plan.scale_minutes, plan.rounds, rng)


def precisions_of(device, bf16) -> tuple[str, ...]:
    if device.type == "cuda":
        return ("fp32", "tf32", "bf16") if torch.cuda.get_device_capability(device) >= (8, 0) else ("fp32",)
    return ("fp32", "bf16") if bf16 else ("fp32",)


class OtherWork:
    """How many cores other processes kept busy, on average, since this was made; None where /proc/stat does not say."""

    def __init__(self):
        self.start = self._read()

    def cores(self) -> float | None:
        now = self._read()
        if now is None or self.start is None:
            return None
        (busy, own, clock), (busy0, own0, clock0) = now, self.start
        return round(max(0.0, (busy - busy0) - (own - own0)) / (clock - clock0), 2)

    @staticmethod
    def _read():
        with contextlib.suppress(OSError):
            user, nice, system, _, _, irq, softirq, *_ = map(
                int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
            )
            own = os.times()
            return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), sum(own[:4]), time.monotonic()


def measure_all(bench, plan, precisions) -> dict:
    rng, other, start = random.Random(0), OtherWork(), time.monotonic()
    pipelines = [
        ("plain", "default"),
        ("lightning", "default"),
        ("loader", "fp32"),
        *(("resident", p) for p in precisions),
    ]
    groups = [[(pipeline, m, K, precision, plan.slice) for pipeline, precision in pipelines] for m, K in plan.table]
    checked, profiled = check(bench, precisions), profile(bench, *plan.profile)
    workers = choose_workers(bench, sorted({m for m, _ in plan.table}), rng, plan.slice)
    matmul = [matmul_rate(bench.device, p, plan.matmul) for p in precisions]
    samples = rounds(groups, bench.sample, plan.minutes - (time.monotonic() - start) / 60, plan.rounds, rng)
    matmul += [matmul_rate(bench.device, p, plan.matmul) for p in precisions]
    ms = sorted({m for m, _ in plan.table})
    return {
        "workers": workers,
        "matmul": matmul,
        "copy": {"mebibytes": plan.copy, "bytes_per_second": copy_rate(bench.device, plan.copy)},
        "bytes": [
            dict(m=m, precision=p, bytes=bytes_per_iteration(bench.cell(m, 1, precision=p)))
            for m in ms
            for p in precisions
        ],
        "layouts": layouts(bench, ms, rng, plan.slice),
        "samples": samples,
        "check": checked,
        "profile": profiled,
        "replayed": replayed(bench),
        "scale": cost_of_scale(bench, plan, rng),
        "other_work": other.cores(),
        "minutes": round((time.monotonic() - start) / 60, 1),
    }


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def device_name(device) -> str | None:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def result_path(options, device) -> Path:
    """The file of the result, named by the device and by what is not measured by default. Raises ValueError, before anything is
    measured, where there is an older result; a trial in its own folder is no result."""
    cuda = device.type == "cuda"
    name = ("gpu-" if cuda else "cpu-") + slug(environment(device_name(device), "")["device"])
    name += ("-graph" if options.graph and cuda else "") + (
        "-bf16" if options.bf16 and not cuda else ""
    )  # a GPU's has bf16 anyway
    path = Path(options.output or ("runs/bench" if options.quick else "benchmarks/results")) / f"{name}.json"
    if path.exists() and not options.replace and (options.output or not options.quick):
        raise ValueError(
            f"{path} is there already, an older result. Keep it elsewhere, or write over it with --replace (make bench REPLACE=1)"
        )
    return path


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="benchmarks/bench.py",
        description="Measure how fast this project trains, side by side with what people would otherwise run.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a tiny network and tiny slices: whether it runs; its numbers mean nothing"
    )
    parser.add_argument("--output", help="folder for the JSON; default benchmarks/results, with --quick runs/bench")
    parser.add_argument("--device", help="default: CUDA where there is one, else the CPU")
    parser.add_argument("--bf16", action="store_true", help="bf16 on the CPU too")
    parser.add_argument("--graph", action="store_true", help="resident by CUDA graphs (never run yet)")
    parser.add_argument("--replace", action="store_true", help="write over an older result of the same name")
    options = parser.parse_args(arguments)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")

    try:
        device = training.resolve_device(options.device)
        plan = QUICK if options.quick else GPU if device.type == "cuda" else Plan()
        path = result_path(options, device)
        bench = Bench(
            device, os.environ.get("PERSIST_DATA") or "data", plan.width, options.graph and device.type == "cuda"
        )
    except (ValueError, datasets.DataError) as error:
        sys.exit(f"error: {error}")
    cuda = device.type == "cuda"
    where = environment(device_name(device), datasets.load(bench.cell(1, 1), bench.root).sha256)
    result = {
        "schema": SCHEMA,
        "quick": options.quick,
        "environment": {
            **where,
            "cuda": torch.version.cuda if cuda else None,
            "threads": torch.get_num_threads(),
            "graph": bench.graph,
        },
        "cell": bench.cell(32, 1).as_dict(),
        "flops_per_gradient": flops_per_gradient(bench.cell(32, 1)),
        **measure_all(bench, plan, precisions_of(device, options.bf16)),
    }
    write_atomically(path, (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    print(describe(result))
    print(path)


if __name__ == "__main__":
    main()
