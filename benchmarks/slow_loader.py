"""How long an epoch takes behind a slower loader than that of grids/loading.yaml: images decoded from large PNG files.

    python benchmarks/slow_loader.py        (alone on the machine; two CPU cores, some 4 minutes)

What the grid trains on is in memory as pixels, so that its loader is fast: with this network C/L is not small there.
Here every image lies as a PNG file in memory, each pixel a square, SIDE pixels in all, about as large as ImageNet's are
used; a worker on its own core decodes it, and what it gives are the very pixels of CIFAR-10. Networks, steps and m are
the grid's. Writes benchmarks/results/slow_loader.json, which persist/evidence/loading.py reads.
"""

import dataclasses
import itertools
import json
import os
import sys

import torch
from loading import timed
from payoff import Decoding
from tqdm import tqdm

from persist import data as datasets
from persist.cell import Cell
from persist.device import strict_arithmetic
from persist.grids import load_grid
from persist.notebook.cores import borrowed_cores
from persist.persistency import persistent
from persist.provenance import environment
from persist.record import write_atomically

SIDE = 224
EXAMPLES, SHORT, EPOCHS = 10_240, 2_560, 3  # of an epoch, of the short one that tells the start of the worker
WIDTHS = (0.01, 0.125, 0.25, 0.5, 1.0)


class Reused(Decoding):
    """The same, each minibatch K times in a row."""

    def minibatches(self, epoch: int):
        return (batch for _, batch in persistent(super().minibatches(epoch), self.cell.K))


def measure(cells: list[Cell], side: int, worker_core: int | None) -> list[dict]:
    """A row for every configuration."""
    rows = []
    with strict_arithmetic():
        for _, group in itertools.groupby(cells, key=lambda cell: cell.train_size):
            alike = list(group)
            pipeline = Reused(alike[0], datasets.load(alike[0]).train, side, worker_core)
            for pipeline.cell in tqdm(alike):
                rows.append(timed(pipeline, "decoding", train=True))
    return rows


if __name__ == "__main__":
    grid = [cell for cell in load_grid("grids/loading.yaml").cells if cell.pipeline == "loader" and cell.m == 512]
    changed = dict(train_size=EXAMPLES, epochs=EPOCHS)
    cells = [dataclasses.replace(c, **changed) for c in grid if c.width in WIDTHS and c.train_size is None]
    cells.append(dataclasses.replace(cells[0], K=1, width=min(WIDTHS), train_size=SHORT))
    with borrowed_cores(2) as cores:
        if cores is None:
            sys.exit("error: it takes two CPU cores that this system can pin to")
        os.sched_setaffinity(0, cores[:1])
        torch.set_num_threads(1)
        rows = measure(cells, SIDE, cores[1])
    where = environment(device=None, data_sha256=datasets.load(cells[0]).sha256, threads=1, pinned=cores)
    result = {"environment": where, "side": SIDE, "runs": rows}
    write_atomically("benchmarks/results/slow_loader.json", (json.dumps(result, indent=1) + "\n").encode())
