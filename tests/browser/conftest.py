"""JupyterLab and Chromium for tests that look at what a reader sees (`make test-browser`; plain `make test` leaves them out).

The browser is Debian's chromium, driven by Python's playwright. Where there is none, the tests are skipped and say what to
install; with PERSIST_BROWSER=required (CI) that is a failure. Screenshots and the log of JupyterLab stay in ci-artifacts/, outside git.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
SETTINGS = {
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',  # no dialog, no look-up
    "notebook-extension/tracker": '{"windowingMode": "defer"}',  # the page holds all cells, not only those on the screen
}


@pytest.fixture(scope="session")
def screenshots(project) -> Path:
    folder = project / "ci-artifacts"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        message = "there is no Chromium here: apt-get install chromium (Debian), or a chromium or google-chrome on the PATH"
        pytest.fail(message) if os.environ.get("PERSIST_BROWSER") == "required" else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*root, *QUIET])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def copy(project, tmp_path_factory) -> Path:
    """The project without its runs, its notebooks without outputs: what is run in a browser is saved there, not in the
    checkout."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "notebooks").mkdir()
    for path in (project / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / "notebooks" / path.name)
    for name in ("pyproject.toml", "README.md", "grids", "results", "figures", "benchmarks", "data"):
        if (project / name).exists():
            (folder / name).symlink_to(project / name)
    return folder


@pytest.fixture(scope="session")
def lab(copy, screenshots, tmp_path_factory):
    """The address of a JupyterLab, token included, as a format with the place of a notebook."""
    settings = tmp_path_factory.mktemp("settings")
    for plugin, text in SETTINGS.items():
        path = settings / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    token, port = secrets.token_hex(16), _free_port()
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", f"--ServerApp.root_dir={copy}", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={token}", *(["--allow-root"] if os.geteuid() == 0 else [])]
    log = screenshots / "jupyterlab.log"
    with log.open("w") as file:
        server = subprocess.Popen(command, env=os.environ | {"JUPYTERLAB_SETTINGS_DIR": str(settings)}, stdout=file, stderr=subprocess.STDOUT)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, log)
        # a workspace of its own per notebook: nothing that an earlier test left open
        yield f"http://127.0.0.1:{port}/lab/workspaces/{{0}}/tree/notebooks/{{0}}.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def _wait_for(address, server, log, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")
