"""The page to read: the project's pages as one file, every picture with words."""

import base64
import html
import re
import subprocess
import sys

import mistune
import pytest

from persist.evidence.claims import CLAIMS
from persist.evidence.report import PAGES, alt_text, build, write_report


@pytest.fixture(scope="module")
def page(project):
    return build(project)


def attributes(page, tag, name):
    return [html.unescape(value) for value in re.findall(rf'<{tag}\b[^>]*?\s{name}="([^"]*)"', page, re.DOTALL)]


def words(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())


def test_nothing_is_loaded_from_elsewhere_and_every_link_leads_somewhere(page):
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
    assert {f"#{name}" for name in PAGES} <= links <= {f"#{name}" for name in ids}
    assert {"#results-what-another-seed-changes", "#payoff-the-moment-of-the-evaluation"} <= links


def test_every_picture_of_the_pages_is_there_with_words_of_its_own(project, page):
    alts = attributes(page, "img", "alt")
    names = [
        name
        for path in PAGES.values()
        for name in re.findall(r"^!\[.*\]\((?:\.\./)?(figures/.*)\.(?:png|svg)\)", (project / path).read_text(), re.M)
    ]
    assert len(alts) == len(names) > 10 and all(len(alt) > 20 for alt in alts)
    for name, alt in zip(names, alts):
        svg = (project / f"{name}.svg").read_text()
        assert alt_text(svg) == alt and base64.b64encode(svg.encode()).decode() in page


def test_the_words_are_those_of_the_picture(project):
    text = alt_text((project / "figures/preview/figure1.svg").read_text())
    assert text.startswith("Figure 1: m = 32, learning rate µ; scikit-learn's digits, 1,437 images, n = 1. ")
    for part in ("K = 1: best 0.", "top-1 accuracy on the test set", "epochs.", "digits: trained on all"):
        assert part in text
    assert "0.4." not in text.split() and "1.0" not in text.split(), "without the numbers at the axes"


def test_every_page_is_there_whole(project, page):
    assert sorted(PAGES.values()) == ["README.md", *sorted(f"docs/{path.name}" for path in project.glob("docs/*.md"))]
    text, markdown = words(page), mistune.create_markdown(plugins=["table"])
    for path in PAGES.values():
        html_of = re.sub(r"&lt;!--.*?--&gt;", "", markdown((project / path).read_text()), flags=re.DOTALL)
        assert words(html_of) in text
    assert all(claim.text in text for claim in CLAIMS) and page.count('<table class="claims">') == 2


def test_it_is_one_file_made_without_torch_and_the_same_for_the_same_pages(project, page, tmp_path):
    code = f"""import sys
from persist.evidence.report import write_report
print(write_report({str(project)!r}, {str(tmp_path / "report")!r})); assert "torch" not in sys.modules"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == str(tmp_path / "report/index.html")
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]
    assert (tmp_path / "report/index.html").read_text() == page


def test_a_missing_page_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="README.md"):
        write_report(tmp_path, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_picture_that_is_not_drawn_yet_is_told(tmp_path):
    (tmp_path / "docs").mkdir()
    for path in PAGES.values():
        (tmp_path / path).write_text("# Title\n\n![Figure 9](figures/some.png)\n")
    assert build(tmp_path).count("Figure 9: not drawn yet") == len(PAGES) and "<img" not in build(tmp_path)
