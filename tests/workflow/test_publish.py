"""`make publish` in a folder as a fresh clone has it: what is missing is made, pictures that someone deleted too."""

import shutil
import subprocess
import sys

import pytest
from workshop import PATIENCE, environment, make_workshop

pytestmark = pytest.mark.slow


def test_what_is_missing_is_made_and_nothing_twice(project, tmp_path):
    workshop = make_workshop(project, tmp_path)
    for name in ("docs", "benchmarks", "results/preview"):
        shutil.copytree(project / name, workshop / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(project / "README.md", workshop)
    (workshop / "persist").symlink_to(project / "persist")

    def publish():
        command = [sys.executable, "-m", "persist", "publish"]
        done = subprocess.run(
            command, cwd=workshop, env=environment(workshop), capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    publish()
    expected = {path.name for path in project.glob("figures/preview/*")}
    assert {path.name for path in workshop.glob("figures/preview/*")} == expected
    assert (workshop / "report/index.html").exists() and "Nothing to be done" in publish()
    (workshop / "figures/preview/figure3.png").unlink()
    publish()
    assert {path.name for path in workshop.glob("figures/preview/*")} == expected
