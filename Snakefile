"""Which notebook makes which file. One papermill run per cell of a grid, then the notebook that reads the records.

    snakemake --workflow-profile profiles/default --config grid=preview        (what `make reproduce GRID=preview` runs)

A cell has no inputs and is rerun only where its record is not there: never because of a time stamp or a comment.
"""

import shutil
import sys

import yaml

from persist.evidence.kinds import kind_of
from persist.grids import grid_path, load_grid
from persist.notebook.progress import failures

NAME = str(config.get("grid", "preview"))
try:
    GRID = load_grid(grid_path(NAME))
    KIND = kind_of(GRID)
except ValueError as error:
    raise WorkflowError(str(error))
RUNS = f"runs/{NAME}"
CELLS = {cell.name: cell for cell in GRID.cells}
PRIORITY = {name: len(CELLS) - place for place, name in enumerate(CELLS)}  # the order of the grid: it has first what matters most
PICTURES = expand(f"{RUNS}/{{picture}}.{{suffix}}", picture=KIND.pictures, suffix=("png", "svg"))
# A kernel must not outlive an engine that is killed. setpriv is Linux's; elsewhere one has to look after that oneself.
GUARD = "setpriv --pdeathsig TERM" if shutil.which("setpriv") else ""
QUIET = "--log-level ERROR --no-progress-bar"
READ = f"papermill {KIND.notebook} {RUNS}/{Path(KIND.notebook).name} -p grid {NAME} -p root runs -p figures_dir {RUNS} {QUIET}"


rule all:
    input:
        # the records too: one that was deleted is trained again, although the pictures are there
        expand(f"{RUNS}/{{name}}.json", name=CELLS),
        PICTURES,


rule cell:
    output:
        # update: a record that is there already (its run was cut off after saving) is shown, not thrown away
        update(f"{RUNS}/{{name}}.json"),
    log:
        # a log, not an output: of a cell that fails, the notebook with its traceback stays
        f"{RUNS}/notebooks/{{name}}.ipynb",
    params:
        fields=lambda wildcards: yaml.safe_dump(CELLS[wildcards.name].as_dict(), default_flow_style=True, width=10_000).strip(),
        cores=lambda wildcards: 2 if CELLS[wildcards.name].pipeline == "loader" else 1,
    priority: lambda wildcards: PRIORITY[wildcards.name]
    # as many cells at once as there are cores; one behind a loader has the machine for itself
    threads: lambda wildcards: workflow.cores if CELLS[wildcards.name].pipeline == "loader" else 1
    resources:
        **GRID.resources,
    shell:
        "python -m persist.notebook.progress {NAME}; "
        "PERSIST_CORES=${{PERSIST_CORES:-{params.cores}}} exec {GUARD} papermill notebooks/cell.ipynb {log:q} -y {params.fields:q} "
        "-p results_dir {RUNS} {QUIET} --stdout-file - --stderr-file -"


rule read:
    localrule: True  # seconds; on a cluster not worth a job
    input:
        expand(f"{RUNS}/{{name}}.json", name=CELLS),
    output:
        PICTURES,
    shell:
        "{READ}"


onerror:
    if not any("Terminating processes on user request" in Path(path).read_text() for path in log):
        # with the cells that are there; those that are missing are named in the figures. Not every notebook can do with few cells
        if 0 < sum(Path(f"{RUNS}/{name}.json").exists() for name in CELLS) < len(CELLS):
            shell(f"{READ} 2> {RUNS}/drawing.log || echo 'Nothing was drawn of the cells that are there; why stands in {RUNS}/drawing.log' >&2")
        print("", *failures(GRID.cells, RUNS), sep="\n", file=sys.stderr)
    print(f"\nNot finished. What was trained is kept in {RUNS}; the same command goes on from there.\n", file=sys.stderr)
