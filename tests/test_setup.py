"""What a user installs is what is tested: pyproject.toml, constraints.txt and environment.yml in step."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


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
def requirements(project):
    declared = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    lists = [declared["dependencies"], *declared["optional-dependencies"].values()]
    return [Requirement(text) for texts in lists for text in texts]


def test_every_dependency_is_pinned_within_its_range(pins, requirements):
    for requirement in requirements:
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_what_is_installed_is_what_is_pinned(pins):
    """`make` installed the pins with pip, as conda would: every package that the project needs has that version here."""
    needed, todo = set(), [("persist", frozenset({"grid", "test", "bench"}))]
    while todo:
        name, extras = todo.pop()
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in extras or {""}
            ):
                key = canonicalize_name(requirement.name)
                if (key, frozenset(requirement.extras)) not in needed:
                    needed.add((key, frozenset(requirement.extras)))
                    todo.append((key, frozenset(requirement.extras)))
    assert len(needed) > 100
    versions = {name: importlib.metadata.version(name) for name, _ in needed}
    assert {n: v for n, v in versions.items() if pins.get(n) != v} == {}
    subprocess.run([sys.executable, "-m", "pip", "check"], check=True)


def test_environment_yml_installs_the_package_with_these_pins(project):
    environment = yaml.safe_load((project / "environment.yml").read_text())
    assert environment["name"] == "persist" and environment["channels"] == ["conda-forge"]
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11", "pip", "make"]
    assert pip == {"pip": ["--constraint constraints.txt", "--editable .[grid,test,bench]"]}


def test_pip_accepts_the_lines_of_environment_yml(project, tmp_path):
    """Given to pip as conda gives them, a file of requirements beside environment.yml, they ask for nothing more than what
    is installed here (from PyPI; nothing is changed)."""
    *_, section = yaml.safe_load((project / "environment.yml").read_text())["dependencies"]
    lines = project / ".environment-requirements.txt"
    lines.write_text("\n".join(section["pip"]) + "\n")
    try:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--no-build-isolation",
            "--requirement",
            lines.name,
        ]
        run = subprocess.run(command, cwd=project, capture_output=True, text=True)
    finally:
        lines.unlink()
    assert run.returncode == 0, run.stderr
    [would] = [line for line in run.stdout.splitlines() if line.startswith("Would install")]
    assert would.split() == ["Would", "install", "persist-0.1.0"]


def test_the_makefile_uses_the_pins(project):
    text = (project / "Makefile").read_text()
    assert "--constraint constraints.txt --editable '.[grid,test,bench]'" in text


def test_versions_are_in_step(project):
    import persist

    declared = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((project / "CITATION.cff").read_text())
    assert persist.__version__ == declared["version"] == citation["version"] == importlib.metadata.version("persist")
    assert "1806.07353" in str(citation["references"]) and (project / "LICENSE").read_text().startswith("MIT License")


def test_elsewhere(project):
    """A badge needs the repository's address; the Dockerfile is short, installs as the Makefile does, and says what was tried."""
    declared, readme = (
        tomllib.loads((project / "pyproject.toml").read_text())["project"],
        (project / "README.md").read_text(),
    )
    badges = re.findall(r"mybinder.org/badge|colab-badge|img.shields.io", readme)
    assert "urls" in declared or not badges
    lines = (project / "Dockerfile").read_text().splitlines()
    assert len(lines) < 20 and "RUN make .venv/ready" in lines and "# Not tried." in lines
    assert readme.count("*Not tried.*") == 3
