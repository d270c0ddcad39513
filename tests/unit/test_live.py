"""Runs that one watches, without a browser: what is drawn, what is counted, stopped runs, the panel's buttons."""

import dataclasses
import re
import time

import numpy as np
import pytest
from helpers import make_record, numbers
from matplotlib.text import Text

from persist import Cell, Record, load_grid, train
from persist.evidence.curves import style
from persist.notebook.explore import Explorer, explore
from persist.notebook.live import cost_table, draw_runs, live_curves, sparing, to_html
from persist.notebook.progress import Stopped

BASE = dict(dataset="digits", width=0.05, lr=0.05)
SMALL = Cell(m=32, train_size=100, test_size=50, epochs=3, **BASE)
PANELS = [(clock, quantity) for quantity in ("test_accuracy", "test_loss") for clock in ("seconds", "epoch")]


def curves(ax):
    """(colour, line style, points) of the curves on the axes; that of chance has no colour of a K."""
    lines = [line for line in ax.lines if len(line.get_xdata()) > 1 and line.get_color() != "#888888"]
    return [(line.get_color(), line.get_linestyle(), line.get_xydata()) for line in lines]


def test_what_is_drawn_is_the_history_so_far_over_the_recorded_curves():
    run = make_record(Cell(m=256, K=5, epochs=6, **BASE), stopped_at=4)
    recorded = [make_record(Cell(m=256, K=K, epochs=9, **BASE)) for K in (1, 5)]
    figure = draw_runs({3: run}, recorded)
    expected = [run.history, recorded[0].history[:6], recorded[1].history[:6]]  # as far as the run will go
    for ax, (clock, quantity) in zip(figure.axes, PANELS, strict=True):
        assert [drawn[:2] for drawn in curves(ax)] == [style(5), style(1), style(5)]
        for (_, _, points), history in zip(curves(ax), expected, strict=True):
            key = "train_seconds" if clock == "seconds" else clock
            np.testing.assert_allclose(points, [(e[key], e[quantity]) for e in history])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["3: m = 256, K = 5, µ = 0.05", *(f"recorded: m = 256, K = {K}, µ = 0.05" for K in (1, 5))]
    assert [text.get_text() for ax in figure.axes for text in ax.texts] == ["3"] * 4
    title = figure.legends[0].get_title().get_text()
    assert title.startswith("scikit-learn's digits: trained on all 1,437") and title.endswith("one run per curve")
    assert "width 0.05" in figure.get_supxlabel()


def test_seconds_of_a_run_with_one_thread_are_those_of_one_core():
    run = make_record(SMALL)
    for entry in run.history:
        entry["cpu_seconds"] /= 2
    one_core = dataclasses.replace(run, environment={"cuda": None, "threads": 1})
    for drawn, key, label in (
        (run, "train_seconds", "seconds of training"),
        (one_core, "cpu_seconds", "seconds of one core"),
    ):
        figure = draw_runs({1: drawn})
        [(_, _, points)] = curves(figure.axes[0])
        np.testing.assert_array_equal(points[:, 0], [e[key] for e in run.history])
        assert figure.axes[2].get_xlabel() == label


def test_several_evaluations_in_an_epoch_have_places_of_their_own():
    cell = Cell(m=32, K=2, train_size=128, test_size=50, epochs=2, evaluate_every=64, **BASE)
    [(_, _, points)] = curves(draw_runs({1: make_record(cell)}).axes[1])
    np.testing.assert_array_equal(points[:, 0], [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2])


def test_what_diverged_is_held_out_or_not_there_yet():
    begun = Record(SMALL, [], {"cuda": None, "threads": None}, "unfinished")
    assert not any(curves(ax) for figure in (draw_runs({1: begun}), draw_runs({})) for ax in figure.axes)
    huge = make_record(SMALL)
    huge.history[1]["test_loss"] = 1e9
    assert draw_runs({1: huge}).axes[2].get_ylim()[1] < 5, "it does not flatten the others"
    lost = draw_runs({1: make_record(SMALL, diverged_at=2)})
    assert "X" in [line.get_marker() for line in lost.axes[0].lines]
    heldout = make_record(dataclasses.replace(SMALL, evaluate_on="heldout", test_size=None))
    assert draw_runs({1: heldout}).axes[0].get_ylabel() == "top-1 accuracy on the held-out images"


def test_every_text_of_the_picture_can_be_read():
    runs, recorded = {1: make_record(SMALL, stopped_at=2)}, [make_record(SMALL)]
    figure, least = draw_runs(runs, recorded), int(re.search(r"min-width: (\d+)px", to_html(runs, recorded))[1])
    texts = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
    assert min(texts) * least / (72 * figure.get_figwidth()) >= 9


@pytest.mark.parametrize("K", range(1, 17))
def test_a_K_has_one_style_everywhere_and_shares_it_with_no_other(K):
    assert style(K) == style(K) and style(K) not in [style(other) for other in range(1, 17) if other != K]


def test_costs():
    cell = Cell(m=512, K=5, epochs=4, lr_policy="kmu", **BASE)
    stopped = make_record(cell, stopped_at=2, accuracy=lambda n: 0.5 / n)
    table = cost_table({1: stopped}, [make_record(cell)])
    assert list(table["run"]) == [1, "recorded"] and list(table["epochs"]) == ["2 of 4", "4 of 4"]
    expected = dict(m=512, K=5, iterations="30", seconds="10.0") | {
        "µ": "k × 0.05",
        "examples loaded": "2,874",
        "gradient evaluations": "14,370",
        "best accuracy": "0.5000",
        "at epoch": 1,
        "last accuracy": "0.2500",
    }
    assert {name: table.iloc[0][name] for name in expected} == expected
    lost = cost_table({1: make_record(cell, diverged_at=1)}).iloc[0]
    assert (lost["epochs"], lost["best accuracy"]) == ("1 of 4, diverged", "-") and cost_table({}).empty


@pytest.mark.parametrize("reuse, announced", [("consecutive", 4), ("spaced", 8), ("fresh", 8)])
def test_each_minibatch_is_announced(reuse, announced):
    cell, seen = dataclasses.replace(SMALL, K=2, reuse=reuse, epochs=1), []
    record = train(cell, on_minibatch=lambda: seen.append(1))
    assert len(seen) == announced and numbers(record) == numbers(train(cell))


def test_a_picture_has_words():
    words = r'<img alt="Accuracy.*run 2: m = 32, K = 1, µ = 0.05 has 0.\d{4} after epoch 3." .*src="data:image/png;'
    assert re.search(words, to_html({2: make_record(SMALL)}))
    assert to_html({}) == "No curve yet." and "no epoch is done yet." in to_html({}, [make_record(SMALL)])


def test_drawing_takes_at_most_a_third_of_the_time():
    draws = []

    def draw():
        time.sleep(0.02)
        draws.append(time.monotonic())

    update, start = sparing(draw), time.monotonic()
    while time.monotonic() - start < 0.5:
        update()
        time.sleep(0.001)
    assert 2 <= len(draws) <= (draws[-1] - start) / 0.06 + 1, "a drawing of 0.02 s, then 0.04 s without"
    before = len(draws)
    update(at_once=True)
    update(at_once=True)
    assert len(draws) == before + 2


def test_curves_grow_in_the_notebook_that_trains(monkeypatch):
    class Handle:
        shown = []

        def update(self, html):
            self.shown.append(html.data)

    monkeypatch.setattr("persist.notebook.live.display", lambda *args, **kwargs: Handle())
    show = live_curves(SMALL)
    for entry in make_record(SMALL).history:
        show(entry)
    first, *_, last = Handle.shown
    assert first.startswith("m=32 K=1: epoch 1/3, test loss ") and "after epoch 1" in first
    assert last.startswith("m=32 K=1: epoch 3/3, test loss ") and "after epoch 3" in last


GRIDS = {
    "preview": """
base: {dataset: digits, width: 0.05, train_size: 100, test_size: 50, lr: 0.05, epochs: 3}
cells: [{m: [32, 64], K: [1, 2, 5]}, {m: 32, K: [2, 5], lr_policy: kmu}, {m: 32, K: 5, seed: 1}]
""",
    "paper": "base: {epochs: 100}\ncells: [{m: [32, 256], K: [1, 5]}]\n",
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project of small grids with made-up records: of all cells of preview."""
    (tmp_path / "grids").mkdir()
    for name, text in GRIDS.items():
        (tmp_path / "grids" / f"{name}.yaml").write_text(text)
    for cell in load_grid(tmp_path / "grids/preview.yaml").cells:
        make_record(cell).save(tmp_path / "results/preview" / f"{cell.name}.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_choice_comes_with_the_setting_and_the_records_of_its_grid(root):
    explorer = Explorer(m=64, K=5, lr=None)
    assert explorer.cell in load_grid("grids/preview.yaml").cells, "as it stands, it is one of the grid's"
    assert [(r.cell.m, r.cell.K) for r in explorer.recorded()] == [(64, 1), (64, 2), (64, 5)]
    explorer.choose(m=32, lr_policy="kmu")
    assert [(r.cell.K, r.cell.lr_policy, r.cell.seed) for r in explorer.recorded()] == [
        (1, "constant", 0), (2, "kmu", 0), (5, "kmu", 0),
    ]  # fmt: skip
    assert explorer.choose(m=48).width == 0.05 and explorer.recorded() == []
    own = explorer.choose(lr=0.1, epochs=7)
    for choice, message in (
        (dict(k=3), "unknown choice 'k': one chooses m, K, "),
        (dict(dataset="x"), "dataset must be one of 'cifar10', 'digits', not 'x'"),
        (dict(dataset=["a"]), "dataset must be one of 'cifar10', 'digits', not ['a']"),
        (dict(K=0), "K must be an int from 1"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            explorer.choose(**choice)
        assert explorer.cell == own
    kmu = Cell(m=32, K=5, lr_policy="kmu")
    assert explorer.choose(dataset="cifar10", m=32) == kmu, "m, K and policy stay, the rest is the other grid's"
    with pytest.raises(ValueError, match="widgets must be True, False, or None"):
        explore(widgets="yes")


def test_a_run_has_the_history_of_a_record_and_stops_within_an_epoch(root):
    explorer, calls, seen = Explorer(m=32), [], []
    whole = explorer.watch(SMALL, on_epoch=lambda entry: calls.append(len(explorer.runs[1].history)))
    assert calls == [1, 2, 3] and explorer.runs == {1: whole} and numbers(whole) == numbers(train(SMALL))

    def stop_in_the_second_epoch():
        seen.append(1)
        if len(seen) == SMALL.minibatches + 2:
            raise Stopped

    cut = explorer.watch(SMALL, on_epoch=calls.append, on_minibatch=stop_in_the_second_epoch)
    assert explorer.runs == {1: whole, 2: cut} and cut.status == "unfinished"
    assert numbers(cut)[1] == numbers(whole)[1][:1]
    assert {name: cut.environment[name] for name in ("cuda", "threads")} == {
        name: whole.environment[name] for name in ("cuda", "threads")
    }


def test_an_error_reaches_the_caller_and_what_is_done_stays(root):
    def fail(entry):
        raise RuntimeError("no more power")

    explorer = Explorer(m=32)
    with pytest.raises(RuntimeError, match="no more power"):
        explorer.watch(SMALL, on_epoch=fail)
    assert len(explorer.runs[1].history) == 1


@pytest.mark.parametrize("dataset, grid", [("digits", "preview"), ("cifar10", "paper")])
def test_the_grids_of_the_project_have_what_the_explorer_shows(project, monkeypatch, dataset, grid):
    monkeypatch.chdir(project)
    assert Explorer(dataset=dataset, m=256, K=5).cell in load_grid(f"grids/{grid}.yaml").cells


def test_in_batch_it_trains_and_says_so(root, monkeypatch, capsys):
    monkeypatch.setenv("PERSIST_BATCH", "1")
    shown = []
    monkeypatch.setattr("persist.notebook.explore.display", lambda *things: shown.extend(things))
    explorer = explore(m=32, K=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and re.match(r"m=32 K=2: epoch 3/3, test loss \d\.\d+, accuracy \d\.\d+, ", lines[2])
    explorer.train(K=1)
    assert {n: (run.cell.K, run.status) for n, run in explorer.runs.items()} == {1: (2, "finished"), 2: (1, "finished")}
    assert len(shown) == 4 and "recorded" in shown[-1].data


@pytest.fixture
def panel(root):
    from persist.notebook.panel import Panel

    return Panel(m=32, K=2)


def test_the_panel_trains_in_a_thread_stops_and_keeps(panel, monkeypatch):
    assert "<img alt=" in panel.curves.value and panel.table.value.count("<tr") == 4
    panel.start.click()
    assert panel.start.disabled and not panel.stop.disabled
    with pytest.raises(RuntimeError, match="a run is training"):
        panel.train()
    panel.thread.join()
    assert (panel.status.value, panel.bar.value, panel.start.disabled, panel.stop.disabled) == (
        "finished", 1, False, True,
    )  # fmt: skip
    # a slider decides the next run; stopped at its second minibatch it has no epoch, and nothing to keep
    panel.controls["K"].value = 3
    panel.controls["m"].value = 64
    assert (panel.cell.K, panel.cell.m) == (3, 64)
    monkeypatch.setattr(panel.stop_asked, "clear", lambda: None)
    panel.stop.click()
    panel.start.click()
    panel.thread.join()
    assert panel.status.value == "stopped; 0 of 3 epochs are kept" and list(panel.runs) == [1]
    panel.clear.click()
    assert panel.runs == {}


def test_the_panel_stops_after_what_is_done(panel, monkeypatch):
    refresh = panel._refresh  # the stop button is pressed after the first epoch
    monkeypatch.setattr(panel, "_refresh", lambda **now: (panel.stop.click(), refresh(**now)))
    panel.train(K=1)
    assert panel.status.value == "stopped; 1 of 3 epochs are kept" and panel.runs[1].status == "unfinished"
    assert "1 of 3" in panel.table.value and "after epoch 1" in panel.curves.value


def test_the_panel_says_how_long_it_will_take(panel):
    seen = []
    panel.status.observe(lambda change: seen.append(change.new), "value")
    panel.train()
    assert [re.sub(r", \d+ s left", ", so long", text) for text in seen] == [
        "epoch 0 of 3",
        *(f"epoch {n} of 3, so long" for n in (1, 2, 3)),
        "finished",
    ]


def test_the_panel_shows_an_error_where_one_looks(panel):
    panel.device = "cuda:7"
    panel.train()
    assert panel.status.value.startswith("<b>ValueError: device must be one of cpu")
    assert panel.runs == {} and not panel.start.disabled


def test_another_data_set_brings_its_rate(panel):
    panel.controls["dataset"].value = "cifar10"
    assert panel.cell == Cell(m=32, K=2)
    assert panel.controls["lr"].value == 0.001 and panel.controls["epochs"].value == 100


def test_the_runs_of_one_data_set_are_shown_at_a_time(panel):
    def seen(pattern):
        wait = time.monotonic() + 30  # the panel redraws in a thread
        while not re.search(pattern, panel.curves.value.partition("src=")[0]) and time.monotonic() < wait:
            time.sleep(0.05)
        with panel.drawing:
            words = panel.curves.value.partition("src=")[0]
            return re.findall(r"run (\d): ", words), re.findall(r"<td>(\d+)</td>\s*<td>32</td>", panel.table.value)

    panel.train(K=1)
    panel.runs[2] = make_record(Cell(m=32, epochs=3))  # as if CIFAR-10 had been trained
    panel.overlay.value = False
    assert seen("run 1") == (["1"], ["1"])
    panel.controls["dataset"].value = "cifar10"
    assert seen("run 2") == (["2"], ["2"]) and list(panel.shown()) == [2]
    panel.controls["dataset"].value = "digits"
    assert seen("run 1") == (["1"], ["1"]), "those of the other data set come back"
    panel.clear.click()
    assert list(panel.runs) == [2], "what is not seen is not thrown away"
