"""`make figures`: every grid with records gets the pictures of its notebook."""

import pytest

from persist import Cell, load_grid
from persist.cell import NOTEBOOKS
from persist.draw import FIGURES, main
from helpers import make_record


def test_every_notebook_that_a_grid_can_name_has_its_figures_and_is_there(project):
    assert set(FIGURES) == set(NOTEBOOKS) and all((project / notebook).is_file() for notebook in NOTEBOOKS)


@pytest.mark.parametrize(
    "grid, pictures",
    [
        ("smoke", ["figure1", "figure2", "figure3", "figure4", "figure5", "m256-kmu"]),
        ("preview-sweep", ["sweep"]),
        ("readings-start", ["readings"]),
        ("reduced-controls", [f"controls-m{m}{policy}" for m in (256, 32, 512) for policy in ("", "-kmu")]),
    ],
)
def test_the_pictures_of_each_kind_of_grid(project, tmp_path, capsys, grid, pictures):
    for cell in load_grid(project / "grids" / f"{grid}.yaml").cells:
        record = make_record(cell)
        record.save(tmp_path / "results" / grid / f"{cell.name}.json")
    main([str(tmp_path / "results"), str(project / "grids"), str(tmp_path / "figures")])
    assert [p.name for p in (tmp_path / "figures").iterdir()] == [grid]
    written = sorted(p.name for p in (tmp_path / "figures" / grid).iterdir())
    assert written == sorted(f"{name}.{suffix}" for name in pictures for suffix in ("png", "svg"))
    assert len(capsys.readouterr().out.split()) == len(written)


def test_what_cannot_be_drawn_is_named(project, tmp_path):
    record = make_record(Cell(m=32, dataset="digits", epochs=2))
    record.save(tmp_path / "results" / "nosuch" / f"{record.cell.name}.json")
    with pytest.raises(SystemExit, match="nosuch.yaml: there is no such grid; the grids in .* are: controls, "):
        main([str(tmp_path / "results"), str(project / "grids"), str(tmp_path / "figures")])
    with pytest.raises(SystemExit, match="error: .*nowhere"):
        main([str(tmp_path / "nowhere"), str(project / "grids"), str(tmp_path / "figures")])


@pytest.mark.parametrize("grid", ["readings-start", "smoke", "reduced-sweep"])
def test_a_folder_without_records_is_named(project, tmp_path, grid):
    (tmp_path / "results" / grid).mkdir(parents=True)
    with pytest.raises(SystemExit, match=f"error: .*results/{grid} holds no record of a cell of .*grids/{grid}.yaml: put some there, or delete the folder"):
        main([str(tmp_path / "results"), str(project / "grids"), str(tmp_path / "figures")])
