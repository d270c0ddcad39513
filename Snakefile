"""Which notebook makes which file. One papermill run per cell of a grid, then the notebook that reads the records.

    snakemake --workflow-profile profiles/default --config grid=preview        (what `make reproduce GRID=preview` runs)

A cell has no inputs and is rerun only where its record is not there: never because of a time stamp or a comment.
"""

import shutil
import sys

import yaml

from persist.cell import grid_path, load_grid
from persist.progress import failures

NAME = str(config.get("grid", "preview"))
try:
    GRID = load_grid(grid_path(NAME))
    BESIDE_CELLS = load_grid(grid_path(GRID.beside)).cells if GRID.beside else []
except ValueError as error:
    raise WorkflowError(str(error))
RUNS = f"runs/{NAME}"
CELLS = {cell.name: cell for cell in GRID.cells}
PRIORITY = {name: len(CELLS) - place for place, name in enumerate(CELLS)}  # the order of the grid: it has first what matters most
PICTURES = {
    "notebooks/figures.ipynb": [f"figure{n}" for n in range(1, 6)],
    "notebooks/sweep.ipynb": ["sweep"],
    "notebooks/readings.ipynb": ["readings"],
    "notebooks/controls.ipynb": [f"controls-m{m}{policy}" for m in sorted({cell.m for cell in GRID.cells}) for policy in ("", "-kmu")],
    "notebooks/precision.ipynb": sorted({f"precision-m{cell.m}" + ("" if cell.lr_policy == "constant" else f"-{cell.lr_policy}") for cell in GRID.cells if cell.precision != "fp32"}),
}[GRID.notebook]
# The records of the grid beside it, if it has one: the folder with most of them, which if equal is that of those trained here
BESIDE = "null"
if GRID.beside:
    found = {folder: sum(Path(f"{folder}/{cell.name}.json").exists() for cell in BESIDE_CELLS) for folder in (f"runs/{GRID.beside}", f"results/{GRID.beside}")}
    BESIDE = max(found, key=found.get) if any(found.values()) else BESIDE
# A kernel must not outlive an engine that is killed. setpriv is Linux's; elsewhere one has to look after that oneself.
GUARD = "setpriv --pdeathsig TERM" if shutil.which("setpriv") else ""
READ = f"papermill {GRID.notebook} {RUNS}/{Path(GRID.notebook).name} -p grid grids/{NAME}.yaml -p records_dir {RUNS} -p figures_dir {RUNS} --log-level ERROR --no-progress-bar"
if GRID.notebook != "notebooks/sweep.ipynb":  # a sweep has nothing beside it
    READ += f" -y 'beside_dir: {BESIDE}'"


rule all:
    input:
        # the records too: one that was deleted is trained again, although the pictures are there
        expand(f"{RUNS}/{{name}}.json", name=CELLS),
        expand(f"{RUNS}/{{picture}}.{{suffix}}", picture=PICTURES, suffix=("png", "svg")),


rule cell:
    output:
        # update: a record that is there already (its run was cut off after saving) is shown, not thrown away
        update(f"{RUNS}/{{name}}.json"),
    log:
        # a log, not an output: of a cell that fails, the notebook with its traceback stays
        f"{RUNS}/notebooks/{{name}}.ipynb",
    params:
        fields=lambda wildcards: yaml.safe_dump(CELLS[wildcards.name].as_dict(), default_flow_style=True, width=10_000).strip(),
    priority: lambda wildcards: PRIORITY[wildcards.name]
    # all cores, hence one cell at a time: cells side by side would spoil each other's times (on a cluster, where each has
    # cores and a GPU to itself, profiles/slurm says how many cores)
    threads: lambda wildcards: workflow.cores
    resources:
        **GRID.resources,
    shell:
        "python -m persist.progress {NAME}; "
        "exec {GUARD} papermill notebooks/cell.ipynb {log:q} -y {params.fields:q} -p results_dir {RUNS} "
        "--log-level ERROR --no-progress-bar --stdout-file - --stderr-file -"


rule read:
    localrule: True  # seconds; on a cluster not worth a job
    input:
        expand(f"{RUNS}/{{name}}.json", name=CELLS),
    output:
        expand(f"{RUNS}/{{picture}}.{{suffix}}", picture=PICTURES, suffix=("png", "svg")),
    shell:
        "{READ}"


onerror:
    if not any("Terminating processes on user request" in Path(path).read_text() for path in log):
        # with the cells that are there; those that are missing are named in the figures. Not every notebook can do with few cells
        if 0 < sum(Path(f"{RUNS}/{name}.json").exists() for name in CELLS) < len(CELLS):
            shell(f"{READ} 2> {RUNS}/drawing.log || echo 'Nothing was drawn of the cells that are there; why stands in {RUNS}/drawing.log' >&2")
        print("", *failures(GRID.cells, RUNS), sep="\n", file=sys.stderr)
    print(f"\nNot finished. What was trained is kept in {RUNS}; the same command goes on from there.\n", file=sys.stderr)
