"""The idea in one picture: which minibatch each SGD iteration uses. Imports no torch."""

import itertools

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from persist.evidence.curves import style
from persist.evidence.select import PAPER_K
from persist.persistency import persistent

ITERATIONS = 10  # what the picture shows of each sequence
FULL, PALE = 1.0, 0.3  # shares of a colour, the rest is white


def draw_idea() -> Figure:
    """One row for each K of the paper: the minibatches of ten SGD iterations, as `persistent` gives them. Full colour:
    newly loaded. Narrow, with large text: it is read on phones too."""
    figure = Figure(figsize=(5.2, 2.4), layout="constrained")
    ax = figure.subplots()
    for row, K in enumerate(PAPER_K):
        uses = itertools.islice(persistent(itertools.count(1), K), ITERATIONS)
        for iteration, (k, minibatch) in enumerate(uses, start=1):
            color = _paler(style(K)[0], FULL if k == 1 else PALE)
            ax.barh(row, 0.92, left=iteration - 0.46, height=0.8, color=color)
            # black or white, whichever has more contrast: by the weights of WCAG's luminance
            luminance = sum(weight * channel**2.2 for weight, channel in zip((0.2126, 0.7152, 0.0722), color))
            text = "black" if luminance > 0.18 else "white"
            ax.text(iteration, row, minibatch, ha="center", va="center", size=12, color=text)
        ax.text(ITERATIONS + 0.7, row, f"{minibatch} loaded", va="center", size=11)
    figure.suptitle("Each minibatch is used for K SGD iterations in a row", size=12.5)
    ax.set(xlim=(0.4, ITERATIONS + 3.2), ylim=(len(PAPER_K) - 0.55, -0.45), xticks=[])
    ax.set_yticks(range(len(PAPER_K)), [f"K = {K}" for K in PAPER_K])
    ax.set_xlabel("Boxes: SGD iterations, each with the number of its\nminibatch. K = 1 is ordinary SGD.", size=11)
    ax.tick_params(length=0, labelsize=11)
    ax.spines[:].set_visible(False)
    shades = {"just loaded": FULL, "used again": PALE}
    grey = [Patch(color=_paler("#555555", share), label=label) for label, share in shades.items()]
    figure.legend(handles=grey, loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    return figure


def _paler(color, share) -> tuple:
    return tuple(1 - share * (1 - channel) for channel in to_rgb(color))
