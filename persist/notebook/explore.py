"""What notebooks/explore.ipynb shows: runs of one's own choice, trained and compared, by controls where somebody sees
them, else by calls. The data set decides the rest: the setting of a grid, whose records lie behind one's own curves."""

import contextlib
import dataclasses
import functools

from IPython.display import HTML, display

from persist.cell import Cell
from persist.evidence.select import select
from persist.grids import grid_path, load_grid, load_grid_records
from persist.notebook.live import cost_table, draw_runs
from persist.notebook.progress import Stopped, interactive, progress_line
from persist.record import Record

GRIDS = {"digits": "preview", "cifar10": "paper"}  # data set -> the grid whose setting and records it comes with
CHOICE = ("m", "K", "lr_policy", "dataset", "lr", "epochs")  # what one chooses; the rest is the grid's


class Explorer:
    """Trains one run after another and keeps all of them in `runs`, by their numbers. `cell` is the one chosen now.

    device: as in train(). choice: values of CHOICE for the first run. Grids and records are those of the folder that
    one is in. Raises ValueError, naming what is wrong."""

    def __init__(self, *, device=None, **choice):
        self.device = device
        self.runs: dict[int, Record] = {}  # unfinished: those that train or were stopped
        self.grid = functools.cache(_read)
        self.choice = dict(dataset="digits", m=256, K=1, lr_policy="constant")
        self.choose(**choice)

    def choose(self, **choice) -> Cell:
        """The cell to train from now on. What the choice leaves out, or what is None, is that of the last one; where
        nobody has chosen them for this data set, the rate and the number of epochs are those of its grid."""
        choice = {name: value for name, value in choice.items() if value is not None}
        if unknown := sorted(set(choice) - set(CHOICE)):
            raise ValueError(f"unknown choice {unknown[0]!r}: one chooses {', '.join(CHOICE)}")
        last = dict(self.choice)
        if choice.get("dataset", last["dataset"]) != last["dataset"]:
            last = {name: last[name] for name in ("m", "K", "lr_policy")}
        choice = last | choice
        Cell(m=1, dataset=choice["dataset"])  # raises where there is no such data set
        cells, _ = self.grid(choice["dataset"])
        setting = next((cell for cell in cells if cell.m == choice["m"]), cells[0])
        self.cell, self.choice = dataclasses.replace(setting, **choice), choice
        return self.cell

    def shown(self) -> dict[int, Record]:
        """The runs of the data set that is chosen now: curves of two data sets on the same axes would say nothing."""
        return {number: run for number, run in [*self.runs.items()] if run.cell.dataset == self.cell.dataset}

    def recorded(self) -> list[Record]:
        """The recorded runs of the grid with the same m, policy (and K = 1, which both policies share) and seed."""
        curves = select(self.grid(self.cell.dataset)[1], self.cell.m, self.cell.lr_policy)
        return [record for runs in curves.values() for record in runs if record.cell.seed == self.cell.seed]

    def train(self, **choice):
        """Train one more run, with a line for each evaluation; then display all runs so far of the data set, over the
        recorded ones, and what each cost."""
        cell = self.choose(**choice)
        self.watch(cell, on_epoch=lambda entry: print(progress_line(cell, entry), flush=True))
        display(draw_runs(self.shown(), self.recorded()))
        display(HTML(cost_table(self.shown(), self.recorded()).to_html(index=False, border=0)))

    def watch(self, cell: Cell, *, on_epoch, on_minibatch=None) -> Record:
        """Train a cell with the callbacks of train(); from its first evaluation on the run is in `runs`. Where a
        callback raises Stopped, the run ends and what is done stays."""
        from persist.device import resolve_device
        from persist.training import describe, train

        number, device = max(self.runs, default=0) + 1, resolve_device(self.device)
        run = Record(cell, [], describe(device, "", None), "unfinished")

        def keep(entry):
            run.history.append(entry)
            self.runs[number] = run
            on_epoch(entry)

        with contextlib.suppress(Stopped):
            run = self.runs[number] = train(cell, device=device, on_epoch=keep, on_minibatch=on_minibatch)
        return run


def _read(dataset) -> tuple[list[Cell], list[Record]]:
    """The cells of its grid, and what is recorded of them."""
    grid = load_grid(grid_path(GRIDS[dataset]))
    return grid.cells, load_grid_records(grid, "results")[0]


def explore(*, widgets: bool | None = None, **options) -> Explorer:
    """The explorer of the notebook: with widgets a panel, and nothing trains until its button is pressed; without them
    the chosen run is trained at once. widgets: None for "unless this runs in batch". options: those of Explorer."""
    if widgets not in (None, True, False):
        raise ValueError(f"widgets must be True, False, or None for 'unless this runs in batch', not {widgets!r}")
    if interactive() if widgets is None else widgets:
        from persist.notebook.panel import Panel

        explorer = Panel(**options)
        display(explorer.widget)
    else:
        explorer = Explorer(**options)
        explorer.train()
    return explorer
