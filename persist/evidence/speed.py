"""How fast: tables and figures of what benchmarks/bench.py measured. Reads its JSON only; imports no torch.

    python -m persist.evidence.speed benchmarks/results figures/bench README.md       (what `make figures` runs)

A rate is in gradients per second: examples evaluated for a gradient, K times those loaded. Values are medians over the rounds of a
run, ratios are taken within a round; "a-b" beside them is their smallest and largest.
"""

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

from matplotlib.figure import Figure
from persist.readme import replace_marked

from persist.evidence.figures import save
from persist.record import write_atomically

SCHEMA = 1
PICTURES = "figures/bench"  # as the README links them
PIPELINES = {
    "plain": "plain PyTorch loop",
    "lightning": "Lightning's Trainer",
    "loader": "`loader`",
    "resident": "`resident`",
}
COLOURS = {"plain": "#999999", "lightning": "#56B4E9", "loader": "#E69F00", "resident": "#0072B2"}  # of Okabe and Ito
HATCHES = {"default": "", "fp32": "", "tf32": "//", "bf16": ".."}
EPOCH = 50_000  # examples of CIFAR-10's training set
# What the project set out to reach with K = 1, beside the plain loop: m -> how many times its rate, on the CPU in fp32.
CPU_TARGETS = {32: 1.3, 512: 1.15}
GPU_TARGET = 4.0
OVERHEAD_TARGET = 0.03
# The paper (Section 2.2): time for K = 5 relative to K = 1.
PAPER_K5 = {32: "about 3", 256: "not significantly more than 1", 512: "not significantly more than 1"}


class BenchmarkError(Exception):
    """A file is not a benchmark's result as this version writes it. The message names the file."""


def load_benchmarks(folder) -> list[dict]:
    """The results in a folder, in the order of their names; none where the folder is not there."""
    results = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            result = {**json.loads(path.read_bytes()), "name": path.stem}
            if result["schema"] != SCHEMA:
                raise ValueError(f"its schema is {result['schema']!r}, this version reads {SCHEMA}")
            _check(result)
            for use in (lambda each: to_markdown([each]), draw_bars, draw_scale):  # all that is read of it is there
                use(result)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, StopIteration) as error:
            raise BenchmarkError(f"{path} is not a benchmark's result: {type(error).__name__}: {error}") from None
        results.append(result)
    return results


def _check(result):
    """Raise ValueError where there are no measurements of a kind, or one that is no time."""
    for part in ("workers", "samples", "layouts", "scale"):
        if not result[part]:
            raise ValueError(f"{part} is empty")
        for sample in result[part]:
            if not (math.isfinite(sample["seconds"]) and sample["seconds"] > 0):
                raise ValueError(f"{part} holds the seconds {sample['seconds']!r}")
    if not any(sample["pipeline"] == "resident" for sample in result["samples"]):
        raise ValueError("samples holds none of resident")


def rows(result: dict) -> list[dict]:
    """One row per (m, K, pipeline, precision): `rate` in gradients per second, `epoch` in seconds per epoch of 50 000 examples,
    `ratio`: its rate relative to the plain loop's, `cost`: the time of a minibatch relative to that with K = 1 (each a list over
    the rounds), `floor`: the median rate over what the device allows (`floor_rate`), None for the baselines on a GPU."""
    rates = {}
    for sample in result["samples"]:
        rates.setdefault(_key(sample), {})[sample["round"]] = sample["gradients"] / sample["seconds"]
    table = []
    for (m, K, pipeline, precision), of_round in sorted(
        rates.items(), key=lambda item: (*item[0][:2], [*PIPELINES].index(item[0][2]), item[0][3])
    ):
        plain, once = rates[m, K, "plain", "default"], rates.get((m, 1, pipeline, precision))
        floor = floor_rate(result, m, precision)
        table.append(
            {
                "m": m, "K": K, "pipeline": pipeline, "precision": precision,
                "rate": list(of_round.values()),
                "epoch": [EPOCH * K / rate for rate in of_round.values()],
                "ratio": [rate / plain[n] for n, rate in of_round.items()],
                "cost": [K * once[n] / rate for n, rate in of_round.items()] if once else [],
                "floor": floor and statistics.median(of_round.values()) / floor,
            }
        )  # fmt: skip
    return table


def floor_rate(result, m: int, precision: str) -> float | None:
    """Gradients per second at the measured rate of matrix products in that precision or, where that is less, at the rate at which
    an iteration's bytes can be moved. None where it was not measured. PyTorch's default on a CPU is fp32."""
    precision = "fp32" if precision == "default" and not result["environment"]["cuda"] else precision
    flops = [
        product["flops_per_second"] / result["flops_per_gradient"]
        for product in result["matmul"]
        if product["precision"] == precision
    ]
    return min(max(flops), _byte_rate(result, m, precision)) if flops else None


def _byte_rate(result, m, precision) -> float:
    """Gradients per second at the measured rate of a copy."""
    moved = next(each["bytes"] for each in result["bytes"] if (each["m"], each["precision"]) == (m, precision))
    return m * result["copy"]["bytes_per_second"] / moved


def describe(result: dict) -> str:
    """All of one result as a Markdown table, a row per pipeline."""
    heads = [
        "m",
        "K",
        "pipeline",
        "precision",
        "gradients/s",
        "s per epoch",
        "relative to plain",
        "time(K) / time(1)",
        "of the floor",
    ]
    lines = [heads, ["---:", "---:", "---", "---", *["---:"] * 5]]
    for row in rows(result):
        floor = "-" if row["floor"] is None else f"{row['floor']:.2f}"
        lines.append(
            [
                row["m"],
                row["K"],
                row["pipeline"],
                row["precision"],
                *(_spread(row[q], d) for q, d in (("rate", 0), ("epoch", 1), ("ratio", 2), ("cost", 2))),
                floor,
            ]
        )
    return "\n".join(["| " + " | ".join(map(str, line)) + " |" for line in lines])


def to_markdown(results: list[dict]) -> str:
    """The README's part on speed: a table with a row per device, m, K and precision; what it was measured on; the targets; the paper's claim."""
    heads = [
        "device",
        "m",
        "K",
        "precision",
        "plain loop",
        "Lightning",
        "`loader`",
        "`resident`",
        "`resident` / plain",
        "`resident`: s per epoch",
        "time(K)/time(1): `loader`",
        "time(K)/time(1): `resident`",
        "`resident`: of the floor",
    ]
    lines = [heads, ["---", *["---:"] * 2, "---", *["---:"] * 9]]
    for result in results:
        table = rows(result)
        for row in (row for row in table if row["pipeline"] == "resident"):
            others = [
                next(r for r in table if (r["m"], r["K"], r["pipeline"]) == (row["m"], row["K"], pipeline))
                for pipeline in ("plain", "lightning", "loader")
            ]
            rates = [f"{statistics.median(r['rate']):,.0f}" for r in (*others, row)]
            costs = [_spread(r["cost"], 2) for r in (others[2], row)]
            lines.append(
                [
                    _device(result),
                    row["m"],
                    row["K"],
                    row["precision"],
                    *rates,
                    _spread(row["ratio"], 2),
                    f"{statistics.median(row['epoch']):,.1f}",
                    *costs,
                    f"{row['floor']:.2f}",
                ]
            )
    if not any(result["environment"]["cuda"] for result in results):
        lines.append(["an NVIDIA GPU", "", "", "fp32, tf32, bf16", *["not measured yet"] * 4, *[""] * 5])
    text = ["| " + " | ".join(map(str, line)) + " |" for line in lines]
    for result in results:
        text += [
            "",
            *(
                f"![{alt}]({PICTURES}/{result['name']}-{kind}.png)"
                for kind, alt in (("bars", "Gradients per second"), ("scale", "Seconds per epoch"))
            ),
        ]
        text += [
            "",
            what_ran(result),
            "",
            *(
                f"- {line}"
                for line in (
                    *targets(result),
                    without_workers(result),
                    channels_last(result),
                    repeated(result),
                    *paper_claim(result),
                )
            ),
        ]
    return "\n".join([*text, ""])


def what_ran(result: dict) -> str:
    """Hardware, versions, network and how it was measured, in one paragraph."""
    where, cell = result["environment"], result["cell"]
    n = len({sample["round"] for sample in result["samples"]})
    workers = {sample["m"]: sample["workers"] for sample in result["samples"] if sample["pipeline"] == "plain"}
    tried = sorted({sample["workers"] for sample in result["workers"]} - {0})
    slices = (
        "Whole epochs"
        if where["cuda"]
        else f"Slices of some {_slice(result['samples']):,} gradients, seconds per epoch extrapolated from them"
    )
    other = result["other_work"]
    busy = (
        ""
        if other is None
        else f" Other work kept {other:.2f} cores busy meanwhile."
        if other >= 0.1
        else " No other process was busy meanwhile."
    )
    return (
        f"{'**A trial with a tiny network: its numbers mean nothing.** ' if result['quick'] else ''}"
        f"{_device(result)}, torch {where['torch']}. Reduced AlexNet, width {cell['width']:g}, padding '{cell['padding']}', {result['flops_per_gradient'] / 1e9:.2f} GFLOP per gradient, CIFAR-10. "
        f"In gradients per second: examples evaluated for a gradient, K times those loaded. {slices}; medians over {n} rounds that measured everything in turn, in another order each; in brackets the smallest and the largest. "
        f"DataLoader workers: {', '.join(f'{w} at m = {m}' for m, w in sorted(workers.items()))}, {'the fastest of ' + ', '.join(map(str, tried)) + ' for the plain loop' if len(tried) > 1 else 'for want of cores no other number was tried'}. "
        f"The floor is the time of the same operations as matrix products, at {_peaks(result)}; a convolution may need fewer, or have a faster routine. {_bytes(result)}{busy}"
    )


def targets(result: dict) -> list[str]:
    """What was to be reached with K = 1, and what was measured, a sentence each."""
    cuda, lines, table = result["environment"]["cuda"], [], rows(result)
    for row in table:
        goal = GPU_TARGET if cuda else CPU_TARGETS.get(row["m"])
        if row["pipeline"] == "resident" and row["K"] == 1 and goal and (cuda or row["precision"] == "fp32"):
            measured = statistics.median(row["ratio"])
            lines.append(
                f"m = {row['m']}, {row['precision']}: `resident` at least {goal:g} times as fast as the plain loop: {_met(measured >= goal)}, {_spread(row['ratio'], 2)}.{'' if cuda or measured >= goal else _at_the_rate_of_the_largest(row, table)}"
            )
    overhead = result["profile"]["overhead"]
    lines.append(
        f"All but forward, backward and update below {OVERHEAD_TARGET:.0%} of the training loop's time at m = 32: {_met(overhead < OVERHEAD_TARGET)}, {overhead:.1%}."
    )
    if result["replayed"]:
        share = result["replayed"]["replays"] / result["replayed"]["seconds"]
        lines.append(
            f"The replays of the CUDA graphs at least 95% of the training time at m = 32: {_met(share >= 0.95)}, {share:.1%}."
        )
    change, differences = result["check"]["largest_change"], result["check"]["largest_difference"]
    worst = max(differences[name] for name in ("lightning", "loader fp32", "resident fp32"))
    lines.append(
        f"All pipelines train the same: after {result['check']['iterations']} iterations on the same minibatches no weight differs from the plain loop's by more than {worst:.1g}, where one changed by up to {change:.1g}."
    )
    return lines


def _at_the_rate_of_the_largest(row, table) -> str:
    """How its rate at the largest m, where what an iteration costs beside its examples weighs least, compares with the plain loop's at
    this m: an estimate of what saving all of that could give. Nothing for the largest itself, nor on a GPU, which a small m leaves idle."""
    same = [
        r for r in table if (r["K"], r["pipeline"], r["precision"]) == (row["K"], row["pipeline"], row["precision"])
    ]
    largest = max(same, key=lambda r: r["m"])
    if largest is row:
        return ""
    plain = next(r for r in table if (r["m"], r["K"], r["pipeline"]) == (row["m"], row["K"], "plain"))
    would = [fast / slow for fast, slow in zip(largest["rate"], plain["rate"])]
    return f" With its own rate at m = {largest['m']}, where what an iteration costs beside its examples weighs least, it would be {_spread(would, 2)} times as fast."


def without_workers(result: dict) -> str:
    """How the plain loop does without DataLoader workers, K = 1: the rate of resident relative to it, in the rounds before the table's."""
    ratios = []
    for m in sorted({sample["m"] for sample in result["workers"]}):
        seconds = {(s["round"], s["pipeline"], s["workers"]): s["seconds"] for s in result["workers"] if s["m"] == m}
        of_round = [
            seconds[n, "plain", 0] / taken for (n, pipeline, _), taken in seconds.items() if pipeline == "resident"
        ]
        ratios.append(f"{_spread(of_round, 2)} at m = {m}")
    return f"Beside a plain loop without DataLoader workers, `resident` is this many times as fast (K = 1): {', '.join(ratios)}."


def channels_last(result: dict) -> str:
    """What channels-last memory gains: the rate of resident relative to that in NCHW, K = 1."""
    ratios = []
    for m in sorted({sample["m"] for sample in result["layouts"]}):
        seconds = {(s["round"], s["layout"]): s["seconds"] for s in result["layouts"] if s["m"] == m}
        ratios.append(
            f"{_spread([seconds[n, 'nchw'] / taken for (n, layout), taken in seconds.items() if layout == 'channels_last'], 2)} at m = {m}"
        )
    return (
        f"In channels-last memory `resident` is this many times as fast as in NCHW (fp32, K = 1): {', '.join(ratios)}."
    )


def repeated(result: dict) -> str:
    """How far measurements of one thing differ within a run: resident, fp32, K = 1 in the parts that have it, each with its rounds."""
    parts = ("workers", "samples", "layouts", "scale")
    lines = []
    for m in sorted({sample["m"] for sample in result["samples"]}):
        seconds = [
            _seconds_per_epoch(s)
            for part in parts for s in result[part]
            if (s["pipeline"], s["precision"], s["m"], s["K"]) == ("resident", "fp32", m, 1) and s.get("kind") != "epoch" and s.get("layout") != "nchw"
        ]  # fmt: skip
        if seconds:
            lines.append(f"{_spread(seconds, 1)} at m = {m} (n = {len(seconds)})")
    return f"How far one thing measured again differs, seconds per epoch of `resident` with K = 1 in all parts of the run: {', '.join(lines)}."


def paper_claim(result: dict) -> list[str]:
    """The paper's claim on the cost of K = 5 relative to K = 1, beside what was measured in both pipelines."""
    lines = []
    for m, claim in PAPER_K5.items():
        found = [
            r
            for r in rows(result)
            if (r["m"], r["K"]) == (m, 5) and r["pipeline"] in ("loader", "resident") and r["precision"] == "fp32"
        ]
        if found:
            measured = ", ".join(f"{_spread(r['cost'], 2)} in {PIPELINES[r['pipeline']]}" for r in found)
            lines.append(f"m = {m}: the paper finds K = 5 to cost {claim} times K = 1; measured here: {measured}.")
    return lines


def draw_bars(result: dict) -> Figure:
    """Gradients per second of every pipeline, a panel per m, a group of bars per K; whiskers from the smallest to the largest."""
    table = rows(result)
    ms = sorted({row["m"] for row in table})
    figure = Figure(figsize=(11, 5), layout="constrained")
    for ax, m in zip(figure.subplots(1, len(ms), sharey=True, squeeze=False)[0], ms):
        Ks = sorted({row["K"] for row in table if row["m"] == m})
        for x, K in enumerate(Ks):
            bars = [row for row in table if (row["m"], row["K"]) == (m, K)]
            for i, row in enumerate(bars):
                middle = statistics.median(row["rate"])
                whiskers = [[middle - min(row["rate"])], [max(row["rate"]) - middle]]
                label = (
                    None if x else row["pipeline"] + ("" if row["precision"] == "default" else f", {row['precision']}")
                )
                ax.bar(x + (i - (len(bars) - 1) / 2) * 0.8 / len(bars), middle, 0.8 / len(bars), yerr=whiskers, capsize=2,
                       color=COLOURS[row["pipeline"]], hatch=HATCHES[row["precision"]], edgecolor="white", ecolor="#444444", label=label)  # fmt: skip
        ax.set_xticks(range(len(Ks)), [f"K = {K}" for K in Ks])
        ax.set_title(f"m = {m}")
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("gradients per second")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles), frameon=False)
    figure.supxlabel(_caption(result, result["samples"]), fontsize="small", ha="left", x=0.01)
    return figure


def draw_scale(result: dict) -> Figure:
    """Seconds per epoch against m, against K, and against the number of examples: resident, fp32."""
    slices = [s for s in result["scale"] if s["kind"] == "slice"]
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    by_m, by_K, by_examples = figure.subplots(1, 3)
    _points(by_m, [(s["m"], _seconds_per_epoch(s)) for s in slices if s["K"] == 1], "K = 1", *STYLES[0])
    for (color, marker), m in zip(STYLES, sorted({s["m"] for s in slices if s["K"] > 1})):
        _points(by_K, [(s["K"], _seconds_per_epoch(s)) for s in slices if s["m"] == m], f"m = {m}", color, marker)
    epochs = [s for s in result["scale"] if s["kind"] == "epoch"]
    _points(by_examples, [(s["examples"], s["seconds"]) for s in epochs], "m = 32, K = 1", *STYLES[0])
    by_K.set_xticks(sorted({s["K"] for s in slices}))
    by_m.set_xscale("log", base=2)
    by_m.set_xticks(
        sorted({s["m"] for s in slices if s["K"] == 1}),
        labels=[str(m) for m in sorted({s["m"] for s in slices if s["K"] == 1})],
        rotation=45,
    )
    for ax, xlabel, examples in (
        (by_m, "minibatch size m", f"{EPOCH:,}"),
        (by_K, "persistency K", f"{EPOCH:,}"),
        (by_examples, "training examples", "these"),
    ):
        ax.set_xlabel(xlabel)
        ax.set_ylabel(f"seconds per epoch of {examples} examples")
        ax.set_ylim(bottom=0)
        ax.legend(frameon=False)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(_caption(result, slices), fontsize="small", ha="left", x=0.01)
    return figure


STYLES = (("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"))


def _points(ax, points, label, color, marker):
    """All samples as points, and a line through their medians."""
    ax.plot(*zip(*points), ls="", marker=marker, ms=4, mfc="none", color=color, alpha=0.6)
    xs = sorted({x for x, _ in points})
    ax.plot(
        xs,
        [statistics.median(y for x, y in points if x == at) for at in xs],
        color=color,
        marker=marker,
        ms=4,
        label=label,
    )


def _seconds_per_epoch(sample) -> float:
    return EPOCH * sample["K"] * sample["seconds"] / sample["gradients"]


def _key(sample):
    return sample["m"], sample["K"], sample["pipeline"], sample["precision"]


def _slice(samples) -> int:
    return round(statistics.median(sample["gradients"] for sample in samples))


def _device(result) -> str:
    where = result["environment"]
    return where["device"] + (
        "" if where["cuda"] else f", {where['threads']} {'thread' if where['threads'] == 1 else 'threads'}"
    )


def _peaks(result) -> str:
    best = {}
    for product in result["matmul"]:
        best[product["precision"]] = max(best.get(product["precision"], 0), product["flops_per_second"])
    return ", ".join(f"{rate / 1e12:.3g} TFLOP/s in {precision}" for precision, rate in best.items())


def _bytes(result) -> str:
    """Where an iteration's bytes take longer than its operations."""
    bound = [
        f"m = {each['m']} in {each['precision']}"
        for each in result["bytes"]
        if floor_rate(result, each["m"], each["precision"]) == _byte_rate(result, each["m"], each["precision"])
    ]
    where = (
        f"that takes longer, and is taken as the floor, at {', '.join(bound)}"
        if bound
        else "that takes less, at every m"
    )
    return f"Weights and activations, where no cache keeps any, move at the {result['copy']['bytes_per_second'] / 1e9:,.0f} GB/s of a copy of {result['copy']['mebibytes']} MiB: {where}."


def _caption(result, samples) -> str:
    where = result["environment"]
    lines = [
        f"{_device(result)}, torch {where['torch']}; reduced AlexNet, width {result['cell']['width']:g}, padding '{result['cell']['padding']}', CIFAR-10."
    ]
    if not where["cuda"]:
        lines.append(
            f"Measured on slices of some {_slice(samples):,} gradients; seconds per epoch of {EPOCH:,} examples are extrapolated from such slices."
        )
    if result["other_work"] is not None and result["other_work"] >= 0.1:
        lines.append(f"Other work kept {result['other_work']:.2f} cores busy meanwhile.")
    if result["quick"]:
        lines.append("A trial with a tiny network: its numbers mean nothing.")
    return "\n".join(lines)


def _spread(values, digits) -> str:
    """The median (smallest-largest)."""
    if not values:
        return "-"
    middle, low, high = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low}-{high})"


def _met(reached: bool) -> str:
    return "reached" if reached else "**not reached**"


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m persist.evidence.speed", description="Draw the benchmarks and write the README's table of them."
    )
    parser.add_argument("results", help="folder with the JSON of benchmarks/bench.py")
    parser.add_argument("figures", help="folder for the pictures")
    parser.add_argument("readme")
    options = parser.parse_args(arguments)
    try:
        results = load_benchmarks(options.results)
        for result in results:
            for kind, draw in (("bars", draw_bars), ("scale", draw_scale)):
                print(*save(draw(result), options.figures, f"{result['name']}-{kind}"), sep="\n")
        text = replace_marked(Path(options.readme).read_text(), "speed", to_markdown(results))
        write_atomically(options.readme, text.encode())
    except (BenchmarkError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(options.readme)


if __name__ == "__main__":
    main()
