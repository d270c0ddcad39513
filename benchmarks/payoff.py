"""Does the prediction of docs/payoff.md hold? `fresh` and `reuse` trained to the target behind a real DataLoader.

    python benchmarks/payoff.py                  once the grid `payoff` is recorded; alone on the machine, two cores

Images lie as PNG files in memory, each pixel a square of side / 32 pixels; a worker on its own core decodes them, and
what it gives are the very pixels of CIFAR-10. The side sets L, the seconds of loading a minibatch: of the sides tried,
the ones whose C/L come nearest to PLACES. L is measured with nothing trained, C with nothing loaded. A run makes as
many iterations as its record needed to the first evaluation at or below the target, none evaluated in between (the
worker would get ahead meanwhile); then its loss must be the record's.

At m = 512 a step takes some 0.12 s. With C/L = 0.2, 0.5, 1.2 a pass of `fresh` (88 minibatches) takes some 53, 21 and
11 s, five uses of each minibatch by `reuse` some 53 s each time. With 8 to 20 passes to the target that is 15 to 40
minutes, and preparing PNG files some 5. Writes benchmarks/results/payoff.json.
"""

import argparse
import io
import itertools
import json
import math
import statistics
import time

import torch
from PIL import Image

from persist import data as datasets
from persist import training
from persist.cell import Cell
from persist.device import pinned, place, strict_arithmetic
from persist.evidence.payoff import ABOVE, Evidence, ended, gradients_to, load, of_arm, targets
from persist.persistency import learning_rate
from persist.record import write_atomically

PLACES = (0.2, 0.5, 1.2)  # C/L: reuse waits no longer than it trains; between; both train all the time
SIDES = (32, 64, 96, 128, 192, 256, 384, 512)
CPU = torch.device("cpu")


class Decoding(datasets.Loader):
    """The pipeline `loader`, from PNG files of side x side pixels."""

    def __init__(self, cell: Cell, train: datasets.Split, side: int, worker_core: int | None = None):
        super().__init__(cell, train, CPU, worker_core)
        self.files = [png(image, side) for image in train.images]

    def __getitem__(self, i):
        image = Image.open(io.BytesIO(self.files[i])).resize((32, 32), Image.Resampling.NEAREST)
        return self.transform(image), self.train.labels[i]


def png(image, side: int) -> bytes:
    """An image (32, 32, 3) uint8 as PNG, its pixels repeated to side x side."""
    file = io.BytesIO()
    Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST).save(file, "PNG", compress_level=1)
    return file.getvalue()


def choose_side(cell: Cell, train: datasets.Split, step_seconds: float, ratio: float) -> int:
    """The side with which loading a minibatch takes nearest to step_seconds / ratio, by 100 images."""
    few, found = train.take(range(min(100, len(train.labels)))), {}
    for side in SIDES:
        loader, start = Decoding(cell, few, side), time.perf_counter()
        for i in range(len(few.labels)):
            loader[i]
        seconds = (time.perf_counter() - start) / len(few.labels) * cell.m
        found[side] = abs(math.log(seconds * ratio / step_seconds))
    return min(found, key=found.get)


def loading_seconds(pipeline, minibatches: int = 20) -> float:
    """Of a minibatch, with nothing trained; the start of the worker is left out."""
    batches = iter(pipeline.minibatches(1))
    next(batches)
    start = time.perf_counter()
    loaded = sum(1 for _ in itertools.islice(batches, minibatches))
    return (time.perf_counter() - start) / loaded


def step_seconds(cell: Cell, train: datasets.Split, steps: int = 20) -> float:
    """Of an iteration on a minibatch that is there: the median."""
    model = place(training.build_model(cell), CPU)
    optimizer, seconds = training.build_optimizer(cell, model), []
    [(images, labels)] = itertools.islice(datasets.Resident(cell, train, CPU).minibatches(1), 1)
    for _ in range(steps):
        start = time.perf_counter()
        training.sgd_step(cell, model, optimizer, images, labels, cell.lr)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def train_to(cell: Cell, pipeline, iterations: int, test: datasets.Split) -> tuple[float, float]:
    """Seconds of so many iterations, loading included; the test loss after them."""
    model = place(training.build_model(cell), CPU)
    optimizer, start = training.build_optimizer(cell, model), time.perf_counter()
    for k, (images, labels) in itertools.islice(training.iterations(cell, pipeline), iterations):
        training.sgd_step(cell, model, optimizer, images, labels, learning_rate(cell.lr, k, cell.lr_policy))
    seconds = time.perf_counter() - start
    loss, _ = training.evaluate(model, datasets.scale(test.images, cell), torch.from_numpy(test.labels))
    return seconds, loss


def measure(evidence: Evidence, m: int, seed: int, cores: list[int], data_root=None, places=PLACES) -> dict:
    """Everything for one m and seed, to the plan's first target that both arms reached. Raises ValueError where a run
    has not ended, or there is no such target."""
    ran = {arm: next(iter(ended(of_arm(evidence.test, m, arm, seed))), None) for arm in ("fresh", "reuse")}
    goals, runs = targets(evidence.rates, m) if all(ran.values()) else [], {}
    above, goal = next(
        (pair for pair in zip(ABOVE, goals) if all(gradients_to(run, pair[1]) < math.inf for run in ran.values())),
        (None, None),
    )
    if goal is None:
        raise ValueError(f"m={m}, seed={seed}: a run of fresh or reuse is not recorded, or missed every target")
    for arm, run in ran.items():
        count = gradients_to(run, goal)
        entry = next(entry for entry in run.history if entry["gradients"] >= count)
        facts = {"iterations": entry["iterations"], "gradients": entry["gradients"], "to_target": count}
        runs[arm] = run.cell, facts | {"recorded_loss": entry["test_loss"]}
    cell, found = runs["fresh"][0], []
    data = datasets.load(cell, data_root)
    with pinned(cores), strict_arithmetic():
        C = step_seconds(cell, data.train)
        for ratio in places:
            side = choose_side(cell, data.train, C, ratio)
            loader = Decoding(cell, data.train, side, cores[1])
            here = {"side": side, "loading_seconds": loading_seconds(loader), "step_seconds": C, "arms": {}}
            for arm, (loader.cell, facts) in runs.items():
                seconds, loss = train_to(loader.cell, loader, facts["iterations"], data.test)
                here["arms"][arm] = facts | {"seconds": seconds, "loss": loss}
                print(ratio, arm, here["arms"][arm], flush=True)
            found.append(here)
        where = training.describe(CPU, data.sha256, cores)
    return {"m": m, "seed": seed, "above": above, "target": goal, "places": found, "environment": where}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--m", type=int, default=512)
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--cores", type=int, nargs=2, default=[0, 1], help="of training and of the loader's worker")
    options = parser.parse_args()
    outcome = measure(load(), options.m, options.seed, options.cores)
    write_atomically("benchmarks/results/payoff.json", (json.dumps(outcome, indent=1) + "\n").encode())
