import pytest

from persist import Cell, load_grid
from persist.readme import fill, main, table
from helpers import make_record

CELLS = [Cell(m=m, K=K, dataset="digits", epochs=3) for m in (32, 512) for K in (1, 5)]


def test_the_readme_is_what_its_records_say(project):
    text = (project / "README.md").read_text()
    assert fill(text, project / "results", project / "grids") == text, "make figures"
    assert "<!-- table: reduced -->\n| m | K |" in text and "<!-- table: preview -->\n| m | K |" in text


def test_every_picture_of_the_readme_is_there(project):
    import re

    text = (project / "README.md").read_text()
    links = re.findall(r"\]\(((?!http|#)[^)]+)\)", text)
    assert len(links) > 8 and [link for link in links if not (project / link).exists()] == []


def test_a_row_of_a_table_has_all_seeds_of_its_cell():
    runs = [make_record(Cell(m=32, dataset="digits", epochs=3, seed=seed), accuracy=lambda e, s=seed: 0.5 + 0.1 * s + 0.01 * e * (s < 2), seconds=seed + 1, load=9.0 * (seed == 2)) for seed in range(3)]
    text = table([*runs, make_record(Cell(m=512, dataset="digits", epochs=3), diverged_at=2)])
    assert "| learning rate | seeds | best test accuracy |" in text
    # seconds: of the two beside which nothing else ran
    assert "| 32 | 1 | µ | 3 | 0.6200 (0.5300-0.7000) | 2 (1-3) | 0.6200 (0.5300-0.7000) | 135 | 4 (3-6) |" in text
    assert "| 512 | 1 | µ | 1 | " in text and "| diverged in epoch 2 | 6 | 2 |" in text
    assert "Means over the seeds, in brackets the smallest and the largest; the best is that of each run" in text
    assert "Seconds: of 3 of the 4 runs, on Some GPU, with nothing else running. Other work ran on the machine during 1 of the 4 runs" in text and "versions of the code" not in text
    later = table([runs[0], make_record(runs[1].cell, diverged_at=3)])
    assert "| 2 | - | - | diverged in epoch 3 (1 of 2 seeds) | 135 | 3 |" in later, "of the run that came to its end"
    runs[0].environment["code"] = "0" * 64
    assert "Recorded with 2 versions of the code." in table(runs)
    lost = table([runs[0], make_record(runs[1].cell, diverged_at=1)])
    assert "| 2 | - | - | diverged in epoch 1 (1 of 2 seeds) |" in lost, "no mean of those that are left"


def test_a_table_has_a_row_per_record_and_says_what_ran():
    records = [make_record(cell) for cell in CELLS[:3]] + [make_record(CELLS[3], diverged_at=1)]
    lines = table(records).splitlines()
    assert len([line for line in lines if line.startswith("| 32 |") or line.startswith("| 512 |")]) == 4
    assert "| 32 | 5 | µ | 0.7992 | 3 | 0.7992 | 675 | 15 |" in lines
    assert "| 512 | 5 | µ | - | - | diverged in epoch 1 | 15 | 5 |" in lines
    assert "digits" in lines[-1] and "Some GPU" in lines[-1] and "Other work" not in lines[-1]
    mixed = table([make_record(CELLS[0]), make_record(Cell(m=512, dataset="digits", epochs=9, precision="bf16"), load=9.0)])
    assert "| learning rate | epochs | precision |" in mixed and "| 512 | 1 | µ | 9 | bf16 |" in mixed
    assert "Other work ran on the machine" in mixed


def test_the_tables_of_controls_and_readings(project, tmp_path):
    for name in ("reduced", "reduced-controls", "readings-start"):
        for cell in load_grid(project / "grids" / f"{name}.yaml").cells:
            record = make_record(cell, diverged_at=1 if cell.reduction == "sum" and cell.m == 512 and cell.K == 1 else None)
            record.save(tmp_path / name / f"{cell.name}.json")
    text = fill("<!-- table: reduced-controls -->\n<!-- end -->\n<!-- table: readings-start -->\n<!-- end -->", tmp_path, project / "grids")
    lines = text.splitlines()
    [row] = [line for line in lines if line.startswith("| 32 | K = 1 with 5µ | K = 5 |")]
    assert row.endswith(("| is better |", "| is worse |", "| is not told apart |"))
    assert any(line.startswith("m = 512. Against K = 5: K = 1 ") for line in lines)
    assert "| sum of the gradients, padding 'alexnet', inputs 'unit', one hidden layer | 512 | 1 | 10 | diverged in epoch 1 | not finite | 0.0000 |" in lines
    assert "5120 of the 50000 training images" in text and "10240 of the 50000 training images" in text


def test_only_what_is_between_the_marks_changes(tmp_path):
    record = make_record(CELLS[0])
    record.save(tmp_path / "results/some/" / f"{record.cell.name}.json")
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids/some.yaml").write_text("base: {dataset: digits, epochs: 3}\ncells: [{m: 32}]\n")
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- table: some -->\nold\n<!-- end -->\nafter\n")
    main([str(tmp_path / "results"), str(tmp_path / "grids"), str(readme)])
    text = readme.read_text()
    assert text == f"before\n<!-- table: some -->\n{table([record])}<!-- end -->\nafter\n"
    assert fill(text, tmp_path / "results", tmp_path / "grids") == text
    assert fill("<!-- table: other -->\nold\n<!-- end -->", tmp_path / "results", tmp_path / "grids") == "<!-- table: other -->\nold\n<!-- end -->"
    next((tmp_path / "results/some").iterdir()).write_text("damaged")
    with pytest.raises(SystemExit, match="is not a record"):
        main([str(tmp_path / "results"), str(tmp_path / "grids"), str(readme)])
    assert readme.read_text() == text
