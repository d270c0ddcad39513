import pytest

from persist import Cell, load_grid, load_records
from persist.sweep import choose_rate, describe_choice, draw_sweep, sweep_table
from helpers import make_record

BOLD = {0.01: 0.6, 0.4: 0.7}


def sweep(accuracies, **fields):
    """Rate -> final accuracy on 437 held-out digits; None: diverged."""
    base = dict(m=256, dataset="digits", train_size=1000, evaluate_on="heldout", epochs=2) | fields
    return [
        make_record(Cell(lr=lr, **base), accuracy=lambda e, a=a: a) if a is not None else make_record(Cell(lr=lr, **base), diverged_at=1)
        for lr, a in accuracies.items()
    ]


def with_bold(plain, bold=BOLD):
    return sweep(plain) + sweep(bold, m=32, K=5, lr_policy="kmu", epochs=1)


def test_the_smallest_rate_within_one_standard_error_of_the_best():
    # one standard error of 0.80 on 437 images is 0.0191
    assert choose_rate(with_bold({0.4: 0.80, 0.2: 0.785, 0.1: 0.782, 0.05: 0.78})) == 0.1
    assert choose_rate(with_bold({0.1: 0.5, 0.2: 0.8})) == 0.2
    assert choose_rate(with_bold({0.1: 0.5, 0.2: None})) == 0.1


def test_but_no_larger_than_the_boldest_cell_bears():
    plain = {0.05: 0.6, 0.1: 0.7, 0.2: 0.8}
    assert choose_rate(with_bold(plain, {0.05: 0.5, 0.1: 0.21, 0.2: None})) == 0.1
    assert choose_rate(with_bold(plain, {0.05: 0.5, 0.1: 0.19, 0.2: None})) == 0.05
    none = with_bold(plain, {0.05: 0.1, 0.1: None})
    assert choose_rate(none) is None and "none" in describe_choice(none) and draw_sweep(none)


def test_the_table():
    table = sweep_table(with_bold({0.2: 0.8, 0.1: None}, {0.1: 0.19}))
    assert list(table["learning rate"]) == [0.1, 0.2, 0.1] and list(table["trained"]) == [False, True, False]
    assert table["standard error"][1] == pytest.approx((0.8 * 0.2 / 437) ** 0.5)


@pytest.mark.parametrize(
    "records",
    [
        with_bold({0.1: 0.5}) + sweep({0.2: 0.5}, evaluate_on="test"),
        with_bold({0.1: 0.5}) + sweep({0.2: 0.5}, K=2),
        with_bold({0.1: 0.5}) + sweep({0.2: 0.5}, momentum=0.9),
        sweep({0.1: 0.5}),
    ],
)
def test_a_choice_on_the_test_set_or_from_mixed_cells_is_refused(records):
    with pytest.raises(ValueError, match="a sweep has cells"):
        choose_rate(records)


def test_the_picture_marks_the_choice():
    figure = draw_sweep(with_bold({0.1: 0.5, 0.2: 0.8}))
    assert figure.legends[0].get_title().get_text() == "chosen: µ = 0.2"
    assert [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":"] == [0.2]
    assert "held out" in figure.get_supxlabel()


@pytest.mark.parametrize("name", ["reduced", "preview"])
def test_the_grids_use_the_rate_that_their_sweep_chose(project, name):
    records = load_records(project / "results" / f"{name}-sweep")
    assert {r.cell for r in records} == set(load_grid(project / "grids" / f"{name}-sweep.yaml").cells)
    cells = load_grid(project / "grids" / f"{name}.yaml").cells
    assert {c.lr for c in cells} == {choose_rate(records)} and {c.reduction for c in cells} == {r.cell.reduction for r in records}
