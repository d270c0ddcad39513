"""The arms of the controls: told by their cells, compared with what they share, drawn against four clocks."""

import dataclasses

import numpy as np
import pytest

from persist import Cell, load_grid
from persist.controls import ARMS, AXES, COMPARISONS, CONSTANT, KMU, arms, best_of_as_many, comparison_table, describe_controls, draw_controls
from persist.record import counters
from helpers import make_record


def load(project, name):
    return load_grid(project / "grids" / f"{name}.yaml").cells


@pytest.fixture(params=["reduced-controls", "controls"])
def cells(project, request):
    """(the controls' cells with seed 0, those of the grid beside them)."""
    grid = load_grid(project / "grids" / f"{request.param}.yaml")
    return tuple([cell for cell in cells if cell.seed == 0] for cells in (grid.cells, load(project, grid.beside)))


def records(cells):
    # lr and epochs in steps, so that no two arms look alike
    return [make_record(cell, accuracy=lambda e, c=cell: 0.1 + 0.5 * (1 - 0.999 ** (e * c.K * min(c.lr * 1e3, 3)))) for cell in cells]


def test_the_grids_have_every_arm_at_every_m_and_each_cell_is_one(cells):
    controls, beside = map(records, cells)
    seen = []
    for m in (32, 256, 512):
        found = arms(controls, beside, m)
        assert found.keys() == ARMS.keys() and all(len(runs) == 1 for runs in found.values())
        seen += [run.cell for runs in found.values() for run in runs]
    assert set(cells[0]) <= set(seen) and len(set(seen)) == 30


def test_the_arms_are_what_their_names_say(cells):
    controls, beside = map(records, cells)
    found = {name: run.cell for name, [run] in arms(controls, beside, 512).items()}
    one, five = found["K = 1"], found["K = 5"]
    assert (one.K, five.K, one.lr, one.epochs) == (1, 5, five.lr, five.epochs)
    assert found["K = 1 with 15µ"].lr == pytest.approx(sum(k * one.lr for k in range(1, 6)))
    assert found["K = 1 with 5µ"].lr == pytest.approx(5 * one.lr) and found["K = 5 with µ/5"].lr == pytest.approx(one.lr / 5)
    for name, other, common in COMPARISONS:
        a, b = (counters(found[n], found[n].epochs) for n in (name, other))
        assert ("iterations" in common) == (a["iterations"] == b["iterations"]), (name, other)
        assert ("gradient evaluations" in common) == (a["gradients"] == b["gradients"]), (name, other)
        assert ("examples loaded" in common) == (a["samples"] == b["samples"]), (name, other)


def test_another_setting_beside_is_left_out(project):
    controls, beside = load(project, "controls"), load(project, "paper")
    assert any(cell.precision == "fp32" for cell in beside), "the paper's grid has cells in another precision"
    assert all(run.cell.precision == "tf32" for runs in arms(records(controls), records(beside), 512).values() for run in runs)


def run(m, name, accuracy, seed=0):
    K, reuse, policy, rate, times = ARMS[name][0]
    cell = Cell(m=m, K=K, reuse=reuse, lr_policy=policy, lr=0.001 * rate, epochs=4 * times, seed=seed)
    return make_record(cell, accuracy=lambda e: accuracy if e == 2 * times else accuracy / 2)


def test_the_table_compares_best_accuracies_with_their_interval():
    table = comparison_table([run(32, "spaced K = 5", 0.62), run(32, "K = 1 with 5µ", 0.60)], [run(32, "K = 5", 0.60), run(32, "K = 1", 0.5)])
    rows = table.set_index("control")
    assert list(rows.index) == ["K = 1", "spaced K = 5", "K = 1 with 5µ"]
    assert list(rows["the control"]) == ["is worse", "is better", "is not told apart"]
    assert rows.loc["spaced K = 5", ["best accuracy", "of the other", "difference", "±", "final accuracy"]].tolist() == pytest.approx([0.62, 0.60, 0.02, 0.0138, 0.31])


def test_the_best_is_of_as_many_evaluations():
    """Five times the epochs have five times as many: only every fifth is compared."""
    long = make_record(Cell(m=32, epochs=20), accuracy=lambda e: {7: 0.9, 10: 0.6}.get(e, 0.5))
    [row] = comparison_table([long], [run(32, "K = 5", 0.6)]).to_dict("records")
    assert (row["control"], row["the control"], row["best accuracy"], row["difference"]) == ("K = 1, 5 times the epochs", "is not told apart", 0.6, 0.0)
    assert best_of_as_many(4)(long) == 0.6 and best_of_as_many(20)(long) == 0.9
    assert best_of_as_many(4)(make_record(Cell(m=32, epochs=20), diverged_at=3)) == 0.0


def test_seeds_are_paired():
    controls = [run(32, "spaced K = 5", a, seed) for seed, a in enumerate((0.5, 0.6, 0.7))]
    beside = [run(32, "K = 5", a, seed) for seed, a in enumerate((0.49, 0.589, 0.691))]
    [row] = comparison_table(controls, beside).to_dict("records")
    assert row["pairs"] == 3 and row["the control"] == "is better" and row["difference"] == pytest.approx(0.01)


def test_spaced_reuse_has_three_seeds_at_the_scale_of_reduced(project):
    controls, beside = records(load(project, "reduced-controls")), records(load(project, "reduced"))
    pairs = comparison_table(controls, beside).set_index(["m", "control"])["pairs"]
    for m in (32, 256, 512):
        assert [pairs[m, control] for control in ("K = 1", "spaced K = 5", "K = 1, 5 times the epochs", "K = 1 with 5µ")] == [3, 3, 1, 1]
    text = describe_controls(controls, beside).split("\n\n")[0]
    assert text.startswith("m = 32. Against K = 5: K = 1 is worse (") and ", 3 pairs of seeds); " in text and ", one run)" in text
    spaced = [run for run in controls if run.cell.reuse == "spaced" and run.cell.lr_policy == "constant"]
    assert describe_controls(spaced, [run for run in beside if run.cell.K == 5]).startswith("m = 32 (3 pairs of seeds). Against K = 5: spaced K = 5 ")


def test_the_paragraph_says_what_is_missing_and_how_sure_one_can_be():
    text = describe_controls([run(32, "spaced K = 5", 0.62), run(512, "spaced K = 5", 0.62)], [run(m, "K = 5", 0.60) for m in (32, 512)])
    first, second = text.split("\n\n")
    assert first.startswith("m = 32 (one run of each arm). Against K = 5: spaced K = 5 is better (+0.0200 ± 0.0138). No record of K = 1, K = 1 with 15µ, ")
    assert "well" not in first, "nothing is concluded before both controls with as many gradient evaluations are there"
    assert second.startswith("m = 512 ")
    assert comparison_table([run(32, "K = 1 with 5µ", 0.6)], []).empty, "nothing to stand against"
    assert describe_controls([run(32, "K = 1 with 5µ", 0.6)], []) == ""


def concluded(spaced, longer, **fields):
    beside = [run(32, "K = 5", 0.60, **fields), run(32, "K = 1", 0.50, **fields)]
    return describe_controls([run(32, "spaced K = 5", spaced, **fields), run(32, "K = 1, 5 times the epochs", longer, **fields), run(32, "K = 1 with 2µ", 0.61, **fields)], beside)


def test_what_does_as_well_as_reuse_is_concluded_from_as_many_gradient_evaluations():
    both = "With as many gradient evaluations, spaced K = 5 (one run) and K = 1, 5 times the epochs (one run) do as well as K = 5: its gain takes no consecutive reuse"
    assert both in concluded(0.60, 0.61)
    assert "With as many gradient evaluations, spaced K = 5 (one run) does as well as K = 5" in concluded(0.60, 0.50)
    assert "nothing tried without consecutive reuse does as well as K = 5 (one run)" in concluded(0.55, 0.50)
    assert "as many gradient evaluations" not in concluded(0.588, 0.50), "an interval that also allows for a clear loss"
    two = [run(32, name, a, seed) for name, a in (("spaced K = 5", 0.40), ("K = 1, 5 times the epochs", 0.40)) for seed in (0, 1)]
    wide = describe_controls(two, [run(32, "K = 5", 0.42 + 0.1 * seed, seed) for seed in (0, 1)])
    assert "is not told apart" in wide and "as well as" not in wide


def test_seeds_that_do_not_match_are_left_out():
    beside = [run(32, "K = 5", 0.6, seed=0), run(32, "K = 5", 0.5, seed=1)]
    [row] = comparison_table([run(32, "spaced K = 5", 0.55, seed=1), run(32, "spaced K = 5", 0.9, seed=2)], beside).to_dict("records")
    assert (row["best accuracy"], row["of the other"], row["difference"], row["pairs"]) == (0.55, 0.5, 0.05, 1)
    assert comparison_table([run(32, "spaced K = 5", 0.55, seed=3)], beside).empty


def test_what_mu_is_is_said_by_the_grid_beside():
    """With K = 5 and mu / 5 alone, that rate must not be taken for mu."""
    assert arms([run(32, "K = 5 with µ/5", 0.5), run(32, "K = 1", 0.5)], [], 32) == {}


def test_the_pictures_show_the_records_against_four_clocks(cells):
    controls, beside = map(records, cells)
    figures = draw_controls(controls, beside)
    assert sorted(figures) == sorted(f"controls-m{m}{policy}" for m in (32, 256, 512) for policy in ("", "-kmu"))
    for suffix, names in (("", CONSTANT), ("-kmu", KMU)):
        figure = figures[f"controls-m512{suffix}"]
        found = arms(controls, beside, 512)
        for i, ax in enumerate(figure.axes):
            clock, quantity = AXES[i % 4][0], ("test_accuracy", "test_loss")[i // 4]
            curves = [line.get_xydata() for line in ax.lines if len(line.get_xdata()) > 1]
            expected = [[(e[clock], e[quantity]) for e in found[name][0].history] for name in names]
            assert len(curves) == len(expected) and all(np.array_equal(a, b) for a, b in zip(curves, expected))
        assert [ax.get_xlabel() for ax in figure.axes[4:]] == [label for _, label in AXES]
        assert [text.get_text().split(":")[0] for text in figure.legends[0].get_texts()] == list(names)


def test_arms_are_told_apart_by_colour_or_line():
    for names in (CONSTANT, KMU):
        assert len({ARMS[name][1:] for name in names}) == len(names)


def test_a_diverged_control_and_a_busy_machine_are_said():
    fast = run(32, "K = 1 with 15µ", 0.3)
    diverged = make_record(fast.cell, diverged_at=2)
    assert "Against K = 5 with kµ: K = 1 with 15µ diverged. No record" in describe_controls([diverged], [run(32, "K = 5 with kµ", 0.5)])
    figure = draw_controls([diverged], [dataclasses.replace(run(32, "K = 5 with kµ", 0.5)), run(32, "K = 5", 0.5)])["controls-m32-kmu"]
    assert any("diverged in epoch 2" in text.get_text() for text in figure.legends[0].get_texts())
    some = [diverged, run(32, "K = 1 with 15µ", 0.3, seed=1)]
    two = describe_controls(some, [run(32, "K = 5 with kµ", 0.5, seed) for seed in (0, 1)])
    assert "K = 1 with 15µ diverged with 1 of 2 seeds (" in two
    busy = make_record(fast.cell, load=9.0)
    figure = draw_controls([busy], [run(32, "K = 5", 0.5)])["controls-m32-kmu"]
    assert figure.axes[3].get_title() == "other work ran on the machine during 1 run"
