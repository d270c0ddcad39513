"""Cores lent to runs side by side: never one core to two of them."""

import os
import subprocess
import sys
import tempfile

import pytest

from persist.notebook.cores import borrowed_cores

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores that can be pinned",
)
PATIENCE = 300  # seconds; a busy machine is slow
# Says that it asks, then which cores it got; keeps them until its input ends.
BORROW = """
import sys
from persist.notebook.cores import borrowed_cores
print("asks", flush=True)
with borrowed_cores(int(sys.argv[1])) as cores:
    print(*cores, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def two_cores(tmp_path, monkeypatch):
    """As on a machine of two cores, and with locks of its own: runs of the reader's may have borrowed those here."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    yield sorted(before)[:2]
    os.sched_setaffinity(0, before)


def start(n):
    """Another process that asks for n cores."""
    command = [sys.executable, "-c", BORROW, str(n)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdout.readline() == b"asks\n"
    return process


def finish(process) -> list[int]:
    """The cores that it has or gets, on the last line that it writes; it gives them back."""
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return [int(core) for core in output.splitlines()[-1].split()]


def test_as_many_as_asked_for_and_all_come_back(two_cores):
    for _ in range(2):
        for n in (1, 2):
            with borrowed_cores(n) as cores:
                assert len(set(cores)) == n and set(cores) <= set(two_cores)


@pytest.mark.parametrize("n", [0, 3])
def test_none_where_it_cannot_be(n):
    with borrowed_cores(n) as cores:
        assert cores is None


def test_two_processes_never_have_the_same_core(two_cores):
    with borrowed_cores(1) as [mine]:
        assert sorted([mine, *finish(start(1))]) == two_cores
        with borrowed_cores(1) as [second]:  # within one process as well
            assert sorted([mine, second]) == two_cores


def test_a_third_waits_until_one_is_given_back(two_cores):
    with borrowed_cores(1):
        with borrowed_cores(1) as [second]:
            third = start(1)
            assert third.stdout.readline() == b"waits for 1 of 2 cores: other runs on this machine have them\n"
            with pytest.raises(subprocess.TimeoutExpired):
                third.wait(1)
        assert finish(third) == [second]


def test_a_process_that_is_killed_gives_its_cores_back(two_cores):
    process = start(2)
    assert sorted(map(int, process.stdout.readline().split())) == two_cores
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert sorted(finish(start(2))) == two_cores


def test_two_cores_are_lent_together_or_not_at_all(two_cores):
    """A run that waits for two holds none meanwhile: another has the one that is free."""
    with borrowed_cores(1) as [held]:
        waits = start(2)
        assert sorted([held, *finish(start(1))]) == two_cores
    assert sorted(finish(waits)) == two_cores
