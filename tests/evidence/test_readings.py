"""The choice of a reading: its rule, its table, its picture, its second stage."""

import math

import numpy as np
import pytest
import yaml
from helpers import make_record

from persist import Cell, load_grid, load_records
from persist.evidence.readings import (
    OPEN,
    choose_reading,
    describe_choice,
    describe_reading,
    distance,
    draw_readings,
    main,
    nearest,
    outcome,
    reading,
    readings_table,
    ruled_out,
    stage_two,
)

NEAR = dict(reduction="mean", padding="alexnet", scaling="channel")
FAR = dict(reduction="mean", padding="same", scaling="unit")


def m32(best=0.6364, at=80, final=0.60, **fields):
    """100 epochs of m = 32, K = 1 with that best accuracy at that epoch, and that final accuracy."""
    return make_record(
        Cell(m=32, **fields),
        accuracy=lambda e: best if e == at else final if e == 100 else min(best, final) - 0.001 * abs(e - at) / 100,
    )


def m512(accuracy, **fields):
    return make_record(Cell(m=512, **fields), accuracy=lambda e: accuracy)


def test_the_distance_is_in_units_of_what_the_paper_says():
    assert distance(m32()) == pytest.approx(0)
    assert distance(m32(best=0.6364 + 0.0068)) == pytest.approx(1)
    assert distance(m32(at=60)) == pytest.approx(2)
    assert distance(m32(best=0.70, final=0.66)) == pytest.approx(math.hypot((0.70 - 0.6364) / 0.0068, 3))
    assert distance(make_record(Cell(m=32), diverged_at=3)) is None and distance(
        m32(precision="tf32")
    ) == pytest.approx(0)
    others = (
        dict(m=512),
        dict(K=5),
        dict(epochs=2),
        dict(train_size=5120),
        dict(seed=1),
        dict(lr=0.05),
        dict(dataset="digits"),
        dict(width=0.5),
        dict(momentum=0.9),
    )
    for cell in (Cell(**{"m": 32, **other}) for other in others):
        assert distance(make_record(cell)) is None, "only m = 32, K = 1 on seed 0, the whole of it"


def test_the_nearest_with_which_m_512_trains_is_chosen():
    records = [m32(best=0.70, **FAR), m32(best=0.64, **NEAR), m32(best=0.66, reduction="sum")]
    assert nearest(records) == [
        reading(Cell(m=32, **NEAR)),
        reading(Cell(m=32, reduction="sum")),
        reading(Cell(m=32, **FAR)),
    ]
    assert choose_reading(records) is None and "none yet" in describe_choice(records)
    records += [m512(0.1, **NEAR), make_record(Cell(m=512, reduction="sum"), diverged_at=1)]
    assert choose_reading(
        records
    ) is None and "m = 512 does not train with: mean of the gradients, padding 'alexnet'" in describe_choice(records)
    assert choose_reading([*records, make_record(Cell(m=512, lr=0.05, **NEAR), accuracy=lambda e: 0.5)]) is None, (
        "at the paper's rate alone"
    )
    records += [m512(0.5, **FAR)]
    assert choose_reading(records) == reading(Cell(m=32, **FAR))
    text = describe_choice(records)
    assert text.startswith(
        "chosen: mean of the gradients, padding 'same', inputs 'unit', one hidden layer; used for the choice: m = 32, K = 1"
    )
    assert "Runners-up: mean of the gradients, padding 'alexnet', inputs 'channel'" in text


def test_what_became_of_a_run():
    assert outcome(m512(0.2)) == "learns" and outcome(m512(0.19)) == "below 0.2"
    assert outcome(make_record(Cell(m=512), diverged_at=3)) == "diverged in epoch 3"
    assert ruled_out([m512(0.5), make_record(Cell(m=512, **NEAR), diverged_at=3)]) == [reading(Cell(m=1, **NEAR))]
    assert (
        describe_reading(reading(Cell(m=1, hidden_layers=2)))
        == "sum of the gradients, padding 'same', inputs 'channel', 2 hidden layers"
    )


def test_the_table_has_a_row_per_cell():
    table = readings_table([m32(**NEAR), m512(0.1, **FAR), make_record(Cell(m=512, K=5), diverged_at=2)])
    assert list(table["m"]) == [32, 512, 512] and list(table["outcome"]) == [
        "learns",
        "below 0.2",
        "diverged in epoch 2",
    ]
    assert (
        table["distance"][0] == 0
        and table["distance"][1:].isna().all()
        and list(table["minibatches"]) == [156_300, 9_800, 196]
    )
    assert "distance" not in readings_table([m512(0.1)]).columns


def test_the_picture_shows_each_run_in_the_panels_of_its_m_and_reduction():
    records = [m512(0.3, **NEAR), m512(0.4, **FAR), make_record(Cell(m=32, epochs=5)), make_record(Cell(m=512, K=5))]
    figure = draw_readings(records)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [
        f"{reduction} of the gradients, m = {m}" for m in (32, 512) for reduction in ("sum", "sum", "mean", "mean")
    ]
    drawn = [[line.get_xydata() for line in ax.lines if len(line.get_xdata()) > 2] for ax in figure.axes]
    assert [len(lines) for lines in drawn] == [1, 1, 0, 0, 0, 0, 2, 2], "K = 5 is not drawn"
    assert np.array_equal(drawn[0][0], [(e["iterations"], e["test_accuracy"]) for e in records[2].history])
    assert np.array_equal(drawn[7][1], [(e["iterations"], e["test_loss"]) for e in records[1].history])


def test_the_second_stage_is_written_from_the_whole_first(project, tmp_path, capsys):
    first = tmp_path / "readings.yaml"
    first.write_text((project / "grids/readings.yaml").read_text())
    cells = load_grid(first).cells
    near = {Cell(m=32, precision="tf32", **r).name: best for r, best in ((NEAR, 0.64), (FAR, 0.65))}
    for cell in cells:
        m32(best=near.get(cell.name, 0.7), **{k: v for k, v in cell.as_dict().items() if k != "m"}).save(
            tmp_path / "records" / f"{cell.name}.json"
        )
    arguments = [str(tmp_path / "records"), str(first), str(tmp_path / "readings-nearest.yaml")]
    main(arguments)
    grid = load_grid(tmp_path / "readings-nearest.yaml")
    assert grid.beside == "readings" and grid.notebook == "notebooks/readings.ipynb"
    expected = {Cell(m=m, K=K, precision="tf32", **r) for r in (NEAR, FAR) for m, K in ((512, 1), (512, 5), (32, 5))}
    assert set(grid.cells) == expected and len(grid.cells) == 6
    (tmp_path / "records" / f"{cells[-1].name}.json").unlink()
    with pytest.raises(
        SystemExit, match=f"error: the first stage is not complete, there is no record of {cells[-1].name}"
    ):
        main(arguments)
    with pytest.raises(SystemExit, match="error: .*nowhere"):
        main([str(tmp_path / "nowhere"), *arguments[1:]])
    with pytest.raises(ValueError, match="two readings"):
        stage_two([make_record(c, diverged_at=1) for c in cells], cells)


def test_the_paper_s_grids_take_one_reading_and_it_is_the_chosen_one_once_there_is_one(project):
    keys = {
        name: {reading(c) for c in load_grid(project / "grids" / f"{name}.yaml").cells}
        for name in ("paper", "paper-seeds", "controls")
    }
    assert len(set.union(*keys.values())) == 1, keys
    folders = [project / "results" / name for name in ("readings", "readings-nearest")]
    chosen = choose_reading([record for folder in folders if folder.is_dir() for record in load_records(folder)])
    assert chosen is None or keys["paper"] == {chosen}


def test_the_grid_of_the_first_stage_has_one_cell_per_reading(project):
    cells = load_grid(project / "grids/readings.yaml").cells
    assert {(c.m, c.K, c.epochs, c.seed, c.lr, c.momentum) for c in cells} == {(32, 1, 100, 0, 0.001, 0.5)}
    assert len({reading(c) for c in cells}) == len(cells)
    start = project / "results/readings-start"
    assert not {reading(c) for c in cells} & set(ruled_out(load_records(start))), "what diverged at once is left out"
    grid = yaml.safe_load((project / "grids/readings-start.yaml").read_text())
    assert grid["base"] == {"train_size": 5120, "test_size": 1000}, "the paper's network, mu and momentum"
    assert set(OPEN) == {"reduction", "padding", "scaling", "hidden_layers"}
