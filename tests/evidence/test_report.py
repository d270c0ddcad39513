"""The page to read: made from the records, one file, every picture with words."""

import base64
import html
import re
import shutil
import subprocess
import sys

import pytest
from helpers import make_record

from persist import load_grid
from persist.evidence import report
from persist.evidence.claims import CLAIMS
from persist.evidence.curves import save, save_all
from persist.evidence.figures import draw_all
from persist.evidence.idea import draw_idea
from persist.evidence.report import alt_text, build, write_report
from persist.record import RecordError

MINE = """# Two of the five figures, as small as it gets.
base: {dataset: digits, epochs: 3}
cells: [{m: [32, 512], K: [1, 5]}]
"""


@pytest.fixture
def empty(project, tmp_path):
    """A project of the paper's grids, of which nothing is recorded, and the picture of the idea."""
    save(draw_idea(), tmp_path / "figures", "idea")
    (tmp_path / "grids").mkdir()
    for name in ("paper", "paper-seeds", "loading"):
        shutil.copy(project / "grids" / f"{name}.yaml", tmp_path / "grids")
    return tmp_path


@pytest.fixture
def root(empty):
    """The same with a grid of four runs: two are recorded, one of them unfinished; figures as `publish` draws them."""
    (empty / "grids/mine.yaml").write_text(MINE)
    cells = load_grid(empty / "grids/mine.yaml").cells
    records = [make_record(cells[0]), make_record(cells[1], stopped_at=2)]
    for record in records:
        record.save(empty / "results/mine" / f"{record.cell.name}.json")
    save_all(draw_all(records), empty / "figures/mine")
    return empty


def test_links_to_other_pages_are_left_out(root, monkeypatch):
    monkeypatch.setattr(
        report,
        "answers",
        lambda *_: "so\n  ([why](docs/time.md)): [all](docs/results.md) (n = 8; [how](docs/payoff.md))",
    )
    assert "so: all (n = 8)" in (page := build(root)) and "docs/time.md" not in page


def attributes(page, tag, name):
    return [html.unescape(value) for value in re.findall(rf'<{tag}\b[^>]*?\s{name}="([^"]*)"', page, re.DOTALL)]


def words(page):
    return html.unescape(re.sub(r"<[^>]+>", "", page))


def test_nothing_is_loaded_from_elsewhere_and_every_link_leads_somewhere(root):
    page = build(root)
    assert "<script" not in page and "@import" not in page and "<iframe" not in page
    assert all(
        uri.startswith("data:")
        for tag in ("img", "link", "source", "video", "audio", "embed", "object")
        for name in ("src", "href", "srcset")
        for uri in attributes(page, tag, name)
    )
    assert not re.findall(r"url\((?!#)", page.split("</style>")[0])
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "an id is there once"
    links = {link for link in attributes(page, "a", "href") if not link.startswith("https://")}
    assert links == {"#answer", "#mine", "#claims"} and links <= {f"#{name}" for name in ids}


def test_every_picture_of_a_recorded_grid_is_there_with_words_of_its_own(root):
    page = build(root)
    alts = attributes(page, "img", "alt")
    assert len(alts) == page.count("<img") == 1 + 1 and all(len(alt) > 20 for alt in alts)
    for svg in root.glob("figures/mine/figure?.svg"):
        assert alt_text(svg.read_text()) in alts and base64.b64encode(svg.read_bytes()).decode() in page


def test_the_words_are_those_of_the_picture(root):
    text = alt_text((root / "figures/mine/figure1.svg").read_text())
    assert text.startswith("Figure 1: m = 32, learning rate µ; scikit-learn's digits, 1,437 images, n = 1. ")
    for part in (
        "K = 1: best 0.",
        "top-1 accuracy on the test set",
        "epochs.",
        "scikit-learn's digits: trained on all",
    ):
        assert part in text
    assert "0.4." not in text.split() and "1.0" not in text.split(), "without the numbers at the axes"


def test_it_says_what_ran_and_how_far(root):
    text = words(build(root))
    assert "Two of the five figures, as small as it gets." in text
    assert "2 of 4 runs recorded, 1 of them unfinished" in text and "Some GPU" in text
    assert "2 of 3" in text, "in the table"


def test_every_claim_is_there(root):
    text = words(build(root))
    assert all(claim.text in text for claim in CLAIMS)


def test_without_records_it_says_so(empty):
    page = build(empty)
    assert "No run is recorded yet." in page and page.count("<img") == 1
    assert all(claim.text in words(page) for claim in CLAIMS)


def test_it_is_one_file_made_without_torch_and_the_same_for_the_same_records(root, tmp_path):
    code = f"""import sys; from persist.evidence.idea import draw_idea
from persist.evidence.report import write_report
print(write_report({str(root)!r}, {str(tmp_path / "report")!r})); assert "torch" not in sys.modules"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == str(tmp_path / "report/index.html")
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]
    assert (tmp_path / "report/index.html").read_text() == build(root)


def test_a_damaged_record_is_named_and_nothing_is_written(root, tmp_path):
    path = next((root / "results/mine").iterdir())
    path.write_text(path.read_text().replace('"epoch": 1', '"epoch": 7'))
    with pytest.raises(RecordError, match=re.escape(str(path))):
        write_report(root, tmp_path / "report")
    assert not (tmp_path / "report").exists()
