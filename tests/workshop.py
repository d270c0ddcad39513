"""A copy of the project in which `make reproduce` runs, for the tests of whole grids."""

import os
import subprocess
import time


def make_workshop(project, folder):
    """A folder in which the project's Makefile runs, without touching the runs of the real one."""
    for name in ("Makefile", "Snakefile", "notebooks", "profiles", "pyproject.toml"):
        (folder / name).symlink_to(project / name)
    (folder / "grids").mkdir()
    for path in (project / "grids").iterdir():
        (folder / "grids" / path.name).write_text(path.read_text())
    return folder


# READY= : what `make` would set up in .venv is what these tests run with
def command(grid):
    return ["make", "--no-print-directory", "reproduce", f"GRID={grid}", "READY="]


def reproduce(folder, grid, **environment):
    return subprocess.run(
        command(grid), cwd=folder, capture_output=True, text=True, timeout=500, env={**os.environ, **environment}
    )


def wait_for(condition, seconds, message="waited too long"):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, message
        time.sleep(0.2)


def processes_in(folder):
    """Process id -> command line of the processes whose working directory is `folder`."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if (
                os.readlink(f"/proc/{pid}/cwd") == str(folder)
                and open(f"/proc/{pid}/stat").read().split(") ")[1][0] != "Z"
            ):
                found[int(pid)] = open(f"/proc/{pid}/cmdline").read().replace("\0", " ")
        except OSError:
            pass  # it ended meanwhile
    return found


def state(folder):
    """File name -> content of the records in a folder. A cell trained again has other times in its record."""
    return {path.name: path.read_bytes() for path in folder.rglob("*.json")}
