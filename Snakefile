"""Which notebook makes which file: from a run to a figure, and from the records to the published pages.

    snakemake --workflow-profile profiles/default --config grid=preview     (what `persist grid preview` runs)
    snakemake --workflow-profile profiles/default publish                   (what `persist publish` runs)

A run has no inputs and is trained again only where its record is not there: never because of a time stamp or a comment.
"""

import dataclasses
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
    RECORDED = {}  # with those of their cells that are recorded: no picture is made of others
    for grid in map(load_grid, sorted(Path("grids").glob("*.yaml"))):
        cells = [cell for cell in grid.cells if Path(f"results/{grid.name}/{cell.name}.json").exists()]
        if cells:
            RECORDED[grid.name] = dataclasses.replace(grid, cells=cells)
except ValueError as error:
    raise WorkflowError(str(error))
RUNS = f"runs/{NAME}"
CELLS = {cell.name: cell for cell in GRID.cells}
PRIORITY = {name: len(CELLS) - place for place, name in enumerate(CELLS)}  # the grid has first what matters most
# A kernel must not outlive an engine that is killed. setpriv is Linux's; elsewhere one has to look after that oneself.
GUARD = "setpriv --pdeathsig TERM" if shutil.which("setpriv") else ""
# glibc: memory that an iteration frees is kept for the next one, not given back and paged in anew
MEMORY = "MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296"
PAPERMILL = f"PERSIST_BATCH=1 {MEMORY} exec {GUARD} papermill"
QUIET = "--log-level ERROR --no-progress-bar"


def pictures(grid, folder):
    return expand(f"{folder}/{{picture}}.{{suffix}}", picture=kind_of(grid).pictures(grid), suffix=("png", "svg"))


def read(grid, root, executed, folder):
    """The command that reads a grid's records and draws."""
    return f"{PAPERMILL} {kind_of(grid).notebook} {executed} -p grid {grid.name} -p root {root} -p figures_dir {folder} {QUIET}"


rule all:
    input:
        # the records too: one that was deleted is trained again, although the pictures are there
        expand(f"{RUNS}/{{name}}.json", name=CELLS),
        pictures(GRID, RUNS),


rule cell:
    output:
        # update: a record that is there already (its run was cut off after saving) is shown, not thrown away
        update(f"{RUNS}/{{name}}.json"),
    log:
        # a log, not an output: of a run that fails, the notebook with its traceback stays
        f"{RUNS}/notebooks/{{name}}.ipynb",
    priority: lambda wildcards: PRIORITY[wildcards.name]
    # as many runs at once as there are cores; one behind a loader has the machine for itself
    threads: lambda wildcards: workflow.cores if CELLS[wildcards.name].pipeline == "loader" else 1
    resources:
        **GRID.resources,
    params:
        fields=lambda wildcards: yaml.safe_dump(
            CELLS[wildcards.name].as_dict(), default_flow_style=True, width=10_000
        ).strip(),
        cores=lambda wildcards: 2 if CELLS[wildcards.name].pipeline == "loader" else 1,
    shell:
        "python -m persist status {NAME} && PERSIST_CORES={params.cores} {PAPERMILL} notebooks/cell.ipynb {log:q} "
        "-y {params.fields:q} -p results_dir {RUNS} {QUIET} --stdout-file - --stderr-file -"


rule read:
    input:
        expand(f"{RUNS}/{{name}}.json", name=CELLS),
    output:
        pictures(GRID, RUNS),
    localrule: True  # seconds; on a cluster not worth a job
    shell:
        read(GRID, "runs", f"{RUNS}/read.ipynb", RUNS)


EVIDENCE = sorted(Path("persist/evidence").glob("*.*"))  # what draws and fills in
MEASURED = sorted(Path("benchmarks/results").glob("*.json"))
PUBLISHED = [picture for grid in RECORDED.values() for picture in pictures(grid, f"figures/{grid.name}")]


rule publish:
    input:
        "report/index.html",
        PUBLISHED,  # Snakemake does not miss what only the report needs
        "figures/idea.svg",
        "runs/published/pages",
        "runs/published/speed",


for grid in RECORDED.values():

    rule:
        name:
            f"draw_{grid.name.replace('-', '_')}"
        input:
            [
                *sorted(Path("results").glob(f"{grid.name}/*.json")),
                *sorted(Path("results").glob(f"{grid.beside}/*.json")),
            ],
            [path for path in MEASURED if path.stem in kind_of(grid).measured],
            kind_of(grid).notebook,
            EVIDENCE,
        output:
            pictures(grid, f"figures/{grid.name}"),
        log:
            f"runs/published/{grid.name}.ipynb",
        params:
            # evaluated here: a shell line is when the rule runs, with the last grid of the loop
            command=read(grid, "results", f"runs/published/{grid.name}.ipynb", f"figures/{grid.name}"),
        shell:
            "{params.command}"


rule pages:
    input:
        [path for grid in RECORDED for path in sorted(Path("results").glob(f"{grid}/*.json"))],
        MEASURED,
        EVIDENCE,
        sorted(Path("grids").glob("*.yaml")),
        pages=["README.md", *sorted(Path("docs").glob("*.md"))],  # filled in again where somebody has written in them
    output:
        touch("runs/published/pages"),
    shell:
        "python -m persist page {input.pages}"


rule idea:
    input:
        EVIDENCE,
    output:
        multiext("figures/idea", ".png", ".svg"),
    run:
        from persist.evidence.curves import save
        from persist.evidence.idea import draw_idea

        save(draw_idea(), "figures", "idea")


rule speed:
    input:
        sorted(Path("benchmarks/results").glob("cpu-*.json")),
        EVIDENCE,
    output:
        touch("runs/published/speed"),
    run:
        from persist.evidence import curves, speed

        for result in speed.load():
            curves.save(speed.draw(result), "figures/speed", result["name"])


rule report:
    input:
        "runs/published/pages",
        "runs/published/speed",
        "figures/idea.png",
        PUBLISHED,
        EVIDENCE,
    output:
        "report/index.html",
    shell:
        "python -m persist report"


onsuccess:
    if "grid" in config and Path(f"{RUNS}/read.ipynb").exists():
        print(f"\nPictures: {RUNS}/*.png. Tables beside them: {RUNS}/read.ipynb\n", file=sys.stderr)


onerror:
    if not any("Terminating processes on user request" in Path(path).read_text() for path in log):
        # with the runs that are there, unfinished ones too; those that are missing are named in the figures
        if any(Path(RUNS).glob("**/*.json")) and not all(Path(f"{RUNS}/{name}.json").exists() for name in CELLS):
            shell(
                f"({read(GRID, 'runs', f'{RUNS}/read.ipynb', RUNS)}) 2> {RUNS}/drawing.log || echo 'Nothing was drawn; why stands in {RUNS}/drawing.log' >&2"
            )
        print("", *failures(GRID.cells, RUNS), sep="\n", file=sys.stderr)
    print(
        f"\nNot finished. What was trained is kept in {RUNS}; the same command goes on from there.\n",
        file=sys.stderr,
    )
