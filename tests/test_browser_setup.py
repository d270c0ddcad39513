"""Where there is no browser, the tests that need one say what to install; where CI could install it, that is a failure."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("required, outcome", [("", "1 skipped"), ("required", "1 error")])
def test_without_a_browser(project, required, outcome):
    test = "tests/browser/test_report_in_chromium.py::test_the_report_is_readable[phone-dark]"
    environment = os.environ | {"PATH": os.path.dirname(sys.executable), "PERSIST_BROWSER": required}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", test]
    run = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert outcome in run.stdout and "apt-get install chromium" in run.stdout, run.stdout + run.stderr
    assert (run.returncode == 0) == (required == "")
