"""Grids: which cells a file stands for, and how their records are found and kept."""

import copy
import dataclasses
import tempfile
from pathlib import Path

import pytest
from helpers import make_record, numbers
from hypothesis import given
from hypothesis import strategies as st

from persist import Cell, Record, load_grid, load_records
from persist.grids import Grid, copy_records, find_records, load_grid_records
from persist.record import CLOCKS, RecordError

GOOD = "base: {dataset: digits, epochs: 2}\ncells:\n- {m: [32, 64], K: [1, 5]}\n- {m: 32, K: 2, lr_policy: kmu}\n"
CELL = Cell(m=32, K=2, dataset="digits", epochs=3)


def read(tmp_path, text) -> Grid:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    return load_grid(path)


def save(folder, *records):
    for record in records:
        record.save(folder / f"{record.cell.name}.json")


def test_a_grid_is_every_combination(tmp_path):
    grid = read(tmp_path, GOOD)
    assert [(c.m, c.K, c.lr_policy) for c in grid.cells] == [
        (32, 1, "constant"), (32, 5, "constant"), (64, 1, "constant"), (64, 5, "constant"), (32, 2, "kmu"),
    ]  # fmt: skip
    assert grid.kind == "figures" and grid.beside is None and all(c.epochs == 2 for c in grid.cells)
    with_less = read(tmp_path, GOOD + "kind: readings\nresources: {gpu: 0, runtime: 5}\n")
    assert with_less.kind == "readings" and with_less.resources == {**grid.resources, "gpu": 0, "runtime": 5}


@given(st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False), st.sampled_from("rge"))
def test_a_number_is_a_number_however_it_is_written(value, form):
    """1e-4, 1E-4, 1.0e-4, 0.0001: YAML 1.1 alone takes some of them for texts."""
    text = repr(value) if form == "r" else format(value, f".17{form}")
    with tempfile.TemporaryDirectory() as folder:
        for written in (text, text.upper(), f"+{text}"):
            [cell] = read(Path(folder), f"cells: [{{m: 32, lr: {written}}}]").cells
            assert cell.lr == value


@pytest.mark.parametrize("text, value", [("1e-4", 1e-4), ("2.E-4", 2e-4), ("5e3", 5000.0), ("1", 1.0)])
def test_rates_as_people_write_them(tmp_path, text, value):
    assert [cell.lr for cell in read(tmp_path, f"cells: [{{m: 32, lr: [{text}]}}]").cells] == [value]


@pytest.mark.parametrize("text", ["1e", "e5", "1e-4x", "'1e-4'", "1e-4 mu"])
def test_what_only_looks_like_a_number_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="lr must be a finite number > 0, not '"):
        read(tmp_path, f"cells: [{{m: 32, lr: {text}}}]")


@pytest.mark.parametrize(
    "text, message",
    [
        (GOOD.replace("epochs", "epoch"), "unknown field 'epoch'"),
        (GOOD.replace("cells", "cell"), "no other keys"),
        (GOOD + "extra: 1\n", "no other keys"),
        (GOOD + "- {m: 64, K: 5}\n", "twice"),
        (GOOD.replace("K: 2", "K: 0"), "K must be"),
        (GOOD.replace("kmu", "kμ"), "lr_policy must be"),
        (GOOD.replace("K: 2", "m: 32"), "the key 'm' is there twice"),
        (GOOD + "kind: 3\n", "kind must be a text, not 3"),
        (GOOD + "beside: nosuch\n", "beside must name another grid of"),
        (GOOD + "beside: grid\n", "beside must name another grid of"),
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
        ("", "no other keys"),
    ],
)
def test_a_bad_grid_is_refused_by_file_and_reason(tmp_path, text, message):
    with pytest.raises(ValueError) as error:
        read(tmp_path, text)
    assert message in str(error.value) and "grid.yaml" in str(error.value)


def test_a_grid_that_is_not_there_is_named_with_those_that_are(tmp_path):
    (tmp_path / "some.yaml").write_text(GOOD)
    with pytest.raises(ValueError, match="nosuch.yaml: there is no such grid; the grids in .* are: some"):
        load_grid(tmp_path / "nosuch.yaml")


FIGURES = {(m, K, "constant") for m in (32, 256, 512) for K in (1, 2, 5)} | {
    (m, K, "kmu") for m in (32, 256, 512) for K in (2, 5)
}


@pytest.mark.parametrize("name", ["smoke", "preview", "paper"])
def test_a_grid_of_figures_is_complete_and_varies_nothing_else(project, name):
    """Nine runs at a constant rate, six with k*mu; epochs alone may differ between minibatch sizes."""
    cells = load_grid(project / f"grids/{name}.yaml").cells
    assert len(cells) == 15 and {(c.m, c.K, c.lr_policy) for c in cells} == FIGURES
    assert len({dataclasses.replace(c, m=1, K=1, lr_policy="constant", epochs=1) for c in cells}) == 1
    assert len({(c.m, c.epochs) for c in cells}) == 3


def test_the_defaults_of_a_cell_are_the_papers_runs(project):
    cells = load_grid(project / "grids/paper.yaml").cells
    assert set(cells) == {Cell(m=m, K=K, lr_policy=policy) for m, K, policy in FIGURES}


def test_a_finished_record_comes_first_then_the_longest_then_the_first_folder(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    finished, short, long = make_record(CELL), make_record(CELL, stopped_at=1), make_record(CELL, stopped_at=2)
    diverged = make_record(CELL, diverged_at=1)
    assert find_records([CELL], [first, second]) == []
    save(first / "unfinished", short)
    assert find_records([CELL], [first]) == [short]
    save(second, long)  # recorded while it was unfinished
    assert find_records([CELL], [first, second]) == find_records([CELL], [second, first]) == [long]
    save(second, finished)
    assert find_records([CELL], [first, second]) == [finished]
    save(first, diverged)  # it has ended as well, and earlier than the other
    assert find_records([CELL], [first, second]) == [finished]
    slower = make_record(CELL, seconds=9)
    save(first, slower)
    assert find_records([CELL], [first, second]) == [slower] and find_records([CELL], [second, first]) == [finished]
    assert find_records([], [first, second]) == []


def test_of_the_grid_beside_only_its_cells_are_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("grids").mkdir()
    Path("grids/some.yaml").write_text("base: {dataset: digits}\nbeside: other\ncells: [{m: 32, K: 2, epochs: 3}]\n")
    Path("grids/other.yaml").write_text(
        "base: {dataset: digits}\ncells: [{m: 64, epochs: 2}, {m: 32, K: 2, epochs: 3}]\n"
    )
    some, other = load_grid("grids/some.yaml"), Cell(m=64, dataset="digits", epochs=2)
    assert load_grid_records(some, "runs") == ([], []), "nothing was run"
    save(Path("runs/some"), make_record(CELL))
    save(Path("results/other"), make_record(other, seconds=2))
    save(Path("results/other"), make_record(Cell(m=99, dataset="digits", epochs=1)))  # left over from an older grid
    save(Path("results/other"), make_record(CELL, seconds=2))  # a cell of both grids counts once
    assert load_grid_records(some, "runs") == ([make_record(CELL)], [make_record(other, seconds=2)])
    save(Path("runs/other/unfinished"), make_record(other, stopped_at=1))
    assert load_grid_records(some, "runs")[1] == [make_record(other, seconds=2)], "what has ended is taken"
    save(Path("runs/other"), make_record(other))
    assert load_grid_records(some, "runs")[1] == [make_record(other)], "those trained here come first"
    alone = dataclasses.replace(some, beside=None)
    assert load_grid_records(alone, "runs") == ([make_record(CELL)], [])


@pytest.fixture
def places(tmp_path):
    """A grid of two cells, its source and its destination."""
    other = Cell(m=64, dataset="digits", epochs=1)
    return Grid("some", [CELL, other]), tmp_path / "runs", tmp_path / "results"


def test_records_are_copied_and_again_change_nothing(places):
    grid, runs, results = places
    save(runs / "some", *map(make_record, grid.cells))
    save(runs / "some", make_record(Cell(m=99, dataset="digits", epochs=1)))  # left over from an older grid
    assert copy_records(grid, runs, results) == sorted(cell.name for cell in grid.cells)
    assert {r.cell for r in load_records(results / "some")} == set(grid.cells)
    assert copy_records(grid, runs, results) == []


def test_a_different_record_is_refused_by_both_places_and_nothing_is_copied(places):
    grid, runs, results = places
    other = grid.cells[1]
    save(results / "some", make_record(CELL))
    changed = copy.deepcopy(make_record(CELL))
    changed.history[0]["test_accuracy"] = 0.123
    save(runs / "some", changed, make_record(other))
    with pytest.raises(RecordError) as error:
        copy_records(grid, runs, results)
    for part in (str(runs / "some"), str(results / "some" / f"{CELL.name}.json"), "make record GRID=some REPLACE=1"):
        assert part in str(error.value)
    assert load_records(results / "some") == [make_record(CELL)], "the other one was not copied either"
    assert copy_records(grid, runs, results, replace=True) == sorted([CELL.name, other.name])
    assert Record.load(results / "some" / f"{CELL.name}.json") == changed


def test_a_damaged_record_is_replaced_only_on_demand(places):
    grid, runs, results = places
    save(runs / "some", make_record(CELL))
    (results / "some").mkdir(parents=True)
    path = results / "some" / f"{CELL.name}.json"
    path.write_text("damaged")
    with pytest.raises(
        RecordError, match=f"^{path} is not a record: .*; or replace it: make record GRID=some REPLACE=1$"
    ):
        copy_records(grid, runs, results)
    assert path.read_text() == "damaged"
    assert copy_records(grid, runs, results, replace=True) == [CELL.name] and Record.load(path) == make_record(CELL)


def test_a_damaged_record_in_the_source_is_named(places):
    grid, runs, results = places
    (runs / "some").mkdir(parents=True)
    (runs / "some" / f"{CELL.name}.json").write_text("damaged")
    with pytest.raises(RecordError, match=f"{CELL.name}.json is not a record"):
        copy_records(grid, runs, results)


LONG = Cell(m=512, dataset="digits", epochs=5)


@st.composite
def two_records(draw):
    """What is recorded and what was trained: unfinished, diverged or finished; some differ in one number."""
    ends = st.sampled_from([{"stopped_at": n} for n in range(1, 5)] + [{"diverged_at": n} for n in range(1, 6)] + [{}])
    old, new = (make_record(LONG, seconds=draw(st.sampled_from([1.0, 2.0])), **draw(ends)) for _ in range(2))
    differs = draw(st.one_of(st.none(), st.integers(1, len(new.history))))
    if differs:
        entry = new.history[differs - 1]
        name = draw(
            st.sampled_from([name for name in ("train_loss", "test_accuracy") if entry[name] is not None] or [None])
        )
        if name is None:
            return old, new
        entry[name] = entry[name] / 2
    return old, new


def prefix(short, long) -> bool:
    """Whether a run with the record `long` had the record `short` before: by every number but times."""
    a, b = ([{k: v for k, v in e.items() if k not in CLOCKS} for e in r.history] for r in (short, long))
    if len(a) == len(b):
        return numbers(short) == numbers(long)
    return short.status == "unfinished" and len(a) < len(b) and b[: len(a)] == a


@given(two_records(), st.booleans())
def test_a_record_is_replaced_only_where_it_is_the_exact_beginning_of_the_new_one(pair, replace):
    old, new = pair
    grid = Grid("some", [LONG])
    with tempfile.TemporaryDirectory() as folder:
        runs, results = Path(folder, "runs"), Path(folder, "results")
        save(results / "some", old)
        save(runs / "some" / ("unfinished" if new.status == "unfinished" else ""), new)
        refused = not prefix(old, new) and not prefix(new, old)
        # never: by a shorter record; by one of the same length with other times, unless asked for
        replaced = old != new and (refused or prefix(old, new)) and (replace or not prefix(new, old))
        if refused and not replace:
            with pytest.raises(RecordError, match="Nothing was copied"):
                copy_records(grid, runs, results)
        else:
            copied = copy_records(grid, runs, results, replace)
            assert copied == ([LONG.name] if replaced else [])
        assert load_records(results / "some") == [new if replaced and (replace or not refused) else old]
