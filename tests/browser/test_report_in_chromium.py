"""The report in a real browser: nothing loaded from elsewhere, nothing wrong in the console, readable on a phone."""

import os
import subprocess
import sys

import pytest

from persist.evidence.report import write_report

SIZES = {"desktop": (1280, 900), "phone": (375, 812)}


@pytest.fixture(scope="module")
def report(project, tmp_path_factory):
    return write_report(project, tmp_path_factory.mktemp("report")).as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", SIZES)
def test_the_report_is_readable(browser, report, screenshots, device, scheme):
    width, height = SIZES[device]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    console, requests = [], []
    page.on("console", lambda message: console.append(message.text))
    page.on("pageerror", lambda error: console.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report)
    page.wait_for_load_state("networkidle")
    assert console == []
    assert [url for url in requests if not url.startswith("data:")] == [report], "one file, and nothing else"
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width, (
        "the page itself does not scroll sideways"
    )
    images = page.evaluate("() => [...document.images].map(i => [i.alt, i.naturalWidth, i.width])")
    assert images and all(alt and natural for alt, natural, _ in images)
    wide = [(natural, width) for _, natural, width in images if natural > 600]
    assert all(8.33 * 4 / 3 * width / natural >= 9 for natural, width in wide), (
        "the small text of a figure: 8.33 points"
    )
    small = """() => [...document.querySelectorAll('p, li, td, th, pre, code')].filter(e => e.innerText.trim())
        .map(e => parseFloat(getComputedStyle(e).fontSize))"""
    assert min(page.evaluate(small)) >= 11, "no text is smaller than 11 pixels"
    assert contrast(page) >= 4.5
    page.screenshot(path=screenshots / f"report-{device}-{scheme}.png")
    page.evaluate("() => document.querySelector('.claims').scrollIntoView()")
    page.screenshot(path=screenshots / f"report-{device}-{scheme}-claims.png")
    page.close()


def contrast(page) -> float:
    """The smallest contrast of text and background, as WCAG 2 defines it (4.5 is its AA): of text, links, soft text."""

    def luminance(color):
        channels = [float(c) / 255 for c in color[color.index("(") + 1 : -1].split(",")[:3]]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    def ratio(a, b):
        light, dark = sorted((luminance(a), luminance(b)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    back = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    colors = page.evaluate("() => [...document.querySelectorAll('body, a, .soft')].map(e => getComputedStyle(e).color)")
    assert len(set(colors)) >= 3, "text, links and soft text have colours of their own"
    return min(ratio(color, back) for color in set(colors))


@pytest.mark.parametrize("required, outcome", [("", "1 skipped"), ("required", "1 error")])
def test_without_a_browser_it_says_what_to_install(project, required, outcome):
    """A test that needs one is skipped; where CI could install it, that is a failure."""
    test = "tests/browser/test_report_in_chromium.py::test_the_report_is_readable[phone-dark]"
    environment = os.environ | {"PATH": os.path.dirname(sys.executable), "PERSIST_BROWSER": required}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", test]
    run = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert outcome in run.stdout and "apt-get install chromium" in run.stdout, run.stdout + run.stderr
    assert (run.returncode == 0) == (required == "")
