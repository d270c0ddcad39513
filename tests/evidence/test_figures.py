import dataclasses
import random

import matplotlib.image
import numpy as np
import pytest
from helpers import make_record

from persist import Cell
from persist.evidence.figures import (
    FIGURES,
    best,
    caption,
    draw_all,
    draw_figure,
    draw_record,
    figure_1,
    figure_4,
    mean_curve,
    other_figures,
    save_all,
    select,
    stacked,
    summary,
    timed,
    timed_by_figure,
)

BASE = dict(dataset="digits", epochs=4, lr=0.1, reduction="mean")
CELLS = [
    *(Cell(m=m, K=K, **BASE) for m in (32, 256, 512) for K in (1, 2, 5)),
    *(Cell(m=m, K=K, lr_policy="kmu", **BASE) for m in (32, 256, 512) for K in (2, 5)),
]
RECORDS = [make_record(cell, seconds=1 + cell.m / 1000) for cell in CELLS]


def text_of(figure):
    texts = [
        figure.get_supxlabel(),
        *(t.get_text() for legend in figure.legends for t in (legend.get_title(), *legend.get_texts())),
    ]
    return "\n".join([*texts, *(ax.get_title() for ax in figure.axes)])


def curves_of(ax):
    """Colour -> the plotted points of the curve (markers of a single point left out)."""
    return {line.get_color(): line.get_xydata() for line in ax.lines if len(line.get_xdata()) > 1}


COLOURS = {1: "#0072B2", 2: "#E69F00", 5: "#009E73"}


@pytest.mark.parametrize(
    "number, m, policy",
    [(1, 32, "constant"), (2, 256, "constant"), (3, 512, "constant"), (4, 32, "kmu"), (5, 512, "kmu")],
)
def test_what_is_plotted_is_what_was_recorded(number, m, policy):
    shuffled = random.Random(0).sample(RECORDS, len(RECORDS))
    figure = draw_figure(number, shuffled)
    panels = [
        ("train_seconds", "test_accuracy"),
        ("epoch", "test_accuracy"),
        ("train_seconds", "test_loss"),
        ("epoch", "test_loss"),
    ]
    assert len(figure.axes) == 4
    for ax, (clock, quantity) in zip(figure.axes, panels):
        curves = curves_of(ax)
        assert set(curves) == set(COLOURS.values())
        for K, colour in COLOURS.items():
            [record] = [r for r in RECORDS if (r.cell.m, r.cell.K) == (m, K) and (K == 1 or r.cell.lr_policy == policy)]
            expected = [(e[clock], e[quantity]) for e in record.history]
            np.testing.assert_array_equal(curves[colour], expected)
    assert [ax.get_ylabel() for ax in figure.axes] == ["top-1 accuracy on the test set", "", "loss on the test set", ""]
    assert [ax.get_xlabel() for ax in figure.axes][2:] == ["training time in seconds", "epochs"]
    assert f"Figure {number}: m = {m}" in text_of(figure) and ("kµ" in text_of(figure)) == (policy == "kmu")


def test_the_best_accuracy_is_marked_with_its_epoch_and_second():
    cell = Cell(m=32, K=5, **BASE)
    record = make_record(cell, accuracy=lambda epoch: [0.2, 0.6, 0.6, 0.5][epoch - 1], seconds=3.0)
    assert best([record]) == (0.6, 2), "the first of equals"
    figure = figure_1([record])
    assert "K = 5: best 0.6000 at epoch 2, 30 s" in text_of(figure)
    for ax, x in zip(figure.axes[:2], (30.0, 2)):
        assert (x, 0.6) in [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == "o"]


def test_a_missing_cell_is_named():
    records = [r for r in RECORDS if r.cell.K != 2]
    assert "K = 2: no record" in text_of(figure_1(records)) and "K = 1: best" in text_of(figure_1(records))
    empty = figure_1([])
    assert all(f"K = {K}: no record" in text_of(empty) for K in (1, 2, 5)) and "No record" in empty.get_supxlabel()


def test_a_diverged_cell_is_shown_as_diverged():
    records = [r if r.cell.K != 5 else make_record(r.cell, diverged_at=3) for r in RECORDS]
    figure = figure_1(records)
    assert "K = 5: best 0.6689 at epoch 2, 10 s; diverged in epoch 3" in text_of(figure)
    assert len(curves_of(figure.axes[1])["#009E73"]) == 2
    crosses = [line for line in figure.axes[1].lines if line.get_marker() == "X"]
    assert [line.get_color() for line in crosses] == ["#009E73"]
    at_once = make_record(Cell(m=32, K=5, **BASE), diverged_at=1)
    assert "K = 5; diverged in epoch 1" in text_of(figure_1([at_once]))


def test_several_seeds_give_their_mean_and_their_number():
    cells = [Cell(m=32, K=1, seed=seed, **BASE) for seed in (0, 1, 2)]
    records = [make_record(cell, accuracy=lambda epoch, s=cell.seed: 0.1 * s + 0.1 * epoch) for cell in cells]
    np.testing.assert_allclose([p["test_accuracy"] for p in mean_curve(records)], [0.2, 0.3, 0.4, 0.5])
    figure = figure_1(records)
    assert "n = 3 runs per curve (seed 0, 1, 2)" in figure.get_supxlabel()
    plotted = [line.get_ydata() for line in figure.axes[1].lines if len(line.get_xdata()) > 1]
    assert len(plotted) == 4
    np.testing.assert_allclose(plotted[-1], [0.2, 0.3, 0.4, 0.5])


def test_records_of_another_setting_are_not_mixed_in():
    fp32 = [make_record(dataclasses.replace(c, precision="tf32"), accuracy=lambda e: 0.01) for c in CELLS if c.K == 5]
    chosen = select(RECORDS + fp32, 32, "constant")
    assert {K: [r.cell.precision for r in runs] for K, runs in chosen.items()} == {K: ["fp32"] for K in (1, 2, 5)}


def test_another_K_gets_a_style_of_its_own():
    figure = figure_1([*RECORDS, make_record(Cell(m=32, K=10, **BASE))])
    assert len(curves_of(figure.axes[0])) == 4 and "K = 10: best" in text_of(figure)


def test_the_caption_says_what_ran():
    text = figure_4(RECORDS).get_supxlabel()
    for part in (
        "scikit-learn's digits", "all 1437 training images", "all 360 test images", "width 1", "padding 'same'", "mean of the gradients",
        "µ = 0.1", "momentum 0.5", "4 epochs", "fp32", "Some GPU", "n = 1 run per curve (seed 0)", "Not the paper's data set, epochs, learning rate, sum of the gradients",
    ):  # fmt: skip
        assert part in text, part
    cell = Cell(m=32, train_size=1000, test_size=500)
    text = caption({1: [make_record(cell)]})
    assert "a fixed 1000 of the 50000" in text and "a fixed 500 of the 10000" in text and "sum of the gradients" in text
    assert "Not the paper's training images, test images" in text
    assert "At the paper's scale" in caption({1: [make_record(Cell(m=32))]})


def test_other_work_on_the_machine_is_said_over_the_seconds():
    busy = make_record(CELLS[0], load=4.0)
    assert figure_1([busy]).axes[0].get_title() == "other work ran on the machine during 1 run"
    assert figure_1(RECORDS).axes[0].get_title() == ""


def seeds(K, threads=(1, 2, 2), loads=(9.0, 1.0, 1.0)):
    """Three runs, the best in epoch 2, 3 and 4; the first with other threads, and beside other work."""
    runs = []
    for seed, (n, load) in enumerate(zip(threads, loads)):
        run = make_record(
            Cell(m=32, K=K, seed=seed, **BASE),
            load=load,
            seconds=5.0 - seed,
            accuracy=lambda e, s=seed: 0.5 - 0.1 * s - 0.01 * abs(e - 2 - s),
        )
        run.environment["threads"] = n
        runs.append(run)
    return runs


def test_seconds_are_those_of_one_machine_of_runs_that_had_it_for_themselves():
    one, five = seeds(1), seeds(5)
    assert timed({1: one, 5: five}) == {1: one[1:], 5: five[1:]}
    assert timed({1: one, 5: five[:1]}) == {1: one[:1], 5: five[:1]}, "rather all curves than the quiet ones alone"
    mixed = seeds(5, loads=(9.0, 1.0, 9.0))
    assert timed({1: one, 5: mixed}) == {1: one[1:], 5: mixed[1:2]}
    assert timed({}) == {} and timed({1: []}) == {1: []}
    other_torch = make_record(one[1].cell, load=1.0)
    other_torch.environment["torch"] = "2.11.0"
    assert timed({1: [one[2], other_torch], 5: five[1:]}) == {1: [one[2]], 5: five[1:]}


def test_in_a_table_the_seconds_of_each_m_are_of_one_machine():
    """As of a cluster's cells, each on another node."""
    here, there = make_record(Cell(m=32, **BASE)), make_record(Cell(m=512, **BASE))
    there.environment["device"] = "Another GPU"
    assert timed_by_figure({0: [here], 1: [there]}) == {0: [here], 1: [there]} and timed({0: [here], 1: [there]}) == {
        0: [],
        1: [there],
    }


def test_a_panel_over_seconds_says_which_runs_it_shows():
    figure = figure_1([*seeds(1), *seeds(5)])
    over_seconds, over_epochs = ([line for line in ax.lines if len(line.get_xdata()) > 1] for ax in figure.axes[:2])
    assert (len(over_seconds), len(over_epochs)) == (2 * 3, 2 * 4), "of each K the runs and their mean"
    np.testing.assert_allclose([line.get_xdata()[-1] for line in over_seconds[:3]], [16.0, 12.0, 14.0])
    assert figure.axes[0].get_title() == "4 of 6 runs: Some GPU" and figure.axes[1].get_title() == ""
    # the circle: at the best epoch of the mean of all three, on the mean that the panel shows
    assert best(seeds(1)) == (pytest.approx(0.4 - 0.01 * 2 / 3), 3)
    circles = [
        [line.get_xydata()[0].tolist() for line in ax.lines if line.get_marker() == "o"][0] for ax in figure.axes[:2]
    ]
    assert circles == [[pytest.approx(3 * 3.5), pytest.approx(0.345)], [3, pytest.approx(0.4 - 0.01 * 2 / 3)]]
    assert "K = 1: best of the mean 0.3933 at epoch 3, 10 s" in text_of(figure)
    busy = figure_1([*seeds(1), *seeds(5)[:1]])
    assert busy.axes[0].get_title() == "2 of 4 runs: Some GPU\nother work ran on the machine during 2 runs"


def test_pictures_are_the_same_for_the_same_records(tmp_path):
    first, second = (
        save_all(draw_all(RECORDS), tmp_path / "a"),
        save_all(draw_all(list(reversed(RECORDS))), tmp_path / "b"),
    )
    assert [p.name for p in first] == [
        f"{name}.{s}" for name in (*(f"figure{n}" for n in FIGURES), "m256-kmu") for s in ("png", "svg")
    ]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second))
    picture = matplotlib.image.imread(first[0])
    assert picture.shape[0] > 900 and picture.shape[1] > 1200 and picture[..., :3].std() > 0.05


def test_nothing_runs_over_the_edge(tmp_path):
    """The longest caption and legend stay within the picture."""
    cell = dict(
        train_size=10_240,
        test_size=5_000,
        width=0.25,
        padding="alexnet",
        reduction="mean",
        lr=0.0125,
        epochs=100,
        hidden_layers=2,
    )
    records = [
        make_record(Cell(m=512, K=K, seed=seed, **cell), seconds=1234.5, load=9.0) for K in (1, 2, 5) for seed in (0, 1)
    ]
    for record in records:
        record.environment.update(device="NVIDIA GeForce GTX 1080 Ti", threads=64 if record.cell.seed else 32)
    for shape in (lambda figure: figure, stacked):
        figure = shape(draw_figure(3, records))
        figure.draw_without_rendering()
        width, height = figure.canvas.get_width_height()
        assert "3 of 6 runs: NVIDIA" in figure.axes[0].get_title()
        for artist in (
            figure._supxlabel,
            *figure.legends,
            *(ax.yaxis.label for ax in figure.axes),
            figure.axes[0].title,
        ):
            box = artist.get_window_extent()
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, artist


def test_stacked_panels_show_the_same_and_stay_within_the_picture():
    wide, figure = figure_4(RECORDS), stacked(figure_4(RECORDS))
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    assert height > 3 * width
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert all(above.y0 >= below.y1 for above, below in zip(boxes, boxes[1:])), "one below the other"
    for box in (
        *boxes,
        figure._supxlabel.get_window_extent(),
        *(legend.get_window_extent() for legend in figure.legends),
    ):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    for ax, same in zip(figure.axes, wide.axes):
        assert {color: points.tolist() for color, points in curves_of(ax).items()} == {
            color: points.tolist() for color, points in curves_of(same).items()
        }
    assert [(ax.get_xlabel(), ax.get_ylabel()[:3]) for ax in figure.axes] == [
        ("training time in seconds", "top"), ("epochs", "top"), ("training time in seconds", "los"), ("epochs", "los"),
    ]  # fmt: skip


def test_an_m_of_ones_own_gets_a_figure_of_its_own():
    own = [make_record(Cell(m=64, K=K, **BASE)) for K in (1, 3)]
    assert other_figures(RECORDS).keys() == {"m256-kmu"}
    figures = other_figures(own)
    assert figures.keys() == {"m64"} and "m = 64, learning rate µ" in text_of(figures["m64"])
    assert "K = 3: best" in text_of(figures["m64"]) and len(curves_of(figures["m64"].axes[0])) == 2


def test_one_record_alone():
    figure = draw_record(RECORDS[0])
    assert len(figure.axes) == 4 and RECORDS[0].cell.name in text_of(figure)


def test_summary_has_a_row_per_cell():
    table = summary(RECORDS)
    assert len(table) == 15
    row = table[(table.m == 512) & (table.K == 5) & (table.policy == "kmu")].iloc[0]
    record = next(r for r in RECORDS if (r.cell.m, r.cell.K, r.cell.lr_policy) == (512, 5, "kmu"))
    assert (
        row["final accuracy"] == pytest.approx(record.history[-1]["test_accuracy"], abs=5e-5)
        and row["gradients"] == 4 * 5 * 1437
    )
    assert len(summary([make_record(CELLS[0], diverged_at=1)])) == 1
    two = [make_record(dataclasses.replace(CELLS[0], precision=p, epochs=e)) for p, e in (("fp32", 2), ("tf32", 3))]
    assert list(summary(two)["precision"]) == ["fp32", "tf32"] and list(summary(two)["epochs"]) == [2, 3]
    seeds = [
        make_record(
            dataclasses.replace(CELLS[0], seed=s),
            accuracy=lambda e, s=s: 0.5 + 0.1 * s,
            seconds=s + 1,
            diverged_at=3 if s == 2 else None,
        )
        for s in range(3)
    ]
    [row] = summary(seeds[:2]).to_dict("records")
    assert (row["seeds"], row["status"], row["best accuracy"], row["final accuracy"], row["seconds"]) == (
        2,
        "finished",
        0.55,
        0.55,
        6.0,
    )
    [row] = summary(seeds).to_dict("records")
    assert (row["seeds"], row["status"], row["best accuracy"]) == (3, "1 of 3 diverged", None), (
        "no mean of those that are left"
    )
    assert row["final accuracy"] is None
