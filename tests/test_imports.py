"""What imports what: light parts stay light."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "matplotlib", "papermill", "IPython", "sklearn", "pandas", "tqdm", "yaml")


def loaded_by(statement, without=()):
    """The heavy modules that a fresh interpreter has loaded after a statement; `without` cannot be imported in it."""
    block = "".join(f"sys.modules[{name!r}] = None\n" for name in without)
    code = f"import sys\n{block}{statement}\nprint(*[m for m in {HEAVY!r} if sys.modules.get(m)])"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_persistent_needs_nothing():
    assert (
        loaded_by("from persist import persistent; assert list(persistent([7], 2)) == [(1, 7), (2, 7)]", without=HEAVY)
        == set()
    )


def test_figures_and_records_import_no_torch():
    assert loaded_by(
        "import persist.evidence.figures, persist.record, persist.sweep, persist.evidence.speed",
        without=("torch", "torchvision"),
    ) >= {"matplotlib"}


def test_cells_and_grids_import_only_yaml():
    assert loaded_by("from persist import Cell, load_grid; Cell(m=32).name") == {"yaml"}


def test_training_imports_neither_matplotlib_nor_the_notebook_stack():
    assert loaded_by("from persist import train").isdisjoint(
        {"matplotlib", "papermill", "IPython", "sklearn", "pandas"}
    )


@pytest.mark.parametrize(
    "first", ["import persist.training", "import persist.record", "import persist.evidence.figures", "pass"]
)
def test_train_is_the_function_whatever_was_imported_before(first):
    loaded_by(
        f"{first}\nimport persist\nassert callable(persist.train) and callable(persist.persistent)\nfrom persist import train, Record"
    )


def test_an_unknown_name_is_an_attribute_error():
    import persist

    with pytest.raises(AttributeError, match="nosuch"):
        persist.nosuch
    assert set(persist.__all__) <= set(dir(persist))
