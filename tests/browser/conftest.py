"""JupyterLab and Chromium for tests that look at what a reader sees (`make test-browser`; `make test` leaves them out).

The browser is Debian's chromium, driven by Python's playwright. Where there is none, the tests are skipped and say what
to install; with PERSIST_BROWSER=required (CI) that is a failure. Screenshots and the log of JupyterLab stay in
ci-artifacts/, outside git.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SETTINGS = {
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',  # no dialog, no look-up
    "notebook-extension/tracker": '{"windowingMode": "defer"}',  # the page holds all cells, not only those one sees
}


@pytest.fixture(scope="session")
def screenshots(project) -> Path:
    folder = project / "ci-artifacts"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        message = (
            "there is no Chromium here: apt-get install chromium (Debian), or a chromium or google-chrome on the PATH"
        )
        pytest.fail(message) if os.environ.get("PERSIST_BROWSER") == "required" else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*root, *QUIET])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def copy(project, tmp_path_factory) -> Path:
    """The project without its runs and notebooks: what is run in a browser is saved there, not in the checkout."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "notebooks").mkdir()
    for name in ("pyproject.toml", "README.md", "grids", "results", "figures", "benchmarks", "data"):
        if (project / name).exists():
            (folder / name).symlink_to(project / name)
    return folder


class Lab:
    """A JupyterLab that runs on a port of this machine."""

    def __init__(self, port, token):
        self.port, self.token = port, token

    def address(self, name) -> str:
        """Of a notebook, in a workspace of its own: nothing that an earlier test left open."""
        return f"http://127.0.0.1:{self.port}/lab/workspaces/{name}/tree/notebooks/{name}.ipynb?token={self.token}"

    def ask(self, path, method="GET"):
        """The answer of the server's REST API."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{path}", method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or "null")

    def end_kernels(self):
        for session in self.ask("sessions"):
            self.ask(f"sessions/{session['id']}", "DELETE")


@pytest.fixture(scope="session")
def lab(copy, screenshots, tmp_path_factory):
    settings = tmp_path_factory.mktemp("settings")
    for plugin, text in SETTINGS.items():
        path = settings / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    lab = Lab(_free_port(), secrets.token_hex(16))
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "lab",
        "--no-browser",
        f"--ServerApp.root_dir={copy}",
        f"--ServerApp.port={lab.port}",
        "--ServerApp.port_retries=0",
    ]
    command += [f"--IdentityProvider.token={lab.token}", *(["--allow-root"] if os.geteuid() == 0 else [])]
    environment = os.environ | {"JUPYTERLAB_SETTINGS_DIR": str(settings)}
    environment.pop("PERSIST_BATCH", None)  # somebody looks
    log = screenshots / "jupyterlab.log"
    with log.open("w") as file:
        server = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        _wait_for(lab, server, log)
        yield lab
    finally:
        server.terminate()
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()


def _free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def _wait_for(lab, server, log, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            return lab.ask("status")
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")
