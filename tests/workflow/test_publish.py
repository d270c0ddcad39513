"""`make publish` in a folder without runs/: what is missing is made, what somebody deleted too, and nothing twice."""

import shutil
import subprocess
import sys

import pytest
from workshop import PATIENCE, environment, make_workshop

pytestmark = pytest.mark.slow


def test_what_is_missing_is_made_and_nothing_twice(project, tmp_path):
    workshop = make_workshop(project, tmp_path)
    for name in ("docs", "benchmarks", "results/preview", "results/readings-start"):
        shutil.copytree(project / name, workshop / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(project / "README.md", workshop)
    (workshop / "persist").symlink_to(project / "persist")
    for path in workshop.glob("results/preview/*m256*kmu*"):  # a grid that is recorded in part has fewer pictures
        path.unlink()

    def publish():
        command = [sys.executable, "-m", "persist", "publish"]
        done = subprocess.run(
            command, cwd=workshop, env=environment(workshop), capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    publish()
    expected = {f"preview/{path.name}" for path in project.glob("figures/preview/figure?.*")}
    expected |= {f"readings-start/readings.{suffix}" for suffix in ("png", "svg")}

    def drawn():
        return {str(path.relative_to(workshop / "figures")) for path in workshop.glob("figures/*/*.*")}

    assert drawn() - {name for name in drawn() if name.startswith("speed/")} == expected
    assert (workshop / "report/index.html").exists() and "Nothing to be done" in publish()
    for name in ("preview/figure3.png", "idea.svg"):
        (workshop / "figures" / name).unlink()
    publish()
    assert drawn() >= expected and (workshop / "figures/idea.svg").exists()
