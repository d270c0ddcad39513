"""Cell: everything that decides the numbers of one run."""

import dataclasses
import hashlib
import json
import math

from persist.persistency import LR_POLICIES

# Name -> (training examples, test examples).
DATASETS = {"cifar10": (50_000, 10_000), "digits": (1_437, 360)}

CHOICES = {
    "lr_policy": LR_POLICIES,
    "momentum_form": ("pytorch", "classical"),
    "nesterov": (False, True),
    "dataset": tuple(DATASETS),
    "evaluate_on": ("test", "heldout"),
    "stride": (1, 4),
    "padding": ("same", "alexnet"),
    "hidden_layers": (0, 1, 2),
    "reduction": ("mean", "sum"),
    "scaling": ("channel", "unit", "symmetric"),
    "drop_last": (False, True),
    "reuse": ("consecutive", "spaced", "fresh"),
    "pipeline": ("resident", "loader"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of the experiment: a frozen value that decides every number but the times.

    Two cells that differ only in K start from identical weights and draw identical minibatches. The defaults are the
    paper's (Section 2.1) where it states them; the rest is what its text leaves open.

    Raises ValueError, naming the field, its value and what is allowed.
    """

    m: int  # minibatch size, examples
    K: int = 1  # persistency: consecutive iterations on each minibatch
    lr: float = 0.001  # learning rate mu, per iteration
    lr_policy: str = "constant"  # or "kmu": k * mu at the k-th use of a minibatch
    momentum: float = 0.5  # in [0, 1)
    momentum_form: str = "pytorch"  # the rate multiplies the whole buffer; "classical": the rate is inside the buffer
    nesterov: bool = False  # Nesterov's momentum
    epochs: int = 100
    seed: int = 0  # of the weights and of the shuffling
    dataset: str = "cifar10"  # or "digits": scikit-learn's, bundled
    train_size: int | None = None  # examples of one fixed permutation of the training set; None: all
    test_size: int | None = None  # examples of one fixed permutation of the test set; None: all
    evaluate_on: str = "test"  # or "heldout": training images that follow the first train_size ones
    evaluate_every: int | None = None  # gradient evaluations between two evaluations; None: after every epoch
    width: float = 1.0  # factor on the number of channels and of hidden nodes
    stride: int = 4  # of the first convolution; 1 as the text says
    padding: str = "same"  # 5, 2, 1, 1, 1; "alexnet": 2, 2, 1, 1, 1 (with stride 1)
    hidden_layers: int = 0  # of 256 nodes, before the 10 outputs
    reduction: str = "mean"  # of the minibatch's m gradients; "sum" as the text says
    scaling: str = "channel"  # inputs with mean 0 and deviation 1 per channel; "unit": [0, 1]; "symmetric": [-1, 1]
    drop_last: bool = False  # leave out the last minibatch of an epoch where it has fewer than m examples
    reuse: str = "consecutive"  # "spaced": the epoch's order K times; "fresh": a new minibatch for every iteration
    pipeline: str = "resident"  # whole data set as a tensor on the device; "loader": torchvision behind a DataLoader

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if not any(value == choice and type(value) is type(choice) for choice in allowed):  # True == 1 == 1.0
                raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
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
                    f"evaluate_on='heldout' needs a train_size below {n_train}, the training examples of "
                    f"{self.dataset}, not {self.train_size}"
                )
        if self.test_size is not None:
            allowed = f"the {self.evaluate_on} examples of {self.dataset}, or None for all"
            _check_int("test_size", self.test_size, 1, n_test, allowed)
        if self.evaluate_every is not None:
            _check_int("evaluate_every", self.evaluate_every, 1, 2**53, "gradient evaluations, or None for every epoch")
        for name, low, high, allowed in (
            ("lr", 0.0, math.inf, "a finite number > 0"),
            ("momentum", -math.ulp(0.0), 1.0, "a number in [0, 1)"),
            ("width", 0.0, math.nextafter(4.0, 5.0), "a number in (0, 4]"),
        ):
            object.__setattr__(self, name, _check_float(name, getattr(self, name), low, high, allowed))
        if self.stride == 4 and self.padding == "alexnet":
            raise ValueError("padding must be 'same' with stride=4, not 'alexnet': it leaves the last pooling no map")
        if self.nesterov and (self.momentum == 0 or self.momentum_form == "classical"):
            raise ValueError("nesterov must be False without momentum and with momentum_form='classical', not True")

    @property
    def name(self) -> str:
        """Readable, safe as a file name, and ending in a hash of all fields: two cells share a name only when equal."""
        digest = hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:10]
        policy = "" if self.lr_policy == "constant" else f"-{self.lr_policy}"
        return f"{self.dataset}-m{self.m}-K{self.K}{policy}-lr{self.lr:g}-e{self.epochs}-seed{self.seed}-{digest}"

    def as_dict(self) -> dict:
        """Every field and its value, as JSON can hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """The names of all fields, in their order."""
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
        """Training examples of one pass over the training set."""
        n = self.train_size or DATASETS[self.dataset][0]
        return n - n % self.m if self.drop_last else n

    @property
    def test_examples(self) -> int:
        """Examples of one evaluation."""
        n_train, n_test = DATASETS[self.dataset]
        return self.test_size or (n_test if self.evaluate_on == "test" else n_train - (self.train_size or 0))

    @property
    def minibatches(self) -> int:
        """Minibatches of one pass over the training set; an epoch makes K times as many iterations."""
        return -(-self.examples // self.m)

    def evaluations(self) -> list[dict[str, int]]:
        """The counters of every evaluation, in order: `epoch` (completed), `iterations` (SGD updates), `samples`
        (examples loaded; once however often a minibatch is reused) and `gradients` (examples evaluated for a gradient).

        After every epoch; with evaluate_every at the first iteration at or after each multiple of so many gradients
        that ends a minibatch's consecutive uses, and at the end.
        """
        per_epoch = self.K * self.examples
        uses = self.K if self.reuse == "consecutive" else 1  # of a minibatch in a row
        per_pass, in_all, every = uses * self.examples, self.epochs * per_epoch, self.evaluate_every or per_epoch
        counters, gradients = [], 0
        while gradients < in_all:
            due = min((gradients // every + 1) * every, in_all)
            passes, rest = divmod(due - 1, per_pass)
            minibatches = rest // (uses * self.m) + 1  # of this pass, up to the one in which it is due
            gradients = passes * per_pass + min(minibatches * uses * self.m, per_pass)
            counters.append(
                {
                    "epoch": gradients // per_epoch,
                    "iterations": uses * (passes * self.minibatches + minibatches),
                    "samples": gradients // uses,
                    "gradients": gradients,
                }
            )
        return counters


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
