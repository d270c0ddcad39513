"""What notebooks/explore.ipynb shows: runs of one's own choice, trained and compared, by controls where somebody sees
them, else by calls. The data set decides the rest: the setting of a grid, whose records lie behind one's own curves."""

import dataclasses

from persist.cell import Cell
from persist.grids import grid_path, load_grid, load_grid_records
from persist.notebook.live import Run, cost_table, draw_runs
from persist.notebook.progress import Progress, interactive
from persist.record import Record

GRIDS = {"digits": "preview", "cifar10": "paper"}  # data set -> the grid whose setting and records it comes with
CHOICE = ("m", "K", "lr_policy", "dataset", "lr", "epochs")  # what one chooses; the rest is the grid's


class Explorer:
    """Trains one run after another and keeps all of them in `runs`, for comparison with those of the same data set.

    data_root, device: as in train(). choice: values of CHOICE for the first run. Grids and records are those of the
    folder that one is in. Raises ValueError, naming what is wrong.
    """

    def __init__(self, *, data_root=None, device=None, **choice):
        self.data_root, self.device = data_root, device
        self.runs: list[Run] = []
        self.read = {}  # data set -> its grid, its records
        self.cell = None
        self.cell = self.choose(**choice)

    def choose(self, **choice) -> Cell:
        """The cell of a choice. What it leaves out, or what is None, is that of the last one; with another data set, m,
        K and the policy are, and the rate and the number of epochs are those of its grid."""
        choice = {name: value for name, value in choice.items() if value is not None}
        if unknown := sorted(set(choice) - set(CHOICE)):
            raise ValueError(f"unknown choice {unknown[0]!r}: one chooses {', '.join(CHOICE)}")
        last = dict(dataset="digits", m=256, K=1, lr_policy="constant")
        if self.cell is not None:
            same = choice.get("dataset", self.cell.dataset) == self.cell.dataset
            last |= {name: getattr(self.cell, name) for name in (CHOICE if same else ("m", "K", "lr_policy"))}
        choice = last | choice
        if choice["dataset"] not in tuple(GRIDS):  # not `in GRIDS`, which raises TypeError for a list
            raise ValueError(f"dataset must be one of {', '.join(map(repr, GRIDS))}, not {choice['dataset']!r}")
        cells = self._grid(choice["dataset"])[0].cells
        setting = next((cell for cell in cells if cell.m == choice["m"]), cells[0])
        return dataclasses.replace(setting, **choice)

    def shown(self) -> list[Run]:
        """The runs of the data set that is chosen now: curves of two data sets on the same axes would say nothing."""
        return [run for run in self.runs if run.cell.dataset == self.cell.dataset]

    def recorded(self, cell: Cell | None = None) -> list[Record]:
        """The recorded runs of the grid with the same m, policy (and K = 1, which both policies share) and seed."""
        cell = cell or self.cell
        found = [r for r in self._grid(cell.dataset)[1] if (r.cell.m, r.cell.seed) == (cell.m, cell.seed)]
        return sorted((r for r in found if r.cell.K == 1 or r.cell.lr_policy == cell.lr_policy), key=lambda r: r.cell.K)

    def train(self, **choice) -> Run:
        """Train one more run, with its progress, and show it over the others at its end."""
        run = self.new_run(self.choose(**choice))
        progress = Progress(run.cell)
        run.train(on_change=lambda: progress(run.history[-1]), data_root=self.data_root, device=self.device)
        self.show()
        return run

    def new_run(self, cell: Cell) -> Run:
        """A run of a cell that is chosen from now on, numbered and kept."""
        self.cell = cell
        self.runs.append(Run(max((run.number for run in self.runs), default=0) + 1, cell))
        return self.runs[-1]

    def show(self):
        """Display all runs so far of the data set, over the recorded ones, and what each cost."""
        from IPython.display import HTML, display

        display(draw_runs(self.shown(), self.recorded()))
        display(HTML(cost_table(self.shown(), self.recorded()).to_html(index=False, border=0)))

    def _grid(self, dataset):
        if dataset not in self.read:
            grid = load_grid(grid_path(GRIDS[dataset]))
            self.read[dataset] = grid, load_grid_records(grid, "results")[0]
        return self.read[dataset]


def explore(*, widgets: bool | None = None, **options) -> Explorer:
    """The explorer of the notebook: with widgets a panel, and nothing trains until its button is pressed; without them
    the chosen run is trained at once. widgets: None for "unless this runs in batch". options: those of Explorer."""
    if widgets not in (None, True, False):
        raise ValueError(f"widgets must be True, False, or None for 'unless this runs in batch', not {widgets!r}")
    if interactive() if widgets is None else widgets:
        from IPython.display import display

        from persist.notebook.panel import Panel

        panel = Panel(**options)
        display(panel.widget)
        return panel
    explorer = Explorer(**options)
    explorer.train()
    return explorer
