"""What a user installs is what is tested: pyproject.toml, constraints.txt and environment.yml in step."""

import importlib.metadata
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]
NAME = "minibatch-persistency"  # on PyPI; the import is `persist`
ENVIRONMENTS = [path for path in (PROJECT / "environment.yml", PROJECT / ".binder/environment.yml") if path.exists()]


@pytest.fixture(scope="module")
def pins(project):
    lines = [
        line for line in (project / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[0-9][A-Za-z0-9.+]*", line) for line in lines)
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    return pins


@pytest.fixture(scope="module")
def declared(project):
    return tomllib.loads((project / "pyproject.toml").read_text())["project"]


def test_every_dependency_is_pinned_within_its_range(pins, declared):
    lists = [declared["dependencies"], *declared["optional-dependencies"].values()]
    needed = [Requirement(text) for texts in lists for text in texts]
    wrong = [str(r) for r in needed if r.name != NAME and pins.get(canonicalize_name(r.name)) not in r.specifier]
    assert not wrong, "not in constraints.txt, or with a version out of range"


def test_what_is_installed_is_what_is_pinned(pins, declared):
    """`make` installed the pins, as conda would: every package that the project needs has that version here."""
    needed, todo = set(), [(NAME, frozenset(declared["optional-dependencies"]))]
    while todo:
        name, extras = todo.pop()
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in extras or {""}
            ):
                key = canonicalize_name(requirement.name), frozenset(requirement.extras)
                if key not in needed:
                    needed.add(key)
                    todo.append(key)
    versions = {name: importlib.metadata.version(name) for name, _ in needed if name != NAME}
    assert len(versions) > 100 and {n: v for n, v in versions.items() if pins.get(n) != v} == {}
    subprocess.run([sys.executable, "-m", "pip", "check"], check=True)


def pip_lines(path) -> list[str]:
    [section] = [entry["pip"] for entry in yaml.safe_load(path.read_text())["dependencies"] if isinstance(entry, dict)]
    return section


def make_recipe(project, target) -> list[str]:
    """The commands that `make` would run for a file."""
    run = subprocess.run(["make", "--dry-run", "--always-make", target], cwd=project, capture_output=True, text=True)
    return run.stdout.splitlines()


def test_make_conda_and_binder_install_this_package_with_the_pins(project, declared):
    """Each names the constraints, and extras that there are; what trains and tests brings every one of them."""
    [command] = [line for line in make_recipe(project, ".venv/ready") if "pip install" in line]
    words = shlex.split(command)
    given = {"make": words[words.index("--constraint") :]}
    given |= {path: shlex.split(" ".join(pip_lines(path))) for path in ENVIRONMENTS}
    for what, words in given.items():
        assert words[words.index("--constraint") + 1].endswith("constraints.txt"), what
        package = words[words.index("--editable") + 1]
        extras = set(re.fullmatch(r"[./]+\[([a-z,]+)\]", package)[1].split(","))
        assert extras <= set(declared["optional-dependencies"]), what


@pytest.mark.slow
@pytest.mark.parametrize("path", ENVIRONMENTS, ids=str)
def test_pip_accepts_the_lines_of_environment_yml(path):
    """Given to pip as conda gives them, a file of requirements beside environment.yml, they ask for nothing more than
    what is installed here (from PyPI; nothing is changed)."""
    lines = path.with_name(".environment-requirements.txt")
    lines.write_text("\n".join(pip_lines(path)) + "\n")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-build-isolation", "--requirement"]
    try:
        run = subprocess.run([*command, lines.name], cwd=path.parent, capture_output=True, text=True)
    finally:
        lines.unlink()
    assert run.returncode == 0, run.stderr
    [would] = [line for line in run.stdout.splitlines() if line.startswith("Would install")]
    assert [re.sub(r"-[0-9.]+$", "", word) for word in would.split()[2:]] == [NAME]


def test_what_the_dockerfile_runs_is_there(project):
    lines = (project / "Dockerfile").read_text().splitlines()
    targets = [word for line in lines if line.startswith("RUN") for word in re.findall(r"(?:RUN|&&) make (\S+)", line)]
    assert targets and all(make_recipe(project, target) for target in targets)


def test_versions_are_in_step(project, declared):
    import persist

    citation = yaml.safe_load((project / "CITATION.cff").read_text())
    assert persist.__version__ == declared["version"] == citation["version"] == importlib.metadata.version(NAME)
    assert "1806.07353" in str(citation["references"]) and (project / "LICENSE").read_text().startswith("MIT License")


def test_the_wheel_has_every_module(project, declared):
    """setuptools takes the packages and files that pyproject.toml lists, and no others."""
    tool = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {str(path.parent.relative_to(project)).replace("/", ".") for path in project.glob("persist/**/*.py")}
    assert folders == set(tool["packages"])
    listed = {f"{name.replace('.', '/')}/{file}" for name, files in tool["package-data"].items() for file in files}
    others = {str(p.relative_to(project)) for p in project.glob("persist/**/*") if p.suffix in (".jinja", ".typed")}
    assert others == listed
