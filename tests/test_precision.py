"""Precisions beside the spread of seeds: on made-up curves whose distances are known."""

import numpy as np
import pytest

from persist import Cell, load_grid
from persist.precision import describe_precision, distance, draw_precision, precision_table, precisions
from persist.readme import TABLES
from helpers import make_record


def run(precision, seed, accuracy, m=32, K=1, policy="constant", **fields):
    """Accuracies: a constant, or one per epoch."""
    curve = (lambda e: accuracy[e - 1]) if isinstance(accuracy, list) else (lambda e: accuracy)
    return make_record(Cell(m=m, K=K, lr_policy=policy, precision=precision, seed=seed, epochs=2, **fields), accuracy=curve)


FP32 = [run("fp32", 0, 0.60), run("fp32", 1, 0.61), run("fp32", 2, 0.63)]
CLOSE = [run("bf16", 0, [0.61, 0.59]), run("bf16", 1, [0.62, 0.60]), run("bf16", 2, [0.64, 0.62])]  # 0.01 away in every epoch, 0 on average
FAR = [run("tf32", seed, a + 0.04) for seed, a in enumerate((0.60, 0.61, 0.63))]


def test_the_distance_is_that_of_two_curves():
    assert distance(run("fp32", 0, [0.5, 0.7]), run("bf16", 0, [0.6, 0.5])) == pytest.approx(0.15)
    lost = make_record(Cell(m=32, epochs=4), diverged_at=2, accuracy=lambda e: 0.5)
    assert distance(make_record(Cell(m=32, epochs=4), accuracy=lambda e: 0.5), lost) == pytest.approx(0.5 * 3 / 4), "nothing after the divergence"


def test_the_table_by_hand():
    rows = precision_table([*CLOSE, *FAR, *FP32]).set_index("precision")
    assert list(rows.index) == ["tf32", "bf16"] and list(rows["seeds"]) == [3, 3]
    assert rows["from fp32"].tolist() == rows["at most"].tolist() == pytest.approx([0.04, 0.01])
    assert rows["two seeds apart"].tolist() == pytest.approx([0.02, 0.02]) and rows["apart at most"].tolist() == pytest.approx([0.03, 0.03])
    assert list(rows["within the spread"]) == ["no", "yes"]
    assert rows["curve"].tolist() == pytest.approx([0.04, 0.0]) and rows["best accuracy"].tolist() == pytest.approx([0.04, 0.01])
    assert rows["± of the curve"].tolist() == pytest.approx([0.0, 0.0], abs=1e-4), "the same gap in all pairs"


def test_with_one_seed_in_fp32_nothing_is_judged():
    [row] = precision_table([CLOSE[0], CLOSE[1], FP32[0]]).to_dict("records")
    assert row["seeds"] == 1 and row["within the spread"] == "not judged: one seed in fp32" and np.isnan(row["two seeds apart"])
    assert describe_precision([CLOSE[0], FP32[0]]) == "bf16: not judged, with one seed in fp32."


def test_one_seed_that_is_further_or_that_diverges_is_enough_for_a_no():
    rows = [run("bf16", 0, 0.60), run("bf16", 1, 0.61), run("bf16", 2, 0.59)]  # the last 0.04 away, on average 0.0133
    assert list(precision_table([*FP32, *rows])["within the spread"]) == ["no"]
    lost = make_record(Cell(m=32, precision="bf16", seed=2, epochs=2), diverged_at=2, accuracy=lambda e: 0.63)
    assert list(precision_table([*FP32, *CLOSE[:2], lost])["within the spread"]) == ["no: 1 diverged"]
    assert "not at m = 32, K = 1 (no: 1 diverged)." in describe_precision([*FP32, *CLOSE[:2], lost])


def test_what_stands_alone_is_left_out():
    assert set(precisions([*FP32, *CLOSE, run("bf16", 0, 0.5, K=5), run("bf16", 0, 0.5, m=512)])) == {("constant", 32, 1)}
    for use in (precisions, precision_table, describe_precision, draw_precision):
        with pytest.raises(ValueError, match="no cell is recorded in fp32 and in another precision"):
            use([*FP32, run("bf16", 0, 0.5, K=5)])
    lonely = run("bf16", 0, 0.5, K=5)
    assert describe_precision([*FP32, *CLOSE, lonely]).endswith(f"\nNot compared, without a record in fp32: {lonely.cell.name}.")
    another_seed = run("bf16", 7, 0.5)
    assert describe_precision([*FP32, *CLOSE, another_seed]).endswith(f": {another_seed.cell.name}.") and "Not compared" not in describe_precision([*FP32, *CLOSE])


def test_a_record_given_twice_counts_once_and_two_of_one_cell_are_refused():
    assert precision_table([*FP32, *FP32, *CLOSE, *CLOSE]).equals(precision_table([*FP32, *CLOSE]))
    with pytest.raises(ValueError, match="two different records of the cell cifar10-m32-K1"):
        precisions([*FP32, *CLOSE, run("fp32", 0, 0.7)])


def test_two_settings_are_refused_by_what_they_are():
    with pytest.raises(ValueError, match="differ in more than m, K, policy and seed"):
        precisions([*FP32, *CLOSE, run("fp32", 0, 0.5, lr=0.1), run("bf16", 0, 0.5, lr=0.1)])


def test_the_sentences_name_where_it_is_further():
    other = [run(p, seed, a, m=512, K=5, policy="kmu") for p, a in (("fp32", 0.5), ("bf16", 0.6)) for seed in (0, 1)]
    text = describe_precision([*FP32, *CLOSE, *FAR, *other])
    assert "tf32: in 0 of 1 cells every seed is no further from itself in fp32 than the two seeds in fp32 that are furthest apart; not at m = 32, K = 1 (no)." in text
    assert "bf16: in 1 of 2 cells" in text and "not at m = 512, K = 5, kµ (no)." in text
    assert "Two seeds in fp32 are up to 0.000 to 0.030 apart, the most at m = 32, K = 1" in text


def test_the_readmes_table():
    text = TABLES["notebooks/precision.ipynb"]([*CLOSE, *FAR], FP32)
    assert "| 32 | 1 | µ | bf16 | 3 | 0.0100, 0.0100 | 0.0200, 0.0300 | yes | +0.0000 ± 0.0000 | +0.0100 ± 0.0000 |" in text
    assert "| 32 | 1 | µ | bf16 | 1 | 0.0100, 0.0100 | - | not judged: one seed in fp32 |" in TABLES["notebooks/precision.ipynb"](CLOSE[:1], FP32[:1])
    assert "bf16, fp32, tf32. Some GPU, torch 2.14.1." in text


def test_the_figure_has_a_column_per_K_and_a_curve_per_precision():
    fives = [run(p, seed, 0.7, K=5) for p in ("fp32", "bf16") for seed in (0, 1, 2)]
    figures = draw_precision([*FP32, *CLOSE, *FAR, *fives, run("fp32", 0, 0.5, m=256, K=5, policy="kmu"), run("bf16", 0, 0.5, m=256, K=5, policy="kmu")])
    assert list(figures) == ["precision-m32", "precision-m256-kmu"]
    figure = figures["precision-m32"]
    one, five, loss_one, _ = figure.axes
    assert [ax.get_title() for ax in (one, five)] == ["K = 1", "K = 5"]
    heights = [float(line.get_ydata()[0]) for line in one.lines if len(line.get_xdata()) == 2]  # the best accuracies are points
    assert heights == pytest.approx([0.60, 0.61, 0.63, 0.6133, 0.64, 0.65, 0.67, 0.6533, 0.61, 0.62, 0.64, 0.6233], abs=1e-4), "seeds, then their mean"
    assert loss_one.get_ylabel().startswith("loss")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fp32", "tf32", "bf16"]
    assert "bf16, fp32, tf32." in figure.get_supxlabel() and "n = 3 runs per curve (seed 0, 1, 2)" in figure.get_supxlabel()


@pytest.mark.parametrize("name, per_m", [("preview-precision", {"fp32", "bf16"}), ("reduced-precision", {"fp32", "bf16"}), ("precision", {"fp32", "tf32", "bf16"})])
def test_the_grids_have_every_precision_with_three_seeds(project, name, per_m):
    grid = load_grid(project / "grids" / f"{name}.yaml")
    beside = load_grid(project / "grids" / f"{grid.beside}.yaml").cells if grid.beside else []
    found = precisions([make_record(cell) for cell in (*beside, *grid.cells)])
    assert set(found) == {("constant", m, K) for m in (32, 512) for K in (1, 5)}
    assert all(set(runs) == per_m and all(sorted(run.cell.seed for run in of_one) == [0, 1, 2] for of_one in runs.values()) for runs in found.values())
