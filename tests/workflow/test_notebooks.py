"""The committed notebooks: executed, normalised, thin; papermill's parameters. nbval, in strict mode, runs them itself
(`python -m pytest` collects notebooks/ as well)."""

import ast
import json
import os
import subprocess
from typing import Optional

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from workshop import environment

from persist import Cell, load_records
from persist.cli import parser
from persist.evidence.kinds import KINDS

# Cells whose outputs nbval does not compare, by the start of their source, and why. All others are compared strictly.
NOT_COMPARED = {
    ("cell.ipynb", "record = train_or_load("): "it measures time, and its lines tell the time left",
    ("your_own_loop.ipynb", "@torch.no_grad()"): "it measures time",
    ("your_own_loop.ipynb", "from itertools import islice"): "it measures time",
    ("explore.ipynb", "check_parameters(In"): "it trains, and measures time",
}
OTHERS = ("data_root", "results_dir", "device", "force")  # parameters of cell.ipynb that are no fields


def notebooks(project):
    paths = sorted((project / "notebooks").glob("*.ipynb"))
    assert {kind.notebook for kind in KINDS.values()} < {f"notebooks/{path.name}" for path in paths}
    return [(path, nbformat.read(path, as_version=4)) for path in paths]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def without_magic(cell):
    return "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))


def parameters_cell(notebook):
    [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return cell


@pytest.fixture(scope="module")
def cell_notebook(project):
    return load_notebook_node(str(project / "notebooks/cell.ipynb"))


def test_notebooks_are_committed_executed_and_without_errors(project):
    for path, notebook in notebooks(project):
        counts = [cell.execution_count for cell in code_cells(notebook)]
        assert counts == list(range(1, len(counts) + 1)), f"{path.name} was not run from top to bottom: make notebooks"
        assert not [o for cell in code_cells(notebook) for o in cell.outputs if o.output_type == "error"], path.name


def test_notebooks_are_normalised(project):
    for path, notebook in notebooks(project):
        text = path.read_text()
        assert set(notebook.metadata) <= {"kernelspec", "language_info"}, f"{path.name}: make notebooks"
        assert set(notebook.metadata.get("language_info", {})) <= {"name"}
        for cell in notebook.cells:
            assert set(cell.metadata) <= {"tags"}, path.name
        assert "application/vnd.jupyter.widget" not in text, (
            f"{path.name} holds a widget, which nothing can show without its kernel"
        )
        for trace in (str(project), os.path.expanduser("~") + "/", "/tmp/"):
            assert trace not in text, f"{path.name} holds a path of a machine: {trace}"


def test_what_nbval_does_not_compare_is_listed_with_a_reason(project):
    found = {
        (path.name, start)
        for path, notebook in notebooks(project)
        for cell in code_cells(notebook)
        if {"nbval-ignore-output", "nbval-skip"} & set(cell.metadata.get("tags", []))
        for start in [next((s for n, s in NOT_COMPARED if n == path.name and cell.source.startswith(s)), cell.source)]
    }
    assert found == set(NOT_COMPARED)


def test_notebooks_are_thin(project):
    """They call the package: no functions, classes or loops of their own, hence no metrics either. The one exception is
    about a loop of the reader's own."""
    functions = (ast.FunctionDef, ast.ClassDef, ast.Lambda)
    loops = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    for path, notebook in notebooks(project):
        for cell in code_cells(notebook) if path.name != "your_own_loop.ipynb" else []:
            tree = ast.parse(without_magic(cell))
            found = [node for node in ast.walk(tree) if isinstance(node, functions + loops)]
            assert not found, f"{path.name}: {ast.unparse(found[0])}"


def test_the_cell_notebook_takes_the_fields_of_Cell_and_four_more(cell_notebook):
    lines = [line for line in parameters_cell(cell_notebook).source.splitlines() if line]
    names = [line.split(":")[0] for line in lines]
    assert names == [*Cell.fields(), *OTHERS] and all("  # " in line for line in lines), "each is explained"
    values = {"Optional": Optional}
    exec("\n".join(lines), values)
    types = {name: values["__annotations__"][name] for name in names}
    # int | None is Optional[int], which papermill can read
    assert {name: types[name] for name in Cell.fields()} == Cell.__annotations__
    Cell(**{name: values[name] for name in Cell.fields()})
    typed = parser().parse_args(["train", "--m", "32"])
    assert all(values[name] == getattr(typed, name) for name in OTHERS), "as `persist train` has them"


def described(cell_notebook, **injected):
    """Run the notebook as papermill parametrises it as far as it says what will run; the variables."""
    notebook = parameterize_notebook(cell_notebook, injected)
    values = {"In": [""]}
    for cell in code_cells(notebook):
        code = without_magic(cell).replace('os.chdir("..")', "pass")
        values["In"].append(cell.source)
        exec(code, values)
        if "cell_of(" in code:
            return values
    raise AssertionError("it does not call cell_of")


@pytest.mark.parametrize(
    "injected",
    [{}, {"m": 512, "K": 2, "evaluate_every": 1000, "reuse": "spaced"}, {"stride": 1, "padding": "alexnet", "lr": 1}],
)
def test_the_cell_is_that_of_the_parameters(cell_notebook, injected):
    values = described(cell_notebook, **injected, results_dir="elsewhere")
    assert values["results_dir"] == "elsewhere"
    assert {name: getattr(values["cell"], name) for name in injected} == injected


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("K", 0, "K must be an int from 1 to 1000000, not 0"),
        ("m", -3, "m must be an int from 1 to 1437 (the training examples of digits used here), not -3"),
        ("m", 10**6, "m must be an int from 1 to 1437 (the training examples of digits used here), not 1000000"),
        ("lr_policy", "foo", "lr_policy must be one of 'constant', 'kmu', not 'foo'"),
        ("epoch", 3, f"unknown parameter 'epoch': this notebook has {', '.join([*Cell.fields(), *OTHERS])}"),
        ("precision", "fp32", "unknown parameter 'precision': this notebook has "),
        ("dataset", "nosuch", "dataset must be one of 'cifar10', 'digits', not 'nosuch'"),
    ],
)
def test_a_bad_parameter_is_refused_before_anything_trains(cell_notebook, name, value, message):
    with pytest.raises(ValueError) as error:
        described(cell_notebook, **{name: value})
    assert str(error.value).startswith(message)


def papermill(project, folder, **parameters):
    """Run the cell notebook as the README shows it, with the records in `folder`."""
    (folder / "tmp").mkdir(exist_ok=True)
    command = ["papermill", "notebooks/cell.ipynb", str(folder / "out.ipynb"), "--no-progress-bar", "--log-level=ERROR"]
    for name, value in {"results_dir": folder / "records/mine", **parameters}.items():
        command += ["-p", name, str(value)]
    return subprocess.run(command, cwd=project, env=environment(folder), capture_output=True, text=True)


@pytest.mark.slow
def test_papermill_runs_a_cell_of_ones_own(project, tmp_path):
    fields = dict(m=512, K=5, lr_policy="kmu", epochs=2, dataset="digits")
    run = papermill(project, tmp_path, **fields)
    assert run.returncode == 0, run.stderr
    [record] = load_records(tmp_path / "records/mine")
    assert {name: getattr(record.cell, name) for name in fields} == fields
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    [injected] = [cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert "K = 5" in injected.source
    text = json.dumps(notebook)
    assert "epoch 2/2" in text and "image/png" in text
    # once more: the record is shown, not trained again
    before = (tmp_path / "records/mine" / f"{record.cell.name}.json").stat().st_mtime_ns
    run = papermill(project, tmp_path, **fields)
    assert run.returncode == 0 and "is there already" in (tmp_path / "out.ipynb").read_text()
    assert (tmp_path / "records/mine" / f"{record.cell.name}.json").stat().st_mtime_ns == before
    # an unknown parameter, of which papermill itself only warns
    run = papermill(project, tmp_path, epoch=3)
    [*_, last] = run.stderr.strip().splitlines()
    assert run.returncode != 0 and last.startswith("ValueError: unknown parameter 'epoch'")
    assert len(load_records(tmp_path / "records/mine")) == 1
