"""Every committed picture, drawn from the records of its grid and from nothing else. Imports no torch.

    python -m persist.draw results grids figures        (what `make figures` runs)
"""

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure

from persist.cell import load_grid
from persist.controls import draw_controls
from persist.figures import draw_all, save_all
from persist.precision import draw_precision
from persist.readings import draw_readings
from persist.record import RecordError, load_grid_records
from persist.sweep import draw_sweep

# The notebook that reads a grid's records -> name of a file -> its figure.
FIGURES = {
    "notebooks/figures.ipynb": lambda records, beside: draw_all([*beside, *records]),
    "notebooks/sweep.ipynb": lambda records, beside: {"sweep": draw_sweep(records)},
    "notebooks/readings.ipynb": lambda records, beside: {"readings": draw_readings([*beside, *records])},
    "notebooks/controls.ipynb": lambda records, beside: draw_controls(records, beside),
    "notebooks/precision.ipynb": lambda records, beside: draw_precision([*beside, *records]),
}


def figures_of(name: str, results, grids) -> dict[str, Figure]:
    """Name of a file -> its figure, of one grid's committed records. Raises RecordError, naming the folder, where there are none."""
    records, beside = load_grid_records(results, grids, name)
    if not records:
        raise RecordError(f"{Path(results) / name} holds no record of a cell of {Path(grids) / name}.yaml: put some there, or delete the folder")
    return FIGURES[load_grid(Path(grids) / f"{name}.yaml").notebook](records, beside)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m persist.draw", description="Draw the figures of every grid that has records.")
    parser.add_argument("results", help="folder with one folder of records per grid")
    parser.add_argument("grids", help="folder with the grids")
    parser.add_argument("figures", help="folder for the pictures, one folder per grid")
    options = parser.parse_args(arguments)
    try:
        for folder in sorted(path for path in Path(options.results).iterdir() if path.is_dir()):
            print(*save_all(figures_of(folder.name, options.results, options.grids), Path(options.figures) / folder.name), sep="\n")
    except (RecordError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
