"""How long an epoch takes behind MONAI's prefetching loader, which repeats a minibatch K times by itself: the second
series of docs/time.md, which no run of the project's own can express.

    python benchmarks/loading.py        (alone on the machine; two CPU cores, some 25 minutes)

Every configuration of grids/loading.yaml that trains behind a loader is trained again behind
`ThreadDataLoader(repeats=K)`, as MONAI recommends it: without worker processes, a thread loads the next minibatch while
the network trains on this one. Same images, order and steps. Training has one thread; it shares two cores with the
loading thread. Then both loaders run alone, with nothing trained (K = 0). Writes benchmarks/results/loading.json, which
persist/evidence/loading.py reads.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import sys

import torch
from monai.data import ThreadDataLoader
from tqdm import tqdm

from persist import data as datasets
from persist.device import clocks, strict_arithmetic
from persist.grids import load_grid
from persist.model import build_model
from persist.notebook.cores import borrowed_cores
from persist.provenance import environment
from persist.record import write_atomically
from persist.training import build_optimizer, sgd_step

CPU = torch.device("cpu")


class Monai(datasets.Loader):
    """The images and transforms of the pipeline "loader" behind MONAI's loader, which yields each minibatch K times."""

    def minibatches(self, epoch: int):
        indices = datasets.minibatch_indices(self.cell, epoch, len(self))
        return ThreadDataLoader(self, repeats=self.cell.K, batch_sampler=indices)


def trained(pipeline, epochs: int) -> dict:
    """A row: seconds of every epoch but the first, which warms up, by the clock and of this thread's CPU time."""
    cell, model = pipeline.cell, build_model(pipeline.cell)
    return _timed(
        pipeline, epochs, functools.partial(sgd_step, cell, model, build_optimizer(cell, model), rate=cell.lr)
    )


def alone(pipeline, epochs: int) -> dict:
    """The same with nothing trained."""
    return {**_timed(pipeline, epochs, lambda images, labels: None), "K": 0}


def _timed(pipeline, epochs, step) -> dict:
    cell, spans = pipeline.cell, []
    for epoch in range(1, epochs + 1):
        start = clocks(CPU)
        for images, labels in pipeline.minibatches(epoch):
            step(images, labels)
        spans.append([end - begin for begin, end in zip(start, clocks(CPU))])
    seconds, busy = zip(*spans[1:])
    loader = "monai" if isinstance(pipeline, Monai) else "loader"
    return dict(loader=loader, m=cell.m, width=cell.width, K=cell.K, examples=cell.examples, seconds=seconds, busy=busy)


def measure(cells: list, epochs: int | None = None) -> list[dict]:
    """A row for every configuration, then for the loaders alone. epochs: default: those of each configuration."""
    data = {cell: datasets.load(cell).train for cell in cells}
    of_m = {cell.m: cell for cell in sorted(cells, key=lambda cell: cell.examples) if cell.K == 1}  # the most examples
    with strict_arithmetic():
        rows = [trained(Monai(cell, data[cell], CPU), epochs or cell.epochs) for cell in tqdm(cells)]
        pairs = [(loader, cell) for cell in of_m.values() for loader in (Monai, datasets.Loader)]
        return rows + [alone(loader(cell, data[cell], CPU), epochs or cell.epochs) for loader, cell in pairs]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", default="grids/loading.yaml", help="default: %(default)s")
    parser.add_argument("--epochs", type=int, help="of every configuration, at least 2; default: those of the grid")
    parser.add_argument("--output", default="benchmarks/results/loading.json", help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.epochs is not None and options.epochs < 2:
        parser.error(f"--epochs must be at least 2, the first is not counted, not {options.epochs}")
    cells = [cell for cell in load_grid(options.grid).cells if cell.pipeline == "loader"]
    with borrowed_cores(2) as cores:
        if cores is None:
            sys.exit("error: it takes two CPU cores that this system can pin to")
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(1)
        rows = measure(cells, options.epochs)
    where = environment(
        device=None,
        data_sha256=datasets.load(cells[0]).sha256,
        threads=1,
        pinned=cores,
        monai=importlib.metadata.version("monai"),
    )
    result = {"environment": where, "runs": rows}
    write_atomically(options.output, (json.dumps(result, indent=1) + "\n").encode())
    print(options.output)


if __name__ == "__main__":
    main()
