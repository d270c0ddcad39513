"""The picture of the idea is drawn from the method itself."""

from persist.evidence.figures import style
from persist.notebook.idea import draw_idea


def test_the_picture_shows_the_sequence_and_the_rates():
    figure = draw_idea()
    strips, rates = figure.axes
    assert [t.get_text() for t in strips.get_yticklabels()] == ["K = 1", "K = 2", "K = 5"]
    texts = [t.get_text() for t in strips.texts]
    assert texts[:11] == [*(f"B{n}" for n in range(1, 11)), "10 minibatches\nloaded"]
    assert texts[11:22] == ["B1", "B1", "B2", "B2", "B3", "B3", "B4", "B4", "B5", "B5", "5 minibatches\nloaded"]
    assert texts[22:] == ["B1"] * 5 + ["B2"] * 5 + ["2 minibatches\nloaded"]
    drawn = {patch.get_edgecolor(): list(patch.get_data().values) for patch in rates.patches}
    assert list(drawn.values()) == [[1.0] * 10, [1.0, 2.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0] * 2]
    assert len({style(K)[0] for K in (1, 2, 5)}) == len(drawn) == 3


def test_nothing_overlaps_or_runs_over_the_edge():
    figure = draw_idea()
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    for ax in figure.axes:
        boxes = [text.get_window_extent() for text in (*ax.texts, ax.title, ax._left_title)]
        assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)
        labels = [text.get_window_extent() for text in ax.texts]
        assert not any(a.overlaps(b) for i, a in enumerate(labels) for b in labels[:i])
