"""Runs that one watches, without a browser: what is drawn, what is counted, stopped runs, the panel's buttons."""

import re
import time

import numpy as np
import pytest
from helpers import make_record

from persist import Cell, train
from persist.evidence.figures import style
from persist.notebook.explore import Explorer, explore
from persist.notebook.live import (
    LOSS_TOP,
    LiveCurves,
    Picture,
    Run,
    Stopped,
    cost_table,
    describe_runs,
    draw_runs,
    to_html,
)
from persist.notebook.progress import in_jupyter

BASE = dict(dataset="digits", width=0.05, padding="alexnet", reduction="mean", lr=0.05)
SMALL = Cell(m=32, train_size=100, test_size=50, epochs=3, **BASE)


def run_of(cell, done, number=1, **made) -> Run:
    record = make_record(cell, **made)
    return Run(number, cell, record.history[:done], "training")


def curves(ax):
    return [(line.get_color(), line.get_xydata()) for line in ax.lines if len(line.get_xdata()) > 1]


def test_what_is_drawn_is_the_history_so_far_over_the_recorded_curves():
    cells = [Cell(m=256, K=K, epochs=6, **BASE) for K in (1, 5)]
    runs, recorded = [run_of(cells[1], 4)], [make_record(Cell(m=256, K=K, epochs=9, **BASE)) for K in (1, 5)]
    figure = draw_runs(runs, recorded)
    for ax, (clock, quantity) in zip(
        figure.axes,
        [
            ("train_seconds", "test_accuracy"),
            ("epoch", "test_accuracy"),
            ("train_seconds", "test_loss"),
            ("epoch", "test_loss"),
        ],
    ):
        drawn = curves(ax)
        assert [color for color, _ in drawn] == [style(1)[0], style(5)[0], style(5)[0]]
        for (_, points), history in zip(drawn, [recorded[0].history[:6], recorded[1].history[:6], runs[0].history]):
            np.testing.assert_array_equal(points, [(e[clock], e[quantity]) for e in history])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["1: m = 256, K = 5, µ = 0.05", "recorded, K = 1", "recorded, K = 5"]
    numbers = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert numbers == ["1"] * 4


def test_nothing_is_drawn_of_what_is_not_there_yet():
    assert not any(curves(ax) for ax in draw_runs([Run(1, SMALL)]).axes)
    assert not any(curves(ax) for ax in draw_runs([]).axes)
    huge = make_record(SMALL).history
    huge[1] = huge[1] | {"test_loss": 1e9}
    assert draw_runs([Run(1, SMALL, huge)]).axes[2].get_ylim() == (0, LOSS_TOP)
    lost = run_of(SMALL, 2, diverged_at=2)
    lost.status = "diverged"
    assert [line.get_marker() for line in draw_runs([lost]).axes[0].lines][-1] == "X"


@pytest.mark.parametrize("K", range(1, 17))
def test_a_K_has_one_style_everywhere_and_shares_it_with_no_other(K):
    assert style(K) == style(K) and style(K) not in [style(other) for other in range(1, 17) if other != K]


def test_costs():
    cell = Cell(m=512, K=5, epochs=4, **BASE)
    stopped = run_of(cell, 2)
    stopped.status = "stopped"
    table = cost_table([stopped], [make_record(cell)])
    assert list(table["run"]) == ["1", "recorded"] and list(table["epochs"]) == ["2 of 4, stopped", "4"]
    row = table.iloc[0]
    assert (row["iterations"], row["distinct examples"], row["gradient evaluations"], row["seconds"]) == (
        "30",
        "2,874",
        "14,370",
        "10.0",
    )
    accuracy = f"{stopped.history[1]['test_accuracy']:.4f}"
    assert (row["best accuracy"], row["at epoch"], row["last accuracy"]) == (accuracy, "2", accuracy)
    assert cost_table([Run(1, cell)]).iloc[0]["epochs"] == "0 of 4" and cost_table([]).empty
    assert cost_table([run_of(cell, 1, diverged_at=1)]).iloc[0]["best accuracy"] == "-"


def test_a_run_has_the_history_of_a_record_and_stops_within_an_epoch():
    whole, calls = Run(1, SMALL), []
    whole.train(on_change=lambda: calls.append(len(whole.history)))
    timeless = [{k: v for k, v in e.items() if "seconds" not in k and k != "load"} for e in whole.history]
    record = train(SMALL)
    assert whole.status == "finished" and calls == [1, 2, 3]
    assert timeless == [{k: v for k, v in e.items() if "seconds" not in k and k != "load"} for e in record.history]

    def stop_in_the_second_epoch():
        stop_in_the_second_epoch.seen += 1
        if stop_in_the_second_epoch.seen == SMALL.minibatches + 2:
            raise Stopped

    stop_in_the_second_epoch.seen, cut = 0, Run(2, SMALL)
    cut.train(on_minibatch=stop_in_the_second_epoch)
    assert (
        cut.status == "stopped"
        and len(cut.history) == 1
        and cut.history[0]["test_loss"] == whole.history[0]["test_loss"]
    )


@pytest.mark.parametrize("reuse", ["consecutive", "spaced"])
def test_each_minibatch_is_announced(reuse):
    cell, seen = Cell(m=32, K=2, reuse=reuse, train_size=100, test_size=50, epochs=1, **BASE), []
    announced = train(cell, on_minibatch=lambda: seen.append(1))
    assert len(seen) == 4 * (2 if reuse == "spaced" else 1)
    assert announced.history[0]["test_loss"] == train(cell).history[0]["test_loss"]


def test_a_graph_cannot_announce_its_minibatches():
    with pytest.raises(ValueError, match="on_minibatch must be None with graph=True"):
        train(SMALL, graph=True, on_minibatch=print)


def test_an_error_reaches_the_caller_and_the_run_says_failed():
    def fail():
        raise RuntimeError("no more power")

    run = Run(1, SMALL)
    with pytest.raises(RuntimeError, match="no more power"):
        run.train(on_change=fail)
    assert run.status == "failed" and len(run.history) == 1


def test_a_picture_has_words_and_takes_a_third_of_the_time(monkeypatch):
    now, shown = iter([0.0, 1.0, 1.0, 2.9, 3.1, 4.1, 4.1, 4.2, 5.2, 5.2]), []
    monkeypatch.setattr("persist.notebook.live.time.monotonic", lambda: next(now))
    picture = Picture(shown.append)
    picture.update([])  # takes a second: nothing is drawn for two more
    picture.update([])
    picture.update([run_of(SMALL, 2)])
    assert len(shown) == 2
    picture.update([run_of(SMALL, 3)], at_once=True)
    assert len(shown) == 3 and re.fullmatch(
        r'<img alt="Accuracy.*run 1: m = 32, K = 1, µ = 0.05 has 0.\d{4} after epoch 3." .*src="data:image/png;base64,[^"]+">',
        shown[2],
    )
    assert describe_runs([]).endswith("no epoch is done yet.") and 'alt="&lt;"' in to_html(draw_runs([]), "<")


def test_curves_grow_in_the_notebook_that_trains(monkeypatch):
    class Handle:
        shown = []

        def update(self, html):
            self.shown.append(html.data)

    monkeypatch.setattr("IPython.display.display", lambda *args, **kwargs: Handle())
    live = LiveCurves(SMALL)
    for entry in make_record(SMALL).history:
        live(entry)
    assert "after epoch 1" in Handle.shown[0] and "after epoch 3" in Handle.shown[-1]


@pytest.fixture
def options(project, monkeypatch):
    """An explorer of tiny runs: the setting of the grid, but few images."""
    monkeypatch.setattr(Explorer, "choose", tiny(Explorer.choose))
    return dict(root=project, m=32, K=2, epochs=3)


def tiny(choose):
    import dataclasses

    def chosen(self, **choice):
        cell = choose(self, **choice)
        return dataclasses.replace(cell, train_size=100, test_size=50) if cell.dataset == "digits" else cell

    return chosen


def test_a_choice_comes_with_the_setting_of_its_grid(project):
    explorer = Explorer(root=project, m=256, K=5)
    assert (explorer.cell.width, explorer.cell.reduction, explorer.cell.lr, explorer.cell.epochs) == (
        0.0625,
        "mean",
        0.05,
        40,
    )
    assert [r.cell.K for r in sorted(explorer.recorded(), key=lambda r: r.cell.K)] == [1, 2, 5]
    assert explorer.cell in [r.cell for r in explorer.recorded()], "as it stands, it is a recorded cell"
    kmu = explorer.recorded(explorer.choose(lr_policy="kmu"))
    assert sorted((r.cell.K, r.cell.lr_policy) for r in kmu) == [(1, "constant"), (2, "kmu"), (5, "kmu")]
    other = explorer.choose(dataset="cifar10")
    assert (other.m, other.K, other.train_size, other.reduction, other.lr, other.epochs) == (
        256,
        5,
        10240,
        "sum",
        0.0001,
        12,
    )
    assert sorted((r.cell.K, r.cell.seed) for r in explorer.recorded(other)) == [(1, 0), (2, 0), (5, 0)], (
        "of its own seed"
    )
    assert explorer.recorded(explorer.choose(m=64)) == []
    for choice, message in (
        (dict(k=3), "unknown choice 'k': one chooses m, K, "),
        (dict(dataset="x"), "dataset must be one of 'digits', 'cifar10', not 'x'"),
        (dict(dataset=["a"]), "dataset must be one of 'digits', 'cifar10', not ['a']"),
        (dict(K=0), "K must be an int from 1"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            explorer.choose(**choice)
    with pytest.raises(ValueError, match="widgets must be True, False, or None"):
        explore(widgets="yes", root=project)


def test_without_widgets_it_trains_and_says_so(options, monkeypatch, capsys):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *things: shown.extend(things))
    assert not in_jupyter()
    explorer = explore(**options)
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == "1: m = 32, K = 2, µ = 0.05"
        and len(lines) == 4
        and re.fullmatch(r"epoch 3/3: test loss \d\.\d{3}, accuracy \d\.\d{3}", lines[3])
    )
    explorer.train(K=1)
    assert [(run.number, run.cell.K, run.status) for run in explorer.runs] == [(1, 2, "finished"), (2, 1, "finished")]
    assert len(shown) == 4 and "recorded" in shown[-1].data


def test_the_panel_trains_in_a_thread_stops_and_keeps(options, monkeypatch):
    from persist.notebook.panel import Panel

    panel = Panel(**options)
    assert panel.curves.value.startswith("<img alt=") and panel.table.value.count("<tr") == 4
    panel.start.click()
    assert panel.start.disabled and not panel.stop.disabled
    with pytest.raises(RuntimeError, match="a cell is training"):
        panel.train()
    panel.thread.join()
    assert (panel.status.value, panel.bar.value, panel.start.disabled, panel.stop.disabled) == (
        "finished",
        1,
        False,
        True,
    )
    # a slider decides the next run; stopped at its second minibatch it has no epoch, and nothing to keep
    panel.controls["K"].value = 3
    panel.controls["m"].value = 64
    assert (panel.cell.K, panel.cell.m) == (3, 64)
    monkeypatch.setattr(panel.stop_asked, "clear", lambda: None)
    panel.stop.click()
    panel.start.click()
    panel.thread.join()
    assert panel.status.value == "stopped; 0 of 3 epochs are kept" and len(panel.runs) == 1
    panel.clear.click()
    assert panel.runs == []


def test_the_panel_stops_after_what_is_done(options, monkeypatch):
    from persist.notebook.panel import Panel

    panel = Panel(**options)
    refresh = panel._refresh
    monkeypatch.setattr(
        panel, "_refresh", lambda **now: (panel.stop.click(), refresh(**now))
    )  # pressed after the first epoch
    panel.train(K=1)
    assert panel.status.value == "stopped; 1 of 3 epochs are kept" and panel.runs[0].status == "stopped"
    assert "1 of 3, stopped" in panel.table.value and "after epoch 1" in panel.curves.value


def test_the_panel_shows_an_error_where_one_looks(options, monkeypatch):
    from persist.notebook.panel import Panel

    panel = Panel(**options | dict(device="cuda:7"))
    panel.train()
    assert (
        panel.status.value.startswith("<b>ValueError: device must be one of cpu")
        and panel.runs == []
        and not panel.start.disabled
    )


def test_another_data_set_brings_its_rate(project):
    from persist.notebook.panel import Panel

    panel = Panel(root=project, m=256, K=5)
    panel.controls["dataset"].value = "cifar10"
    assert (
        panel.cell.lr == panel.controls["lr"].value == 0.0001
        and panel.controls["epochs"].value == panel.cell.epochs == 12
    )
    assert (panel.cell.m, panel.cell.K) == (256, 5)


def test_the_runs_of_one_data_set_are_shown_at_a_time(options):
    from persist.notebook.panel import Panel

    def seen(pattern):
        wait = time.monotonic() + 30  # the panel redraws in a thread
        while not re.search(pattern, panel.curves.value.partition("src=")[0]) and time.monotonic() < wait:
            time.sleep(0.05)
        with panel.drawing:
            return re.findall(r"run (\d): ", panel.curves.value.partition("src=")[0]), re.findall(
                r"<td>(\d+)</td>\s*<td>32</td>", panel.table.value
            )

    panel = Panel(**options)
    panel.train(K=1)
    panel.runs.append(run_of(Cell(m=32, epochs=3), 3, number=2))  # as if CIFAR-10 had been trained
    panel.overlay.value = False
    assert seen("run 1") == (["1"], ["1"])
    panel.controls["dataset"].value = "cifar10"
    assert seen("run 2") == (["2"], ["2"]) and [run.number for run in panel.shown()] == [2]
    panel.controls["dataset"].value = "digits"
    assert seen("run 1") == (["1"], ["1"]), "those of the other data set come back"
    panel.clear.click()
    assert [run.number for run in panel.runs] == [2], "what is not seen is not thrown away"
