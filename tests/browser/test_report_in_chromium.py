"""The report in a real browser: nothing loaded from elsewhere, nothing wrong in the console, readable on a phone."""

import pytest

from persist.evidence.report import build

SIZES = {"desktop": (1280, 900), "phone": (375, 812)}


@pytest.fixture(scope="module")
def report(project, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(build(project))
    return path.as_uri()


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
    page.evaluate("() => document.querySelectorAll('details').forEach(each => each.open = true)")
    page.wait_for_load_state("networkidle")
    assert console == []
    assert [url for url in requests if not url.startswith("data:")] == [report], "one file, and nothing else"
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width, (
        "the page itself does not scroll sideways"
    )
    images = page.evaluate("() => [...document.images].map(i => [i.alt, i.complete && i.naturalWidth])")
    assert len(images) > 20 and all(alt and loaded for alt, loaded in images)
    small = "() => [...document.querySelectorAll('p, li, td, th, figcaption, summary, pre')].filter(e => e.innerText.trim()).map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert min(page.evaluate(small)) >= 11, "no text is smaller than 11 pixels"
    assert contrast(page) >= 4.5
    page.evaluate("() => document.querySelectorAll('details').forEach(each => each.open = false)")
    page.screenshot(path=screenshots / f"report-{device}-{scheme}.png")
    for part in ("figures", "claims", "notebooks"):
        page.evaluate(f"() => document.getElementById('{part}').scrollIntoView()")
        page.screenshot(path=screenshots / f"report-{device}-{scheme}-{part}.png")
    page.close()


def contrast(page) -> float:
    """The smallest contrast of text and background, as WCAG 2 defines it (4.5 is its AA): of the text, the links, and what is less important."""

    def luminance(color):
        channels = [float(c) / 255 for c in color[color.index("(") + 1 : -1].split(",")[:3]]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    def ratio(a, b):
        light, dark = sorted((luminance(a), luminance(b)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    back = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    colors = page.evaluate(
        "() => [...document.querySelectorAll('body, a, .soft, figcaption')].map(e => getComputedStyle(e).color)"
    )
    assert len(set(colors)) >= 3, "text, links and soft text have colours of their own"
    return min(ratio(color, back) for color in set(colors))
