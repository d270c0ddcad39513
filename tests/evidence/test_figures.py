"""Figures 1-5, their curves and tables, from made-up records."""

import dataclasses

import numpy as np
import pytest
from helpers import make_record

from persist import Cell
from persist.evidence import select, tables
from persist.evidence.curves import caption_of, save, style
from persist.evidence.figures import FIGURES, draw_all, draw_figure, draw_record, other_figures, outcome
from persist.grids import Grid

CELLS = [Cell(m=m, K=K, epochs=4) for m in (32, 256, 512) for K in (1, 2, 5)]
CELLS += [Cell(m=m, K=K, lr_policy="kmu", epochs=4) for m in (32, 256, 512) for K in (2, 5)]


@pytest.fixture(scope="module")
def records():
    return [make_record(cell) for cell in CELLS]


def line(ax, K):
    """The points of the curve of K: the first solid line in its colour."""
    [points] = [entry for entry in ax.lines if entry.get_color() == style(K)[0] and len(entry.get_xdata()) == 4][:1]
    return np.array(points.get_xdata()), np.array(points.get_ydata())


@pytest.mark.parametrize("number", FIGURES)
def test_every_figure_shows_the_records_of_its_m_and_policy(records, number):
    m, policy = FIGURES[number]
    figure = draw_figure(number, records)
    accuracy_in_time, accuracy_by_epoch, *_ = figure.axes
    for K in (1, 2, 5):
        [record] = [r for r in records if (r.cell.m, r.cell.K) == (m, K) and (K == 1 or r.cell.lr_policy == policy)]
        x, y = line(accuracy_by_epoch, K)
        assert x.tolist() == [1, 2, 3, 4] and y.tolist() == [e["test_accuracy"] for e in record.history]
        x, _ = line(accuracy_in_time, K)
        assert x.tolist() == [select.seconds(record, e) for e in record.history]


def test_figure_1_has_the_papers_seconds_and_quoted_bests(records):
    figure = draw_figure(1, records)
    assert len(figure.axes) == 6
    by_paper = figure.axes[2]
    assert line(by_paper, 1)[0].tolist() == [7, 14, 21, 28] and line(by_paper, 5)[0].tolist() == [20, 40, 60, 80]
    stars = {(*entry.get_xdata(), *entry.get_ydata()) for entry in by_paper.lines if entry.get_marker() == "*"}
    assert stars == {(560.0, 0.6364), (600.0, 0.6445)}
    bands = [
        entry.get_xdata()[-1]
        for entry in by_paper.lines
        if entry.get_color() == style(2)[0] and len(entry.get_xdata()) == 4
    ]
    assert sorted(bands) == [32, 41]
    assert len(draw_figure(2, records).axes) == 4


def test_on_digits_nothing_of_the_papers_is_drawn():
    records = [make_record(Cell(m=32, K=K, dataset="digits", epochs=2)) for K in (1, 5)]
    assert len(draw_figure(1, records).axes) == 4


def test_seconds_are_of_one_core_where_a_run_had_one_thread_on_a_cpu():
    record = make_record(Cell(m=32, epochs=2))
    entry = {**record.history[0], "cpu_seconds": 3.0, "train_seconds": 4.0}
    one = dataclasses.replace(record, environment={**record.environment, "cuda": None, "threads": 1})
    assert select.seconds(one, entry) == 3.0 and select.seconds(record, entry) == 4.0
    two = dataclasses.replace(one, environment={**one.environment, "threads": 2})
    assert select.seconds(two, entry) == 4.0
    behind = dataclasses.replace(one, cell=dataclasses.replace(one.cell, pipeline="loader"))
    assert select.seconds(behind, entry) == 4.0


def test_only_seconds_of_one_kind_of_machine_are_drawn_together():
    fast = make_record(Cell(m=32, epochs=2))
    other = dataclasses.replace(make_record(Cell(m=32, K=5, epochs=2)), environment={**fast.environment, "device": "B"})
    third = make_record(Cell(m=32, K=2, epochs=2))
    assert select.timed({1: [fast], 2: [third], 5: [other]}) == {1: [fast], 2: [third], 5: []}
    caption = draw_figure(1, [fast, third, other])._supxlabel.get_text()
    assert "Not against seconds: K = 5, trained on another machine or with other libraries." in " ".join(
        caption.split()
    )


def test_a_library_loaded_first_makes_another_machine():
    """One of them doubles the speed of MKL on some processors."""
    plain = make_record(Cell(m=32, epochs=2))
    preloaded = dataclasses.replace(plain, environment={**plain.environment, "preloaded": ["fast.so"]})
    assert select.machine(plain) != select.machine(preloaded)
    assert select.machine(plain) == select.machine(make_record(Cell(m=32, K=5, epochs=2)))


def ran(share, *, pipeline="resident", **environment):
    """A run whose thread had a core for this share of its time."""
    record = make_record(Cell(m=32, dataset="digits", epochs=3, pipeline=pipeline))
    record.environment.update({"cuda": None, "threads": 1, **environment})
    record.history[-1]["cpu_seconds"] = share * record.history[-1]["train_seconds"]
    return record


def test_a_run_whose_core_other_work_took_was_disturbed():
    assert select.was_disturbed(ran(select.UNDISTURBED - 0.001)) and select.was_disturbed(ran(0.5))
    assert [select.was_disturbed(ran(share)) for share in (select.UNDISTURBED + 0.001, 1.0)] == [False, False]


@pytest.mark.parametrize("where", [{"cuda": "13.0"}, {"threads": 2}, {"pipeline": "loader"}])
def test_a_thread_that_waits_for_others_says_nothing(where):
    assert select.was_disturbed(ran(0.5, **where)) is None


def test_the_mean_curve_goes_as_far_as_all_runs_do():
    a = make_record(Cell(m=32, epochs=4), accuracy=lambda e: 0.5)
    b = make_record(Cell(m=32, epochs=4, seed=1), accuracy=lambda e: 0.7 if e == 2 else 0.3, stopped_at=3)
    curve = select.mean_curve([a, b])
    assert [point["test_accuracy"] for point in curve] == [pytest.approx(x) for x in (0.4, 0.6, 0.4)]
    assert select.best([a, b])["epoch"] == 2
    assert select.mean_curve([make_record(Cell(m=32, epochs=2), diverged_at=2)])[1]["test_loss"] is None


def test_select_takes_the_setting_with_the_most_K():
    wide = [make_record(Cell(m=32, K=K, epochs=2)) for K in (1, 5)]
    narrow = make_record(Cell(m=32, K=1, epochs=2, width=0.5))
    assert select.select([narrow, *wide], 32, "constant") == {1: [wide[0]], 2: [], 5: [wide[1]]}


def test_unfinished_diverged_and_missing_runs_are_told():
    records = [
        make_record(Cell(m=512, K=1, epochs=100), stopped_at=37),
        make_record(Cell(m=512, K=5, epochs=100), diverged_at=9),
    ]
    figure = draw_figure(3, records)
    [legend] = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert "37 of 100 epochs so far" in texts[0]
    assert texts[1] == "K = 2: not recorded yet" and "diverged in epoch 9" in texts[2]
    assert "1 of 2 runs unfinished" in figure.get_supxlabel()
    assert outcome(3, records)["epochs"].tolist() == ["37 of 100", "9: 1 of 1 diverged"]


def test_nothing_recorded_gives_empty_figures_that_say_so():
    assert "No run of this picture is recorded yet." in draw_figure(1, []).get_supxlabel()
    assert draw_all([]) == {} and outcome(1, []).empty


def test_the_files_are_those_of_the_grids_own_cells(records):
    """What lies beside is drawn with them, and makes no figure of its own."""
    own = [make_record(Cell(m=32, K=5, epochs=4, seed=1)), make_record(Cell(m=8, epochs=4))]
    figures = draw_all(own, records, Grid("seeds", [record.cell for record in own], beside="paper"))
    assert list(figures) == list(select.figure_names(record.cell for record in own)) == ["figure1", "m8"]
    labels = [text.get_text() for text in figures["figure1"].legends[0].get_texts()]
    assert labels[2].startswith("K = 5: best of the mean") and "not recorded" not in labels[1]
    assert "Grid seeds, paper, commit" in figures["figure1"].get_supxlabel()
    assert list(draw_all(records)) == [f"figure{n}" for n in range(1, 6)] + ["m256-kmu"]


def labels(figure):
    """What its legend says, without the numbers."""
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    return [text.partition(":")[0] + ": not" * ("not recorded" in text) for text in texts]


def test_a_picture_names_the_K_of_its_grid():
    cells = [Cell(m=8, epochs=2)]
    cells += [Cell(m=256, K=K, lr_policy=policy, epochs=2) for K, policy in ((1, "constant"), (5, "kmu"), (8, "kmu"))]
    cells += [Cell(m=512, K=3, epochs=2)]
    records = [make_record(cell) for cell in cells[:3]]
    grid = Grid("some", cells)
    found = {name: labels(figure) for name, figure in other_figures(records, grid=grid).items()}
    assert found == {"m8": ["K = 1"], "m256-kmu": ["K = 1", "K = 5", "K = 8: not"]}
    assert labels(draw_figure(3, records, grid)) == ["K = 3: not"] and labels(draw_figure(1, records, grid)) == []


def test_a_caption_says_which_runs_are_not_drawn():
    drawn = [make_record(Cell(m=512, K=K, epochs=4)) for K in (1, 5)]
    assert "Not drawn" not in draw_figure(3, drawn).get_supxlabel()
    going = make_record(Cell(m=512, K=5, epochs=4, seed=1), stopped_at=2)
    assert "Not drawn: 1 unfinished run.\n" in draw_figure(3, [*drawn, going]).get_supxlabel()
    others = [make_record(Cell(m=512, epochs=epochs, lr=0.1)) for epochs in (2, 4)]
    told = "Not drawn: 2 runs with other lr, epochs; 1 unfinished run.\n"
    assert told in draw_figure(3, [*drawn, *others, going]).get_supxlabel()


def test_a_K_of_another_setting_is_not_called_missing():
    """Each K at a rate of its own."""
    records = [make_record(Cell(m=512, K=K, lr=lr, epochs=2)) for K, lr in ((1, 0.05), (3, 0.02), (1, 0.02))]
    figure = draw_figure(3, records, Grid("some", [record.cell for record in records]))
    assert labels(figure) == ["K = 1", "K = 3"] and "Not drawn: 1 run with other lr.\n" in figure.get_supxlabel()
    alone = draw_figure(3, records[:2], Grid("some", [record.cell for record in records[:2]]))
    assert len(labels(alone)) == 1 and "Not drawn: 1 run with other lr.\n" in alone.get_supxlabel()


def test_an_unfinished_seed_is_left_out_where_another_has_ended():
    ended, going = make_record(Cell(m=32, epochs=4)), make_record(Cell(m=32, epochs=4, seed=1), stopped_at=2)
    assert select.select([ended, going], 32, "constant")[1] == [ended]
    assert select.select([going], 32, "constant")[1] == [going]


def test_K_1_under_both_policies_is_one_run():
    cells = [Cell(m=32, lr_policy=policy, epochs=4) for policy in ("kmu", "constant")]
    records = [make_record(cell) for cell in (*cells, Cell(m=32, K=2, lr_policy="kmu", epochs=4))]
    assert {K: len(runs) for K, runs in select.select(records, 32, "kmu").items()} == {1: 1, 2: 1, 5: 0}
    assert "Not drawn" not in draw_figure(4, records).get_supxlabel()
    records[1] = make_record(cells[1], stopped_at=2)
    assert select.select(records, 32, "kmu")[1] == [records[0]], "the one that has ended"


def test_the_caption_says_data_network_step_hardware_n_and_commit(records):
    record = dataclasses.replace(records[0], environment={**records[0].environment, "git_commit": "abcdef1234"})
    caption = caption_of([record])
    for part in ("CIFAR-10", "all 50,000", "stride 4", "mean of the gradients", "Some GPU", "n = 1", "abcdef1"):
        assert part in caption


def test_every_K_has_a_look_of_its_own():
    assert len({(style(K)[0], str(style(K)[1])) for K in range(1, 17)}) == 16


def test_the_same_figure_gives_the_same_files(records, tmp_path):
    for folder in ("a", "b"):
        save(draw_figure(2, records), tmp_path / folder, "figure2")
    for suffix in ("png", "svg"):
        assert (tmp_path / f"a/figure2.{suffix}").read_bytes() == (tmp_path / f"b/figure2.{suffix}").read_bytes()


def test_one_run_alone(records):
    assert draw_record(records[2]).axes


def test_the_table_has_a_row_for_each_configuration():
    records = [
        make_record(Cell(m=32, epochs=4, seed=seed), accuracy=lambda e, s=seed: 0.5 + 0.1 * s) for seed in (0, 1)
    ]
    records.append(make_record(Cell(m=32, K=5, epochs=4), stopped_at=3))
    table = tables.summary(records)
    assert table["K"].tolist() == [1, 5] and table["seeds"].tolist() == [2, 1]
    assert table["best test accuracy"][0] == "0.5500 (0.5000 to 0.6000)" and table["epochs"].tolist() == ["4", "3 of 4"]
    assert table["iterations"].tolist() == ["6,252", "23,445"]
    text = tables.markdown(table)
    assert text.count("\n") == 3 and text.splitlines()[1].startswith("| ---: |")
    lowest = [min(e["test_loss"] for e in record.history) for record in records]
    assert table["lowest test loss"][1] == f"{lowest[2]:.3f}"
    assert "on" not in table and tables.markdown(tables.summary([])) == "Not recorded yet."
    records[-1].environment["preloaded"] = ["fast.so"]
    assert tables.summary(records)["on"].tolist() == ["Some GPU, torch 2.14.1", "Some GPU, fast.so, torch 2.14.1"]
