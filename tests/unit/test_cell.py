import dataclasses
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from persist import Cell, load_grid
from persist.cell import CHOICES, DATASETS

REFUSED = [
    ("m", [0, -3, 50_001, 1_000_000, 1.0, "32", None, True]),
    ("K", [0, -1, 1.5, 2.0, "2", None, True, 10**9]),
    ("lr", [0, -0.1, math.nan, math.inf, "0.1", None, True, 10**400]),
    ("momentum", [-0.1, 1, 1.0, math.nan, "0", None]),
    ("epochs", [0, -1, 1.0, "1", None, False]),
    ("seed", [-1, 2**32, 0.0, "0", None]),
    ("train_size", [0, 50_001, 1.0, "all"]),
    ("test_size", [0, 10_001, 1.0, "all"]),
    ("width", [0, -1, 4.1, math.nan, math.inf, "1", None]),
    *((name, ["nosuch", "../x", "", 3, None, "test "]) for name in CHOICES),
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


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text(), st.binary(), st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()), st.sampled_from(["../../etc", "a/b", "test\0", "1e-3", "constant ", "NaN"]),
)  # fmt: skip


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
            assert getattr(Cell(m=32, train_size=100, **{name: value}), name) == value


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


def test_defaults_are_the_papers():
    cell = Cell(m=32)
    assert (cell.K, cell.lr, cell.momentum, cell.epochs, cell.dataset, cell.reduction) == (
        1,
        0.001,
        0.5,
        100,
        "cifar10",
        "sum",
    )
    assert (cell.train_size, cell.width, cell.lr_policy, cell.precision) == (None, 1.0, "constant", "fp32")
    assert (cell.examples, cell.test_examples, cell.minibatches) == (50_000, 10_000, 1563)
    assert Cell(m=32, drop_last=True).minibatches == 1562 and Cell(m=32, drop_last=True).examples == 49_984


def test_a_cell_is_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cell(m=32).m = 64
    with pytest.raises(TypeError):
        Cell(32)


cells = st.builds(
    Cell,
    m=st.integers(1, 500),
    K=st.integers(1, 100),
    lr=st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False),
    momentum=st.floats(0, 1, exclude_max=True),
    epochs=st.integers(1, 1000),
    seed=st.integers(0, 2**32 - 1),
    train_size=st.one_of(st.none(), st.integers(500, 1437)),
    width=st.floats(0.01, 4),
    **{name: st.sampled_from(values) for name, values in CHOICES.items() if name not in ("evaluate_on",)},
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


def test_equal_numbers_have_one_name():
    assert Cell(m=32, lr=1, momentum=0).name == Cell(m=32, lr=1.0, momentum=-0.0).name
    assert (
        len(
            {
                Cell(m=32, **{f.name: v}).name
                for f in dataclasses.fields(Cell)
                for v in CHOICES.get(f.name, ())
                if f.name != "evaluate_on"
            }
        )
        > 10
    )


def test_unknown_and_missing_fields_are_refused():
    with pytest.raises(ValueError, match="unknown field 'learning_rate'"):
        Cell.from_dict({"m": 32, "learning_rate": 0.1})
    with pytest.raises(ValueError, match="m is missing"):
        Cell.from_dict({"K": 2})


GOOD = "base: {dataset: digits, epochs: 2}\ncells:\n- {m: [32, 64], K: [1, 5]}\n- {m: 32, K: 2, lr_policy: kmu}\n"


def grid(tmp_path, text):
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    return load_grid(path)


def test_a_grid_is_every_combination(tmp_path):
    read = grid(tmp_path, GOOD)
    assert [(c.m, c.K, c.lr_policy) for c in read.cells] == [
        (32, 1, "constant"), (32, 5, "constant"), (64, 1, "constant"), (64, 5, "constant"), (32, 2, "kmu"),
    ]  # fmt: skip
    assert read.notebook == "notebooks/figures.ipynb" and all(c.epochs == 2 for c in read.cells)
    assert read.resources == {"gpu": 1, "mem_mb": 8000, "runtime": 240}
    assert grid(tmp_path, GOOD + "resources: {gpu: 0, runtime: 5}\n").resources == {
        "gpu": 0,
        "mem_mb": 8000,
        "runtime": 5,
    }


@pytest.mark.parametrize(
    "text, message",
    [
        (GOOD.replace("epochs", "epoch"), "unknown field 'epoch'"),
        (GOOD.replace("cells", "cell"), "keys 'base'"),
        (GOOD + "extra: 1\n", "keys 'base'"),
        (GOOD + "- {m: 64, K: 5}\n", "twice"),
        (GOOD.replace("K: 2", "K: 0"), "K must be"),
        (GOOD.replace("kmu", "kμ"), "lr_policy must be"),
        (GOOD.replace("K: 2", "m: 32"), "the key 'm' is there twice"),
        (GOOD + "notebook: ../evil.ipynb\n", "notebook must be one of"),
        (GOOD + "resources: {gpus: 1}\n", "resources must map gpu, mem_mb, runtime, and no others, to ints"),
        (GOOD + "resources: {gpu: -1}\n", "resources must map"),
        (GOOD + "resources: {runtime: 1h}\n", "resources must map"),
        (GOOD + "resources: 4\n", "resources must map"),
        ("base: 3\ncells:\n- {m: 32}\n", "must map fields to values, not 3"),
        ("base:\ncells:\n- {m: 32}\n", "must map fields to values, not None"),
        (GOOD.replace("K: 2", "K: []"), "a list of values is empty"),
        ("cells: []\n", "not empty"),
        ("cells:\n- 32\n", "must map fields"),
        ("a: [", "not a readable grid"),
        ("!!python/object/apply:os.system [true]", "not a readable grid"),
        ("", "keys 'base'"),
    ],
)
def test_a_bad_grid_is_refused_by_file_and_reason(tmp_path, text, message):
    with pytest.raises(ValueError) as error:
        grid(tmp_path, text)
    assert message in str(error.value) and "grid.yaml" in str(error.value)


def test_a_grid_that_is_not_there_is_named_with_those_that_are(tmp_path):
    (tmp_path / "some.yaml").write_text(GOOD)
    with pytest.raises(ValueError, match="nosuch.yaml: there is no such grid; the grids in .* are: some"):
        load_grid(tmp_path / "nosuch.yaml")


def test_the_projects_grids(project):
    grids = {path.stem: load_grid(path) for path in (project / "grids").glob("*.yaml")}
    assert {"smoke", "preview", "reduced", "paper"} <= set(grids)
    for name in ("smoke", "preview", "reduced"):
        cells = grids[name].cells
        for seed in {c.seed for c in cells}:
            of_seed = [(c.m, c.K, c.lr_policy) for c in cells if c.seed == seed]
            assert len(of_seed) == 15 and set(of_seed) == {
                *((m, K, "constant") for m in (32, 256, 512) for K in (1, 2, 5)),
                *((m, K, "kmu") for m in (32, 256, 512) for K in (2, 5)),
            }
        assert len({dataclasses.replace(c, m=1, K=1, lr_policy="constant", seed=0, epochs=1) for c in cells}) == 1
    assert {c.seed for c in grids["reduced"].cells} == {0, 1, 2}
    for name in ("preview", "reduced"):
        assert all(c.epochs * c.minibatches >= 200 for c in grids[name].cells if c.m == 512 and c.K == 1)
    assert all(
        c.train_size is None and c.epochs == 100 and c.dataset == "cifar10" and c.width == 1
        for c in grids["paper"].cells
    )


def test_sizes_are_those_of_the_data_sets():
    assert DATASETS == {"cifar10": (50_000, 10_000), "digits": (1_437, 360)}
