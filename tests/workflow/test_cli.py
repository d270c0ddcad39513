"""The command line: every verb's help, the fields of Cell by their names, errors in one line."""

import argparse
import csv
import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import make_record, small_disk
from hypothesis import given
from test_cell import cells
from workshop import environment, wait_for

from persist import Cell, cli, load_records, train
from persist.cli import main, parser
from persist.evidence.compare import best_accuracy

ONE, TWO = Cell(m=32, K=2, dataset="digits", epochs=3), Cell(m=64, dataset="digits", epochs=2)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project with one grid, `some`, of two runs."""
    monkeypatch.chdir(tmp_path)
    Path("grids").mkdir()
    Path("grids/some.yaml").write_text(
        "base: {dataset: digits}\ncells: [{m: 32, K: 2, epochs: 3}, {m: 64, epochs: 2}]\n"
    )
    for profile in ("default", "slurm"):
        Path("profiles", profile).mkdir(parents=True)
    monkeypatch.setattr(os, "execvp", lambda *arguments: pytest.fail("the engine was started"))
    monkeypatch.setenv("PATH", os.environ["PATH"])  # as it is, also after a command that changes it
    return tmp_path


def save(record, folder):
    path = Path(folder) / f"{record.cell.name}.json"
    record.save(path)
    return path


def verbs() -> dict[str, argparse.ArgumentParser]:
    [action] = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return action.choices


def shown(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as exit:
        main([*arguments])
    assert exit.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_names_every_command_and_what_it_does(capsys):
    every = shown(capsys, "--help")
    for name, verb in verbs().items():
        what = verb.description.removesuffix(".")
        assert f" {name} {what[0].lower()}{what[1:]} " in f"{every} "
        assert f"usage: persist {name} " in (text := shown(capsys, name, "--help")) and what in text


def test_train_has_the_fields_of_a_cell_with_their_defaults(capsys):
    text = shown(capsys, "train", "--help")
    for field in dataclasses.fields(Cell):
        assert f"--{field.name} " in text
        if field.default is not dataclasses.MISSING:
            assert f"default: {'not set' if field.default is None else field.default}" in text


@given(cells)
def test_every_cell_can_be_said_on_the_command_line(cell):
    trained = []
    arguments = [f"--{name}={value}" for name, value in cell.as_dict().items() if value is not None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "persist.notebook.runner.train_or_load", lambda cell, *_, **__: trained.append(cell) or make_record(ONE)
        )
        main(["train", *arguments])
    assert trained == [cell]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--m 0", "error: m must be an int from 1 to 50000 (the training examples of cifar10 used here), not 0"),
        ("--m 32 --K 0", "error: K must be an int from 1 to 1000000, not 0"),
        ("--m 32 --lr -1", "error: lr must be a finite number > 0, not -1.0"),
        ("--m 32 --lr nan", "error: lr must be a finite number > 0, not nan"),
        ("--m 32 --lr_policy foo", "error: lr_policy must be one of 'constant', 'kmu', not 'foo'"),
        ("--m 32 --drop_last maybe", "error: drop_last must be one of False, True, not 'maybe'"),
        ("--m 32 --stride 2", "error: stride must be one of 1, 4, not 2"),
        ("--m 32 --padding alexnet", "error: padding must be 'same' with stride=4, not 'alexnet'"),
        ("--m 32 --evaluate_every 0", "error: evaluate_every must be an int from 1"),
        (
            "--m 32 --dataset digits --results-dir /proc/nowhere",
            "error: results_dir must be a folder that can be written",
        ),
        ("--m 32 --dataset digits --device tpu", "error: device must be one of cpu"),
    ],
)
def test_a_bad_field_is_one_line_before_anything_trains(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("persist.training.train", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(SystemExit) as error:
        main(["train", *arguments.split()])
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("arguments", ["train", "train --m x", "train --m 32 --speed 3", "nosuch", ""])
def test_what_is_no_command_is_told_in_a_line_with_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as error:
        main(arguments.split())
    output = capsys.readouterr().err
    assert error.value.code == 2 and output.startswith("usage: persist") and ": error: " in output.splitlines()[-1]


def test_a_data_set_that_is_damaged_or_missing_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(SystemExit) as error:
        main(["train", "--m", "32", "--data-root", str(tmp_path)])
    assert str(error.value).startswith("error: CIFAR-10 in ") and "\n" not in str(error.value)
    assert "data_batch_1 (it is missing)" in str(error.value)


def test_train_gives_the_record_that_train_gives(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cell = Cell(m=32, K=2, dataset="digits", train_size=100, test_size=50, width=0.05, epochs=2)
    arguments = ["--m=32", "--K=2", "--dataset=digits", "--train_size=100", "--test_size=50", "--width=0.05"]
    for _ in range(2):
        main(["train", *arguments, "--epochs=2"])
    [record] = load_records("runs/mine")
    expected = train(cell)
    assert record.continues(expected) and expected.continues(record)
    out = capsys.readouterr().out
    assert out.count(cell.name) >= 2 and out.count("m=32 K=2: epoch") == 2 and "is there already" in out
    said = f"runs/mine/{cell.name}.json: finished, best accuracy {best_accuracy(record):.4f}\n"
    assert out.count(said) == 2 and out.endswith(said)


def test_the_status_of_a_grid_counts_what_has_ended(folder, capsys):
    save(make_record(ONE), "runs/some")
    save(make_record(TWO, stopped_at=1), "runs/some/unfinished")
    main(["status", "some"])
    assert capsys.readouterr().out.startswith("some: 1 of 2 runs done, 1 begun; ")


@pytest.mark.parametrize("verb", ["grid", "status"])
def test_a_broken_grid_is_refused_in_a_line_before_the_engine_starts(folder, verb):
    Path("grids/bad.yaml").write_text("cells: [{m: 32, K: [1, 0]}]\n")
    Path("grids/odd.yaml").write_text("kind: nosuch\ncells: [{m: 32}]\n")
    Path("grids/mine.yaml").write_text("kind: payoff\ncells: [{m: 32}]\n")
    named = (
        "a grid is named like its file in grids/, without .yaml: letters, digits, - and _, beginning with a letter or"
    )
    for name, message in (
        ("bad", "grids/bad.yaml: K must be an int from 1 to 1000000, not 0 (in "),
        ("odd", "grids/odd.yaml: kind must be one of "),
        ("mine", "grids/mine.yaml: kind 'payoff' is that of grids/payoff.yaml alone"),
        ("nosuch", "grids/nosuch.yaml: there is no such grid; the grids in grids are: bad, mine, odd, some"),
        *(
            (name, f"{named} digit, not {name!r}")
            for name in ("../grids/some", "some.yaml", "two words", "/tmp/x", "_x")
        ),
    ):
        with pytest.raises(SystemExit) as error:
            main([verb, name])
        assert str(error.value).startswith(f"error: {message}") and "\n" not in str(error.value)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("name", ["--help", "-x"])
def test_the_name_of_a_grid_that_looks_like_an_option_starts_nothing(folder, name, capsys):
    with pytest.raises(SystemExit):
        main(["grid", name])
    assert not (folder / "runs").exists()


def test_a_full_or_read_only_disk_is_one_line_before_the_engine_starts(folder):
    Path("runs").mkdir()
    message = "^error: the folder of the records must be a folder that can be written, not 'runs/some': "
    with small_disk(folder / "runs", 2**20):
        Path("runs/filler").write_bytes(bytes(2**20 - 2**15))
        with pytest.raises(SystemExit, match=f"{message}No space left on device$"):
            main(["grid", "some"])
    with small_disk(folder / "runs", 2**20, "ro"), pytest.raises(SystemExit, match=f"{message}Read-only file system$"):
        main(["grid", "some"])
    Path("runs").rmdir()
    Path("runs").write_text("a file where the folder belongs")
    with pytest.raises(SystemExit, match=f"{message}Not a directory$"):
        main(["grid", "some"])


@pytest.mark.parametrize("cuda, name, cores", [(False, "preview", "all"), (True, "paper", "1")])
def test_without_a_name_the_grid_is_one_that_this_machine_can_train(folder, monkeypatch, cuda, name, cores):
    """With a GPU the paper's, one run at a time; without one the preview, as many at once as there are cores."""
    started = []
    for grid in ("preview", "paper"):
        Path(f"grids/{grid}.yaml").write_text(Path("grids/some.yaml").read_text())
    monkeypatch.setattr(cli, "_has_cuda", lambda: cuda)
    monkeypatch.setattr(cli, "_lock", lambda path: None)  # which the engine would hold until it ends
    monkeypatch.setattr(os, "execvp", lambda file, arguments: started.append(arguments))
    main(["grid", "--", "--dry-run"])
    [command] = started
    assert f"grid={name}" in command and command[command.index("--cores") + 1] == cores and command[-1] == "--dry-run"
    main(["grid", "some", "--profile", "slurm"])  # the cluster says how many
    assert "profiles/slurm" in started[1] and not {"--cores", "--resources"} & set(started[1])


def test_the_engine_is_that_of_this_environment_activated_or_not(folder, monkeypatch):
    started = []
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setattr(os, "execvp", lambda file, arguments: started.append(shutil.which(file)))
    main(["publish"])
    assert started == [str(Path(sys.executable).with_name("snakemake"))]


def test_where_snakemake_is_missing_the_error_says_how_to_install_it(folder, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    with pytest.raises(SystemExit, match=r"snakemake is not installed: pip install -e '.\[read\]' in the checkout"):
        main(["publish"])


def test_the_lock_of_an_engine_goes_with_the_process_that_it_becomes(folder):
    """It is inherited by the engine, and others are kept out until that has ended, however it ends."""
    code = "import os\nfrom pathlib import Path\nfrom persist.cli import _lock\n_lock(Path('runs/.lock'))\n"
    engine = subprocess.Popen([sys.executable, "-c", f"{code}os.execvp('sleep', ['sleep', '1000'])"])
    wait_for(lambda: "sleep" in Path(f"/proc/{engine.pid}/cmdline").read_text()[:6])
    with open("runs/.lock") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        engine.kill()
        engine.wait()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_recording_keeps_what_was_trained_finished_or_not(folder, capsys):
    save(make_record(ONE), "runs/some")
    save(make_record(TWO, stopped_at=1), "runs/some/unfinished")
    main(["record", "some"])
    assert "2 records copied" in capsys.readouterr().out
    assert {r.cell: r.status for r in load_records("results/some")} == {ONE: "finished", TWO: "unfinished"}
    save(make_record(TWO), "elsewhere/some")
    main(["record", "some", "--from", "elsewhere"])
    assert "1 records copied" in capsys.readouterr().out
    assert {r.status for r in load_records("results/some")} == {"finished"}
    different = make_record(TWO, accuracy=lambda epoch: 0.5)
    save(different, "runs/some")
    with pytest.raises(SystemExit, match="^error: different records of the same cells lie in runs/some .*REPLACE=1$"):
        main(["record", "some"])
    main(["record", "some", "--replace"])
    assert different in load_records("results/some")


def test_without_a_name_every_grid_is_recorded_but_those_to_try_things(folder):
    for grid in ("smoke", "preview", "other"):
        Path(f"grids/{grid}.yaml").write_text(Path("grids/some.yaml").read_text())
        save(make_record(ONE), f"runs/{grid}")
    main(["record"])
    assert [path.parent.name for path in Path("results").rglob("*.json")] == ["other"]
    main(["record", "preview"])
    assert {path.parent.name for path in Path("results").rglob("*.json")} == {"other", "preview"}


def test_recording_where_nothing_can_be_written_is_one_line(folder):
    save(make_record(ONE), "runs/some")
    Path("results").mkdir()
    with (
        small_disk(folder / "results", 2**20, "ro"),
        pytest.raises(SystemExit, match="^error: .*Read-only file system; nothing was written: "),
    ):
        main(["record", "some"])


def exported(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_export_to_csv_has_a_row_for_each_evaluation(folder):
    for record, place in (
        (make_record(ONE), "runs/some"),
        (make_record(ONE, seconds=9), "results/some"),  # the same run, recorded: it counts once
        (make_record(TWO, stopped_at=1), "runs/some/unfinished"),
    ):
        save(record, place)
    main(["export", "some", "--csv", "runs.csv"])
    rows = exported("runs.csv")
    assert [(row["cell_name"], row["status"]) for row in rows] == [(ONE.name, "finished")] * 3 + [
        (TWO.name, "unfinished")
    ]
    for row, entry in zip(rows, [*make_record(ONE).history, *make_record(TWO).history]):
        assert all(float(row[key]) == pytest.approx(value) for key, value in entry.items())
    assert set(rows[0]) == {*Cell.fields(), *make_record(ONE).history[0], "cell_name", "status"}
    main(["export", "--csv", "all.csv"])
    assert exported("all.csv") == rows


def test_a_run_of_several_grids_is_exported_as_that_of_the_papers_grid_once_it_has_ended(folder):
    for name in ("paper", "some", "apart"):
        (folder / f"grids/{name}.yaml").write_text("base: {dataset: digits}\ncells: [{m: 32, epochs: 3}]\n")
    cell = Cell(m=32, dataset="digits", epochs=3)
    save(make_record(cell, seconds=1), "results/some")
    save(make_record(cell, stopped_at=1), "runs/paper/unfinished")
    main(["export", "--csv", "all.csv"])
    assert {row["status"] for row in exported("all.csv")} == {"finished"}
    save(make_record(cell, seconds=7), "results/paper")
    main(["export", "--csv", "all.csv"])
    assert float(exported("all.csv")[0]["wall_seconds"]) == make_record(cell, seconds=7).history[0]["wall_seconds"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("record some --from nowhere", "--from must be the folder in which grids were trained, not 'nowhere'"),
        ("export some", "export needs --csv FILE or --tensorboard FOLDER"),
        ("export some --csv x.csv", "nothing is recorded of some, neither in runs/ nor in results/"),
        (
            "grid some --profile nosuch",
            "--profile must be one of default, slurm (the folders of profiles/), not 'nosuch'",
        ),
        ("train --m 32 -- --foo", "what follows -- goes to Snakemake"),
    ],
)
def test_what_would_do_nothing_or_something_else_is_refused(folder, arguments, message):
    with pytest.raises(SystemExit) as error:
        main(arguments.split())
    assert str(error.value).startswith(f"error: {message}")
    assert not list(folder.glob("x.csv"))


def test_export_to_tensorboard_is_against_gradient_evaluations(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record = make_record(ONE, diverged_at=3)
    save(record, "runs/some")
    main(["export", "some", "--tensorboard", "board"])
    events = EventAccumulator(str(folder / "board" / ONE.name))
    events.Reload()
    for quantity in ("train_loss", "test_loss", "test_accuracy"):
        found = [(event.step, event.value) for event in events.Scalars(quantity)]
        expected = [(e["gradients"], pytest.approx(e[quantity])) for e in record.history if e[quantity] is not None]
        assert found == expected and len(found) == 2


@pytest.mark.parametrize(
    "arguments", ["grid some", "status some", "record some", "export some --csv x.csv", "page README.md"]
)
def test_every_command_that_reads_records_names_a_damaged_one_in_a_line(project, folder, arguments):
    (folder / "README.md").write_text((project / "README.md").read_text())
    damaged = [save(make_record(ONE), place) for place in ("runs/some", "results/some")]
    save(make_record(TWO), "runs/some")
    for path in damaged:
        path.write_text(path.read_text()[:-100])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(
        SystemExit,
        match=f"^error: (results|runs)/some/{ONE.name}.json is not a record: .* delete it and train its cell again$",
    ):
        main(arguments.split())
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("arguments", ["page README.md", "publish"])
def test_a_recorded_run_that_no_page_would_show_is_named(project, folder, arguments):
    """Of an older version of its grid, or of a Cell that had other fields."""
    (folder / "README.md").write_text((project / "README.md").read_text())
    path = save(make_record(Cell(m=99, dataset="digits", epochs=2)), "results/some")
    with pytest.raises(SystemExit, match=f"^error: {path} is of no run of grids/some.yaml: move it, or add its run"):
        main(arguments.split())
    save(make_record(ONE), "results/gone")
    path.unlink()
    with pytest.raises(SystemExit, match="^error: results/gone holds records, and there is no grids/gone.yaml: move "):
        main(arguments.split())


def test_where_there_is_no_project_no_report_is_made(folder):
    with pytest.raises(SystemExit, match="^error: .*'README.md'$"):
        main(["report", "out"])
    assert not (folder / "out").exists()


def test_a_command_that_makes_pages_needs_no_record(project, folder):
    """A fresh clone has none of its own yet: the marks are filled with words that say so."""
    (folder / "README.md").write_text((project / "README.md").read_text())
    main(["page", "README.md"])
    assert "`some` 0 of 2" in (folder / "README.md").read_text().replace("\n", " ")


@pytest.mark.parametrize("profile", ["default", "slurm"])
def test_make_hands_profile_and_arguments_on(project, profile):
    command = ["make", "--dry-run", "reproduce", "GRID=some", "READY=", f"PROFILE={profile}", "ARGS=--cores 1"]
    # not as a part of the make that runs the tests, with its flags
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    run = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True, env=environment)
    given = run.stdout.split("python -m persist ")[1].split()
    cut = given.index("--")
    options = parser().parse_args(given[:cut])
    assert (options.name, options.profile, given[cut + 1 :]) == ("some", profile, ["--cores", "1"])


@pytest.mark.slow
def test_train_is_the_notebook_under_papermill(project, tmp_path):
    """The same fields give the same record, but for times."""
    fields = {
        "m": 32,
        "K": 2,
        "dataset": "digits",
        "width": 0.25,
        "lr": 0.02,
        "epochs": 2,
        "seed": 3,
        "lr_policy": "kmu",
    }
    (tmp_path / "tmp").mkdir()
    given = [word for name, value in fields.items() for word in ("-p", name, str(value))]
    papermill = ["papermill", "notebooks/cell.ipynb", str(tmp_path / "out.ipynb"), "-p", "results_dir"]
    typed = [f"--{name}={value}" for name, value in fields.items()]
    for command in (
        [*papermill, str(tmp_path / "papermill"), *given, "--no-progress-bar"],
        ["python", "-m", "persist", "train", *typed, "--results-dir", str(tmp_path / "typed")],
    ):
        where = environment(tmp_path, OMP_NUM_THREADS="1", PERSIST_BATCH="1")
        run = subprocess.run(command, cwd=project, env=where, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    [a], [b] = load_records(tmp_path / "papermill"), load_records(tmp_path / "typed")
    assert a.cell == Cell(**fields) and a.continues(b) and b.continues(a)
    assert json.loads((tmp_path / "out.ipynb").read_text())["metadata"]["papermill"]["parameters"]["K"] == 2
