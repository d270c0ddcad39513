"""Pages filled in from records; the answers."""

import re

import pytest
from helpers import make_record

from persist import Cell
from persist.evidence import answers, page
from persist.evidence.claims import judge_all
from persist.evidence.select import grid_records


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project with a grid `paper` of two runs at m = 512, and further seeds beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids/paper.yaml").write_text("base: {m: 512}\ncells: [{K: [1, 5]}]\n")
    (tmp_path / "grids/paper-seeds.yaml").write_text("beside: paper\ncells: [{m: 32, K: [1, 5], seed: 1}, {m: 8}]\n")
    return tmp_path


def test_what_stands_between_marks_is_replaced_and_nothing_else(folder, monkeypatch):
    monkeypatch.setitem(page.BLOCKS, "some", lambda root: {"block": f"made from {root}\n", "": "not asked for"})
    path = folder / "page.md"
    path.write_text("before\n<!-- some block -->\nold\nlines\n<!-- end -->\nafter <!-- a comment -->\n")
    page.fill(path)
    filled = "before\n<!-- some block -->\nmade from results\n<!-- end -->\nafter <!-- a comment -->\n"
    assert path.read_text() == filled
    page.fill(path)
    assert path.read_text() == filled


def test_a_mark_without_a_block_is_named(folder):
    path = folder / "page.md"
    path.write_text("<!-- nosuch -->\n<!-- end -->\n")
    with pytest.raises(ValueError, match=r"page.md: no block is named 'nosuch'; they begin with figures, "):
        page.fill(path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("<!-- seeds -->", "<!-- seeds --> has no <!-- end --> before the next mark"),
        ("  <!-- seeds --> \ntext\n<!-- recorded -->\n<!-- end -->\n", "<!-- seeds --> has no <!-- end -->"),
        ("<!-- seeds -->\n<!-- end -->\n<!-- end -->\n", "<!-- end --> has no mark before it"),
    ],
)
def test_a_mark_without_an_end_is_named_and_nothing_is_lost(folder, text, message):
    path = folder / "page.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"page.md: {message}"):
        page.fill(path)
    assert path.read_text() == text


def test_every_mark_of_the_projects_pages_has_a_block_which_some_page_shows(project, monkeypatch):
    """A block can do with no records."""
    monkeypatch.chdir(project)
    blocks = {
        f"{topic} {name}".strip(): text for topic in page.BLOCKS for name, text in page.BLOCKS[topic]("no").items()
    }
    assert all(text.strip() for text in blocks.values())
    pages = "".join(path.read_text() for path in (project / "README.md", *(project / "docs").glob("*.md")))
    assert set(re.findall(r"<!-- ([\w -]+) -->\n(?:.*\n)*?<!-- end -->", pages)) == set(blocks)


def test_the_pages_do_without_a_grid_that_is_not_there(folder):
    (folder / "grids/paper.yaml").unlink()
    (folder / "grids/paper-seeds.yaml").unlink()
    (folder / "page.md").write_text("<!-- figures paper -->\n<!-- end -->\n")
    page.fill(folder / "page.md")
    assert (folder / "page.md").read_text() == "<!-- figures paper -->\nNot recorded yet.\n<!-- end -->\n"


def test_the_records_of_a_grid_and_of_the_one_beside_are_read_together(folder):
    assert grid_records("results", "grids", "paper-seeds") == grid_records("results", "grids", "no-such-grid") == []
    make_record(Cell(m=512)).save(folder / f"results/paper/{Cell(m=512).name}.json")
    assert grid_records("runs", "grids", "paper-seeds") == [], "of a folder, its own records alone"
    unfinished = make_record(Cell(m=512, K=5), stopped_at=3)
    runs = {"paper": make_record(Cell(m=512)), "paper-seeds": make_record(Cell(m=8))}
    for name, record in {**runs, "paper/unfinished": unfinished}.items():
        record.save(folder / "results" / name / f"{record.cell.name}.json")
    found = grid_records("results", "grids", "paper-seeds")
    assert [(r.cell.m, r.cell.K, r.status) for r in found] == [
        (8, 1, "finished"), (512, 1, "finished"), (512, 5, "unfinished"),
    ]  # fmt: skip


def test_how_much_is_recorded_and_the_hours(folder):
    (folder / "grids/paper.yaml").write_text("cells: [{m: 512, K: [1, 5], epochs: 100}]\n")
    (folder / "grids/later.yaml").write_text("cells: [{m: 512}]\n")
    disturbed = make_record(Cell(m=8))
    disturbed.environment.update({"cuda": None, "threads": 1})
    for entry in disturbed.history:
        entry["cpu_seconds"] = entry["train_seconds"] / 2
    for run in (make_record(Cell(m=512)), make_record(Cell(m=512, K=5), stopped_at=20), disturbed):
        for entry in run.history:  # an hour for 10 000 000 gradients
            entry["wall_seconds"] = entry["gradients"] * 3.6e-4
        run.save(folder / f"results/{'paper' if run.cell.m == 512 else 'paper-seeds'}/{run.cell.name}.json")
    # 200 of 600 passes are done, at m = 512 alone
    assert answers.recorded("results").values.tolist() == [
        ["`paper`", "1 of 2", "20 of 100 epochs", "-", "1.0", "3.0"],
        ["`paper-seeds`", "1 of 3", "-", "1 of 1", "0.5", "3.5"],
        ["`later`", "0 of 1", "-", "-", "0.0", "-"],
    ]


def test_no_name_of_a_grid_is_broken_in_the_short_form(folder):
    for n in range(12):
        (folder / f"grids/a-rather-long-name-{n}.yaml").write_text("cells: [{m: 512}]\n")
    short = page.BLOCKS["recorded"]("results")["short"]
    assert all(f"`a-rather-long-name-{n}` 0 of 1" in short.replace("\n", " ") for n in range(12))
    assert max(map(len, short.splitlines())) <= 120


def row_of(question) -> str:
    """The answer to the question that has these words, without its line breaks."""
    [row] = [row for row in answers.answers("results").split("\n- ") if question in row.partition("?")[0]]
    return " ".join(row.split())


def record(K, accuracy, m=512, grid="paper", seed=0, **environment):
    made = make_record(Cell(m=m, K=K, seed=seed), accuracy=lambda e: accuracy)
    made.environment.update(environment)
    made.save(f"results/{grid}/{made.cell.name}.json")


@pytest.mark.parametrize(
    "five, word, alike", [(0.6, "Yes", "yes"), (0.48, *["Behind"] * 2), (0.511, *["No gain is shown"] * 2)]
)
def test_whether_a_larger_K_is_ahead_per_epoch(folder, five, word, alike):
    """From chance at the start to a level reached in the first epoch: K = 5 has it for 19.5 of the 20 epochs in which
    it makes as many updates as K = 1, which has it for 99.5 of 100."""
    record(1, 0.5)
    record(5, five)
    row = row_of("better per epoch")
    answer = f"{word} at m = 512, with K times the updates. Over as many updates: {alike.lower()} at m = 512."
    assert row.endswith(f"?** {answer}")
    [cells] = [line.split(" | ") for line in answers.answers("results").splitlines() if line.startswith("| 512 ")]
    assert cells[1].startswith(f"{(five - 0.5) - (five - 0.5) / 200:+.4f} ± 0.014")
    assert cells[2].startswith(f"{five - (five - 0.1) / 40 - (0.5 - 0.4 / 200):+.4f} ± 0.014") and cells[5] == "1 |"


@pytest.mark.parametrize(
    "changed, answer",
    [
        ({}, "over the same seconds: yes at m = 512."),
        ({"device": "Another"}, "not known (no K = 1 and 5 on one machine) at m = 512."),
        ({"code": "another"}, "not known"),
    ],
)
def test_times_of_two_machines_are_not_compared(folder, changed, answer):
    record(1, 0.5)
    record(5, 0.6, **changed)
    assert answer in row_of("computing time")


def test_the_time_behind_a_loader_is_told_from_the_smallest_to_the_largest_network(folder, monkeypatch):
    record(1, 0.5)
    record(5, 0.6)
    measured = {(0.5, 2): 1.1, (0.5, 5): 2.6, (0.25, 5): 1.5, (4.0, 5): 4.9}
    monkeypatch.setattr(answers.loading, "ratios", lambda records, others: measured)
    row = row_of("computing time")
    assert "1.5 (C/L = 0.25) to 4.9 (4.00) times the time of an epoch with K = 1 (3 settings, n = 1)" in row


@pytest.mark.parametrize(
    "large, m256, eight, words, verdict",
    [
        (0.5, 0.5, 0.5, ("yes", "yes"), "holds"),
        (0.4, 0.5, 0.5, ("no", "no"), "fails"),
        (0.5, 0.4, 0.5, ("no", "no"), "fails"),
        (0.5, 0.5, 0.6, ("no", "yes"), "fails"),
        (0.481, 0.5, 0.5, ("undecided", "undecided"), "undecided"),
        (0.4, 0.4, None, ("undecided (m = 8, K = 1: not recorded yet)", "no"), "undecided"),
    ],
)
def test_whether_large_minibatches_compete(folder, large, m256, eight, words, verdict):
    """Both large m must, with either small one; the claim asks for both small ones."""
    (folder / "grids/paper.yaml").write_text("cells: [{m: [32, 256, 512], K: [1, 5]}]\n")
    for m, K, accuracy in ((32, 1, 0.5), (256, 1, 0.1), (256, 5, m256), (512, 1, 0.1), (512, 5, large)):
        record(K, accuracy, m)
    if eight:
        record(1, eight, 8, "paper-seeds")
    row = row_of("competitive")
    assert f" against m = 8: {words[0]}" in row and f"; against m = 32: {words[1]} (" in row
    assert ") against m = 8: undecided (m = 256, K = 5, kµ: not recorded yet)" in row
    [claim] = [v for v in judge_all(grid_records("results", "grids", "paper-seeds")) if v["claim"] == "competitive"]
    assert claim["verdict"] == verdict


def test_what_another_seed_changes(folder):
    (folder / "grids/paper.yaml").write_text("cells: [{m: [32, 512], seed: [0, 1]}]\n")
    for m, seed, accuracy in ((512, 0, 0.3), (512, 1, 0.4), (32, 0, 0.5)):
        record(1, accuracy, m, seed=seed)
    open_one = make_record(Cell(m=32, seed=1), stopped_at=3)
    open_one.save(folder / f"results/paper/{open_one.cell.name}.json")
    rows = page.BLOCKS["seeds"]("results")[""].splitlines()
    assert len(rows) == 3 and rows[2] == "| 512 | 1 | 0, 1 | 0.2990, 0.3985 | 0.3000, 0.4000 |"


def test_an_unfinished_run_answers_nothing(folder):
    record(1, 0.5)
    open_one = make_record(Cell(m=512, K=5), stopped_at=3)
    open_one.save(folder / f"results/paper/{open_one.cell.name}.json")
    rows = answers.answers("results").splitlines()
    assert len(rows) == 5 and all(row.endswith("?** Not recorded yet.") for row in rows)
