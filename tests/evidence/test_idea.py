"""The picture of the idea is drawn from the method itself, and can be read where it is shown."""

import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from persist.evidence.idea import draw_idea

PHONE = 343  # CSS pixels that a README has for a picture on a phone 375 wide


@pytest.fixture(scope="module")
def figure():
    figure = draw_idea()
    figure.draw_without_rendering()
    return figure


def test_the_picture_shows_which_minibatch_each_iteration_uses(figure):
    [ax] = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["K = 1", "K = 2", "K = 5"]
    texts = [text.get_text() for text in ax.texts]
    assert texts[:11] == [*map(str, range(1, 11)), "10 loaded"]
    assert texts[11:22] == [*"1122334455", "5 loaded"]
    assert texts[22:] == [*"1111122222", "2 loaded"]
    shades = [patch.get_facecolor() for patch in ax.patches]
    for row, K in enumerate((1, 2, 5)):
        of_K = shades[10 * row : 10 * row + 10]
        loaded = {iteration for iteration in range(10) if of_K[iteration] == of_K[0]}
        assert loaded == set(range(0, 10, K)), "full colour: newly loaded"


def test_every_text_can_be_read_on_a_phone(figure):
    width = figure.get_figwidth() * 72  # points
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert min(text.get_fontsize() for text in texts) * PHONE / width >= 9


def test_numbers_stand_out_from_their_boxes(figure):
    def luminance(color):
        channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), channels))

    [ax] = figure.axes
    numbers = [text for text in ax.texts if "loaded" not in text.get_text()]
    for box, number in zip(ax.patches, numbers, strict=True):
        dark, light = sorted(map(luminance, (box.get_facecolor(), number.get_color())))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, "WCAG 2's AA"


def test_nothing_overlaps_or_runs_over_the_edge(figure):
    width, height = figure.canvas.get_width_height()
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    boxes = [text.get_window_extent() for text in shown]
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
