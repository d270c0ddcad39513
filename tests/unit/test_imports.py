"""What imports what: light parts stay light."""

import re
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "torchvision",
    "matplotlib",
    "papermill",
    "IPython",
    "sklearn",
    "pandas",
    "tqdm",
    "yaml",
    "numpy",
    "scipy",
)


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


def test_what_reads_records_imports_no_torch(project):
    """Every module of persist/evidence, the command line, and what shows a run without training it."""
    evidence = [f"persist.evidence.{path.stem}" for path in sorted((project / "persist/evidence").glob("*.py"))]
    others = ["persist.cli", "persist.record", "persist.grids", "persist.provenance", "persist.notebook.runner"]
    loaded = loaded_by(f"import {', '.join([*evidence, *others])}", without=("torch", "torchvision"))
    assert "matplotlib" in loaded and len(evidence) > 5


def test_imports_point_down(project):
    """persist/notebook may use persist/evidence, both use the top level, which uses neither but in its command line."""
    for path in sorted((project / "persist").rglob("*.py")):
        # but for editors alone
        code = path.read_text().replace("    from persist.evidence.payoff import payoff\n", "")
        imported = re.findall(r"^\s*(?:from|import) (persist[\w.]*)", code, re.MULTILINE)
        folder = path.parent.name
        if folder == "persist" and path.stem != "cli":
            assert not [name for name in imported if name.startswith(("persist.evidence", "persist.notebook"))], path
        if folder == "evidence":
            assert not [name for name in imported if name.startswith("persist.notebook")], path


def test_cells_and_grids_import_only_yaml():
    assert loaded_by("from persist import Cell, load_grid; Cell(m=32).name") == {"yaml"}
    assert loaded_by("from persist.evidence.kinds import KINDS") == {"yaml"}  # each start of the engine does


def test_training_imports_neither_matplotlib_nor_the_notebook_stack():
    assert loaded_by("from persist import train").isdisjoint(
        {"matplotlib", "papermill", "IPython", "sklearn", "pandas"}
    )


@pytest.mark.parametrize(
    "first", ["import persist.training", "import persist.record", "import persist.evidence.figures", "pass"]
)
def test_train_is_the_function_whatever_was_imported_before(first):
    both = "assert callable(persist.train) and callable(persist.persistent)"
    loaded_by(f"{first}\nimport persist\n{both}\nfrom persist import train, Record")


def test_an_unknown_name_is_an_attribute_error():
    import persist

    with pytest.raises(AttributeError, match="nosuch"):
        _ = persist.nosuch
    assert set(persist.__all__) <= set(dir(persist)) and len(set(dir(persist))) == len(dir(persist))


def test_a_name_whose_library_is_missing_says_what_to_install():
    said = "persist.load_grid needs yaml: pip install -e '.[read]' in the checkout"
    code = f"import persist\ntry: persist.load_grid\nexcept ImportError as error: assert str(error) == {said!r}, error"
    assert loaded_by(code, without=["yaml"]) == set()
