"""`persist`, or `python -m persist`: every command that make and Snakemake call."""

import argparse
import os
import shutil
import sys
import types
from pathlib import Path

from persist.cell import CHOICES, Cell
from persist.grids import check_recorded, copy_records, find_records, grid_path, load_grid
from persist.record import RecordError, check_writable


def train(options: argparse.Namespace) -> None:
    """Train one run, or show its record where it is there already."""
    from persist.data import DataError
    from persist.evidence.compare import best_accuracy
    from persist.notebook.runner import describe, train_or_load

    given = vars(options)
    cell = Cell(**{name: given[name] for name in Cell.fields() if given[name] is not None})
    print(describe(cell), flush=True)
    how = dict(force=options.force, data_root=options.data_root, device=options.device)
    try:
        run = train_or_load(cell, options.results_dir, **how)
    except DataError as error:
        raise ValueError(str(error)) from None
    reached = f", best accuracy {best:.4f}" if (best := best_accuracy(run)) else ""
    print(f"{Path(options.results_dir) / cell.name}.json: {run.status}{reached}")


def grid(options: argparse.Namespace) -> None:
    """Train the runs of a grid that are not there yet and draw its figures, in runs/<grid>/."""
    name = options.name or ("paper" if _has_cuda() else "preview")
    print(_status(name), flush=True)
    if not (Path("profiles") / options.profile).is_dir():
        there = ", ".join(sorted(path.name for path in Path("profiles").glob("*/")))
        raise ValueError(f"--profile must be one of {there} (the folders of profiles/), not {options.profile!r}")
    command = ["--workflow-profile", f"profiles/{options.profile}", "--config", f"grid={name}"]
    if options.profile == "default":  # runs on one GPU would spoil each other's times
        command += ["--cores", "1" if _has_cuda() else "all", "--resources", f"mem_mb={_memory_mb()}"]
    _lock(Path("runs/.lock"))
    _snakemake(*command, "--nolock", *options.arguments)


def status(options: argparse.Namespace) -> None:
    """Say how far a grid is, and refuse one that is broken."""
    print(_status(options.name), flush=True)


def record(options: argparse.Namespace) -> None:
    """Keep what was trained, finished or not: runs/<grid>/ -> results/<grid>/."""
    skipped = ("smoke", "preview")  # unless named: they are trained to try things
    names = [options.name] if options.name else sorted(path.stem for path in Path("grids").glob("*.yaml"))
    if not options.source.is_dir():
        raise ValueError(f"--from must be the folder in which grids were trained, not {str(options.source)!r}")
    for name in names:
        if options.name or ((options.source / name).is_dir() and name not in skipped):
            copied = copy_records(load_grid(grid_path(name)), options.source, Path("results"), options.replace)
            print(*copied, f"{name}: {len(copied)} records copied into results/{name}", sep="\n")


def publish(options: argparse.Namespace) -> None:
    """Redraw figures, tables, verdicts, docs, README and report from results/, as far as records changed."""
    check_recorded("results")
    _snakemake("publish", "--workflow-profile", "profiles/default", *options.arguments)


def page(options: argparse.Namespace) -> None:
    """Fill in what stands between marks in README.md and docs/*.md, from results/."""
    from persist.evidence.page import fill

    check_recorded("results")
    for path in options.files:
        fill(path)


def payoff_grids(options: argparse.Namespace) -> None:
    """Apply the rule of docs/payoff-plan.md to the recorded rates: write the runs that follow to grids/payoff*.yaml."""
    from persist.evidence.payoff import write_grids

    print(write_grids())


def report(options: argparse.Namespace) -> None:
    """Write README.md and docs/ as one page to read: report/index.html."""
    from persist.evidence.report import write_report

    print(write_report(Path("."), options.folder))


def export(options: argparse.Namespace) -> None:
    """Give the records of a grid, or of all, to other tools."""
    if not (options.csv or options.tensorboard):
        raise ValueError("export needs --csv FILE or --tensorboard FOLDER, or both")
    names = [options.name] if options.name else sorted(path.stem for path in Path("grids").glob("*.yaml"))
    names.sort(key=lambda name: not name.startswith("paper"))  # a run of several grids is that of the paper's
    cells = dict.fromkeys(cell for name in names for cell in load_grid(grid_path(name)).cells)
    records = find_records(list(cells), [Path(root) / name for root in ("runs", "results") for name in names])
    if not records:
        raise ValueError(f"nothing is recorded of {options.name or 'any grid'}, neither in runs/ nor in results/")
    if options.csv:
        import pandas as pd

        rows = [
            run.cell.as_dict() | entry | {"cell_name": run.cell.name, "status": run.status}
            for run in records
            for entry in run.history
        ]
        pd.DataFrame(rows).to_csv(options.csv, index=False)
        print(f"{options.csv}: {len(records)} runs, a row for each evaluation")
    if options.tensorboard:
        from torch.utils.tensorboard import SummaryWriter

        for run in records:
            with SummaryWriter(options.tensorboard / run.cell.name) as writer:
                for entry in run.history:
                    for quantity in ("train_loss", "test_loss", "test_accuracy"):
                        if entry[quantity] is not None:
                            writer.add_scalar(quantity, entry[quantity], entry["gradients"])
        print(f"{options.tensorboard}: {len(records)} runs, against gradient evaluations")


def _status(name: str) -> str:
    from persist.evidence.kinds import kind_of
    from persist.notebook.progress import grid_progress

    found, folder = load_grid(grid_path(name)), Path("runs") / name
    kind_of(found)
    check_writable("the folder of the records", folder)
    return f"{name}: {grid_progress(found.cells, folder)}"  # a damaged record is named before anything trains


def _snakemake(*arguments: str) -> None:
    """Become it. It and what it calls are those of this environment, which need not be activated."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if not shutil.which("snakemake"):
        raise ValueError("snakemake is not installed: pip install -e '.[read]' in the checkout")
    os.execvp("snakemake", ["snakemake", *arguments])


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 9 // 10 // 2**20


def _lock(path: Path) -> None:
    """A second engine waits. The system releases this lock, whatever happens to its holder; Snakemake's outlives it."""
    import fcntl

    path.parent.mkdir(exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another engine trains here: waiting for it", flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
    os.set_inheritable(file, True)  # by the engine that this process becomes


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="persist", description="Minibatch persistency (arXiv 1806.07353), reproduced.")
    verbs = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def verb(function):
        text = function.__doc__.removesuffix(".")
        added = verbs.add_parser(
            function.__name__.replace("_", "-"), help=text[0].lower() + text[1:], description=f"{text}."
        )
        added.set_defaults(run=function)
        return added

    one = verb(train)
    one.epilog = "What each field means, and its unit: persist/cell.py."
    for name, annotation in Cell.__annotations__.items():
        default = getattr(Cell, name, None)
        allowed = f"one of {', '.join(map(str, CHOICES[name]))}; " if name in CHOICES else ""
        text = allowed + ("required" if name == "m" else f"default: {'not set' if default is None else default}")
        names = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        one.add_argument(*names, type=_converter(annotation), required=name == "m", help=text)
    one.add_argument("--results-dir", default="runs/mine", help="where the record is saved; default: runs/mine")
    one.add_argument("--data-root", help="folder with CIFAR-10; default: PERSIST_DATA, else ./data")
    one.add_argument("--device", help="cpu, cuda, ...; default: CUDA where there is one")
    one.add_argument("--force", action="store_true", help="train again where a record is there already")
    many = verb(grid)
    many.add_argument("name", nargs="?", help="default: paper where there is a CUDA device, else preview")
    many.add_argument("--profile", default="default", help="a folder of profiles/: default, slurm")
    verb(status).add_argument("name")
    keep = verb(record)
    keep.add_argument("name", nargs="?", help="of the grid; default: all but smoke and preview")
    keep.add_argument("--from", dest="source", type=Path, default=Path("runs"), help="default: runs")
    keep.add_argument("--replace", action="store_true", help="replace records that are there already and differ")
    verb(publish)
    verb(payoff_grids)
    verb(page).add_argument("files", nargs="+", type=Path)
    verb(report).add_argument("folder", nargs="?", type=Path, default=Path("report"))
    give = verb(export)
    give.add_argument("name", nargs="?", help="of the grid; default: all")
    give.add_argument("--csv", type=Path, metavar="FILE")
    give.add_argument("--tensorboard", type=Path, metavar="FOLDER")
    return top


def _converter(annotation):
    """From the text of an argument to the type of a field."""
    if annotation is bool:
        return lambda text: {"true": True, "false": False}.get(text.lower(), text)
    kinds = [kind for kind in getattr(annotation, "__args__", (annotation,)) if kind is not types.NoneType]
    return kinds[0]


def main(arguments: list[str] | None = None) -> None:
    """Run one command; what goes wrong is one line. What follows `--` goes to Snakemake."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    options = parser().parse_args(given[:cut])
    options.arguments = given[cut + 1 :]
    if options.arguments and options.run not in (grid, publish):
        sys.exit("error: what follows -- goes to Snakemake, which only `persist grid` and `persist publish` call")
    try:
        options.run(options)
    except (RecordError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
