"""Which code trained a run."""

import ast
import shutil

import pytest

from persist import provenance
from persist.provenance import NUMERICAL, code_digest, code_version

SOURCE = '''"""A module."""

RATE = 0.001  # mu


def step(x, k=1):
    """One step."""
    return x - RATE * k
'''


@pytest.mark.parametrize(
    "old, new",
    [
        ("A module.", "Another description."),
        ("One step.", "One step of SGD."),
        ('    """One step."""\n', ""),
        ("  # mu", "  # the learning rate"),
        ("\n\n\n", "\n"),
        ("x - RATE * k", "(x - (RATE * k))"),
        ("x, k=1", "x,\n    k=1,\n"),
        ("(x, k=1):", "(x: float, k: int = 1) -> float:"),
        ("0.001", "1e-3"),
    ],
)
def test_docstrings_comments_annotations_and_layout_are_no_code(old, new):
    assert old in SOURCE and code_digest(SOURCE.replace(old, new)) == code_digest(SOURCE)


@pytest.mark.parametrize(
    "old, new",
    [("0.001", "0.002"), ("k=1", "k=2"), ("x - RATE", "x + RATE"), ("RATE * k", "k * RATE"), ("(x, k", "(k, x")],
)
def test_what_may_change_a_number_changes_the_digest(old, new):
    assert old in SOURCE and code_digest(SOURCE.replace(old, new)) != code_digest(SOURCE)


def test_processors_that_go_by_one_name_are_told_apart():
    described = "processor\t: {}\nvendor_id\t: X\ncpu family\t: 25\nmodel\t\t: {}\nmodel name\t: X CPU: large\n\n"
    assert provenance.processor(described.format(0, 17)) == "X CPU: large (family 25, model 17)"
    assert (
        provenance.processor(described.format(0, 17) + described.format(1, 1)) == "X CPU: large (family 25, model 17)"
    )
    assert provenance.processor(described.format(0, 1)) != provenance.processor(described.format(0, 17))


def test_a_processor_without_family_or_name():
    assert provenance.processor("processor : 0\nmodel name : ARM\n") == "ARM"
    assert provenance.processor("processor : 0\nCPU part : 0xd0c\n") == provenance.processor("") == ""
    assert provenance.environment(device=None, data_sha256="")["cpu"]


def test_a_text_that_is_no_docstring_counts():
    assert code_digest('f("a")') != code_digest('f("b")')


@pytest.mark.parametrize("name", NUMERICAL)
def test_the_modules_themselves(project, name):
    """Written anew without comments and layout, and with other docstrings, a module is the same; with any one of its
    numbers changed it is not."""
    source = (project / f"persist/{name}.py").read_text()
    assert code_digest(ast.unparse(ast.parse(source))) == code_digest(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            node.body[0].value.value = "Another text."
    assert ast.unparse(tree) != ast.unparse(ast.parse(source)) and code_digest(ast.unparse(tree)) == code_digest(source)
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            node.value += 1
            assert code_digest(ast.unparse(tree)) != code_digest(source), f"line {node.lineno}"
            node.value -= 1


@pytest.fixture
def package(project, tmp_path, monkeypatch):
    """A copy of the package that code_version() takes for itself."""
    shutil.copytree(project / "persist", tmp_path / "persist", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "persist/provenance.py"))
    return tmp_path / "persist"


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_code_version_outlives_what_changes_no_number(package):
    before = code_version()
    edit(package / "training.py", '"""train(cell) -> Record: the one training loop."""', '"""The one training loop."""')
    edit(package / "cell.py", "class Cell:", "class Cell:\n    added: int = 3\n")  # its fields stand in every record
    edit(package / "record.py", "SCHEMA = 2", "SCHEMA = 3")
    (package / "evidence/figures.py").write_text("")
    assert code_version() == before


@pytest.mark.parametrize(
    "module, old, new",
    [
        ("training", "nesterov=cell.nesterov", "nesterov=False"),
        ("data", "SUBSET_SEED = 180607353", "SUBSET_SEED = 1"),
        ("architecture", "POOLED = (0, 1, 4)", "POOLED = (0, 1)"),
        ("persistency", "return k * mu", "return mu"),
    ],
)
def test_the_code_version_changes_with_what_may_change_a_number(package, module, old, new):
    before = code_version()
    edit(package / f"{module}.py", old, new)
    assert code_version() != before


def test_another_version_of_torch_is_another_code_version(monkeypatch):
    before = code_version()
    monkeypatch.setattr(provenance, "_version", lambda name: "0.0.1")
    assert code_version() != before
