"""Where the gain in time comes from: two models, what is read from the records, and MONAI's loader."""

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import make_record
from hypothesis import given
from hypothesis import strategies as st

from persist import Cell
from persist import data as datasets
from persist.evidence import loading
from persist.evidence.loading import NotMeasured, compare, errors, maximum, measure, place, ratios, runs, summed
from persist.grids import load_grid
from persist.persistency import persistent

E, L, H = 0.25, 6.0, 0.75  # seconds an epoch of 50 000 images, of the made-up loader
C = {0.01: 1.0, 0.25: 3.0, 1.0: 15.0}  # width -> seconds of a pass
NO_OTHERS = loading.load_others("not there")
WORLDS = {
    "max": lambda load, take, train: max(load, take + train),  # of an epoch: loading, hand-over, training
    "sum": lambda load, take, train: load + train,
}


def timed(cell, seconds, busy, *, pinned=(0, 1), warm_up=1.0, **environment):
    """A record of epochs of so many seconds, the first of which takes `warm_up` times as long."""
    record = make_record(cell)
    for n, entry in enumerate(record.history):
        entry |= {"train_seconds": seconds * (n + warm_up), "cpu_seconds": busy * (n + warm_up)}
    where = {"device": "Some CPU", "cuda": None, "threads": 1, "pinned": list(pinned), **environment}
    return dataclasses.replace(record, environment=record.environment | where)


def cells():
    base = dict(m=512, epochs=3, pipeline="loader")
    wide = [Cell(**base, width=width, K=K) for width in C for K in (1, 2, 5)]
    return [*wide, Cell(**base, width=0.01, train_size=5000)]


def records(world="max", **changes):
    """Of cells(), in a world where one of the models holds."""
    found = []
    for cell in cells():
        load, take, train = (cell.examples / 50_000 * each for each in (L, H, cell.K * C[cell.width]))
        found.append(timed(cell, E + WORLDS[world](load, take, train), take + train, **changes))
    return found


def test_the_models_give_the_papers_times():
    """m = 32: 7 and 20 s an epoch with K = 1 and 5, by L = 7, C = 4 s or by L = 3.75, C = 3.25 s."""
    assert [7 * maximum(4 / 7, K) for K in (1, 2, 5)] == pytest.approx([7, 8, 20])
    assert [7 * summed(3.25 / 3.75, K) for K in (1, 2, 5)] == pytest.approx([7, 10.25, 20])
    assert place(20 / 7, 5) == pytest.approx({"max": 4 / 7, "sum": 3.25 / 3.75})


def test_start_and_hand_over_enter_the_models():
    # E = 1, L = 10, H = 2, C = 3 s: 1 + max(10, 2 + 15) over 1 + max(10, 5); in turns 1 + 10 + 15 over 1 + 10 + 3
    assert maximum(0.3, 5, 0.1, 0.2) == pytest.approx(18 / 11)
    assert summed(0.3, 5, 0.1, 0.2) == pytest.approx(26 / 14)


shares = st.floats(0, 2)
ratios_of_times = st.floats(1e-3, 1e3)


@given(c=ratios_of_times, more=st.floats(1, 10), K=st.integers(1, 20), e=shares, h=shares)
def test_k_uses_cost_one_to_k_times_and_more_the_slower_the_training(c, more, K, e, h):
    for model in (maximum, summed):
        assert 1 - 1e-12 <= model(c, K, e, h) <= K + 1e-9
        assert model(c, K, e, h) <= model(c * more, K, e, h) + 1e-9
        assert model(c, 1, e, h) == 1


@given(K=st.integers(2, 20), share=st.floats(0.01, 0.99))
def test_place_is_where_a_model_has_the_ratio(K, share):
    ratio = 1 + share * (K - 1)
    at = place(ratio, K)
    assert summed(at["sum"], K) == pytest.approx(ratio)
    assert maximum(at["max"], K) == pytest.approx(ratio)


@pytest.mark.parametrize("world", WORLDS)
def test_every_time_is_found_again_whichever_model_holds(world):
    table = compare(runs(records(world)))
    assert measure(runs(records(world))) == pytest.approx((E, L, H, 50_000))
    assert dict(zip(table["width"], table["C, s"])) == pytest.approx(C)
    other = {"max": "sum", "sum": "max"}[world]
    assert errors(table)[world].abs().max() < 1e-9
    assert errors(table)[other].abs().mean() > 0.1
    # C/L is 1/6, 1/2 and 5/2; K = 2 of the first gives L
    left = errors(table)[table["C/L"] < 1].iloc[1:].abs().mean()
    assert len(table) == 6 and left[world] < 1e-9
    said = loading.tested(table)
    assert said == f"m = 512: {left['max']:.1%} by the max model, {left['sum']:.1%} by the sum model"
    assert loading.describe(runs(records(world))).endswith(f"without the ratio that gives L: {said}.")
    assert loading.tested(table[table["C/L"] > 1]) == "nothing measured"


def test_a_smaller_m_with_the_loaders_own_time_for_it():
    """At m = 32 loading takes 9 s, the hand-over 2 s and a pass 3 s: max(9, 2 + 3 K) over 9, with E."""
    smaller = [Cell(m=32, epochs=3, pipeline="loader", width=0.25, K=K) for K in (1, 2, 5)]
    made_up = [timed(cell, E + max(9, 2 + 3 * cell.K), 2 + 3 * cell.K) for cell in smaller]
    alone = loading.load_others("not there")
    alone.loc[0] = ["loader", 32, 0.25, 0, 50_000, E + 9, 0.5]
    *_, two, five = loading.describe_small([*records("max"), *made_up], alone).splitlines()
    start = "| 32 | 0.25 | 9.00 | 2.00 | 3.00 | 0.33"
    assert two == f"{start} | 2 | 9.2 | 9.2 | 1.00 | 1.00 (+0%) | 1.24 (+24%) |"  # 15.25 / 12.25
    assert five == f"{start} | 5 | 9.2 | 17.2 | 1.86 | 1.86 (+0%) | 1.98 (+6%) |"  # 24.25 / 12.25
    assert loading.describe_small(records("max"), alone) == "Not recorded yet."


def test_ratios_are_as_measured():
    found = ratios(records("max"), NO_OTHERS)
    assert np.ravel(sorted(found)) == pytest.approx(np.ravel([(c / L, K) for c in C.values() for K in (2, 5)]))
    # C = 3 s: 0.25 + max(6, 0.75 + 3 K) seconds; C = 15 s: 0.25 + 0.75 + 15 K
    expected = [1, 1, 7 / 6.25, 16 / 6.25, 31 / 16, 76 / 16]
    assert [found[key] for key in sorted(found)] == pytest.approx(expected)


def test_a_slower_loader_counts_among_the_ratios_and_monais_does_not():
    others = runs(records("sum")).assign(loader="decoding", seconds=lambda rows: rows["seconds"] * 10)
    found = ratios(records("max"), others)
    assert found == ratios(records("max"), NO_OTHERS) | ratios([], others)
    assert len(ratios([], others)) == 6 and ratios([], others.assign(loader="monai")) == {}


def simulate(width, K, n, slots):
    """(seconds, CPU seconds of the training) of an epoch of n images in minibatches of 512: a worker loads into so many
    slots, each of which is free again once the training has taken the minibatch over; 0: they take turns."""
    minibatches = round(n / 512)
    load, take, train = (each * 512 / 50_000 for each in (L, H, C[width]))
    loaded, taken, now = [], [], E
    for i in range(minibatches):
        free = 0.0 if slots and i < slots else taken[i - slots] if slots else now
        begin = max(free, loaded[-1] if loaded else E)
        loaded.append(begin + load)
        taken.append(max(now, loaded[-1]) + (take if slots else 0))
        now = taken[-1] + K * train
    return now, minibatches * (take + K * train)


@pytest.mark.parametrize("slots, holds", [(2, "max"), (0, "sum")])
def test_a_simulated_loader_obeys_its_model(slots, holds):
    """98 minibatches an epoch, so what one minibatch cannot hide is of the order of 1 % of an epoch."""
    simulated = [
        timed(cell, *simulate(cell.width, cell.K, round(cell.examples / 512) * 512, slots)) for cell in cells()
    ]
    table = compare(runs(simulated))
    assert abs(measure(runs(simulated))[1] - L) < 0.02 * L
    assert errors(table)[holds].abs().max() < 0.03
    assert errors(table).abs().mean().idxmin() == holds


def test_the_first_epoch_warms_up_and_is_left_out():
    base = dict(m=512, pipeline="loader")
    found = runs([timed(Cell(**base, epochs=2), 2.0, 1.0, warm_up=5.0), timed(Cell(**base, epochs=1), 3.0, 1.0)])
    assert found[["seconds", "busy"]].to_numpy().tolist() == [[2, 1], [3, 1]]
    assert ratios(records("max", warm_up=3.0), NO_OTHERS) == pytest.approx(ratios(records("max"), NO_OTHERS))


def test_runs_that_say_nothing_of_these_times_are_left_out():
    good, cell = records(), Cell(m=512, K=5, epochs=3, pipeline="loader", width=0.5)
    bad = [
        timed(cell, 99.0, 99.0, pinned=()),  # training and worker may have shared a core
        timed(cell, 99.0, 99.0, pinned=(0,)),
        timed(cell, 99.0, 99.0, device="Another CPU"),
        timed(dataclasses.replace(cell, pipeline="resident"), 99.0, 99.0),
        dataclasses.replace(timed(cell, 99.0, 99.0), status="unfinished"),
        dataclasses.replace(timed(cell, 99.0, 99.0), status="diverged"),
    ]
    for record in bad:
        assert runs([record, *good]).equals(runs(good)), record
    assert len(runs([*good, timed(cell, 99.0, 99.0)])) == len(good) + 1


@pytest.mark.parametrize("missing", [dict(K=1), dict(K=2), dict(train_size=5000)])
def test_without_the_runs_that_measure_the_loader_nothing_is_recorded(missing):
    def is_missing(cell):
        wanted = dict(width=0.01, train_size=None) | missing
        return all(getattr(cell, name) == value for name, value in wanted.items())

    left = [record for record in records() if not is_missing(record.cell)]
    assert len(left) == len(records()) - 1
    assert ratios(left, NO_OTHERS) == ratios([], NO_OTHERS) == {}
    with pytest.raises(NotMeasured, match="Not recorded yet"):
        measure(runs(left))


def test_a_network_that_is_never_faster_than_the_loader_cannot_measure_it(monkeypatch):
    monkeypatch.setitem(C, 0.01, 8.0)
    with pytest.raises(NotMeasured, match="16.75 s"):  # H + 2 C
        measure(runs(records()))
    assert "16.75 s" in loading.texts(records(), NO_OTHERS)["when"]


def test_in_memory_every_use_costs_its_time():
    resident = [Cell(m=512, K=K, epochs=3, width=0.25) for K in (1, 2, 5)]
    in_memory = [timed(cell, 99.0, 0.5 + 2.0 * cell.K, pinned=(1,)) for cell in resident]
    # 0.5 + 2 K seconds: 4.5 and 10.5 over 2.5
    told = "an epoch takes 1.80 times as long with K = 2 and 4.20 times as long with K = 5 (m = 512"
    assert told in loading.when([*records(), *in_memory], NO_OTHERS)
    assert "an epoch takes (not recorded yet) (" in loading.when(records(), NO_OTHERS)


def test_the_paragraph_says_the_numbers():
    text = loading.when(records("max"), NO_OTHERS)
    assert "K = 5 is free here up to C/L = 0.17. " in text  # (1 - H/L) / 5 = 0.175
    assert (
        "an epoch with K = 5 takes 1.00 times as long as with K = 1 where C/L is 0.17, and 4.75 times where it is 2.50;"
        in text
    )
    assert "Mean error of the models where C/L is below 1: m = 512: 0.0% by the max model" in text


def test_the_grid_measures_all_that_the_page_shows(project):
    """Its configurations, with made-up times, leave nothing "not recorded", and it names what makes a reading."""
    text = (project / "grids/loading.yaml").read_text()
    reading = "stride padding hidden_layers reduction scaling drop_last nesterov momentum_form"
    for field in reading.split():
        assert re.search(rf"\b{field}: ", text), field
    made_up, grid = [], load_grid(project / "grids/loading.yaml")
    for cell in grid.cells:
        part, train = cell.examples / 50_000, cell.K * (1 + 12 * cell.width)
        if cell.pipeline == "loader":
            made_up.append(timed(cell, E + part * max(L, H + train), part * (H + train)))
        else:
            made_up.append(timed(cell, part * train, part * train, pinned=(0,)))
    blocks = loading.texts(made_up, NO_OTHERS)
    assert not any("ot recorded yet" in blocks[name] for name in ("when", "table", "picture"))
    table = compare(runs(made_up))
    assert set(table["m"]) == {32, 512} and set(table["K"]) == {2, 5}
    assert errors(table)["max"].abs().max() < 1e-9
    assert len(re.findall(r"^\| (?:512|32) \|", blocks["table"], re.MULTILINE)) == len(table)


def test_nothing_recorded_is_said():
    blocks = loading.texts([], NO_OTHERS)
    assert {name for name, block in blocks.items() if block == "Not recorded yet."} == set(blocks) - {"paper"}
    assert "C/L = 0.57" in blocks["paper"] and "8 s or 10.25 s" in blocks["paper"]
    loading.draw_loading([], NO_OTHERS)


def test_the_page_has_a_place_for_every_block(project):
    marks = re.findall(r"<!-- loading (\w+) -->\n(.*?)<!-- end -->", (project / "docs/time.md").read_text(), re.DOTALL)
    assert {name for name, _ in marks} == set(loading.texts([], NO_OTHERS)) and len(marks) == 8


def drawn(ax):
    """Label -> its points."""
    return {line.get_label(): line.get_xydata() for line in ax.lines}


def test_the_picture_shows_what_was_measured_and_both_models(tmp_path):
    for name, loader in (("loading", "monai"), ("slow_loader", "decoding")):
        rows = [dict(zip(loading.COLUMNS, row)) for row in runs(records("sum")).assign(loader=loader).to_numpy()]
        (tmp_path / f"{name}.json").write_text(json.dumps({"runs": rows}))
    ours, theirs = compare(runs(records("max"))), compare(runs(records("sum")))
    for ax, K in zip(loading.draw_loading(records("max"), loading.load_others(tmp_path)).axes, (2, 5), strict=True):
        lines = drawn(ax)
        for table, label in (
            (ours, "behind a DataLoader, m = 512"),
            (theirs, "behind MONAI's loader, m = 512"),
            (theirs, "behind a slower loader, m = 512"),
        ):
            expected = table[table["K"] == K][["C/L", loading.RATIO]].to_numpy()
            np.testing.assert_allclose(lines[label], expected)
        for law, label in loading.MODELS.values():
            c, ratio = lines[label].T
            np.testing.assert_allclose(ratio, law(c, K, E / L, H / L))
    np.testing.assert_allclose(lines["the paper, m = 32: placed, not tested"][:, 1], 20 / 7)


@pytest.fixture(scope="module")
def benchmark(project):
    pytest.importorskip("monai")
    spec = importlib.util.spec_from_file_location("benchmark_loading", project / "benchmarks/loading.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TINY = dict(dataset="digits", width=0.01, epochs=2, pipeline="loader")


def test_monais_loader_gives_the_minibatches_of_persistent(benchmark):
    cell = Cell(m=16, K=3, train_size=40, **TINY)
    train = benchmark.datasets.load(cell).train
    expected = list(persistent(benchmark.datasets.Resident(cell, train, torch.device("cpu")).minibatches(2), 3))
    found = list(benchmark.Monai(cell, train, torch.device("cpu")).minibatches(2))
    assert len(found) == len(expected) == 9
    for (images, labels), (_, (their_images, their_labels)) in zip(found, expected, strict=True):
        torch.testing.assert_close(images, their_images)
        assert labels.tolist() == their_labels.tolist()


def test_the_benchmark_measures_what_the_page_reads(benchmark, tmp_path):
    cells = [Cell(m=16, K=K, train_size=32, **TINY) for K in (1, 2)] + [Cell(m=16, train_size=16, **TINY)]
    rows = benchmark.measure(cells)
    (tmp_path / "loading.json").write_text(json.dumps({"runs": rows}))
    monai = loading.load_others(tmp_path)
    assert [tuple(row) for row in monai[["loader", "m", "K", "examples"]].to_numpy()] == [
        ("monai", 16, 1, 32),
        ("monai", 16, 2, 32),
        ("monai", 16, 1, 16),
        ("monai", 16, 0, 32),
        ("loader", 16, 0, 32),
    ]
    assert all(len(row["seconds"]) == 1 for row in rows)  # of two epochs the first warms up
    assert ((monai["busy"] > 0) & (monai["busy"] < monai["seconds"])).all()
    assert loading.texts([], monai)["alone"].startswith("| loader | m | seconds |")


def test_the_slower_loader_gives_the_same_pixels_and_its_rows_are_read(project, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(project / "benchmarks")
    slow_loader = importlib.import_module("slow_loader")
    cell = Cell(m=16, train_size=32, **TINY)
    train = datasets.load(cell).train
    images = torch.stack([slow_loader.Decoding(cell, train, side=64)[i][0] for i in range(32)])
    torch.testing.assert_close(images, datasets.scale(train.images, cell).contiguous())
    reused = slow_loader.Reused(dataclasses.replace(cell, K=3), train, side=64)
    labels = [labels.tolist() for _, labels in reused.minibatches(1)]
    assert len(labels) == 6 and labels[0] == labels[1] == labels[2] != labels[3]
    cells = [cell, dataclasses.replace(cell, K=2), dataclasses.replace(cell, train_size=16)]
    rows = slow_loader.measure(cells, 64, None)
    (tmp_path / "slow_loader.json").write_text(json.dumps({"runs": rows}))
    found = loading.of(loading.load_others(tmp_path), "decoding")
    assert found[["m", "K", "examples"]].to_numpy().tolist() == [[16, 1, 32], [16, 2, 32], [16, 1, 16]]


def test_the_notebook_draws_the_records(project, tmp_path):
    for record in records():
        record.save(tmp_path / "mine" / f"{record.cell.name}.json")
    grid = {"kind": "loading", "cells": [cell.as_dict() for cell in cells()]}
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids/mine.yaml").write_text(json.dumps(grid))
    command = [sys.executable, "-m", "papermill", str(project / "notebooks/loading.ipynb"), "executed.ipynb"]
    parameters = ["-p", "grid", "mine", "-p", "root", ".", "-p", "figures_dir", "drawn"]
    subprocess.run([*command, *parameters], cwd=tmp_path, check=True, capture_output=True)
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"loading.png", "loading.svg"}
    assert "K = 5 is free here up to C/L = 0.17" in (tmp_path / "executed.ipynb").read_text()
