"""Figures 1-5 of the paper, drawn from records. Reads records only; imports no torch."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from persist.evidence.curves import PANELS, SMALL, caption_of, count, draw_chance, draw_curve, save_all, style  # noqa: F401
from persist.evidence.select import best, mean_curve, of_one_core, select, timed
from persist.record import Record

# Figure -> (m, learning-rate policy). The text does not say which m Figures 4 and 5 are for; m = 32 and 512 remain.
FIGURES = {1: (32, "constant"), 2: (256, "constant"), 3: (512, "constant"), 4: (32, "kmu"), 5: (512, "kmu")}
# What the text quotes for m = 32, constant rate: K -> (best accuracy, at about this epoch), K -> seconds an epoch.
QUOTED = {1: (0.6364, 80), 5: (0.6445, 30)}
PAPER_SECONDS = {1: (7.0, 7.0), 2: (8.0, 10.25), 5: (20.0, 20.0)}  # K = 2: what both models of the times allow


def figure_1(records) -> Figure:
    """m = 32, constant learning rate: accuracy and loss against seconds, epochs and the paper's own seconds, by K."""
    return draw_figure(1, records)


def figure_2(records) -> Figure:
    """m = 256, constant learning rate: accuracy and loss against seconds (left) and epochs (right), by K."""
    return draw_figure(2, records)


def figure_3(records) -> Figure:
    """m = 512, constant learning rate; otherwise as figure_2."""
    return draw_figure(3, records)


def figure_4(records) -> Figure:
    """m = 32, learning rate k * mu at the k-th use of a minibatch; otherwise as figure_2."""
    return draw_figure(4, records)


def figure_5(records) -> Figure:
    """m = 512, learning rate k * mu at the k-th use of a minibatch; otherwise as figure_2."""
    return draw_figure(5, records)


def draw_figure(number: int, records: list[Record]) -> Figure:
    """Figure 1, ..., 5. A K of the paper without a record is named in the figure; a diverged run is shown as such."""
    m, policy = FIGURES[number]
    return _draw(f"Figure {number}: {_title(m, policy)}", select(records, m, policy), paper=number == 1)


def describe_outcome(number: int, records: list[Record]) -> str:
    """What came out here for Figure 1, ..., 5: a line for each K."""
    m, policy = FIGURES[number]
    lines = []
    for K, runs in select(records, m, policy).items():
        top = best(runs) if runs else None
        if top is None:
            lines.append(f"K = {K}: not recorded yet.")
            continue
        curve = [point for point in mean_curve(runs) if point["test_loss"] is not None]
        low, last = min(curve, key=lambda point: point["test_loss"]), curve[-1]
        lines.append(
            f"K = {K}: best accuracy {top['test_accuracy']:.4f} at epoch {top['epoch']} ({top['seconds']:,.0f} s), "
            f"lowest loss {low['test_loss']:.3f} at epoch {low['epoch']}; after {last['epoch']} of "
            f"{runs[0].cell.epochs} epochs accuracy {last['test_accuracy']:.4f}, loss {last['test_loss']:.3f}, "
            f"{last['seconds']:,.0f} s. n = {len(runs)}."
        )
    return "\n".join(["Here:", *lines])


def other_figures(records: list[Record]) -> dict[str, Figure]:
    """Figures like the paper's for every other m and policy that the records have, by a name for their files."""
    others = sorted({(r.cell.m, r.cell.lr_policy) for r in records} - set(FIGURES.values()))
    return {
        f"m{m}" + ("" if policy == "constant" else f"-{policy}"): _draw(_title(m, policy), select(records, m, policy))
        for m, policy in others
    }


def draw_all(records: list[Record]) -> dict[str, Figure]:
    """Name of a file -> its figure: figure1, ..., figure5, and those of other_figures."""
    return {f"figure{number}": draw_figure(number, records) for number in FIGURES} | other_figures(records)


def draw_record(record: Record) -> Figure:
    """The curves of one run: accuracy and loss against seconds (left) and epochs (right)."""
    return _draw(record.cell.name, {record.cell.K: [record]})


def _title(m: int, policy: str) -> str:
    return f"m = {m}, learning rate " + ("µ" if policy == "constant" else "kµ at the k-th use")


def _draw(title: str, curves: dict[int, list[Record]], paper: bool = False) -> Figure:
    """Accuracy (above) and loss (below) against seconds and epochs; `paper`: against the paper's seconds as well.
    curves: K -> its runs, one per seed."""
    runs = [run for of_K in curves.values() for run in of_K]
    paper = paper and all(run.cell.dataset == "cifar10" for run in runs)
    figure = Figure(
        figsize=(13 if paper else 10, 7.6), dpi=80, layout="constrained"
    )  # in a notebook; save() has its own
    axes = figure.subplots(2, 3 if paper else 2, sharey="row", sharex="col")
    for row, (quantity, ylabel) in zip(axes, PANELS):
        for K, of_K in sorted(curves.items()):
            draw_curve(row[0], timed(curves)[K], "seconds", quantity, *style(K))
            draw_curve(row[1], of_K, "epoch", quantity, *style(K))
            if quantity == "test_loss":
                draw_curve(row[1], of_K, "epoch", "train_loss", style(K)[0], (0, (1, 1.5)))
            if paper:
                _draw_paper(row, K, of_K, quantity)
        for ax in row:
            draw_chance(ax, quantity)
        row[0].set_ylabel(
            ylabel.format("held-out images" if any(r.cell.evaluate_on == "heldout" for r in runs) else "test set")
        )
    one_core = all(map(of_one_core, runs))
    labels = [
        "seconds of one core" if one_core else "training time in seconds",
        "epochs",
        "seconds on the paper's card, as it quotes them",
    ]
    for ax, label in zip(axes[1], labels):
        ax.set_xlabel(label)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        ax.set_xlim(left=0)
    _limit_loss(axes[1, 0], runs)
    _legend(figure, title, curves, paper)
    figure.supxlabel(caption_of(runs, *_explanation(curves, paper)), **SMALL)
    return figure


def _draw_paper(row, K, runs, quantity):
    """The same curve against the paper's seconds, and its quoted best."""
    if K not in PAPER_SECONDS:
        return
    low, high = PAPER_SECONDS[K]
    for scale in sorted({low, high}):
        draw_curve(row[2], runs, "epoch", quantity, *style(K), scale=scale, circle=low == high)
    if quantity == "test_accuracy" and K in QUOTED:
        accuracy, epoch = QUOTED[K]
        for ax, x in ((row[1], epoch), (row[2], epoch * low)):
            ax.plot(x, accuracy, marker="*", ms=14, mfc=style(K)[0], mec="black", ls="", zorder=4)


def _limit_loss(ax, runs):
    """A run that blows up must not flatten the others."""
    losses = [e["test_loss"] for run in runs for e in run.history if e["test_loss"] is not None]
    ax.set_ylim(0, min(4.6, 1.05 * max(losses, default=2.4)))  # at most twice the loss of a guess


def _explanation(curves, paper) -> list[str]:
    mean = " of the mean of the runs" if max(map(len, curves.values())) > 1 else ""
    lines = [
        f"Circle: the best test accuracy over the epochs{mean}, chosen on the images it is shown for. "
        "Dotted: training loss. Grey: chance. Seconds without evaluation."
    ]
    if paper:
        lines.append(
            "Star: the best that the paper quotes. The paper's seconds for an epoch: 7 (K = 1), 20 (K = 5); "
            "for K = 2, which it does not quote, 8 to 10.25 (two curves)."
        )
    return lines


def _legend(figure, title, curves, paper):
    lines = [
        Line2D([], [], color=style(K)[0], ls=style(K)[1], label=_label(K, runs)) for K, runs in sorted(curves.items())
    ]
    columns = len(lines) if sum(len(line.get_label()) for line in lines) < (130 if paper else 95) else 1
    # the title as the legend's: constrained layout makes no room for both above the panels
    legend = {"loc": "outside upper center", "ncols": columns, "frameon": False, "handlelength": 3}
    figure.legend(handles=lines, title=title, title_fontsize="x-large", **legend)


def _label(K, runs) -> str:
    if not runs:
        return f"K = {K}: not recorded yet"
    text = f"K = {K}"
    if top := best(runs):
        text += f": best{'' if len(runs) == 1 else ' of the mean'} {top['test_accuracy']:.4f} at epoch {top['epoch']}"
    for run in runs:
        if run.status == "diverged":
            text += f"; diverged in epoch {len(run.history)}"
        elif run.status == "unfinished":
            text += f"; {run.history[-1]['epoch']} of {count(run.cell.epochs, 'epoch')} so far"
    return text
