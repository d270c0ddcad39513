"""Kill a grid again and again at random moments, then finish it by one plain `make reproduce`: nothing may be lost.

    python tests/faults.py --kills 10 --seed 1       (what `make test-faults` runs)

The grid is `smoke` and two longer cells, so that half of the kills hit a cell that trains and has a checkpoint. Prints
figures; exits with an error where anything was lost. Linux: it looks for processes in /proc.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from helpers import numbers
from workshop import command, make_workshop, processes_in, wait_for

from persist.record import Record, RecordError, load_records

LONGER = "  - {m: 32, K: [1, 2], epochs: 30}\n"
# What is killed -> a part of its command line. "group": all of make's process group at once, as a closed terminal does.
VICTIMS = {
    "engine": "bin/snakemake",
    "papermill": "bin/papermill",
    "kernel": "ipykernel_launcher",
    "group": "bin/snakemake",
}
LONGEST_WAIT = 20.0  # seconds after the last kill or start: a cell of the smoke grid takes 5 on two idle cores
PATIENCE = 300.0  # seconds for anything that must happen; a busy machine is slow


class Grid:
    """A grid that trains in a folder of its own, and a reader that loads its records all the time."""

    def __init__(self, project, folder, text, seed):
        self.folder, self.random = make_workshop(project, folder.resolve()), random.Random(seed)
        (folder / "grids/faults.yaml").write_text(text)
        self.runs = self.folder / "runs/faults"
        self.make, self.kept, self.unreadable = None, {}, []
        self.done = threading.Event()
        self.reader = threading.Thread(target=self.read_all_the_time, daemon=True)
        self.reader.start()

    def read_all_the_time(self):
        while not self.done.wait(0.05):
            try:
                load_records(self.runs) if self.runs.is_dir() else []
            except RecordError as error:
                self.unreadable.append(str(error))
            except FileNotFoundError:
                pass  # started from nothing just now

    def start(self):
        environment = {**os.environ, "PERSIST_CHECKPOINT_EVERY": "0"}  # after every epoch
        with open(self.folder / "make.log", "ab") as log:
            self.make = subprocess.Popen(
                command("faults"), cwd=self.folder, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def start_from_nothing(self):
        shutil.rmtree(self.runs)
        self.make, self.kept = None, {}

    def running(self) -> bool:
        return self.make is not None and self.make.poll() is None

    def finish(self) -> dict[str, Record]:
        """One plain `make reproduce`, to its end."""
        self.start()
        assert self.make.wait(3 * PATIENCE) == 0, f"make reproduce failed: {self.tail()}"
        self.look()
        return {record.cell.name: record for record in load_records(self.runs)}

    def look(self):
        """Every record that has ever been seen is there, byte for byte."""
        contents = {path.name: path.read_bytes() for path in self.runs.glob("*.json")}
        lost = [name for name, content in self.kept.items() if contents.get(name) != content]
        assert not lost, f"lost or changed: {lost}"
        assert not self.unreadable, f"read half-written: {self.unreadable}"
        self.kept = contents

    def kill(self, kind: str, inside: bool) -> bool:
        """SIGKILL at a random moment: any, or while a cell trains, after a new checkpoint. False: the grid was finished first."""
        checkpoints = self.checkpoints()
        moment = time.monotonic() + self.random.uniform(0, LONGEST_WAIT)
        end = time.monotonic() + PATIENCE
        while not (self.victims(kind) and (self.checkpoints() - checkpoints if inside else time.monotonic() > moment)):
            assert time.monotonic() < end, f"found nothing to kill: {kind}, inside a cell: {inside}; {self.tail()}"
            if not self.running():
                if self.make is not None and self.make.returncode == 0:
                    return False
                self.start()
            time.sleep(0.02)
        time.sleep(self.random.uniform(0, 0.5) if inside else 0)
        before = processes_in(self.folder)
        try:
            if kind == "group":
                os.killpg(self.make.pid, signal.SIGKILL)
            else:
                os.kill(self.victims(kind)[0], signal.SIGKILL)
        except (IndexError, ProcessLookupError):  # it ended by itself just now
            return self.kill(kind, inside)
        if kind in ("engine", "group"):
            self.make.wait(PATIENCE)
            wait_for(lambda: not processes_in(self.folder), PATIENCE, "an orphan is left")
        else:  # the engine goes on with other cells
            hit = {pid for pid, line in before.items() if "bin/papermill" in line or "ipykernel_launcher" in line}
            wait_for(lambda: not hit & set(processes_in(self.folder)), PATIENCE, "papermill or its kernel is left")
        self.look()
        return True

    def victims(self, kind):
        return [pid for pid, line in processes_in(self.folder).items() if VICTIMS[kind] in line]

    def checkpoints(self) -> set[tuple[str, int]]:
        """Names and times of change."""
        found = set()
        for path in (self.runs / "checkpoints").glob("*.pt"):
            with contextlib.suppress(FileNotFoundError):  # it goes when its record is saved
                found.add((path.name, path.stat().st_mtime_ns))
        return found

    def tail(self):
        return (self.folder / "make.log").read_text(errors="replace")[-3000:]

    def close(self):
        self.done.set()
        if self.running():
            os.killpg(self.make.pid, signal.SIGKILL)


def kinds(generator, kills) -> list[tuple[str, bool]]:
    """What to kill, and whether inside a cell: every kind, half of them inside, in a random order."""
    every = [(kind, inside) for inside in (True, False) for kind in VICTIMS]
    chosen = [every[i % len(every)] for i in range(kills)]
    generator.shuffle(chosen)
    return chosen


def train_undisturbed(project, folder, text) -> dict[str, Record]:
    grid = Grid(project, folder, text, seed=0)
    try:
        return grid.finish()
    finally:
        grid.close()


def kill_and_finish(project, folder, text, expected: dict[str, Record], kills, seed, say=print) -> str:
    """Raises AssertionError where anything was lost of what is expected; returns the figures in one line."""
    grid = Grid(project, folder, text, seed)
    try:
        plan = kinds(grid.random, kills)
        for number, (kind, inside) in enumerate(plan, start=1):
            while not grid.kill(kind, inside):
                compare(grid.finish(), expected)
                grid.start_from_nothing()
            say(
                f"{number} of {kills}: {kind} killed{' inside a cell' if inside else ''}; records there: {len(grid.kept)} of {len(expected)}",
                flush=True,
            )
        if grid.running():  # after a kill of papermill or a kernel the engine has gone on
            grid.make.wait(3 * PATIENCE)
        found = grid.finish()
        compare(found, expected)
        assert not grid.checkpoints(), "a checkpoint is left"
        assert len(list(grid.runs.glob("figure*.png"))) == 5, "a figure is missing"
        assert not processes_in(grid.folder), "an orphan is left"
    finally:
        grid.close()
    resumed = sum(record.resumed > 0 for record in found.values())
    counts = ", ".join(f"{kind} {sum(k == kind for k, _ in plan)}" for kind in VICTIMS)
    return (
        f"kills tried: {kills} ({counts}; inside a cell: {sum(inside for _, inside in plan)}; seed {seed}); "
        f"records compared: {len(found)}, of them resumed: {resumed}; lost: 0"
    )


def compare(found, expected):
    """Equal but for times, the load and what is concluded from it (shared), and how often a run was resumed."""

    def environment(record):
        return {key: value for key, value in record.environment.items() if key != "shared"}

    assert set(found) == set(expected), f"other cells: {set(found) ^ set(expected)}"
    for name, record in found.items():
        assert numbers(record) == numbers(expected[name]), f"{name} has other numbers than undisturbed"
        assert environment(record) == environment(expected[name]), f"{name} has another environment than undisturbed"


def too_long(*_):
    raise AssertionError("it took too long: --minutes")


def main():
    parser = argparse.ArgumentParser(description="Kill a grid at random moments; nothing may be lost.")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1000), help="of the moments; default: a random one"
    )
    parser.add_argument("--minutes", type=int, default=20, help="limit for all")
    options = parser.parse_args()
    project = Path(__file__).resolve().parents[1]
    print(f"seed {options.seed}", flush=True)
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60 * options.minutes)
    started = time.monotonic()
    text = (project / "grids/smoke.yaml").read_text() + LONGER
    with (
        tempfile.TemporaryDirectory(prefix="persist-faults-") as quiet,
        tempfile.TemporaryDirectory(prefix="persist-faults-") as folder,
    ):
        try:
            expected = train_undisturbed(project, Path(quiet), text)
            print(f"undisturbed: {len(expected)} records in {time.monotonic() - started:.0f} s", flush=True)
            print(
                kill_and_finish(project, Path(folder), text, expected, options.kills, options.seed),
                f"in {time.monotonic() - started:.0f} s",
                sep="; ",
            )
        except (AssertionError, subprocess.TimeoutExpired) as error:
            sys.exit(f"error: {error} (seed {options.seed})")


if __name__ == "__main__":
    main()
