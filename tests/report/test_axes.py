import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bench.analysis.measures import Accuracy, Loss
from bench.report.axes import _from_error_scale, _to_error_scale, measure_axis, shade


def axis_of(measure: Accuracy | Loss, values: list[float]) -> tuple[tuple[float, float], list[str], bool]:
    """Draw values; return the limits, the labels inside them, and whether every value lies inside the frame."""
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot(range(len(values)), values)
    measure_axis(axes, measure, "test", min(values), max(values))
    figure.draw_without_rendering()
    low, high = axes.get_ylim()
    labels = [label.get_text() for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
    frame, heights = axes.get_window_extent(), axes.transData.transform([(0, value) for value in values])[:, 1]
    return (low, high), labels, bool((heights > frame.y0).all() and (heights < frame.y1).all())


@pytest.mark.parametrize("values", [[0.1, 1.0], [1.0, 1.0], [0.98, 0.99], [0.5, 0.9997], [0.0, 0.3]])
def test_every_accuracy_has_its_place(values: list[float]) -> None:
    (low, high), labels, inside = axis_of(Accuracy(), values)
    assert low < high
    assert inside
    assert labels


def test_an_accuracy_of_one_is_labelled() -> None:
    assert "100" in axis_of(Accuracy(), [0.6, 1.0])[1]
    assert "100" not in axis_of(Accuracy(), [0.6, 0.98])[1]


@pytest.mark.parametrize("values", [[0.13, 2.3], [1e-12, 1e3], [0.0, 5.0], [-3.0, 2.0], [0.0, 0.0], [0.7, 0.7]])
def test_every_loss_has_its_place(values: list[float]) -> None:
    (low, high), labels, inside = axis_of(Loss(), values)
    assert low < high
    assert inside
    assert len(labels) >= 2 or values[0] == values[1]


def test_shades_grow_with_what_is_better() -> None:
    ascending = pd.DataFrame({"a": [0.1, 0.5, 0.99, np.nan]})
    assert shade(Accuracy(), ascending)["a"].dropna().is_monotonic_increasing
    assert shade(Loss(), ascending)["a"].dropna().is_monotonic_decreasing
    assert shade(Loss(), ascending - 0.3)["a"].tolist()[:3] == pytest.approx([0.2, -0.2, -0.69])
    assert shade(Loss(), ascending)["a"].iloc[0] == pytest.approx(1)


def test_error_scale_is_inverted_by_its_inverse_and_grows() -> None:
    accuracies = np.linspace(0, 1.0005, 5000)
    scaled = _to_error_scale(accuracies)
    assert (np.diff(scaled) > 0).all()
    assert _from_error_scale(scaled) == pytest.approx(accuracies, abs=1e-12)
    assert _to_error_scale(np.array([0.9, 0.99])) == pytest.approx([1, 2])
