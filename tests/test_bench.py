"""The benchmark runs, and what is made of its numbers is what they say."""

import argparse
import copy
import importlib
import json
import re
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest

from persist.evidence.speed import (
    PIPELINES,
    BenchmarkError,
    channels_last,
    describe,
    draw_bars,
    draw_scale,
    load_benchmarks,
    main,
    paper_claim,
    repeated,
    rows,
    targets,
    to_markdown,
    without_workers,
)

SECONDS = {"plain": 4.0, "lightning": 5.0, "loader": 3.0, "resident": 2.0}  # of a slice with K = 1, in round 0


def made_up(cuda=None, precisions=("fp32",)):
    """A result with known numbers: slices of 1024 examples; in round n everything takes 1 + n times as long; K = 5 costs 4 times K = 1."""
    samples = []
    for number in (0, 1, 2):
        for m in (32, 256, 512):
            for K, factor in ((1, 1), (5, 4)):
                for pipeline, seconds in SECONDS.items():
                    for precision in (
                        precisions if pipeline == "resident" else ("fp32",) if pipeline == "loader" else ("default",)
                    ):
                        fast = 2 if precision == "bf16" else 1
                        samples.append(
                            {"round": number, "pipeline": pipeline, "precision": precision, "m": m, "K": K, "workers": 0 if pipeline == "resident" else 2, "minibatches": 1024 // m,
                             "gradients": 1024 * K, "seconds": seconds * factor * (1 + number) / fast}
                        )  # fmt: skip
    scale = [{"round": n, "kind": "slice", "pipeline": "resident", "precision": "fp32", "m": m, "K": K, "workers": 0, "minibatches": 1, "gradients": m * K, "seconds": m * K * (1 + n) / 500}
             for n in (0, 1) for m, K in ((8, 1), (32, 1), (32, 16))]  # fmt: skip
    scale += [
        {
            "round": n,
            "kind": "epoch",
            "pipeline": "resident",
            "precision": "fp32",
            "m": 32,
            "K": 1,
            "examples": e,
            "seconds": e / 400,
        }
        for n in (0, 1)
        for e in (100, 200)
    ]
    return {
        "schema": 1, "quick": False, "name": "some",
        "environment": {"device": "Some GPU" if cuda else "Some CPU", "cuda": cuda, "threads": 2, "torch": "2.14.1"},
        "cell": {"width": 1.0, "padding": "alexnet"}, "flops_per_gradient": 10**9,
        "workers": [{"round": n, "pipeline": p, "precision": "fp32" if p == "resident" else "default", "m": m, "K": 1, "workers": w, "gradients": 1024, "seconds": s * (1 + n)} for n in (0, 1) for m in (32, 512) for p, w, s in (("plain", 0, 3.0), ("plain", 2, 4.0), ("resident", 0, 2.0))],
        "matmul": [{"precision": p, "n": 2048, "flops_per_second": f} for p in precisions for f in (0.8e12, 1e12)],
        "copy": {"mebibytes": 256, "bytes_per_second": 4e10},
        "bytes": [{"m": m, "precision": p, "bytes": 10**6 * m} for m in (32, 256, 512) for p in precisions],  # 40,000 gradients per second: does not bind
        "layouts": [{"round": n, "layout": layout, "pipeline": "resident", "precision": "fp32", "m": m, "K": 1, "gradients": 1024, "seconds": s * (1 + n)} for n in (0, 1) for m in (32, 512) for layout, s in (("channels_last", 2.0), ("nchw", 2.5))],
        "samples": samples,
        "check": {"iterations": 10, "largest_change": 0.008, "largest_difference": {"lightning": 1e-8, "loader fp32": 2e-8, "resident fp32": 3e-8}},
        "profile": {"m": 32, "K": 1, "iterations": 10, "seconds": 10.0, "forward": 3.0, "backward": 6.0, "update": 0.8, "overhead": 0.02},
        "replayed": {"m": 32, "K": 1, "seconds": 10.0, "replays": 9.7} if cuda else None,
        "scale": scale, "other_work": 0.0, "minutes": 1.0,
    }  # fmt: skip


RESULT = made_up()


def test_rows_by_hand():
    table = {(r["m"], r["K"], r["pipeline"]): r for r in rows(RESULT)}
    assert len(table) == 3 * 2 * 4
    resident = table[512, 5, "resident"]
    assert resident["rate"] == [5 * 1024 / 8, 5 * 1024 / 16, 5 * 1024 / 24]
    assert resident["epoch"] == pytest.approx([50_000 * 8 / 1024 * n for n in (1, 2, 3)])
    assert resident["ratio"] == [2.0, 2.0, 2.0], "within a round, however slow the round was"
    assert resident["cost"] == pytest.approx([4.0, 4.0, 4.0])
    assert resident["floor"] == pytest.approx(5 * 1024 / 16 / 1000)  # of 1e12 / 1e9 gradients per second
    assert table[32, 1, "plain"]["ratio"] == table[32, 1, "loader"]["cost"] == [1.0, 1.0, 1.0]
    assert table[32, 1, "lightning"]["ratio"] == pytest.approx([0.8] * 3)


def test_the_baselines_on_a_gpu_have_no_floor():
    table = rows(made_up("13.0", ("fp32", "bf16")))
    assert {r["precision"]: r["floor"] is None for r in table} == {"default": True, "fp32": False, "bf16": False}


def test_where_the_bytes_take_longer_they_are_the_floor():
    result = copy.deepcopy(RESULT)
    result["bytes"][2]["bytes"] = (
        512 * 10**8
    )  # at 4e10 bytes per second 400 gradients per second; the operations allow 1000
    assert {r["m"]: r["floor"] for r in rows(result) if (r["K"], r["pipeline"]) == (1, "resident")} == pytest.approx(
        {32: 0.256, 256: 0.256, 512: 0.64}
    )
    assert (
        "40 GB/s of a copy of 256 MiB: that takes longer, and is taken as the floor, at m = 512 in fp32."
        in to_markdown([result])
    )
    assert "that takes less, at every m." in to_markdown([RESULT])


def test_the_readmes_table_and_sentences():
    text = to_markdown([RESULT])
    assert (
        "| Some CPU, 2 threads | 32 | 5 | fp32 | 640 | 512 | 853 | 1,280 | 2.00 |" not in text
    )  # round 1, not round 0, is the median
    assert "| Some CPU, 2 threads | 32 | 5 | fp32 | 160 | 128 | 213 | 320 | 2.00 | 781.2 | 4.00 | 4.00 | 0.32 |" in text
    assert text.count("| Some CPU") == 6 and text.count("not measured yet") == 4
    assert "not measured yet" not in to_markdown([made_up("13.0")])
    assert "2 at m = 32" in text and "No other process was busy meanwhile." in text and "extrapolated" in text
    for picture in ("bars", "scale"):
        assert f"(figures/bench/some-{picture}.png)" in text
    assert "Other work kept 1.50 cores busy" in to_markdown([{**RESULT, "other_work": 1.5}])
    assert "its numbers mean nothing" in to_markdown([{**RESULT, "quick": True}])
    assert describe(RESULT).count("\n| ") == 1 + 24


def test_targets_that_are_reached_and_that_are_not():
    lines = targets(RESULT)
    assert lines[0] == "m = 32, fp32: `resident` at least 1.3 times as fast as the plain loop: reached, 2.00."
    assert lines[1].startswith("m = 512, fp32: `resident` at least 1.15 times") and "reached, 2.0%." in lines[2]
    slow = copy.deepcopy(RESULT)
    for sample in slow["samples"]:
        sample["seconds"] *= 1.6 if sample["pipeline"] == "resident" else 1
    slow["profile"]["overhead"] = 0.05
    assert (
        "**not reached**, 1.25" in targets(slow)[0]
        and ": reached, 1.25" in targets(slow)[1]
        and "**not reached**, 5.0%" in targets(slow)[2]
    )
    assert targets(slow)[0].endswith(
        "With its own rate at m = 512, where what an iteration costs beside its examples weighs least, it would be 1.25 times as fast."
    )
    fast = copy.deepcopy(slow)
    for sample in fast["samples"]:
        sample["seconds"] /= 2 if (sample["pipeline"], sample["m"]) == ("resident", 512) else 1
    assert (
        "it would be 2.50 times as fast" in targets(fast)[0]
        and "With its own rate" not in targets(slow)[1] + targets(RESULT)[0]
    )
    gpu = targets(made_up("13.0", ("fp32", "bf16")))
    assert (
        [line[:14] for line in gpu[:2]] == ["m = 32, bf16: ", "m = 32, fp32: "]
        and "at least 4 times" in gpu[0]
        and "**not reached**" in gpu[1]
        and "With its own rate" not in gpu[1]
    )
    assert any("reached, 97.0%" in line for line in gpu)


def test_the_plain_loop_without_workers_is_told_too():
    assert without_workers(RESULT).endswith("(K = 1): 1.50 at m = 32, 1.50 at m = 512.") and without_workers(
        RESULT
    ) in to_markdown([RESULT])


def test_what_channels_last_memory_gains_is_told():
    assert (
        channels_last(RESULT)
        == "In channels-last memory `resident` is this many times as fast as in NCHW (fp32, K = 1): 1.25 at m = 32, 1.25 at m = 512."
    )
    assert channels_last(RESULT) in to_markdown([RESULT])


def test_how_far_one_thing_measured_again_differs():
    # m = 32: twice in the rounds before the table's, three times in it, twice in layouts (2, 4, 6 seconds for 1024 gradients), twice in scale (100 and 200 s per epoch)
    assert repeated(RESULT).endswith(
        "in all parts of the run: 195.3 (97.7-293.0) at m = 32 (n = 9), 195.3 (97.7-293.0) at m = 256 (n = 3), 195.3 (97.7-293.0) at m = 512 (n = 7)."
    )


@pytest.mark.parametrize("change, message", [({"layouts": []}, "layouts is empty"), ({"samples": [{**RESULT["samples"][0], "seconds": -1.0}]}, "samples holds the seconds -1.0"),
                                             ({"workers": [{**RESULT["workers"][0], "seconds": float("nan")}]}, "workers holds the seconds nan"),
                                             ({"samples": [s for s in RESULT["samples"] if s["pipeline"] != "resident"]}, "samples holds none of resident")])  # fmt: skip
def test_what_is_no_measurement_is_refused_by_name(tmp_path, change, message):
    (tmp_path / "some.json").write_text(json.dumps({**RESULT, **change}))
    with pytest.raises(BenchmarkError, match=f"some.json is not a benchmark's result: ValueError: {message}"):
        load_benchmarks(tmp_path)


def test_the_papers_claim_beside_the_measured_ratios():
    lines = paper_claim(RESULT)
    assert (
        lines[0]
        == "m = 32: the paper finds K = 5 to cost about 3 times K = 1; measured here: 4.00 in `loader`, 4.00 in `resident`."
    )
    assert len(lines) == 3


def test_bars_are_the_medians_with_whiskers():
    axes = draw_bars(RESULT).axes
    assert [ax.get_title() for ax in axes] == ["m = 32", "m = 256", "m = 512"]
    for ax, m in zip(axes, (32, 256, 512)):
        heights = [bar.get_height() for bar in ax.patches]
        expected = [statistics.median(r["rate"]) for r in rows(RESULT) if r["m"] == m]
        np.testing.assert_allclose(heights, expected)
        segments = [segment for container in ax.collections for segment in container.get_segments()]
        np.testing.assert_allclose(segments[0][:, 1], [1024 / 12, 1024 / 4])
    labels = [text.get_text() for text in axes[0].figure.legends[0].get_texts()]
    assert labels == ["plain", "lightning", "loader, fp32", "resident, fp32"]


def test_the_cost_of_scale_is_drawn_from_its_samples():
    by_m, by_K, by_examples = draw_scale(RESULT).axes
    np.testing.assert_allclose(by_m.lines[1].get_xydata(), [(8, 150.0), (32, 150.0)])  # 100 and 200 seconds per epoch
    np.testing.assert_allclose(by_K.lines[1].get_xydata(), [(1, 150.0), (16, 2400.0)])
    np.testing.assert_allclose(by_examples.lines[1].get_xydata(), [(100, 0.25), (200, 0.5)])
    assert len(by_m.lines[0].get_xdata()) == 4, "every sample is shown"
    assert "extrapolated" in by_m.figure.get_supxlabel()


def test_make_figures_writes_pictures_and_the_readmes_part(tmp_path, capsys):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/some.json").write_text(json.dumps(RESULT))
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- speed -->\nold\n<!-- end -->\nafter\n")
    for _ in range(2):
        main([str(tmp_path / "results"), str(tmp_path / "figures"), str(readme)])
    assert readme.read_text() == f"before\n<!-- speed -->\n{to_markdown([RESULT])}<!-- end -->\nafter\n"
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert set(pictures) == {f"some-{kind}.{suffix}" for kind in ("bars", "scale") for suffix in ("png", "svg")}
    main([str(tmp_path / "results"), str(tmp_path / "again"), str(readme)])
    assert pictures == {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}


@pytest.mark.parametrize("content", ["damaged", "[]", '{"schema": 2}', '{"schema": 1}'])
def test_what_is_not_a_result_is_refused_by_name(tmp_path, content):
    (tmp_path / "some.json").write_text(content)
    with pytest.raises(BenchmarkError, match="some.json is not a benchmark's result"):
        load_benchmarks(tmp_path)


@pytest.mark.parametrize("key", sorted(set(RESULT) - {"name", "minutes"}))
def test_a_result_that_lacks_what_is_read_is_refused_by_name(tmp_path, key):
    (tmp_path / "some.json").write_text(json.dumps({k: v for k, v in RESULT.items() if k != key}))
    (tmp_path / "README.md").write_text("<!-- speed -->\n<!-- end -->")
    with pytest.raises(SystemExit, match=f"^error: .*some.json is not a benchmark's result: KeyError: '{key}'"):
        main([str(tmp_path), str(tmp_path / "figures"), str(tmp_path / "README.md")])


def test_the_readme_and_the_committed_figures_are_what_the_results_say(project, tmp_path):
    results = load_benchmarks(project / "benchmarks" / "results")
    assert not any(result["quick"] for result in results), "a trial is no result"
    assert f"<!-- speed -->\n{to_markdown(results)}<!-- end -->" in (project / "README.md").read_text(), "make figures"
    (tmp_path / "README.md").write_text("<!-- speed -->\n<!-- end -->")
    main([str(project / "benchmarks" / "results"), str(tmp_path / "figures"), str(tmp_path / "README.md")])
    drawn, committed = (
        {p.name: p.read_text() for p in folder.glob("*.svg")}
        for folder in (tmp_path / "figures", project / "figures" / "bench")
    )
    assert drawn == committed, "make figures"


@pytest.fixture
def bench(project, monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(project / "benchmarks"))
    return importlib.import_module("bench")


def test_the_clock_runs_over_whole_minibatches_and_starts_after_an_iteration(bench):
    import torch

    ticks = []

    def loop():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        while True:
            ticks.append(time.perf_counter())
            optimizer.step()

    stopwatch = bench.Stopwatch(torch.device("cpu"), iterations=6)
    bench.run(loop, stopwatch.tick)
    assert len(ticks) == 1 + 6
    assert 0 < stopwatch.seconds < time.perf_counter() - ticks[0]
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1).step()
    assert stopwatch.count == 7, "the hook is gone"


def test_replays_of_graphs_tick_by_minibatch_over_the_ends_of_epochs(bench):
    """On the CPU nothing is captured; what counts the replays is the same."""
    import torch

    stopwatch = bench.Stopwatch(torch.device("cpu"), iterations=8)
    done = []
    with pytest.raises(bench.Done):
        while True:
            for index in bench._Ticking((1, 2, 3), 2, stopwatch).indices:
                done.append(index)
    assert done == [1, 2, 3, 1, 2], "one minibatch of 2 uses outside the clock, four inside"


def test_the_layouts_are_what_they_are_called(bench, cifar10_root, monkeypatch):
    import torch

    seen = []

    def iterate(cell, model, optimizer, batches):
        images, _ = next(iter(batches))
        seen.append(
            (
                model[0].weight.is_contiguous(),
                images.is_contiguous(),
                images.is_contiguous(memory_format=torch.channels_last),
            )
        )
        raise bench.Done

    monkeypatch.setattr(bench.training, "iterate", iterate)
    for layout in (torch.channels_last, torch.contiguous_format):
        it = bench.Bench(torch.device("cpu"), str(cifar10_root), 0.0625, False, memory_format=layout)
        bench.run(it.loop("resident", it.cell(32, 1)), bench._ignore)
    assert seen == [(False, False, True), (True, True, False)]


def test_an_older_result_is_never_written_over_unasked(bench, tmp_path, monkeypatch):
    import torch

    def options(**changes):
        return argparse.Namespace(
            **{**dict(graph=False, bf16=False, quick=False, replace=False, output=str(tmp_path)), **changes}
        )

    cpu = torch.device("cpu")
    path = bench.result_path(options(), cpu)
    assert path.parent == tmp_path and re.fullmatch(r"cpu-[a-z0-9-]+\.json", path.name)
    assert bench.result_path(options(bf16=True, graph=True), cpu).name == f"{path.stem}-bf16.json", (
        "a CPU captures no graph"
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    for graph, name in ((False, "gpu-some-gpu.json"), (True, "gpu-some-gpu-graph.json")):
        assert bench.result_path(options(graph=graph, bf16=True), torch.device("cuda")).name == name
    path.write_text("older")
    assert bench.result_path(options(replace=True), cpu) == path
    monkeypatch.setattr(bench, "Bench", None)  # nothing is read or measured before
    with pytest.raises(
        SystemExit,
        match=f"^error: {re.escape(str(path))} is there already, an older result.*--replace .make bench REPLACE=1.$",
    ):
        bench.main(["--device", "cpu", "--output", str(tmp_path)])
    assert path.read_text() == "older"


def test_the_whole_benchmark_in_small(project, cifar10_root, tmp_path):
    command = [sys.executable, "benchmarks/bench.py", "--quick", "--device", "cpu", "--bf16", "--output", str(tmp_path)]
    run = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    [result] = load_benchmarks(tmp_path)
    assert result["quick"] and "/" not in json.dumps(
        {k: v for k, v in result["environment"].items() if k != "git_modified"}
    )
    table = rows(result)
    assert {(r["m"], r["K"], r["pipeline"], r["precision"]) for r in table} == {
        (32, K, pipeline, precision)
        for K in (1, 2)
        for pipeline, precision in (
            ("plain", "default"),
            ("lightning", "default"),
            ("loader", "fp32"),
            ("resident", "fp32"),
            ("resident", "bf16"),
        )
    }
    assert all(len(r["rate"]) == 2 and min(r["rate"]) > 0 for r in table)
    # every sample is whole minibatches with all their uses, of some 64 gradients
    assert all(
        s["gradients"] == s["minibatches"] * s["m"] * s["K"] and 64 <= s["gradients"] <= 128 for s in result["samples"]
    )
    check = result["check"]
    assert check["largest_change"] > 1e-3
    for name in ("lightning", "loader fp32", "resident fp32"):
        assert check["largest_difference"][name] < 1e-6, "float32 rounding in another order"
    assert 1e-6 < check["largest_difference"]["resident bf16"] < check["largest_change"]
    profile = result["profile"]
    assert profile["iterations"] == 8 and 0 < profile["overhead"] < 1
    assert profile["forward"] + profile["backward"] + profile["update"] == pytest.approx(
        profile["seconds"] * (1 - profile["overhead"])
    )
    assert {s["kind"] for s in result["scale"]} == {"slice", "epoch"}
    assert (
        "its numbers mean nothing" in to_markdown([result])
        and len(draw_bars(result).axes) == 1
        and len(draw_scale(result).axes) == 3
    )
    assert set(PIPELINES) == {s["pipeline"] for s in result["samples"]}
