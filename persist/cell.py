"""Cell: everything that decides the numbers of one run. Grids: lists of cells, read from grids/*.yaml."""

import dataclasses
import hashlib
import itertools
import json
import math
import re
from pathlib import Path

import yaml

from persist.persistency import LR_POLICIES

# Name -> (training examples, test examples).
DATASETS = {"cifar10": (50_000, 10_000), "digits": (1_437, 360)}

# What can read a grid's records: Figures 1-5, the choice of a learning rate, of a reading of the text, the controls, the precisions.
NOTEBOOKS = ("notebooks/figures.ipynb", "notebooks/sweep.ipynb", "notebooks/readings.ipynb", "notebooks/controls.ipynb", "notebooks/precision.ipynb")

CHOICES = {
    "lr_policy": LR_POLICIES,
    "momentum_form": ("pytorch", "classical"),
    "dataset": tuple(DATASETS),
    "evaluate_on": ("test", "heldout"),
    "model": ("reduced-alexnet",),
    "padding": ("same", "alexnet"),
    "hidden_layers": (1, 2),
    "reduction": ("sum", "mean"),
    "scaling": ("unit", "symmetric", "channel"),
    "drop_last": (False, True),
    "reuse": ("consecutive", "spaced"),
    "precision": ("fp32", "tf32", "bf16"),
    "pipeline": ("resident", "loader"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of the experiment: a frozen value that decides every number but the times.

    Two cells that differ only in K start from identical weights and draw identical minibatches. Defaults are the
    paper's (Section 2.1) where it states them; the rest is what its text leaves open.

    Raises ValueError, naming the field, its value and what is allowed.
    """

    m: int  # minibatch size, examples
    K: int = 1  # persistency: consecutive iterations on each minibatch
    lr: float = 0.001  # learning rate mu, per iteration
    lr_policy: str = "constant"  # or "kmu": k * mu at the k-th use of a minibatch
    momentum: float = 0.5  # in [0, 1)
    momentum_form: str = "pytorch"  # the rate multiplies the whole buffer; "classical": the rate is inside the buffer
    epochs: int = 100
    seed: int = 0  # of the weights and of the shuffling
    dataset: str = "cifar10"  # or "digits": scikit-learn's, bundled
    train_size: int | None = None  # examples of one fixed permutation of the training set; None: all
    test_size: int | None = None  # examples of one fixed permutation of the test set; None: all
    evaluate_on: str = "test"  # or "heldout": training images that follow the first train_size ones
    model: str = "reduced-alexnet"
    width: float = 1.0  # factor on the number of channels and of hidden nodes
    padding: str = "same"  # 5, 2, 1, 1, 1; "alexnet": 2, 2, 1, 1, 1
    hidden_layers: int = 1  # of 256 nodes; AlexNet has two
    reduction: str = "sum"  # of the minibatch's m gradients (Section 2.1), or "mean"
    scaling: str = "channel"  # inputs with mean 0 and deviation 1 per channel; "unit": [0, 1]; "symmetric": [-1, 1]
    drop_last: bool = False  # leave out the last minibatch of an epoch where it has fewer than m examples
    reuse: str = "consecutive"  # or "spaced": the epoch's order is gone through K times
    precision: str = "fp32"  # TF32 off everywhere; "tf32"; "bf16": autocast
    pipeline: str = "resident"  # whole data set as a tensor on the device; "loader": torchvision behind a DataLoader

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            _check_choice(name, getattr(self, name), allowed)
        n_train, n_test = DATASETS[self.dataset]
        _check_int("seed", self.seed, 0, 2**32 - 1)
        _check_int("K", self.K, 1, 1_000_000)
        _check_int("epochs", self.epochs, 1, 1_000_000)
        if self.train_size is not None:
            _check_int("train_size", self.train_size, 1, n_train, f"examples of {self.dataset}, or None for all")
        train_size = self.train_size or n_train
        _check_int("m", self.m, 1, train_size, f"the training examples of {self.dataset} used here")
        if self.evaluate_on == "heldout":
            n_test = n_train - train_size
            if n_test == 0:
                raise ValueError(
                    f"evaluate_on='heldout' needs a train_size below {n_train}, the training examples of {self.dataset}, not {self.train_size}"
                )
        if self.test_size is not None:
            _check_int("test_size", self.test_size, 1, n_test, f"the {self.evaluate_on} examples of {self.dataset}, or None for all")
        for name, low, high, allowed in (
            ("lr", 0.0, math.inf, "a finite number > 0"),
            ("momentum", -math.ulp(0.0), 1.0, "a number in [0, 1)"),
            ("width", 0.0, math.nextafter(4.0, 5.0), "a number in (0, 4]"),
        ):
            object.__setattr__(self, name, _check_float(name, getattr(self, name), low, high, allowed))

    @property
    def name(self) -> str:
        """Readable, safe as a file name, and ending in a hash of all fields: two cells share a name only when equal."""
        digest = hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:10]
        policy = "" if self.lr_policy == "constant" else f"-{self.lr_policy}"
        return f"{self.dataset}-m{self.m}-K{self.K}{policy}-lr{self.lr:g}-e{self.epochs}-seed{self.seed}-{digest}"

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        return tuple(f.name for f in dataclasses.fields(cls))

    @classmethod
    def from_dict(cls, values: dict) -> "Cell":
        """The inverse of as_dict; a missing field takes its default. Raises ValueError for an unknown field."""
        unknown = sorted(set(values) - set(cls.fields()), key=str)
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}: a Cell has {', '.join(cls.fields())}")
        if "m" not in values:
            raise ValueError("m is missing: a Cell needs a minibatch size")
        return cls(**values)

    @property
    def examples(self) -> int:
        """Training examples drawn in one epoch (once each, however often reused)."""
        n = self.train_size or DATASETS[self.dataset][0]
        return n - n % self.m if self.drop_last else n

    @property
    def test_examples(self) -> int:
        """Examples of the evaluation after each epoch."""
        n_train, n_test = DATASETS[self.dataset]
        return self.test_size or (n_test if self.evaluate_on == "test" else n_train - self.train_size)

    @property
    def minibatches(self) -> int:
        """Minibatches drawn in one epoch; iterations are K times as many."""
        return -(-self.examples // self.m)


# What one cell asks of a cluster: GPUs, memory in MB, time in minutes. What a grid does not say is a cell of the paper's.
RESOURCES = {"gpu": 1, "mem_mb": 8000, "runtime": 240}


@dataclasses.dataclass(frozen=True)
class Grid:
    """The cells of one grid, the notebook that reads their records once they are there, the grid, if any, whose records
    it reads beside them, and what each cell asks of a cluster (RESOURCES)."""

    cells: list[Cell]
    notebook: str
    beside: str | None = None
    resources: dict[str, int] = dataclasses.field(default_factory=lambda: dict(RESOURCES))


def grid_path(name: str) -> Path:
    """The file of one of the project's grids, by its name, which is also that of its folder in runs/ and results/.

    Raises ValueError for a name that would lead elsewhere.
    """
    if not re.fullmatch(r"[^\W_][\w-]*", name):
        raise ValueError(f"a grid is named like its file in grids/, without .yaml: letters, digits, - and _, beginning with a letter or digit, not {name!r}")
    return Path("grids") / f"{name}.yaml"


def load_grid(path) -> Grid:
    """Read a grid: ``base`` holds the fields that all cells share; each entry of ``cells`` gives the others, where a
    list stands for one cell per value (several lists: every combination); ``notebook`` (default: the figures');
    ``beside`` (default: none) names another grid in the same folder; ``resources`` what a cell asks of a cluster.

    Raises ValueError, naming the file and what is wrong, for an unknown key, an invalid cell or a duplicate cell.
    """
    path = Path(path)
    try:
        grid = yaml.load(path.read_text(), Loader=_StrictLoader)
    except FileNotFoundError:
        there = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml"))) or "none"
        raise ValueError(f"{path}: there is no such grid; the grids in {path.parent} are: {there}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable grid: {error}") from None
    if not isinstance(grid, dict) or set(grid) - {"base", "cells", "notebook", "beside", "resources"} or not isinstance(grid.get("cells"), list) or not grid["cells"]:
        raise ValueError(f"{path}: a grid has the keys 'base', 'notebook', 'beside' and 'resources' (optional) and 'cells' (a list, not empty), and no others")
    if grid.get("notebook", NOTEBOOKS[0]) not in NOTEBOOKS:
        raise ValueError(f"{path}: notebook must be one of {', '.join(NOTEBOOKS)}, not {grid['notebook']!r}")
    beside = grid.get("beside")
    if "beside" in grid and beside not in (others := [other.stem for other in sorted(path.parent.glob("*.yaml")) if other.stem != path.stem]):
        raise ValueError(f"{path}: beside must name another grid of {path.parent} ({', '.join(others) or 'none'}), not {beside!r}")
    resources = grid.get("resources", {})
    if not isinstance(resources, dict) or set(resources) - set(RESOURCES) or not all(type(n) is int and 0 <= n < 10**7 for n in resources.values()):
        raise ValueError(f"{path}: resources must map {', '.join(RESOURCES)}, and no others, to ints from 0 to 9999999, not {resources!r}")
    base, cells = grid.get("base", {}), []
    for entry in (base, *grid["cells"]):
        if not isinstance(entry, dict):
            raise ValueError(f"{path}: 'base' and each of 'cells' must map fields to values, not {entry!r}")
    for entry in grid["cells"]:
        values = {name: value if isinstance(value, list) else [value] for name, value in {**base, **entry}.items()}
        if [] in values.values():
            raise ValueError(f"{path}: a list of values is empty, it stands for no cell (in {entry})")
        for combination in itertools.product(*values.values()):
            try:
                cell = Cell.from_dict(dict(zip(values, combination)))
            except ValueError as error:
                raise ValueError(f"{path}: {error} (in {entry})") from None
            if cell in cells:
                raise ValueError(f"{path}: the cell {cell.name} is there twice (again in {entry})")
            cells.append(cell)
    return Grid(cells, grid.get("notebook", NOTEBOOKS[0]), beside, RESOURCES | resources)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader takes the last of two equal keys without a word; here they are an error."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _check_choice(name, value, allowed):
    # by type as well: True == 1 == 1.0
    if not any(value == choice and type(value) is type(choice) for choice in allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def _check_int(name, value, low, high, what=""):
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be an int from {low} to {high}{what and f' ({what})'}, not {value!r}")


def _check_float(name, value, low, high, allowed) -> float:
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        number = math.inf
    if not low < number < high:
        raise ValueError(f"{name} must be {allowed}, not {value!r}")
    return number + 0.0  # -0.0 and 0.0 are one value, hence one name
