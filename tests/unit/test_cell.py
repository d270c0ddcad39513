import dataclasses
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from persist import Cell
from persist.cell import CHOICES

REFUSED = [
    ("m", [0, -3, 50_001, 1_000_000, 1.0, "32", None, True]),
    ("K", [0, -1, 1.5, 2.0, "2", None, True, 10**9]),
    ("lr", [0, -0.1, math.nan, math.inf, "0.1", None, True, 10**400]),
    ("momentum", [-0.1, 1, 1.0, math.nan, "0", None]),
    ("epochs", [0, -1, 1.0, "1", None, False]),
    ("seed", [-1, 2**32, 0.0, "0", None]),
    ("train_size", [0, 50_001, 1.0, "all"]),
    ("test_size", [0, 10_001, 1.0, "all"]),
    ("evaluate_every", [0, -1, 1.5, 2.0, "epoch", True]),
    ("width", [0, -1, 4.1, math.nan, math.inf, "1", None]),
    *((name, ["nosuch", "../x", "", 3, None, "test "]) for name in CHOICES),
    ("stride", [2, 0, 4.0, "4", True]),
    ("nesterov", [0, 1, "true"]),
    ("drop_last", [0, 1, "false"]),
    ("hidden_layers", [True, 1.0]),
]


@pytest.mark.parametrize("name, value", [(name, value) for name, values in REFUSED for value in values])
def test_a_bad_value_is_refused_by_name(name, value):
    with pytest.raises(ValueError) as error:
        Cell(**{"m": 32, name: value})
    message = str(error.value)
    assert name in message and repr(value) in message
    assert any(word in message for word in ("must be an int from", "must be one of", "must be a ")), (
        "it says what is allowed"
    )


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"stride": 4, "padding": "alexnet"}, "padding must be 'same' with stride=4, not 'alexnet'"),
        ({"nesterov": True, "momentum": 0}, "nesterov must be False without momentum"),
        (
            {"nesterov": True, "momentum_form": "classical"},
            "nesterov must be False .*momentum_form='classical', not True",
        ),
    ],
)
def test_fields_that_do_not_go_together_are_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        Cell(m=32, **fields)
    for name in fields:  # each by itself is allowed
        Cell(**{"m": 32, "stride": 1, name: fields[name]})


anything = st.one_of(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text(), st.binary()),
    st.one_of(st.lists(st.integers()), st.dictionaries(st.text(), st.integers())),
    st.sampled_from(["../../etc", "a/b", "test\0", "1e-3", "constant ", "NaN"]),
)


@given(st.sampled_from(Cell.fields()), anything)
def test_any_value_is_taken_or_refused_by_name(name, value):
    try:
        cell = Cell(**{"m": 32, name: value})
    except ValueError as error:
        # evaluate_on and dataset bound other fields too
        assert name in str(error) or name in ("dataset", "evaluate_on")
    else:
        assert Cell.from_dict(cell.as_dict()) == cell and "/" not in cell.name


def test_every_choice_is_accepted():
    for name, values in CHOICES.items():
        for value in values:
            assert getattr(Cell(**{"m": 32, "train_size": 100, "stride": 1, name: value}), name) == value


def test_minibatch_is_bounded_by_the_training_examples_used():
    Cell(m=100, train_size=100)
    with pytest.raises(ValueError, match="m must be an int from 1 to 100 .*, not 101"):
        Cell(m=101, train_size=100)
    with pytest.raises(ValueError, match="1437"):
        Cell(m=1438, dataset="digits")


def test_heldout_needs_images_that_are_left():
    cell = Cell(m=32, dataset="digits", train_size=1000, evaluate_on="heldout")
    assert cell.test_examples == 437
    with pytest.raises(ValueError, match="train_size below 1437, the training examples of digits, not None"):
        Cell(m=32, dataset="digits", evaluate_on="heldout")
    with pytest.raises(ValueError, match="test_size must be an int from 1 to 437"):
        Cell(m=32, dataset="digits", train_size=1000, evaluate_on="heldout", test_size=438)


def test_a_cell_is_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cell(m=32).m = 64
    with pytest.raises(TypeError):
        Cell(32)


def goes_together(fields):
    impossible = fields["stride"] == 4 and fields["padding"] == "alexnet"
    return not impossible and not (fields["nesterov"] and fields["momentum_form"] == "classical")


cells = (
    st.fixed_dictionaries(
        {
            "m": st.integers(1, 500),
            "K": st.integers(1, 100),
            "lr": st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False),
            "momentum": st.floats(0, 1, exclude_min=True, exclude_max=True),
            "epochs": st.integers(1, 1000),
            "seed": st.integers(0, 2**32 - 1),
            "train_size": st.one_of(st.none(), st.integers(500, 1437)),
            "evaluate_every": st.one_of(st.none(), st.integers(1, 10**6)),
            "width": st.floats(0.01, 4),
            **{name: st.sampled_from(values) for name, values in CHOICES.items() if name != "evaluate_on"},
        }
    )
    .filter(goes_together)
    .map(lambda fields: Cell(**fields))
)


@given(cells)
def test_a_cell_survives_json_and_yaml(cell):
    assert Cell.from_dict(cell.as_dict()) == cell
    assert Cell.from_dict(yaml.safe_load(yaml.safe_dump(cell.as_dict()))) == cell


@given(cells, cells)
def test_names_are_equal_only_for_equal_cells_and_stay_in_their_folder(a, b):
    assert (a.name == b.name) == (a == b)
    assert a.name.replace("-", "").replace(".", "").replace("+", "").isalnum() and not a.name.startswith((".", "-"))
    assert len(a.name) < 120


@given(cells, st.data())
def test_every_field_is_in_the_name(cell, data):
    """Two cells that differ in one field alone have two names."""
    name = data.draw(st.sampled_from([name for name in CHOICES if name != "evaluate_on"]))
    values = [value for value in CHOICES[name] if goes_together({**cell.as_dict(), name: value})]
    others = [dataclasses.replace(cell, **{name: value}) for value in values]
    assert len({other.name for other in others}) == len(others)


def test_equal_numbers_have_one_name():
    assert Cell(m=32, lr=1, momentum=0).name == Cell(m=32, lr=1.0, momentum=-0.0).name


def test_unknown_and_missing_fields_are_refused():
    with pytest.raises(ValueError, match="unknown field 'learning_rate'"):
        Cell.from_dict({"m": 32, "learning_rate": 0.1})
    with pytest.raises(ValueError, match="m is missing"):
        Cell.from_dict({"K": 2})


small_cells = st.builds(
    lambda m, n, **fields: Cell(m=min(m, n), train_size=n, dataset="digits", **fields),
    m=st.integers(1, 40),
    n=st.integers(1, 40),
    K=st.integers(1, 4),
    epochs=st.integers(1, 4),
    drop_last=st.booleans(),
    reuse=st.sampled_from(CHOICES["reuse"]),
    evaluate_every=st.one_of(st.none(), st.integers(1, 300)),
)


def simulated(cell):
    """The counters after every iteration, one iteration at a time, and whether an evaluation may follow: where a
    minibatch's consecutive uses end."""
    sizes = [min(cell.m, cell.train_size - start) for start in range(0, cell.train_size, cell.m)]
    sizes = [size for size in sizes if size == cell.m or not cell.drop_last]
    iterations = samples = gradients = 0
    for epoch in range(cell.epochs):
        if cell.reuse == "consecutive":
            uses = [(size, k == 1, k == cell.K) for size in sizes for k in range(1, cell.K + 1)]
        else:
            uses = [(size, True, True) for _ in range(cell.K) for size in sizes]
        for n, (size, loaded, ends) in enumerate(uses, start=1):
            iterations, gradients, samples = iterations + 1, gradients + size, samples + size * loaded
            counters = {"iterations": iterations, "samples": samples, "gradients": gradients}
            yield {"epoch": epoch + (n == len(uses)), **counters}, ends


@given(small_cells)
def test_evaluations_are_those_of_a_run_simulated_iteration_by_iteration(cell):
    """After every epoch; with evaluate_every at the first iteration at or after each multiple that ends a minibatch's
    consecutive uses, and at the end."""
    steps = list(simulated(cell))
    possible, last = [counters for counters, ends in steps if ends], steps[-1][0]
    if cell.evaluate_every is None:
        firsts = [next(c for c in possible if c["epoch"] == epoch) for epoch in range(1, cell.epochs + 1)]
    else:
        multiples = range(cell.evaluate_every, last["gradients"] + 1, cell.evaluate_every)
        firsts = [next(c for c in possible if c["gradients"] >= multiple) for multiple in multiples]
    expected = {counters["iterations"]: counters for counters in [*firsts, last]}
    assert cell.evaluations() == [expected[iterations] for iterations in sorted(expected)]


@given(small_cells)
def test_the_sizes_of_a_cell_are_those_of_the_simulated_run(cell):
    steps, per_epoch = list(simulated(cell)), cell.K * cell.epochs
    assert cell.minibatches == len(steps) / per_epoch and cell.examples == steps[-1][0]["gradients"] / per_epoch


def test_sizes_by_hand():
    cell = Cell(m=32)
    assert (cell.examples, cell.test_examples, cell.minibatches) == (50_000, 10_000, 1563)
    assert Cell(m=32, drop_last=True).minibatches == 1562 and Cell(m=32, drop_last=True).examples == 49_984
