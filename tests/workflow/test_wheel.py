"""What `pip install` without extras brings: a wheel that needs nothing, from which `persistent` is imported at once."""

import json
import shutil
import subprocess
import sys
import venv

import pytest

PARTS = ("pyproject.toml", "README.md", "LICENSE", "persist")  # what the wheel is built from


@pytest.fixture(scope="module")
def python(project, tmp_path_factory):
    """The interpreter of an empty environment with the wheel in it, installed by pip without an index."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: a build leaves a folder behind
    source.mkdir()
    for name in PARTS:
        copy = shutil.copytree if (project / name).is_dir() else shutil.copy
        copy(project / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, source]
    subprocess.run(build, check=True, capture_output=True, text=True)
    [wheel] = folder.glob("minibatch_persistency-*.whl")
    venv.create(folder / "empty", symlinks=True)  # without pip
    python = folder / "empty" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-index", wheel], check=True, capture_output=True)
    return python


def run(python, code):
    """What the code, in a new process away from the repository, prints as JSON."""
    command = [python, "-I", "-c", f"import json, sys, time\n{code}"]
    result = subprocess.run(command, check=True, capture_output=True, text=True, cwd=python.parent)
    return json.loads(result.stdout)


def test_persistent_is_imported_at_once_and_brings_nothing(python):
    code = """
before, start = set(sys.modules), time.perf_counter()
from persist import persistent
seconds = time.perf_counter() - start
assert list(persistent([7], 2)) == [(1, 7), (2, 7)]
print(json.dumps([seconds, sorted({name.partition(".")[0] for name in set(sys.modules) - before})]))
"""
    seconds, imported = zip(*(run(python, code) for _ in range(5)))
    assert min(seconds) < 0.2, "seconds of the import, the best of five: other work may run beside"
    assert set(imported[0]) - sys.stdlib_module_names == {"persist"}


def test_the_rates_and_the_hook_need_nothing_either(python):
    code = """
from persist import learning_rate
from persist.kmu import scaled_rates

class Optimizer:
    param_groups = [{"lr": 0.5}, {"lr": 2.0}]

with scaled_rates(Optimizer, 3):
    print(json.dumps([learning_rate(0.5, 3, "kmu"), [group["lr"] for group in Optimizer.param_groups]]))
"""
    assert run(python, code) == [1.5, [1.5, 6.0]]


def test_the_command_line_says_what_it_needs(python):
    for command in ([python.parent / "persist"], [python, "-m", "persist"]):
        result = subprocess.run([*command, "--help"], capture_output=True, text=True, cwd=python.parent)
        assert result.returncode == 1 and result.stdout == ""
        assert result.stderr.startswith("error: yaml is not installed: pip install -e '.[read]' in the checkout")


def test_nothing_else_is_installed(python):
    code = """
import importlib.metadata
print(json.dumps(sorted(each.name for each in importlib.metadata.distributions())))
"""
    assert run(python, code) == ["minibatch-persistency"]
