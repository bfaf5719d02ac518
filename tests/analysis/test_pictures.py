import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.budgets import cuts
from bench.analysis.pictures import (
    FRAMES,
    Pictures,
    collect,
    frame_epochs,
    no_pictures,
    noise_paths,
    path_ends,
    square,
)
from bench.analysis.rules import learning_rate_scores, retuned
from bench.analysis.study import Study
from bench.results.snapshots import snapshot_table
from tests.analysis.hand_made import STEPS, hand_study

EXTENT = [-2.0, 2.0, -1.0, 1.0]


def law(batch_size: int, lr: float, seed: int, step: int) -> float:
    """The best learning rate is .5 at batch 16 and 64, 1 at 256."""
    best = 1.0 if batch_size == 256 else 0.5
    return 0.1 if step == 0 else 0.9 - 0.05 * abs(np.log2(lr / best)) + 0.01 * seed


def collected(data: Study, tables: dict[str, pd.DataFrame]) -> Pictures:
    return collect(data, retuned(learning_rate_scores(cuts(data))), iter(tables.items()))


def cell(batch_size: int) -> str:
    return f"{batch_size:016x}"


def fields(steps: tuple[int, ...] = STEPS, lrs: tuple[float, ...] = (0.25, 0.5, 1.0)) -> pd.DataFrame:
    """A field of 2 × 2 whose values say which learning rate and step it is from."""
    return snapshot_table(
        {"extent": EXTENT, "points": [0, 0, 1, 1, 1, -1]},
        [(lr, 0, step, "field", [lr, step, -lr, -1]) for lr in lrs for step in steps],
    )


def positions(wild: float | None = None) -> pd.DataFrame:
    """Straight paths to the origin; the learning rate `wild` leaves the plane and all numbers."""
    return snapshot_table(
        {"extent": EXTENT, "landscape": [0, 1, 2, 3], "minimisers": [0, 0, 1.5, 0]},
        [
            (lr, 0, step, "position", [1 - step / 16, 0.5] if lr != wild else [4.0 * step, np.inf if step else 0])
            for lr in (0.25, 0.5, 1.0)
            for step in STEPS
        ],
    )


def test_no_snapshots_no_pictures() -> None:
    pictures = collected(hand_study(law), {})
    assert pictures.planes == {}
    for name in ("trials", "paths", "fields"):
        frame = getattr(pictures, name)
        assert frame.empty
        assert list(frame.columns) == list(getattr(no_pictures(), name).columns)


def test_each_point_is_pictured_by_its_own_best_rate_and_first_seed() -> None:
    pictures = collected(hand_study(law), {cell(b): fields() for b in (16, 64, 256)})
    assert pictures.trials[["batch_size", "lr", "seed"]].values.tolist() == [[16, 0.5, 0], [64, 0.5, 0], [256, 1.0, 0]]
    assert (pictures.trials["status"] == "complete").all()
    assert set(pictures.fields["lr"]) == {0.5, 1.0}
    for row in pictures.fields.itertuples():
        assert row.values.tolist() == [[row.lr, row.step], [-row.lr, -1]]
        assert row.positive == (0.5 if row.step else 0.25)


def test_frames_are_equal_epochs_each_the_last_at_or_before() -> None:
    pictures = collected(hand_study(law), {cell(b): fields() for b in (16, 64, 256)})
    shown = pictures.fields
    # 16 steps of 256 among 1024 examples are 4 epochs; one step of 16 is 1/64.
    assert shown["frame_epoch"].min() == 0
    assert shown["frame_epoch"].max() == 4
    assert shown.groupby("frame")["frame_epoch"].nunique().eq(1).all()
    assert (shown.groupby("batch_size")["frame"].nunique() == shown["frame"].nunique()).all()
    assert (shown["epoch"] <= shown["frame_epoch"]).all()
    at = shown.set_index(["batch_size", "frame_epoch"])["step"]
    assert at[(16, 0.25)] == 16
    assert at[(64, 0.25)] == 4
    assert at[(256, 0.25)] == 1
    assert at[(16, 4.0)] == 16
    assert at[(256, 0.125)] == 0
    assert shown["test_accuracy"].tolist() == [
        pytest.approx(law(int(row.batch_size), row.lr, 0, row.step)) for row in shown.itertuples()
    ]


def test_many_fields_are_shown_at_fewer_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {cell(b): fields() for b in (16, 64, 256)}
    whole = collected(hand_study(law), tables).fields
    assert whole["frame"].nunique() > 5
    monkeypatch.setattr("bench.analysis.pictures.MOST_FIELDS", -(-len(whole) * 5 // FRAMES))
    shown = collected(hand_study(law), tables).fields
    assert sorted(set(shown["frame"])) == [0, 1, 2, 3, 4]
    assert shown["frame_epoch"].min() == whole["frame_epoch"].min()
    assert shown["frame_epoch"].max() == whole["frame_epoch"].max()
    assert len(shown) == 3 * 5


def test_a_frame_before_the_first_field_is_not_shown() -> None:
    pictures = collected(hand_study(law, batch_sizes=(16,)), {cell(16): fields(steps=(8, 16))})
    assert pictures.fields["step"].tolist()[0] == 8
    assert pictures.fields["frame"].min() > 0


def test_cells_that_cannot_be_pictured_are_left_out() -> None:
    data = hand_study(law, statuses={64: "interrupted"})
    tables = {
        cell(16): fields(lrs=(0.25,)),  # not of its best rate
        cell(64): fields(),  # no best rate
        cell(256): snapshot_table({"points": [0, 0, 1]}, [(1.0, 0, 4, "field", [0] * 4)]),  # no plane
        "f" * 16: fields(),  # of no cell
    }
    assert collected(data, tables).planes == {}


def test_diverged_trials_are_pictured_as_such() -> None:
    lost = {(16, lr, seed): 4 for lr in (0.25, 0.5, 1.0) for seed in range(3)}
    pictures = collected(hand_study(law, diverged_at=lost), {cell(16): fields()})
    assert pictures.trials["status"].tolist() == ["diverged"]
    assert pictures.fields["step"].max() == 4


def test_the_plane_and_what_stands_on_it() -> None:
    pictures = collected(hand_study(law), {cell(16): fields(), cell(64): positions()})
    points, surface = pictures.planes[cell(16)], pictures.planes[cell(64)]
    assert points.extent == tuple(EXTENT)
    assert points.landscape is None
    assert points.points.tolist() == [[0, 0, 1], [1, 1, -1]]
    assert points.classes
    assert surface.landscape is not None
    assert surface.landscape.tolist() == [[0, 1], [2, 3]]
    assert surface.minimisers.tolist() == [[0, 0], [1.5, 0]]
    assert not surface.classes
    assert surface.inside(np.array([0, 2.1, np.nan]), np.array([1.0, 0, 0])).tolist() == [True, False, False]
    assert set(pictures.paths["batch_size"]) == {64}
    assert set(pictures.fields["batch_size"]) == {16}


def test_where_paths_end() -> None:
    pictures = collected(hand_study(law), {cell(64): positions(wild=1.0)})
    ends = path_ends(pictures, pictures.paths).set_index("lr")
    assert ends.loc[0.5, ["steps", "x", "y", "left"]].tolist() == [16, 0.0, 0.5, False]
    assert ends.loc[0.5, "distance"] == pytest.approx(0.5)
    # The last position that is a number is the first.
    assert ends.loc[1.0, ["steps", "x", "y", "left"]].tolist() == [0, 0.0, 0.0, True]


def test_noise_is_shown_at_one_rate_where_there_is_one() -> None:
    tables = {cell(16): positions(), cell(64): positions(), cell(256): positions()}
    pictures = collected(hand_study(law), tables)
    shown = noise_paths(pictures.trials, pictures.paths)
    assert set(shown["lr"]) == {0.5}
    assert shown["common"].all()
    assert len(shown) == 3 * len(STEPS)
    # Where it left all numbers, the batch size's own best rate is shown.
    pictures = collected(hand_study(law), tables | {cell(256): positions(wild=0.5)})
    shown = noise_paths(pictures.trials, pictures.paths)
    rates = shown.groupby("batch_size")["lr"].first()
    # .5 and 1 are finite for two and three batch sizes: the rate that most can show.
    assert rates.tolist() == [1.0, 1.0, 1.0]
    assert shown["common"].all()
    wild = {cell(16): positions(wild=1.0), cell(64): positions(wild=1.0), cell(256): positions(wild=0.5)}
    shown = noise_paths(*(getattr(collected(hand_study(law), wild), name) for name in ("trials", "paths")))
    assert shown.groupby("batch_size")[["lr", "common"]].first().values.tolist() == [
        [0.5, True],
        [0.5, True],
        [1.0, False],
    ]
    assert noise_paths(no_pictures().trials, no_pictures().paths).empty


def test_noise_is_shown_of_the_plainest_optimizer() -> None:
    pictures = collected(hand_study(law), {cell(16): positions()})
    both = [
        pd.concat([frame.assign(optimizer=name) for name in ("adadelta", "adam", "momentum")])
        for frame in (pictures.trials, pictures.paths)
    ]
    assert set(noise_paths(*both)["optimizer"]) == {"momentum"}
    unknown = [frame[frame["optimizer"] == "adadelta"] for frame in both]
    assert set(noise_paths(*unknown)["optimizer"]) == {"adadelta"}


@given(st.lists(st.floats(0, 1e4), max_size=200), st.integers(3, FRAMES))
def test_frames_hold_both_ends_and_are_few(epochs: list[float], most: int) -> None:
    chosen = frame_epochs(np.array(epochs), most)
    assert len(chosen) <= most
    assert set(chosen) <= set(epochs)
    assert (np.diff(chosen) > 0).all()
    if epochs:
        assert chosen[0] == min(epochs)
        assert chosen[-1] == max(epochs)


def test_frames_are_even_in_the_logarithm() -> None:
    chosen = frame_epochs(np.concatenate([[0.0], 2.0 ** np.arange(-3, 8)]), 12)
    assert chosen.tolist() == [0.0, *2.0 ** np.arange(-3, 8)]
    # No earlier than a thousandth of the end.
    assert frame_epochs(np.array([0, 1e-6, 0.5, 1000.0]))[1] == 0.5


def test_values_become_a_square() -> None:
    assert square([1, 2, 3, 4]).tolist() == [[1, 2], [3, 4]]
