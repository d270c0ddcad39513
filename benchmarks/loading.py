"""How long an epoch takes behind MONAI's prefetching loader, which repeats a minibatch K times by itself: the second
series of docs/time.md, which no run of the project's own can express.

    python benchmarks/loading.py        (alone on the machine; two CPU cores, some 25 minutes)

Every configuration of grids/loading.yaml that trains behind a loader is trained again behind
`ThreadDataLoader(repeats=K)`, as MONAI recommends it: without worker processes, a thread loads the next minibatch while
the network trains on this one. Same images, order and steps. Training has one thread; it shares two cores with the
loading thread. Then both loaders run alone, with nothing trained (K = 0). Writes benchmarks/results/loading.json, which
persist/evidence/loading.py reads.
"""

import importlib.metadata
import json
import os
import sys

import torch
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
        from monai.data import ThreadDataLoader

        indices = datasets.minibatch_indices(self.cell, epoch, len(self))
        return ThreadDataLoader(self, repeats=self.cell.K, batch_sampler=indices)


def timed(pipeline, name: str, train: bool) -> dict:
    """A row, under the loader's name: seconds of every epoch but the first, which warms up, by the clock and of this
    thread's CPU time. K = 0: nothing trained."""
    cell, spans = pipeline.cell, []
    model = build_model(cell)
    optimizer = build_optimizer(cell, model)
    for epoch in range(1, cell.epochs + 1):
        start = clocks(CPU)
        for images, labels in pipeline.minibatches(epoch):
            if train:
                sgd_step(cell, model, optimizer, images, labels, cell.lr)
        spans.append([end - begin for begin, end in zip(start, clocks(CPU))])
    seconds, busy = zip(*spans[1:])
    row = {"loader": name, "m": cell.m, "width": cell.width}
    return row | {"K": cell.K * train, "examples": cell.examples, "seconds": seconds, "busy": busy}


def measure(cells: list) -> list[dict]:
    """A row for every configuration, then for the loaders alone."""
    data = {cell: datasets.load(cell).train for cell in cells}
    of_m = {cell.m: cell for cell in sorted(cells, key=lambda cell: cell.examples) if cell.K == 1}  # the most examples
    with strict_arithmetic():
        rows = [timed(Monai(cell, data[cell], CPU), "monai", train=True) for cell in tqdm(cells)]
        for cell in of_m.values():
            for name, loader in (("monai", Monai), ("loader", datasets.Loader)):
                rows.append(timed(loader(cell, data[cell], CPU), name, train=False))
    return rows


if __name__ == "__main__":
    cells = [cell for cell in load_grid("grids/loading.yaml").cells if cell.pipeline == "loader"]
    with borrowed_cores(2) as cores:
        if cores is None:
            sys.exit("error: it takes two CPU cores that this system can pin to")
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(1)
        rows = measure(cells)
    about = {"device": None, "threads": 1, "pinned": cores, "monai": importlib.metadata.version("monai")}
    where = environment(data_sha256=datasets.load(cells[0]).sha256, **about)
    result = {"environment": where, "runs": rows}
    write_atomically("benchmarks/results/loading.json", (json.dumps(result, indent=1) + "\n").encode())
