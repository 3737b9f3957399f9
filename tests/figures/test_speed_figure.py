import itertools

import pandas as pd
import pytest
from matplotlib.text import Text

from pcbench.figures.speed import speed_figure


def curve(model: str, gmacs: list[float]) -> pd.DataFrame:
    accuracy = [0.2 + 0.1 * t for t in range(len(gmacs))]
    return pd.DataFrame(
        {"suite": "s", "model": model, "timestep": range(len(gmacs)), "accuracy": accuracy, "gmacs": gmacs}
    )


@pytest.mark.parametrize("span", [1.5, 2.1, 2.3, 4, 9.9, 19, 70, 300, 1e4, 1e6])
@pytest.mark.parametrize("lowest", [0.0397, 0.079, 0.21, 3.01])
def test_operations_are_labelled_with_plain_numbers_that_do_not_overlap(lowest: float, span: float) -> None:
    figure = speed_figure(curve("net", [lowest, lowest * span**0.5, lowest * span]), "s")
    figure.draw_without_rendering()
    ax = figure.axes[0]
    low, high = ax.get_xlim()
    labels = [
        label
        for which in ("major", "minor")
        for label in ax.get_xticklabels(which=which)
        if low <= label.get_position()[0] <= high and label.get_text()
    ]
    assert len(labels) >= 2
    assert all(float(label.get_text()) > 0 for label in labels)
    for one, other in itertools.combinations(labels, 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent()), (one, other)


def test_the_labels_of_the_ends_lie_within_the_axes_and_beside_the_line() -> None:
    table = curve("rising", [1, 2, 3])
    falling = table.assign(model="falling", accuracy=table["accuracy"][::-1].to_numpy() + 0.3)
    figure = speed_figure(pd.concat([table, falling]), "s")
    figure.draw_without_rendering()
    ax = figure.axes[0]
    notes = [child for child in ax.get_children() if isinstance(child, Text) and child.get_text().startswith("t =")]
    box = ax.get_window_extent()
    above = []
    for note in notes:
        extent = note.get_window_extent()
        assert box.y0 <= extent.y0
        assert extent.y1 <= box.y1
        above.append(extent.y0 > ax.transData.transform(note.xy)[1])
    assert above == [False, True, True, False]


def test_networks_that_begin_at_one_point_share_its_label() -> None:
    table = curve("one", [1, 2, 3])
    other = table.assign(model="other", accuracy=[0.2, 0.1, 0.05])
    figure = speed_figure(pd.concat([table, other]), "s")
    texts = [child.get_text() for child in figure.axes[0].get_children() if isinstance(child, Text)]
    assert sorted(text for text in texts if text.startswith("t =")) == ["t = 0", "t = 2", "t = 2"]
