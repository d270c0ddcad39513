"""The benchmark measures what it says, and what is made of its samples is what they say."""

import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import conv2d

from persist import Cell
from persist.architecture import convolutions, flops_per_gradient, linear_layers
from persist.convolution import MAPS, matrices
from persist.evidence import speed
from persist.model import build_model

# Arm -> examples per second of one of its runs, in round 0.
RATES = {"plain": 1000, "lightning": 900, "monai": 1100, "loader": 1200, "resident": 1250}
ALONE = {"alone": 2000, "nchw": 1000, "channels_last": 800}  # with K = 1 only
PARTS = dict.fromkeys([*speed.PARTS, "rest"], 0.1) | {"transforms": 0.4, "rest": 0.0}


def made_up(**rates) -> dict:
    """A result with known numbers: in round n everything takes 1 + n times as long. `resident`: two runs."""
    samples = []
    for n, m, K in itertools.product(range(3), (32, 256), (1, 5)):
        for arm, rate in (RATES | (ALONE if K == 1 else {}) | rates).items():
            seconds = 5000 / rate * (1 + n)
            run = {"examples": 5000, "seconds": seconds, "cpu_seconds": 0.98 * seconds}
            runs = [run, run | {"cpu_seconds": 0.9 * seconds}] if arm == "resident" else [run]
            samples.append({"round": n, "arm": arm, "m": m, "K": K, "workers": 2, "runs": runs})
    return {
        "schema": speed.SCHEMA,
        "quick": False,
        "plan": {"ms": [32, 256], "Ks": [1, 5], "rounds": 3, "seconds": 2.5},
        "environment": {
            "device": "Some CPU",
            "cores": 2,
            "torch": "2",
            "git_commit": "a" * 40,
            "git_modified": "",
            "preloaded": [],
        },
        "check": {"iterations": 10, "first": 2.3, "losses": {"plain": 2.25, "resident": 2.25 + 2e-8}},
        "samples": samples,
        "profile": [{"m": m, "steps": 100, "seconds": PARTS} for m in (32, 256)],
    }


def read(markdown: str) -> pd.DataFrame:
    """A Markdown table."""
    head, _, *rows = ([part.strip() for part in line.strip("|").split("|")] for line in markdown.splitlines())
    return pd.DataFrame(rows, columns=head)


def test_rates_by_hand():
    table = speed.rates(made_up()["samples"])
    assert table["rate"].loc[32, 1, 0].to_dict() == pytest.approx(RATES | ALONE | {"resident": 2 * 1250})
    assert table["rate"]["monai"][256, 5, 1] == pytest.approx(1100 / 2)
    assert table["cpu"]["resident"][32, 1, 2] == pytest.approx(0.98 * 3 / 1.25), "of the first run, for 1,000 examples"


def test_ratios_are_taken_within_a_round_and_rates_are_medians():
    table = read(speed.rate_table(made_up()))
    assert table["m"].tolist() == ["32", "32", "256", "256"] and table["K"].tolist() == ["1", "5"] * 2
    assert set(table["plain loop"]) == {"500"} and set(table["`resident`"]) == {"1,250"}  # of round 1, twice as slow
    assert set(table["`resident` / plain loop"]) == {"2.50"}, "in every round, however slow the round was"
    result = made_up()
    for sample in result["samples"]:
        if (sample["arm"], sample["round"]) == ("plain", 2):
            sample["runs"][0]["seconds"] /= 2
    assert set(read(speed.rate_table(result))["`resident` / plain loop"]) == {"2.50 (1.25 to 2.50)"}


def test_a_target_is_met_by_the_median_with_K_1_alone():
    table = read(speed.rate_table(made_up(resident=1000)))
    assert table["target"].tolist() == ["2.0 (aim 3.0): met", "-", "2.5 (aim 3.0): **missed**", "-"]
    table = read(speed.rate_table(made_up(resident=999)))
    assert table["target"][0] == "2.0 (aim 3.0): **missed**"


def test_a_step_is_compared_with_the_faster_of_the_librarys():
    table = read(speed.step_table(made_up()))
    assert table["m"].tolist() == ["32", "256"] and set(table["ratio"]) == {"2.00"}
    assert table["target"].tolist() == ["1.4 (aim 1.7): met", "1.9 (aim 2.2): met"]
    assert set(read(speed.step_table(made_up(channels_last=2000)))["ratio"]) == {"1.00"}


def test_what_a_neighbour_costs_is_the_ratio_of_cpu_seconds_of_the_first_run():
    table = read(speed.neighbour_table(made_up()))
    assert set(table["alone"]) == {f"{0.98 * 2 / 2:.2f} ({0.98 / 2:.2f} to {0.98 * 3 / 2:.2f})"}
    assert set(table["ratio"]) == {f"{2 / 1.25:.2f}"}


def test_shares_of_a_step_add_up():
    table = read(speed.profile_table(made_up())).set_index("part of a step")
    assert table.loc["transforms"].tolist() == ["50%"] * 2 and table.loc["rest"].tolist() == ["0%"] * 2
    assert table.loc["all, in milliseconds"].tolist() == ["8.0"] * 2  # 0.8 s, 100 steps
    assert table.loc["without the profiler"].tolist() == [
        "32.0",
        "256.0",
    ]  # 1000 examples a second, in the middle round


def test_how_says_what_was_checked_and_what_a_trial_is():
    text = speed.how(made_up())
    assert "at least 90% of its time" in text and "2.2500, and differs by at most 2e-08" in text, text
    assert "mean nothing" not in text and "mean nothing" in speed.how(made_up() | {"quick": True})


@pytest.mark.parametrize("m", [32, 512])
def test_multiplications_against_the_convolutions_themselves(m):
    table, cell = speed.multiplications((m,)), Cell(m=m)
    linear = sum(inputs * outputs for inputs, outputs in linear_layers(cell))
    counted = table["as counted"]
    assert flops_per_gradient(cell) == 3 * 2 * (counted["all"] + linear) - 2 * counted.iloc[0]
    for (_, row), c in zip(table.iterrows(), convolutions(cell)):
        ones = torch.ones(1, 1, c.side, c.side, dtype=torch.float64), torch.ones(1, 1, c.kernel, c.kernel).double()
        pairs = c.inputs * c.outputs
        assert row["without padding"] == conv2d(*ones, stride=c.stride, padding=c.padding).sum() * pairs
        if (c.side, c.kernel) in MAPS:
            A, G, B = matrices(c.side, c.kernel, torch.float64)
            assert row["here"] == len(B) * pairs
            transforms = A.numel() * c.outputs + B.numel() * c.inputs + G.numel() * pairs / m
            assert row[f"transforms, m = {m}"] == pytest.approx(transforms)
        else:
            assert row["here"] == row["as counted"] and row[f"transforms, m = {m}"] == 0


def test_bars_are_the_medians_with_the_range_of_the_rounds():
    axes = speed.draw(made_up()).axes
    assert [ax.get_title() for ax in axes] == ["m = 32", "m = 256"]
    expected = [1000 / 2, 900 / 2, 1100 / 2, 1200 / 2, 2500 / 2]
    for ax in axes:
        np.testing.assert_allclose([bar.get_width() for bar in ax.patches], expected * 2)  # K = 1, K = 5
        segments = [line for container in ax.collections for line in container.get_segments()]
        np.testing.assert_allclose(segments[0][:, 0], [1000 / 3, 1000])
    assert [text.get_text() for text in axes[0].figure.legends[0].get_texts()] == ["K = 1", "K = 5"]


def test_results_are_read_by_device_and_those_of_another_version_refused(tmp_path):
    assert speed.load(tmp_path / "none") == []
    (tmp_path / "loading.json").write_text("[]")  # another benchmark's
    (tmp_path / "cpu-some.json").write_text(json.dumps(made_up()))
    [result] = speed.load(tmp_path)
    assert result == made_up() | {"name": "cpu-some"}
    (tmp_path / "cpu-other.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(ValueError, match=r"cpu-other.json: schema must be 2, not 1"):
        speed.load(tmp_path)


def test_every_block_has_its_place_on_the_page_with_and_without_results(project):
    page = (project / "docs/speed.md").read_text()
    measured, nothing = speed.blocks([made_up() | {"name": "cpu-some"}]), speed.blocks([])
    assert sorted(re.findall(r"<!-- speed (\w+) -->\n", page)) == sorted(measured)
    for name, block in measured.items():
        assert "not measured" not in block.lower() and len(block) > 20
        assert (nothing[name] == "Not measured yet.") == (name != "multiplications")


def test_results_of_several_devices_are_told_apart():
    one, other = ({**made_up(), "name": "cpu-some"} for _ in range(2))
    other["environment"] = one["environment"] | {"preloaded": ["faster.so"]}
    table = speed.blocks([one, other])["rates"]
    assert table.startswith("*Some CPU, 2 cores, torch 2*:\n\n|") and "\n\n*Some CPU, faster.so, 2 cores" in table


# --- benchmarks/bench.py


@pytest.fixture
def bench(project):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_speed", project / "benchmarks/bench.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_our_runs_keep_memory_as_those_of_a_grid_do(bench, project):
    engine = (project / "Snakefile").read_text()
    assert len(bench.MEMORY) == 2 and all(f"{name}={value}" in engine for name, value in bench.MEMORY.items())


def test_the_plain_network_is_this_projects(bench):
    ours, plain = build_model(Cell(m=32)), bench.network()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(16, 3, 32, 32)
    torch.testing.assert_close(plain(x), ours(x), rtol=1e-5, atol=1e-6)  # float32 sums in another order


def test_the_clock_times_whole_minibatches_after_those_that_warm_up(bench, monkeypatch):
    updates = []

    def run(*_):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        while True:
            time.sleep(0.002)
            updates.append(time.perf_counter())
            optimizer.step()

    monkeypatch.setattr(bench, "run", run)
    found = bench.found(bench.clock, (64, 3, 0.05), "plain", None, 0, None)
    warm = 2 * 3  # two minibatches of 64, used three times each
    timed, rest = divmod(len(updates) - warm, 3)
    assert rest == 0 and found["examples"] == 64 * timed * 3
    assert found["seconds"] >= 0.05 and found["seconds"] == pytest.approx(updates[-1] - updates[warm - 1], abs=0.002)
    assert found["cpu_seconds"] < found["seconds"] / 2, "it slept"
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1).step()  # the hook is gone


def test_the_librarys_convolutions_lie_in_the_memory_order_that_the_arm_names(bench):
    cell = Cell(m=16, dataset="digits", width=0.1)

    def orders():
        optimizer = yield
        weights = [p for p in optimizer.param_groups[0]["params"] if p.dim() == 4][1:]  # not the first: never replaced
        raise bench.Done([name for name, order in named.items() if all(map(order, weights))])

    named = {
        "alone": lambda w: w.permute(2, 3, 1, 0).is_contiguous(),
        "nchw": torch.Tensor.is_contiguous,
        "channels_last": lambda w: w.is_contiguous(memory_format=torch.channels_last),
    }
    for arm in named:
        assert bench.found(orders, (), arm, cell, 0, None) == [arm]
    assert len(MAPS) == 2, "back again"


@pytest.mark.parametrize("wrong", [None, "lightning", "resident"])
def test_arms_that_do_not_train_the_same_are_refused(bench, wrong):
    class Process:
        def submit(self, found, loss, arguments, arm, *_):
            first = arguments[1] == 1
            value = 2.3 if first else 2.29 + (1e-6 if arm == wrong else 1e-8)
            return type("Future", (), {"result": lambda _: value})()

    places = {arm: [(Process(), [0])] for arm in ("plain", "lightning", "resident")}
    if wrong is None:
        assert bench.check(places)["first"] == 2.3
    else:
        with pytest.raises(ValueError, match=rf"do not train the same: from a loss of 2.3 .*'{wrong}': 2.290001"):
            bench.check(places)


def test_everything_is_measured_once_per_round_and_groups_stay_together(bench, capsys):
    groups = [[("a", 1), ("a", 2), ("a", 3)], [("b", 1), ("b", 2)]]
    samples = bench.take(groups, lambda group, n: {"setting": (group, n)}, 6)
    orders = [[s["setting"] for s in samples if s["round"] == n] for n in range(6)]
    assert all(sorted(order) == sorted(sum(groups, [])) for order in orders) and len(set(map(tuple, orders))) > 1
    assert all(len(list(itertools.groupby(order, lambda setting: setting[0]))) == 2 for order in orders)


@pytest.mark.slow
def test_a_trial_of_the_benchmark(project, tmp_path, cifar10_root):
    """All arms, the check of their losses, the profile; then a result that is there already is not written over."""
    environment = os.environ | {"PERSIST_DATA": str(cifar10_root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "benchmarks/bench.py", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [result] = speed.load(tmp_path)
    assert result["quick"] and result["environment"]["threads"] == 1
    arms = {*speed.OTHERS, *speed.OURS, *speed.STEPS}
    assert {(s["arm"], s["K"]) for s in result["samples"]} == {(a, 1) for a in arms} | {
        (a, 2) for a in (*speed.OTHERS, *speed.OURS)
    }
    cores = len(os.sched_getaffinity(0))
    for sample in result["samples"]:
        assert len(sample["runs"]) == (cores if sample["arm"] == "resident" else 1)
        assert all(r["seconds"] >= result["plan"]["seconds"] and r["examples"] % 32 == 0 for r in sample["runs"])
    assert set(result["check"]["losses"]) == arms and result["check"]["losses"]["plain"] < result["check"]["first"]
    [profile] = result["profile"]
    named = {part: seconds for part, seconds in profile["seconds"].items() if seconds > 0}
    assert set(named) == {*speed.PARTS, "rest"}, "every part was found"
    assert named["rest"] < 0.3 * sum(named.values())
    assert all(speed.blocks([result]).values())
    before = next(tmp_path.iterdir()).read_bytes()
    again = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert again.returncode == 1 and "is there already" in again.stderr
    assert next(tmp_path.iterdir()).read_bytes() == before
