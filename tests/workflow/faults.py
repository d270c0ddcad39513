"""Kill a grid again and again at random moments, then finish it by one plain `make reproduce`: nothing may be lost.

    python tests/workflow/faults.py --kills 10 --seed 1       (what `make test-faults` runs)

The grid has runs like those of `smoke` after four longer ones, as many at once as there are cores; half of the kills
hit runs that train and have checkpoints. Prints figures; exits with an error where anything was lost. Linux: it looks
into /proc.
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

import torch
from workshop import PATIENCE, command, environment, make_workshop, processes_in, status, wait_for

from persist import load_grid, train
from persist.evidence.kinds import kind_of
from persist.record import Record, RecordError, load_records

CELLS = """cells:
  - {m: 32, K: [1, 2, 5, 3], epochs: 200}
  - {m: [32, 256, 512], K: [1, 5]}
  - {m: 512, K: 5, lr_policy: kmu}
"""
ELSEWHERE = ("pinned", "git_commit", "git_modified")  # the core, and the code's history: somebody may edit meanwhile
# What is killed -> a part of its command line. "group": all of make's process group at once, as a closed terminal does.
VICTIMS = {
    "engine": "bin/snakemake",
    "papermill": "bin/papermill",
    "kernel": "ipykernel_launcher",
    "group": "bin/snakemake",
}
LONGEST_WAIT = 20.0  # seconds after the last kill or start: a run of the smoke grid takes 5 on two idle cores


class Grid:
    """A grid that trains in a folder of its own, and a reader that loads its records all the time."""

    def __init__(self, project, folder, text, seed):
        self.folder, self.random = make_workshop(project, folder.resolve()), random.Random(seed)
        (folder / "grids/faults.yaml").write_text(text)
        self.longest = max(cell.epochs for cell in load_grid(folder / "grids/faults.yaml").cells)
        self.runs = self.folder / "runs/faults"
        self.make, self.kept, self.unreadable = None, {}, []
        self.at_once = 0  # the most runs that were seen training together
        self.done = threading.Event()
        self.reader = threading.Thread(target=self.read_all_the_time, daemon=True)
        self.reader.start()

    def read_all_the_time(self):
        while not self.done.wait(0.05):
            for folder in (self.runs, self.runs / "unfinished"):
                try:
                    load_records(folder) if folder.is_dir() else []
                except RecordError as error:
                    self.unreadable.append(str(error))
                except FileNotFoundError:
                    pass  # one that has ended just now, or all started from nothing

    def start(self):
        with open(self.folder / "make.log", "ab") as log:
            self.make = subprocess.Popen(
                command("faults"),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=environment(self.folder, PERSIST_CHECKPOINT_EVERY="0"),  # after every epoch
                start_new_session=True,
            )

    def start_from_nothing(self):
        shutil.rmtree(self.runs)
        self.make, self.kept = None, {}

    def running(self) -> bool:
        return self.make is not None and self.make.poll() is None

    def finish(self) -> dict[str, Record]:
        """One plain `make reproduce`, to its end."""
        self.start()
        assert self.make.wait(PATIENCE) == 0, f"make reproduce failed: {self.tail()}"
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
        """SIGKILL at a random moment: any, or after a new checkpoint of a long run. False: the grid was finished."""
        checkpoints = self.checkpoints()
        moment = time.monotonic() + self.random.uniform(0, LONGEST_WAIT)
        end = time.monotonic() + PATIENCE
        while not (self.victims(kind) and (self.checkpoints() - checkpoints if inside else time.monotonic() > moment)):
            assert time.monotonic() < end, f"found nothing to kill: {kind}, inside a run: {inside}; {self.tail()}"
            if not self.running():
                if self.make is not None and self.make.returncode == 0:
                    return False
                self.start()
            self.at_once = max(self.at_once, self.kernels())
            time.sleep(0.02)
        time.sleep(self.random.uniform(0, 0.5) if inside else 0)
        try:
            victim = self.random.choice(self.victims(kind))
            gone = family(self.folder, victim)
            os.killpg(self.make.pid, signal.SIGKILL) if kind == "group" else os.kill(victim, signal.SIGKILL)
        except (IndexError, OSError):  # it ended by itself just now
            return self.kill(kind, inside)
        if kind in ("engine", "group"):
            self.make.wait(PATIENCE)
            wait_for(lambda: not processes_in(self.folder), "an orphan is left")
        else:  # the engine goes on with other runs
            wait_for(lambda: not gone & set(processes_in(self.folder)), "papermill or its kernel is left")
        self.look()
        return True

    def victims(self, kind):
        return [pid for pid, line in processes_in(self.folder).items() if VICTIMS[kind] in line]

    def kernels(self) -> int:
        """How many train now: each has a connection file of its own in its command line, as has what it forks."""
        return len({line for line in processes_in(self.folder).values() if VICTIMS["kernel"] in line})

    def checkpoints(self) -> set[tuple[str, int]]:
        """Of the longer runs: names and times of change."""
        found = set()
        for path in (self.runs / "unfinished").glob(f"*-e{self.longest}-*.pt"):
            with contextlib.suppress(FileNotFoundError):  # it goes when its record is saved
                found.add((path.name, path.stat().st_mtime_ns))
        return found

    def tail(self):
        return (self.folder / "make.log").read_text(errors="replace")[-3000:]

    def close(self):
        self.done.set()
        if self.running():
            os.killpg(self.make.pid, signal.SIGKILL)


def family(folder, pid) -> set[int]:
    """Papermill and its kernel, of which one is given."""
    lines = {p: line for p, line in processes_in(folder).items() if "bin/papermill" in line or "ipykernel" in line}
    parents = {p: int(status(p)[1]) for p in lines}
    return {pid, parents.get(pid)} & set(lines) | {p for p, parent in parents.items() if parent == pid}


def kinds(generator, kills) -> list[tuple[str, bool]]:
    """What to kill, and whether inside a run: every kind, half of them inside, in a random order."""
    every = [(kind, inside) for inside in (True, False) for kind in VICTIMS]
    chosen = [every[i % len(every)] for i in range(kills)]
    generator.shuffle(chosen)
    return chosen


def train_undisturbed(path) -> dict[str, Record]:
    """The records of a grid, trained one after the other, here, with one thread as the engine gives each run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {cell.name: train(cell) for cell in load_grid(path).cells}
    finally:
        torch.set_num_threads(threads)


def kill_and_finish(project, folder, text, kills, seed, say=print) -> str:
    """Raises AssertionError where anything was lost of what an undisturbed grid gives; the figures in one line."""
    grid = Grid(project, folder, text, seed)
    try:
        expected = train_undisturbed(folder / "grids/faults.yaml")
        plan = kinds(grid.random, kills)
        for number, (kind, inside) in enumerate(plan, start=1):
            while not grid.kill(kind, inside):
                compare(grid.finish(), expected)
                grid.start_from_nothing()
            where = " inside a run" if inside else ""
            say(f"{number} of {kills}: {kind} killed{where}; records there: {len(grid.kept)} of {len(expected)}")
        if grid.running():  # after a kill of papermill or a kernel the engine has gone on
            grid.make.wait(PATIENCE)
        found = grid.finish()
        compare(found, expected)
        left = [path for path in grid.runs.glob("unfinished/*") if not path.name.startswith(".")]  # a killed write's
        assert not left, f"left: {left}"
        drawn = load_grid(folder / "grids/faults.yaml")
        assert {path.stem for path in grid.runs.glob("*.png")} == set(kind_of(drawn).pictures(drawn)), "figures"
        assert not processes_in(grid.folder), "an orphan is left"
    finally:
        grid.close()
    resumed = sum(record.resumed > 0 for record in found.values())
    counts = ", ".join(f"{kind} {sum(k == kind for k, _ in plan)}" for kind in VICTIMS)
    return (
        f"kills tried: {kills} ({counts}; inside a run: {sum(inside for _, inside in plan)}; seed {seed}); "
        f"runs at once: {grid.at_once}; records compared: {len(found)}, of them resumed: {resumed}; lost: 0"
    )


def compare(found, expected):
    """Equal but for times, how often a run was resumed, and ELSEWHERE."""
    assert set(found) == set(expected), f"other cells: {set(found) ^ set(expected)}"
    for name, record in found.items():
        same = record.continues(expected[name]) and expected[name].continues(record)
        assert same, f"{name} has other numbers than undisturbed"
        here, there = record.environment, expected[name].environment
        differ = [key for key in {**here, **there} if key not in ELSEWHERE and here[key] != there[key]]
        assert not differ, f"{name} was trained elsewhere than undisturbed: {differ}"


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
    project = Path(__file__).resolve().parents[2]
    print(f"seed {options.seed}", flush=True)
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60 * options.minutes)
    started = time.monotonic()
    text = (project / "grids/smoke.yaml").read_text().partition("cells:")[0] + CELLS
    with tempfile.TemporaryDirectory(prefix="persist-faults-") as folder:
        try:
            figures = kill_and_finish(project, Path(folder), text, options.kills, options.seed)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            sys.exit(f"error: {error} (seed {options.seed})")
    print(f"{figures}; in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
