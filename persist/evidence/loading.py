"""Where the gain in time comes from: the seconds of an epoch behind a data loader, beside two models of them. Reads
records and benchmarks/results only; imports no torch.

time(K), of an epoch that uses each minibatch K times, is made of L, loading; C, one pass of training; H, the hand-over
of the minibatches; and E, the rest (docs/time.md). Nothing is fitted to the ratios that are judged, but for that of K =
2 in the narrowest network, which gives L. C is what the training thread's CPU time grows by with K, in each network.
The narrowest network, which mostly waits, has the rest: H is what remains of that CPU time; E is the intercept of
time(1) over the examples of an epoch; and time(K), continued from K = 2 and 1 to K = 0, is E + L in either model, as
long as H + 2 * C <= L.
"""

import contextlib
import json
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from persist.evidence.claims import AT_LARGE, PAPER_SECONDS
from persist.evidence.curves import SMALL, describe_hardware, made_by, style, tidy
from persist.evidence.select import grid_records, timed
from persist.evidence.tables import markdown
from persist.record import Record

# time(5)/time(1) in the paper. m = 256: the time does not grow significantly with K, which is taken as at most so many
# times; m = 512 is not quoted, and taken to be as 256.
PAPER = {"m = 32": PAPER_SECONDS[5] / PAPER_SECONDS[1], "m = 256, 512": AT_LARGE[1]}
COLUMNS = ["loader", "m", "width", "K", "examples", "seconds", "busy"]  # of a run, see runs()
RATIO = "time(K)/time(1)"
# Columns of compare(), and how they are shown.
SHOWN = {"m": "", "width": "g", "L, s": ".2f", "H, s": ".2f", "C, s": ".2f", "C/L": ".2f", "K": ""}
SHOWN |= {"time(1), s": ".1f", "time(K), s": ".1f"}
NOT_YET = "Not recorded yet."


class NotMeasured(Exception):
    """The runs do not say what the models need. The message says why."""


def maximum(c, K, e=0.0, h=0.0):
    """time(K)/time(1) where loading is hidden behind training; c = C/L (a number or an array), e = E/L, h = H/L."""
    return (e + np.maximum(1, h + K * c)) / (e + np.maximum(1, h + c))


def summed(c, K, e=0.0, h=0.0):
    """time(K)/time(1) where loading (h is a part of it) and training take turns; c, e, h as in maximum()."""
    return (e + 1 + K * c) / (e + 1 + c)


MODELS = {"max": (maximum, "E + max(L, H + K·C)"), "sum": (summed, "E + L + K·C")}


def place(ratio: float, K: int) -> dict[str, float]:
    """Model -> the C/L at which it gives time(K)/time(1) = ratio, 1 < ratio < K, with E = H = 0."""
    return {"max": ratio / K, "sum": (ratio - 1) / (K - ratio)}


def runs(records: list[Record], pipeline: str = "loader") -> pd.DataFrame:
    """A row for each finished run of a pipeline: m, width, K, examples (of an epoch), seconds (an epoch, by the clock),
    busy (CPU time of the training thread in it). Those alone in which training, and the loader's worker, had a core
    each; of several machines the one that has most."""

    def median(record, clock):
        """Over the epochs; the first, which warms up, is left out where there are more."""
        clocks = [entry[clock] for entry in record.history]
        return statistics.median(np.diff(clocks)) if len(clocks) > 1 else clocks[0]

    cores, rows = {"loader": 2, "resident": 1}[pipeline], []
    finished = [r for r in records if r.status == "finished" and r.cell.pipeline == pipeline]
    pinned = {r.cell: [r] for r in finished if len(r.environment.get("pinned") or ()) == cores}
    for run in (run for of_machine in timed(pinned).values() for run in of_machine):
        times = [median(run, clock) for clock in ("train_seconds", "cpu_seconds")]
        rows.append([pipeline, run.cell.m, run.cell.width, run.cell.K, run.cell.examples, *times])
    return pd.DataFrame(rows, columns=COLUMNS)


def load_others(folder="benchmarks/results") -> pd.DataFrame:
    """What benchmarks/loading.py and slow_loader.py measured, as runs() has it, medians over the epochs; no rows where
    they have not run. "monai"; "decoding", a slower loader; K = 0: "monai" and this project's "loader" with nothing
    trained."""
    paths = [path for name in ("loading", "slow_loader") if (path := Path(folder) / f"{name}.json").exists()]
    rows = [row for path in paths for row in json.loads(path.read_text())["runs"]]
    return pd.DataFrame(rows, columns=COLUMNS).map(lambda value: np.median(value) if isinstance(value, list) else value)


def of(others: pd.DataFrame, loader: str) -> pd.DataFrame:
    """The rows of a loader, with something trained."""
    return others[(others["loader"] == loader) & (others["K"] > 0)]


def measure(runs: pd.DataFrame) -> tuple[float, float, float, int]:
    """E, L and H of a loader, in seconds an epoch of so many examples. Raises NotMeasured."""
    narrow = runs[(runs.m == runs.m.max()) & (runs.width == runs.width.min())].set_index(["K", "examples"])
    few, n = runs.examples.min(), runs.examples.max()
    if few == n or not {(1, n), (2, n), (1, few)} <= set(narrow.index):
        raise NotMeasured(NOT_YET)
    first, second, short = (narrow.seconds[key] for key in ((1, n), (2, n), (1, few)))
    E = (n * short - few * first) / (n - few)
    L = 2 * first - second - E
    busy = narrow.busy.xs(n, level="examples")
    C = np.ptp(busy) / np.ptp(busy.index)
    H = busy[1] - C
    if H + 2 * C > L:
        two = f"K = 2 takes even the narrowest network {H + 2 * C:.2f} s"
        raise NotMeasured(f"Not measurable: {two}, loading {L:.2f} s.")
    return E, L, H, n


def compare(runs: pd.DataFrame, own: dict[int, float] | None = None) -> pd.DataFrame:
    """A row for each network and K > 1, by m, C/L and K: the measured ratio time(K)/time(1), and what the models say of
    it. One loader has one L and H, whatever m; with `own`, m -> E + L, only those m, each with its own. Raises
    NotMeasured."""
    (E, L, H, n), rows = measure(runs), []
    for (m, width), network in runs[runs.examples == n].groupby(["m", "width"]):
        of_K = network.set_index("K").sort_index()
        if 1 not in of_K.index or (own is not None and m not in own):
            continue
        C, seconds = np.ptp(of_K.busy) / np.ptp(of_K.index), of_K.seconds
        if own is not None:
            L, H = own[m] - E, of_K.busy[1] - C
        for K in of_K.index[1:]:
            models = [law(C / L, K, E / L, H / L) for law, _ in MODELS.values()]
            rows.append([m, width, L, H, C, C / L, K, seconds[1], seconds[K], seconds[K] / seconds[1], *models])
    table = pd.DataFrame(rows, columns=[*SHOWN, RATIO, *MODELS])
    return table.sort_values(["m", "C/L", "K"], ascending=[False, True, True])


def errors(table: pd.DataFrame) -> pd.DataFrame:
    """Of each model's ratio, relative to the measured one: a row for each of compare()'s, a column for each model."""
    return table[list(MODELS)].div(table[RATIO], axis=0) - 1


def tested(table: pd.DataFrame) -> str:
    """Each model's mean error by m, in words, over the rows of compare() that test it most: C/L below 1, for above it
    the time is nearly the CPU time, which gives C; without K = 2 of the narrowest network, which gives L."""
    gave_L = (table["m"] == table["m"].max()) & (table["width"] == table["width"].min()) & (table["K"] == 2)
    left = table[(table["C/L"] < 1) & ~gave_L]
    words = [
        f"m = {m}: {', '.join(f'{off[model].mean():.1%} by the {model} model' for model in MODELS)}"
        for m, off in errors(left).abs().groupby(left["m"], sort=False)
    ]
    return "; ".join(words) or "nothing measured"


def ratios(records: list[Record], others: pd.DataFrame) -> dict[tuple[float, int], float]:
    """(C/L, K) -> time(K)/time(1) as measured behind the loader and the slower one; empty where neither has been."""
    found = {}
    for measured in (of(others, "decoding"), runs(records)):
        with contextlib.suppress(NotMeasured):
            found |= compare(measured).set_index(["C/L", "K"])[RATIO].to_dict()
    return found


def describe(runs: pd.DataFrame) -> str:
    """The loader's times, the ratios as a Markdown table, and how far each model is off. Raises NotMeasured."""
    (E, _, _, n), table = measure(runs), compare(runs)
    off = errors(table)
    far = [f"{off[m].abs().mean():.1%} by `{law}` ({off[m].abs().max():.1%} at most)" for m, (_, law) in MODELS.items()]
    return (
        f"An epoch of {n:,} images; the rest E = {E:.2f} s.\n\n{_markdown(table)}\n\nMean error over the {len(off)} "
        f"ratios: {', '.join(far)}. Where C/L is below 1, without the ratio that gives L: {tested(table)}."
    )


def describe_small(records: list[Record], others: pd.DataFrame) -> str:
    """What the models say of the smaller m with an L and an H of their own: L is what the loader takes for it with
    nothing trained. Not in the plan, which has one L for every m. Raises NotMeasured."""
    measured = runs(records)
    alone = others[(others["K"] == 0) & (others["loader"] == "loader") & (others["m"] < measured["m"].max())]
    return _markdown(compare(measured, alone.set_index("m")["seconds"].to_dict()))


def _markdown(table: pd.DataFrame) -> str:
    """What compare() gives, with the error of each model."""
    off, shown = errors(table), {name: table[name].map(f"{{:{digits}}}".format) for name, digits in SHOWN.items()}
    shown[RATIO] = table[RATIO].map("{:.2f}".format)
    for model in MODELS:
        percent = (off[model].round(2) + 0.0).map(" ({:+.0%})".format)  # + 0.0: no -0 %
        shown[f"{model} model"] = table[model].map("{:.2f}".format) + percent
    return markdown(pd.DataFrame(shown))


def when(records: list[Record], others: pd.DataFrame) -> str:
    """When persistency saves time, and why not with data in memory: two paragraphs. Raises NotMeasured."""
    _, L, H, _ = measure(runs(records))
    memory = runs(records, "resident").set_index("K").busy.sort_index()
    measured = sorted((c, ratio) for (c, K), ratio in ratios(records, others).items() if K == 5)
    (low, least), (high, most) = measured[0], measured[-1]
    costs = [f"{memory[k] / memory[1]:.2f} times as long with K = {k}" for k in memory.index if k > 1 and 1 in memory]
    return (
        "Persistency saves time where loading is slower than training: training would wait for the next minibatch, and "
        "further uses of this one fill the wait. They cost no time until it is filled, beyond that their full time. "
        f"Measured, an epoch with K = 5 takes {least:.2f} times as long as with K = 1 where C/L is {low:.2f}, and "
        f"{most:.2f} times where it is {high:.2f}; C is the time of a pass of training, L that of loading. With the "
        f"data in memory there is almost no wait to fill: an epoch takes {' and '.join(costs) or '(not recorded yet)'} "
        "(m = 512, a quarter of the width; a minibatch is gathered once for all its uses).\n\n"
        f"By the max model below, K = 5 is free here up to C/L = {(1 - H / L) / 5:.2f}. "
        f"Mean error of the models where C/L is below 1: {tested(compare(runs(records)))}."
    )


def paper() -> str:
    """Where each model, with E = H = 0, puts the paper's times: one paragraph. Computed, not measured."""
    (small, ratio), (large, most) = PAPER.items()
    at, below = place(ratio, 5), place(most, 5)
    two = [f"{PAPER_SECONDS[1] * law(at[model], 2):.4g} s" for model, (law, _) in MODELS.items()]
    return (
        f"The paper's {small}, where K = 5 takes {ratio:.2f} times as long as K = 1, lies at C/L = {at['max']:.2f} if "
        f"the max model holds, at {at['sum']:.2f} if the sum model does; {large}, with at most {most:g} times, at "
        f"{below['max']:.2f} or less, or at {below['sum']:.2f} or less. At {small} an epoch with K = 2 would have "
        f"taken {' or '.join(two)}, which the text does not quote."
    )


def blocks(root) -> dict[str, str]:
    """Name -> Markdown: what docs/time.md says of the records."""
    return texts(grid_records(root, "grids", "loading"), load_others())


def texts(records: list[Record], others: pd.DataFrame) -> dict[str, str]:
    """The same of these records, which may be others; the picture is the published one."""
    picture = "![time(K)/time(1) against C/L](../figures/loading/loading.png)" if records else NOT_YET
    alone = others[others["K"] == 0][["loader", "m", "seconds"]].round(2)
    found = {"picture": picture, "alone": markdown(alone), "paper": paper()}
    makers = {
        "when": (when, records, others),
        "table": (describe, runs(records)),
        "small": (describe_small, records, others),
        "decoding": (describe, of(others, "decoding")),
        "monai": (describe, of(others, "monai")),
    }
    for name, (make, *what) in makers.items():
        try:
            found[name] = make(*what)
        except NotMeasured as why:
            found[name] = str(why)
    return found


def draw_loading(records: list[Record], others: pd.DataFrame, grid: str = "loading") -> Figure:
    """time(2)/time(1) and time(5)/time(1) against C/L: both models, measured behind all loaders, the paper placed."""
    (E, L, H, _), tables = (0, 1, 0, 0), []
    for name, of_loader in (
        ("behind MONAI's loader", of(others, "monai")),
        ("behind a slower loader", of(others, "decoding")),
        ("behind a DataLoader", runs(records)),
    ):
        with contextlib.suppress(NotMeasured):
            E, L, H, _ = measure(of_loader)  # the last one: of the DataLoader
            tables += [(name, m, table) for m, table in compare(of_loader).groupby("m")]
    most = max([4.0, *(table["C/L"].max() for *_, table in tables)])
    figure, c = Figure(figsize=(10, 5.6), dpi=80, layout="constrained"), np.geomspace(0.03, most, 400)
    for ax, K in zip(figure.subplots(1, 2), (2, 5)):
        color, line = style(K)
        for (law, text), (shade, width) in zip(MODELS.values(), ((color, 2), ("#777777", 1.4))):
            ax.plot(c, law(c, K, E / L, H / L), color=shade, ls=line, lw=width, label=text)
        for name, m, table in tables:
            fill = "none" if "MONAI" in name else "full"
            marker = "s" if m != 512 else "D" if "slower" in name else "o"
            points = table[table["K"] == K][["C/L", RATIO]].to_numpy().T
            ax.plot(*points, marker, ms=7, color=color, fillstyle=fill, label=f"{name}, m = {m}")
        for (name, ratio), marker in zip(PAPER.items() if K == 5 else (), "*<"):
            x, label = (
                place(ratio, K).values(),
                f"the paper, {name}{' (or less)' * (marker == '<')}: placed, not tested",
            )
            ax.plot(x, [ratio] * len(x), marker, ms=10, color="black", fillstyle="none", label=label)
        ax.set(xscale="log", xlabel="C/L: a pass of training / loading", ylabel=f"time({K})/time(1)", title=f"K = {K}")
        ax.set_xticks(ticks := [0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5], ticks)
        ax.minorticks_off()
        tidy(ax)
    look = dict(ncols=3, frameon=False, fontsize="small", title_fontsize="large", handlelength=3.5)
    title = "Time of an epoch behind a data loader, relative to K = 1; CIFAR-10, n = 1 per point"
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", title=title, **look)
    scale = "CIFAR-10; one run per point, median epoch" if tables else NOT_YET
    where = f"{describe_hardware(records)}. {made_by(records, grid)}." if records else ""
    more = (
        "Lines: two models of the time, of L: loading, C: a pass of training, H: handing over, E: the rest;\n"
        "E and H are those of the DataLoader. The paper's ratios stand where they are with E = H = 0."
    )
    figure.supxlabel(f"Reduced AlexNet, its width varied. {scale}.\n{where}\n{more}", **SMALL)
    return figure
