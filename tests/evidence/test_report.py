"""The page to read: made from the records, one file, every picture with words."""

import base64
import html
import re
import shutil

import pytest

from persist.evidence.claims import CLAIMS
from persist.evidence.report import alt_text, build, main


@pytest.fixture(scope="module")
def page(project):
    return build(project)


def attributes(page, tag, name):
    return [html.unescape(value) for value in re.findall(rf'<{tag}\b[^>]*?\s{name}="([^"]*)"', page, re.DOTALL)]


def test_nothing_is_loaded_from_elsewhere(page):
    assert "<script" not in page and "@import" not in page and "<iframe" not in page
    assert all(
        uri.startswith("data:")
        for tag in ("img", "link", "source", "video", "audio", "embed", "object")
        for name in ("src", "href", "srcset")
        for uri in attributes(page, tag, name)
    )
    assert not re.findall(r"url\((?!#)", page.split("</style>")[0])
    links = attributes(page, "a", "href")
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "an id is there once"
    assert {link for link in links if not link.startswith("https://")} <= {f"#{name}" for name in ids}, (
        "what links within the page is there"
    )


def test_every_picture_has_words_of_its_own(page, project):
    alts = attributes(page, "img", "alt")
    assert len(alts) == page.count("<img") and all(len(alt) > 20 for alt in alts)
    for svg in project.glob("figures/*/*.svg"):
        assert alt_text(svg.read_text()) in alts, f"{svg} is on the page"
        assert base64.b64encode(svg.read_bytes()).decode() in page


def test_the_words_are_those_of_the_picture(project):
    text = alt_text((project / "figures" / "reduced" / "figure1.svg").read_text())
    assert text.startswith("Figure 1: m = 32, learning rate µ. ")
    for part in (
        "K = 5: best of the mean 0.",
        "top-1 accuracy on the test set",
        "epochs.",
        "6 of 9 runs: ",
        "CIFAR-10: trained on a fixed 10240",
    ):
        assert part in text
    assert "0.4." not in text.split() and " 120." not in text, "without the numbers at the axes"


def test_every_claim_and_every_notebook_is_there(page, project):
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert all(claim.text in text for claim in CLAIMS)
    for path in project.glob("notebooks/*.ipynb"):
        assert f'<details id="notebook-{path.stem}">' in page
    assert "AMD EPYC" in page and "the README" in text


def test_a_project_without_measurements_or_records_says_so(project, tmp_path):
    for name in ("grids", "notebooks"):
        shutil.copytree(project / name, tmp_path / name)
    readme = tmp_path / "README.md"
    readme.write_text("no table yet")
    page = build(tmp_path)
    assert "Not measured yet" in page and page.count("No grid is recorded yet") == 2
    # the table of the README is shown only with measurements behind it
    readme.write_text(
        "<!-- speed -->\n| K | s |\n| --- | --- |\n| 5 | 1.23 |\n\n![Gradients per second](figures/bench/cpu-bars.png)\n<!-- end -->\n"
    )
    assert "Not measured yet" in build(tmp_path)
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "cpu.json").write_text("{}")
    (tmp_path / "figures").mkdir()
    shutil.copytree(project / "figures" / "bench", tmp_path / "figures" / "bench")
    page = build(tmp_path)
    assert "Not measured yet" not in page and "<td>1.23</td>" in page
    assert "cpu-bars.png" not in page and 'id="bench-cpu-amd-epyc-bars"' in page and 'id="grid-bench"' not in page


def test_make_report_writes_one_file_or_says_what_is_wrong(project, tmp_path, capsys):
    main([str(project), str(tmp_path / "report")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "report" / "index.html")
    assert [p.name for p in (tmp_path / "report").iterdir()] == ["index.html"]
    with pytest.raises(SystemExit, match="error: "):
        main([str(tmp_path), str(tmp_path / "report")])


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
                '{"cells": [{"id": "a", "cell_type": "markdown", "metadata": {}, "source": ""}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'],
)  # fmt: skip
def test_what_is_no_notebook_is_named(tmp_path, content):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "README.md").write_text("no table yet")
    (tmp_path / "notebooks/some.ipynb").write_text(content)
    with pytest.raises(SystemExit, match="^error: .*notebooks/some.ipynb is not a notebook that begins with its title"):
        main([str(tmp_path), str(tmp_path / "report")])
    assert not (tmp_path / "report").exists()


def test_the_table_of_a_grid_is_that_of_its_notebook(page, project):
    """Not one learning rate under several, nor test accuracy over the held-out images."""

    def part(name):
        return html.unescape(
            re.sub(r"<[^>]+>", " ", page.split(f"<summary>{name}: in numbers</summary>")[1].split("</details>")[0])
        )

    sweep, controls = part("reduced-sweep"), part("reduced-controls")
    assert (
        "held-out accuracy" in sweep
        and "test accuracy" not in sweep
        and "µ = " not in sweep.replace("chosen: µ = ", "")
    )
    assert "K = 1 with 5µ" in controls and "of the other" in controls


def test_the_page_is_made_without_torch():
    from test_imports import loaded_by

    assert "matplotlib" in loaded_by("import persist.evidence.report", without=("torch", "torchvision"))


def test_the_same_records_give_the_same_page(page, project):
    assert build(project) == page
