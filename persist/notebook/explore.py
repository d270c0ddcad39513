"""What notebooks/explore.ipynb shows: train cells of one's own choice and compare them, by controls where widgets are
shown, else by calls. The data set decides the setting: that of a recorded grid, whose curves lie behind one's own."""

import dataclasses
import functools
from pathlib import Path

from persist.cell import Cell, load_grid
from persist.notebook.live import Run, cost_table, draw_runs
from persist.notebook.progress import in_jupyter
from persist.record import load_records

GRIDS = {"digits": "preview", "cifar10": "reduced"}  # data set -> the grid whose setting and records it comes with
CHOICE = ("m", "K", "lr_policy", "dataset", "lr", "epochs")  # what one chooses; the rest is the grid's


class Explorer:
    """Trains one cell after another and keeps all of them in `runs`, for comparison with those of the same data set.

    root: the project's folder, with its grids and results. data_root, device: as in train(). choice: values of CHOICE
    for the first cell. Raises ValueError, naming what is wrong with it.
    """

    def __init__(self, *, root=".", data_root=None, device=None, **choice):
        self.root, self.data_root, self.device = Path(root), data_root, device
        self.runs: list[Run] = []
        self.cell = None
        self.cell = self.choose(**choice)

    def choose(self, **choice) -> Cell:
        """The cell of a choice. What it leaves out is that of the last cell; with another data set, m, K and the policy
        are, and the rate and the number of epochs are those of its grid."""
        if unknown := sorted(set(choice) - set(CHOICE)):
            raise ValueError(f"unknown choice {unknown[0]!r}: one chooses {', '.join(CHOICE)}")
        last = dict(dataset="digits", m=256, K=1, lr_policy="constant")
        if self.cell is not None:
            kept = CHOICE if choice.get("dataset", self.cell.dataset) == self.cell.dataset else ("m", "K", "lr_policy")
            last |= {name: getattr(self.cell, name) for name in kept}
        choice = last | choice
        if choice["dataset"] not in tuple(GRIDS):  # not `in GRIDS`, which raises for a list
            raise ValueError(f"dataset must be one of {', '.join(map(repr, GRIDS))}, not {choice['dataset']!r}")
        cells = self._grid(choice["dataset"]).cells
        setting = next((cell for cell in cells if cell.m == choice["m"]), cells[0])
        return dataclasses.replace(setting, **choice)

    def shown(self) -> list[Run]:
        """The runs of the data set that is chosen now: curves of two data sets on the same axes would say nothing."""
        return [run for run in self.runs if run.cell.dataset == self.cell.dataset]

    def recorded(self, cell: Cell | None = None) -> list:
        """The recorded runs of the grid with the same m, policy (and K = 1, which both policies share) and seed."""
        cell = cell or self.cell
        records = self._records(cell.dataset)
        return [
            r
            for r in records
            if (r.cell.m, r.cell.seed) == (cell.m, cell.seed) and (r.cell.lr_policy == cell.lr_policy or r.cell.K == 1)
        ]

    def train(self, **choice) -> Run:
        """Train one more cell, with progress in a line per epoch and its curves over the others at the end."""
        run = self._new_run(self.choose(**choice))
        print(run, flush=True)
        run.train(on_change=lambda: print(_progress(run), flush=True), data_root=self.data_root, device=self.device)
        self.show()
        return run

    def show(self):
        """Display all runs so far of the data set, over the recorded ones, and what each cost."""
        from IPython.display import HTML, display

        display(
            draw_runs(self.shown(), self.recorded()),
            HTML(cost_table(self.shown(), self.recorded()).to_html(index=False, border=0)),
        )

    @functools.cache
    def _grid(self, dataset):
        return load_grid(self.root / "grids" / f"{GRIDS[dataset]}.yaml")

    @functools.cache
    def _records(self, dataset):
        folder = self.root / "results" / GRIDS[dataset]
        return load_records(folder, self._grid(dataset).cells) if folder.is_dir() else []

    def _new_run(self, cell: Cell) -> Run:
        self.cell = cell
        self.runs.append(Run(max((run.number for run in self.runs), default=0) + 1, cell))
        return self.runs[-1]


def explore(*, widgets: bool | None = None, **options) -> Explorer:
    """The explorer of the notebook: with widgets a panel, and nothing trains until its button is pressed; without them
    the chosen cell is trained at once. widgets: None for "where Jupyter shows them". options: those of Explorer."""
    if widgets not in (None, True, False):
        raise ValueError(f"widgets must be True, False, or None for 'where Jupyter shows them', not {widgets!r}")
    if in_jupyter() if widgets is None else widgets:
        from IPython.display import display

        from persist.notebook.panel import Panel

        panel = Panel(**options)
        display(panel.widget)
        return panel
    explorer = Explorer(**options)
    explorer.train()
    return explorer


def _progress(run: Run) -> str:
    accuracy, loss = (run.history[-1][key] for key in ("test_accuracy", "test_loss"))
    return f"epoch {len(run.history)}/{run.cell.epochs}: " + (
        "its loss is not finite" if accuracy is None else f"test loss {loss:.3f}, accuracy {accuracy:.3f}"
    )
