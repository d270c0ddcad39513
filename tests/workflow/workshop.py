"""A copy of the project in which grids are trained by the README's command; the real one's runs are not touched."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from persist import load_grid

PATIENCE = 1800  # seconds for anything that must happen; a busy machine is slow
TINY = "dataset: digits, train_size: 64, test_size: 20, width: 0.03, epochs: 2, lr: 0.01"  # a run takes no time


def make_workshop(project, folder):
    """A folder in which the project's Makefile runs."""
    for name in ("Makefile", "Snakefile", "notebooks", "profiles", "pyproject.toml"):
        (folder / name).symlink_to(project / name)
    (folder / "grids").mkdir()
    # a short path: a DataLoader's worker opens a socket in it, and waits for ever where the name has over 107 letters
    (folder / "tmp").symlink_to(tempfile.mkdtemp(prefix="p"))
    for path in (project / "grids").glob("*.yaml"):
        (folder / "grids" / path.name).write_text(path.read_text())
    return folder


def write_grid(folder, name, cells, base=TINY):
    """grids/<name>.yaml; base and cells as YAML. Its cells."""
    path = folder / f"grids/{name}.yaml"
    path.write_text(f"base: {{{base}}}\nresources: {{gpu: 0, mem_mb: 1000, runtime: 10}}\ncells: [{cells}]\n")
    return load_grid(path).cells


def command(grid, *arguments):
    """What the README says. READY= : what `make` would set up in .venv is what these tests run with."""
    return ["make", "--no-print-directory", "reproduce", f"GRID={grid}", "READY=", f"ARGS={' '.join(arguments)}"]


def environment(folder, **more):
    """Temporary files in a folder of its own, the locks of cores too: the reader's runs may hold all."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "TMPDIR": os.path.realpath(folder / "tmp"), **more}


def start(folder, command, **more):
    """The command, begun; its output and errors together."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore Ctrl-C
    )


def finish(process) -> str:
    """Its output, once it has ended."""
    return process.communicate(timeout=PATIENCE)[0]


def reproduce(folder, grid, *arguments, **more):
    """`make reproduce` to its end: return code and output, errors included."""
    process = start(folder, command(grid, *arguments), **more)
    output = finish(process)
    return process.returncode, output


def wait_for(condition, message="waited too long", seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, message
        time.sleep(0.2)


def processes_in(folder):
    """Process id -> command line of the processes whose working directory is `folder`."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd") == str(folder) and status(pid)[0] != "Z":
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            pass  # it ended meanwhile
    return found


def status(pid) -> list[str]:
    """Of a process: its state, its parent's id, ... (proc(5), after the name)."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ")[-1].split()


def state(folder):
    """File name -> content of the records in a folder. A cell trained again has other times in its record."""
    return {path.name: path.read_bytes() for path in folder.rglob("*.json")}
