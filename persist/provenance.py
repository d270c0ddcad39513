"""Where and with what a run was made. Imports no torch."""

import ast
import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

# The modules that decide the numbers of a cell. cell.py is not among them: its fields stand in every record.
NUMERICAL = ("architecture", "convolution", "data", "device", "model", "persistency", "training")
PACKAGES = ("torch", "torchvision", "numpy", "papermill", "minibatch-persistency")


def environment(*, device: str | None, data_sha256: str, **more: object) -> dict:
    """Where and with what a run is made, as a record keeps it. device: the accelerator's name; None: the CPU."""
    return {
        "device": device or _cpu(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_modified": _git("status", "--porcelain", "--", "persist", "notebooks/cell.ipynb"),  # empty: as committed
        "code": CODE,
        "preloaded": [Path(library).name for library in re.findall(r"[^:\s]+", os.environ.get("LD_PRELOAD", ""))],
        "data_sha256": data_sha256,
        **more,
    }


def code_version() -> str:
    """A digest of the code that decides the numbers, and of torch's version: a checkpoint of another is not continued.

    Of the parsed code: comments, docstrings, annotations and layout do not change it, so that checkpoints, and times
    that can be compared, outlive them.
    """
    digest = hashlib.sha256(str(_version("torch")).encode())
    for name in NUMERICAL:
        digest.update(code_digest(Path(__file__).with_name(f"{name}.py").read_text()))
    return digest.hexdigest()


def code_digest(source: str) -> bytes:
    """Of a module's code, without comments, docstrings, layout and the annotations of functions."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            del node.body[0]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return hashlib.sha256(ast.dump(tree).encode()).digest()


def nvidia_driver() -> str | None:
    """The version of NVIDIA's driver; None where nvidia-smi is not to be had."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _cpu() -> str:
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        described = ""
    return processor(described) or platform.processor() or platform.machine()


def processor(described: str) -> str:
    """The name of the first processor in a text like /proc/cpuinfo, "" where it has none; with family and model where
    they are told, because in virtual machines processors of different speed go by one name."""
    first = described.strip().partition("\n\n")[0]
    facts = {name.strip(): fact.strip() for name, _, fact in (line.partition(":") for line in first.splitlines())}
    name = facts.get("model name", "")
    if name and facts.keys() >= {"cpu family", "model"}:
        name += f" (family {facts['cpu family']}, model {facts['model']})"
    return name


def _git(*arguments):
    """The output of git in this project's checkout; None without git, or where the package is not in its checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / "pyproject.toml").exists():
        return None
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


CODE = code_version()  # of the code that runs, whatever becomes of its files meanwhile
