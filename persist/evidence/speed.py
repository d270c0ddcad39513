"""How fast it trains: tables and a picture of what benchmarks/bench.py measured; multiplications, counted. No torch.

An example counts each time that it is evaluated for a gradient. Values are medians over rounds; in brackets, ranges.
"""

import functools
import json
import statistics
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from persist.architecture import convolutions
from persist.cell import Cell
from persist.evidence.curves import SMALL, style
from persist.evidence.tables import markdown, ranged

SCHEMA = 2
OTHERS = {"plain": "plain loop", "lightning": "Lightning", "monai": "MONAI's loader"}
OURS = {"loader": "`loader`", "resident": "`resident`"}
STEPS = {"nchw": "PyTorch's, NCHW", "channels_last": "PyTorch's, channels-last", "alone": "this project's"}
TARGETS = {  # with K = 1, by m: times as fast as the plain loop, or as with PyTorch's convolutions; at least, aim
    "resident": {32: (2.0, 3.0), 256: (2.5, 3.0), 512: (2.5, 3.0)},
    "alone": {32: (1.4, 1.7), 256: (1.9, 2.2), 512: (1.9, 2.2)},
}
PARTS = {  # of a step: the first whose text is in the name of a profiled operator or of one that called it
    "SGD update": "optimizer.",
    "first convolution": "convolution",
    "pooling": "max_pool",
    "matrix products of the minibatch": "aten::bmm",
    "transforms": "mm",  # aten::mm and aten::addmm, but for those of the linear layer
}
PRODUCTS = {(2, 3): 3**2, (4, 5): 4 + 3 * (6**2 - 4) // 2}  # (side, kernel): the T of persist/convolution.py
_spread = functools.partial(ranged, digits=2, middle=statistics.median)


def load(folder="benchmarks/results") -> list[dict]:
    """The results in a folder, one per device. Raises ValueError, naming the file, for one of another version."""
    results = []
    for path in sorted(Path(folder).glob("cpu-*.json")):
        results.append(json.loads(path.read_bytes()) | {"name": path.stem})
        if (schema := results[-1].get("schema")) != SCHEMA:
            raise ValueError(f"{path}: schema must be {SCHEMA}, not {schema!r}")
    return sorted(results, key=lambda result: len(result["environment"].get("preloaded", ())))


def rates(samples: list[dict]) -> pd.DataFrame:
    """A row per (m, K, round) and a column per arm, of "rate": examples per second of all of its runs together, and of
    "cpu": CPU seconds of the first run's training thread for 1,000 examples."""
    rows = []
    for sample in samples:
        first, rate = sample["runs"][0], sum(run["examples"] / run["seconds"] for run in sample["runs"])
        rows.append(sample | {"rate": rate, "cpu": 1000 * first["cpu_seconds"] / first["examples"]})
    return pd.DataFrame(rows).pivot(index=["m", "K", "round"], columns="arm", values=["rate", "cpu"])


def rate_table(result: dict) -> str:
    """Examples per second of the whole machine, and the targets."""
    table = _compared(result, OTHERS | OURS, "resident", ["plain"], "`resident` / plain loop")
    workers = {(s["m"], s["K"]): s["workers"] for s in result["samples"] if s["arm"] == "plain"}
    table.insert(2, "workers of the first three", [workers[key] for key in zip(table["m"], table["K"])])
    return markdown(table)


def step_table(result: dict) -> str:
    """Examples per second of a run alone, by its convolutions; compared with the faster of PyTorch's."""
    return markdown(_compared(result, STEPS, "alone", ["nchw", "channels_last"], "ratio").drop(columns="K"))


def _compared(result, arms, ours, others, name) -> pd.DataFrame:
    """A row per m and K; `name`: ours over the fastest of the others, a ratio within each round, and its target."""
    rows = []
    for (m, K), of in rates(result["samples"])["rate"][list(arms)].dropna().groupby(["m", "K"]):
        ratio = of[ours] / of[of[others].median().idxmax()]
        row = {"m": m, "K": K} | {label: f"{of[arm].median():,.0f}" for arm, label in arms.items()}
        row |= {name: _spread(ratio), "target": "-"}
        if K == 1 and m in TARGETS[ours]:
            least, aim = TARGETS[ours][m]
            row["target"] = f"{least} (aim {aim}): {'met' if ratio.median() >= least else '**missed**'}"
        rows.append(row)
    return pd.DataFrame(rows)


def neighbour_table(result: dict) -> str:
    """CPU seconds of a run for 1,000 examples, and what runs on the other cores change in them; K = 1."""
    cpu = rates(result["samples"])["cpu"].xs(1, level="K").groupby("m")
    rows = [[m, *map(_spread, (of["alone"], of["resident"], of["resident"] / of["alone"]))] for m, of in cpu]
    return markdown(pd.DataFrame(rows, columns=["m", "alone", "a run on every core", "ratio"]))


def profile_table(result: dict) -> str:
    """Where the time of a step of one thread goes; and how long one takes that is not profiled."""
    table = pd.DataFrame({f"m = {each['m']}": each["seconds"] for each in result["profile"]})
    shares, steps = (table / table.sum()).map("{:.0%}".format), [each["steps"] for each in result["profile"]]
    alone = rates(result["samples"])["rate"]["alone"].xs(1, level="K").groupby("m").median()
    shares.loc["all, in milliseconds"] = (1000 * table.sum() / steps).map("{:.1f}".format)
    shares.loc["without the profiler"] = [f"{1000 * each['m'] / alone[each['m']]:.1f}" for each in result["profile"]]
    return markdown(shares.reset_index(names="part of a step"))


def multiplications(ms=(32, 512)) -> pd.DataFrame:
    """Of a forward pass, per example: of a convolution as one counts, and without the padding's zeros; of the products
    in persist/convolution.py, and of its transforms: of pixels for each example, of taps for each minibatch."""
    rows = []
    for c in convolutions(Cell(m=32)):
        starts, pairs = [c.stride * i - c.padding for i in range(c.side_out)], c.inputs * c.outputs
        inside = sum(min(start + c.kernel, c.side) - max(start, 0) for start in starts) ** 2
        counted, T = c.side_out**2 * c.kernel**2, PRODUCTS.get((c.side, c.kernel))
        row = {"convolution": f"{c.kernel}x{c.kernel} on {c.side}x{c.side}, {c.inputs} to {c.outputs} channels"}
        row |= {"as counted": counted * pairs, "without padding": inside * pairs, "here": (T or counted) * pairs}
        pixels, taps = c.side**2 * (c.inputs + c.outputs), c.kernel**2 * pairs
        rows.append(row | {f"transforms, m = {m}": (T or 0) * (pixels + taps / m) for m in ms})
    table = pd.DataFrame(rows).set_index("convolution")
    table.loc["all"] = table.sum()
    return table


def how(result: dict) -> str:
    """On what, with what, how often, and what was checked."""
    where, plan, check = result["environment"], result["plan"], result["check"]
    busy = min(r["cpu_seconds"] / r["seconds"] for s in result["samples"] if s["arm"] == "resident" for r in s["runs"])
    apart = max(check["losses"].values()) - min(check["losses"].values())
    return (
        f"{'**A trial: its numbers mean nothing.** ' if result['quick'] else ''}Commit "
        f"{str(where['git_commit'])[:7]}{' with changes' if where['git_modified'] else ''}. "
        f"{plan['rounds']} rounds with a sample of {plan['seconds']:g} seconds of everything. Each run of `resident` "
        f"had its core for at least {busy:.0%} of its time. All train the same: after {check['iterations']} iterations "
        f"on the same minibatches the loss, at first {check['first']:.4f}, is {check['losses']['plain']:.4f}, and "
        f"differs by at most {apart:.0e}."
    )


def blocks(results: list[dict]) -> dict[str, str]:
    """Name -> Markdown: what docs/speed.md says of the results."""
    makers = dict(rates=rate_table, how=how, steps=step_table, profile=profile_table, neighbour=neighbour_table)
    makers["picture"] = lambda result: f"![Examples per second](../figures/speed/{result['name']}.png)"
    heads = [f"*{_device(result)}*:\n\n" for result in results]
    found = {name: "\n\n".join(map(str.__add__, heads, map(make, results))) for name, make in makers.items()}
    found = {name: text or "Not measured yet." for name, text in found.items()}
    return found | {"multiplications": markdown((multiplications() / 1e6).map("{:.2f}".format).reset_index())}


def draw(result: dict) -> Figure:
    """Examples per second of the whole machine: a panel per m, a colour per K."""
    commit = str(result["environment"]["git_commit"])[:7]
    table, labels, plan = rates(result["samples"])["rate"], OTHERS | OURS, result["plan"]
    figure, height = Figure(figsize=(9, 4.2), layout="constrained"), 0.8 / len(plan["Ks"])
    for ax, m in zip(figure.subplots(1, len(plan["ms"]), sharey=True, squeeze=False)[0], plan["ms"]):
        for i, K in enumerate(plan["Ks"]):
            of = table.xs((m, K))[list(labels)]
            lines = [of.median() - of.min(), of.max() - of.median()]
            places = [at + height * i for at in range(len(labels))]
            ax.barh(places, of.median(), height, xerr=lines, color=style(K)[0], ecolor="#555555", label=f"K = {K}")
        ax.set(title=f"m = {m}", xlabel="examples per second")
        ax.set_yticks([at + 0.4 - height / 2 for at in range(len(labels))], [s.strip("`") for s in labels.values()])
    ax.invert_yaxis()
    title = f"Examples per second of the whole machine; CIFAR-10, n = {plan['rounds']} rounds"
    look = dict(loc="outside upper center", title_fontsize="large", frameon=False)
    figure.legend(*ax.get_legend_handles_labels(), title=title, ncols=len(plan["Ks"]), **look)
    text = f"{_device(result)}.\nBars: medians; lines: ranges. benchmarks/bench.py, commit {commit}."
    figure.supxlabel(text, **SMALL)
    return figure


def _device(result) -> str:
    where = result["environment"]
    return ", ".join([where["device"], *where.get("preloaded", ()), f"{where['cores']} cores, torch {where['torch']}"])
