"""The recorded evidence in results/, and what is drawn from it."""

import pytest
from persist.draw import figures_of

from persist import load_grid, load_records
from persist.evidence.figures import save_all

GRIDS = (
    "preview",
    "reduced",
    "preview-sweep",
    "reduced-sweep",
    "reduced-sweep-mean",
    "readings-start",
    "reduced-controls",
    "preview-precision",
    "reduced-precision",
)


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_is_recorded_and_says_where_it_ran(project, name):
    records = load_records(project / "results" / name)
    assert {r.cell for r in records} == set(load_grid(project / "grids" / f"{name}.yaml").cells)
    for record in records:
        e = record.environment
        assert e["torch"] and e["torchvision"] and e["numpy"] and e["python"] and e["device"] and e["threads"] >= 1
        assert len(e["git_commit"]) == 40 and not e["git_modified"], "it ran from a commit, as committed"
    assert len({(r.cell.dataset, r.environment["data_sha256"]) for r in records}) == 1


def test_records_hold_no_path_of_a_machine(project):
    for path in (project / "results").rglob("*.json"):
        assert "/" not in path.read_text(), path


@pytest.mark.parametrize("name", GRIDS)
def test_the_committed_figures_are_drawn_from_these_records(project, name, tmp_path):
    drawn = save_all(figures_of(name, project / "results", project / "grids"), tmp_path)
    assert {p.name for p in drawn} == {p.name for p in (project / "figures" / name).iterdir()}
    for path in drawn:
        committed = project / "figures" / name / path.name
        if path.suffix == ".svg":  # how a PNG is compressed depends on the platform
            assert committed.read_text() == path.read_text(), f"{committed} is not what its records give: make figures"
