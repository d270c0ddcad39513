"""The committed notebooks: executed, normalised, thin; papermill's parameters. nbval, in strict mode, runs them itself
(`python -m pytest` collects notebooks/ as well)."""

import json
import os
import subprocess
from typing import Optional

import nbformat
import pytest

from persist import Cell, load_records

# Cells whose outputs nbval does not compare, by the start of their source, and why. All others are compared strictly.
NOT_COMPARED = {
    ("cell.ipynb", "record = train_or_load("): "it measures time, and its lines tell the time left",
    ("your_own_loop.ipynb", "@torch.no_grad()"): "it measures time",
    ("explore.ipynb", "check_parameters(In"): "it trains, and measures time",
}


def notebooks(project):
    paths = sorted((project / "notebooks").glob("*.ipynb"))
    assert {"cell.ipynb", "figures.ipynb", "sweep.ipynb"} <= {p.name for p in paths}
    return [(path, nbformat.read(path, as_version=4)) for path in paths]


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters_cell(project, name):
    notebook = nbformat.read(project / "notebooks" / name, as_version=4)
    [cell] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return cell


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
    for path, notebook in notebooks(project):
        if path.name == "your_own_loop.ipynb":
            continue
        for cell in code_cells(notebook):
            words = set() if "parameters" in cell.metadata.get("tags", []) else set(cell.source.split())
            assert not words & {"def", "class", "for", "while", "lambda"}, (path.name, cell.source)


def test_the_cell_notebook_takes_the_fields_of_Cell_and_four_more(project):
    lines = [line for line in parameters_cell(project, "cell.ipynb").source.splitlines() if line]
    names = [line.split(":")[0] for line in lines]
    assert names == [*Cell.fields(), "data_root", "results_dir", "device", "force"]
    assert all("#" in line or line.startswith("model") for line in lines), "each is explained"
    values = {"Optional": Optional}
    exec("\n".join(lines), values)
    types = {name: values["__annotations__"][name] for name in names}
    assert {name: types[name] for name in Cell.fields()} == Cell.__annotations__, (
        "int | None is Optional[int], which papermill can read"
    )
    Cell(**{name: values[name] for name in Cell.fields()})
    assert (
        values["results_dir"] == "runs/mine"
        and values["data_root"] is values["device"] is None
        and values["force"] is False
    )


def papermill(project, folder, *parameters):
    """Run the cell notebook as the README shows it, with the records in `folder`."""
    command = [
        "papermill",
        "notebooks/cell.ipynb",
        str(folder / "out.ipynb"),
        "--no-progress-bar",
        "--log-level",
        "ERROR",
    ]
    command += ["-p", "results_dir", str(folder / "records"), *parameters]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)


def test_papermill_runs_a_cell_of_ones_own(project, tmp_path):
    run = papermill(project, tmp_path, *["-p", "m", "512", "-p", "K", "5", "-p", "lr_policy", "kmu", "-p", "epochs", "2", "-p", "dataset", "digits"])
    assert run.returncode == 0, run.stderr
    [record] = load_records(tmp_path / "records")
    assert (record.cell.m, record.cell.K, record.cell.lr_policy, record.cell.epochs) == (512, 5, "kmu", 2)
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    [injected] = [cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert "K = 5" in injected.source
    text = json.dumps(notebook)
    assert "epoch 2/2" in text and "image/png" in text
    # once more: the record is shown, not trained again
    before = (tmp_path / "records" / f"{record.cell.name}.json").stat().st_mtime_ns
    run = papermill(project, tmp_path, *["-p", "m", "512", "-p", "K", "5", "-p", "lr_policy", "kmu", "-p", "epochs", "2", "-p", "dataset", "digits"])
    assert run.returncode == 0 and "is there already" in (tmp_path / "out.ipynb").read_text()
    assert (tmp_path / "records" / f"{record.cell.name}.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "name, value, allowed",
    [
        ("K", "0", "K must be an int from 1 to 1000000, not 0"),
        ("m", "-3", "m must be an int from 1 to 1437 (the training examples of digits used here), not -3"),
        ("m", "1000000", "m must be an int from 1 to 1437 (the training examples of digits used here), not 1000000"),
        ("lr_policy", "foo", "lr_policy must be one of 'constant', 'kmu', not 'foo'"),
        (
            "epoch",
            "3",
            f"unknown parameter 'epoch': this notebook has {', '.join([*Cell.fields(), 'data_root', 'results_dir', 'device', 'force'])}",
        ),
        ("dataset", "nosuch", "dataset must be one of 'cifar10', 'digits', not 'nosuch'"),
    ],
)
def test_a_bad_parameter_fails_at_once_and_leaves_no_record(project, tmp_path, name, value, allowed):
    run = papermill(project, tmp_path, "-p", name, value)
    assert run.returncode != 0
    assert run.stderr.strip().splitlines()[-1] == f"ValueError: {allowed}"
    assert not list(tmp_path.rglob("*.json"))
