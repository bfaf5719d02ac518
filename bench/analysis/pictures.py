"""Which trials are pictured, and at which moments: paths over a surface, outputs over a plane.

Every point of the grid is pictured by one trial: the re-tuned learning rate at the runs' own end, first seed.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.analysis.budgets import ROUNDING
from bench.analysis.study import METRICS, POINT, SETTING, Study, records, select

Array = npt.NDArray[np.float64]

#: So many moments of a training are pictured at most.
FRAMES = 12
#: So many fields are pictured at most, about 1.1 kB of a report each: of more, fewer moments are shown, but four.
MOST_FIELDS = 1500
#: The first moment after the start is at most this many times earlier than the last: before, only the smallest
#: batch sizes have taken a step.
SPAN = 1000.0
#: Whose noise is pictured, the first of these that is there: the plainest update shows it best.
PLAINEST = ("sgd", "momentum", "adam")

_TRIAL_COLUMNS = [*POINT, "cell", "lr", "seed", "status", "steps", "epochs", *METRICS]
_PATH_COLUMNS = [*POINT, "cell", "lr", "seed", "step", "x", "y"]
_FIELD_COLUMNS = [*POINT, "cell", "lr", "seed", "frame", "frame_epoch", "step", "epoch", *METRICS, "positive", "values"]


@dataclass(frozen=True)
class Plane:
    """The pictured plane of a cell and what stands still on it.

    Attributes:
        extent: x_lo, x_hi, y_lo, y_hi.
        landscape: Loss at the nodes of the plane, n × n, y and x ascending; None where the plane is of inputs.
        minimisers: x, y of each, k × 2.
        points: x, y, label of training points, m × 3.
        test_points: The same of test points.
    """

    extent: tuple[float, float, float, float]
    landscape: Array | None
    minimisers: Array
    points: Array
    test_points: Array

    @property
    def classes(self) -> bool:
        """Whether the labels are two classes, −1 and 1."""
        return len(self.points) > 0 and bool(np.isin(self.points[:, 2], (-1.0, 1.0)).all())

    def inside(self, x: Array, y: Array) -> npt.NDArray[np.bool_]:
        """Whether each point lies in the plane; one that is not finite does not."""
        x_lo, x_hi, y_lo, y_hi = self.extent
        return (x >= x_lo) & (x <= x_hi) & (y >= y_lo) & (y <= y_hi)


@dataclass(frozen=True)
class Pictures:
    """What pictures are drawn from.

    Attributes:
        planes: Cell id → its plane.
        trials: The trial that pictures each point of the grid: columns `POINT`, `cell`, `lr`, `seed`, `status`,
            `steps`, `epochs`, `METRICS` (at its last evaluation).
        paths: Positions of every trial of the first seed, in order of steps: columns `POINT`, `cell`, `lr`,
            `seed`, `step`, `x`, `y`.
        fields: Outputs of the models of `trials`: columns `POINT`, `cell`, `lr`, `seed`, `frame` (0, 1, …),
            `frame_epoch`, `step`, `epoch`, `METRICS` (of the evaluation shown), `positive` (share of the plane
            where the output is above 0; nan where it is not finite), `values` (n × n). Equal frames of a
            setting are equal epochs.
    """

    planes: dict[str, Plane]
    trials: pd.DataFrame
    paths: pd.DataFrame
    fields: pd.DataFrame


def no_pictures() -> Pictures:
    """Return what a sweep without snapshots has."""
    return Pictures(
        {},
        pd.DataFrame(columns=_TRIAL_COLUMNS),
        pd.DataFrame(columns=_PATH_COLUMNS),
        pd.DataFrame(columns=_FIELD_COLUMNS),
    )


def collect(data: Study, choices: pd.DataFrame, snapshots: Iterable[tuple[str, pd.DataFrame]]) -> Pictures:
    """Keep what is pictured of each cell's snapshots.

    Args:
        data: The study.
        choices: As `bench.analysis.rules.retuned` returns.
        snapshots: Cell ids with their snapshots (`bench.results.snapshots.COLUMNS`), taken one at a time: only
            what is pictured is held.
    """
    trials = pictured_trials(data, choices)
    # Worked out for the settings that have pictures alone.
    frames_of = functools.cache(lambda *setting: _frames(data, trials, setting))
    by_cell = {str(row["cell"]): row for row in records(trials)}
    planes: dict[str, Plane] = {}
    paths, fields = [], []
    for cell, table in snapshots:
        trial, plane = by_cell.get(cell), _plane(table)
        if trial is None or plane is None or not _of_trial(table, trial).any():
            continue
        planes[cell] = plane
        point = {name: trial[name] for name in POINT} | {"cell": cell}
        paths.append(_positions(table, int(trial["seed"])).assign(**point))
        epochs, evaluations = frames_of(*(trial[name] for name in SETTING))
        if cell in evaluations:
            fields += [point | shown for shown in _shown(table, trial, (epochs, evaluations[cell]))]
    kept = trials[trials["cell"].isin(list(planes))].reset_index(drop=True)
    positions = pd.concat(paths, ignore_index=True) if paths else no_pictures().paths
    return Pictures(
        planes,
        kept[_TRIAL_COLUMNS],
        positions[_PATH_COLUMNS].sort_values([*POINT, "lr", "step"], ignore_index=True),
        _fewer(pd.DataFrame(fields, columns=_FIELD_COLUMNS)).sort_values([*POINT, "frame"], ignore_index=True),
    )


def pictured_trials(data: Study, choices: pd.DataFrame) -> pd.DataFrame:
    """Choose the trial that pictures each point: the re-tuned learning rate at the end, the first seed.

    Args:
        data: The study.
        choices: As `bench.analysis.rules.retuned` returns.

    Returns:
        Columns as `Pictures.trials`.
    """
    best = choices.loc[choices["budget"] == "end", [*POINT, "lr"]]
    found = data.complete_trials().merge(best, on=[*POINT, "lr"]).sort_values([*POINT, "seed"])
    return found.drop_duplicates(POINT)[_TRIAL_COLUMNS].reset_index(drop=True)


def frame_epochs(epochs: Array, most: int = FRAMES) -> Array:
    """Choose the moments to picture: the start, the end, and between them evenly in the logarithm.

    Args:
        epochs: Epochs at which any of the trials was evaluated.
        most: How many moments at most, ≥ 3.

    Returns:
        Ascending, each one of `epochs`.
    """
    known = np.unique(epochs[np.isfinite(epochs)])
    positive = known[known > 0]
    if not positive.size:
        return known
    wanted = np.geomspace(max(positive[0], positive[-1] / SPAN), positive[-1], most - 1)
    at = np.searchsorted(positive, wanted * ROUNDING, side="right") - 1
    return np.unique(np.concatenate([known[:1], positive[at]]))


def _frames(data: Study, trials: pd.DataFrame, setting: tuple[str, ...]) -> tuple[Array, dict[str, pd.DataFrame]]:
    """Return the epochs that a setting pictures, and the evaluations of each cell's pictured trial."""
    own = select(trials, **dict(zip(SETTING, setting, strict=True)))
    rows = data.evaluations.merge(own[[*SETTING, "cell", "lr", "seed"]], on=["cell", "lr", "seed"])
    epochs = frame_epochs(rows["epoch"].to_numpy(dtype=float))
    return epochs, {str(cell): group for cell, group in rows.groupby("cell")}


def _of_trial(table: pd.DataFrame, trial: dict[str, Any]) -> "pd.Series[bool]":
    mine: pd.Series[bool] = (table["lr"] == trial["lr"]) & (table["seed"] == trial["seed"])
    return mine


def _plane(table: pd.DataFrame) -> Plane | None:
    values = {str(row["kind"]): np.asarray(row["values"], dtype=float) for row in records(table[table["step"] == -1])}
    if "extent" not in values:
        return None
    x_lo, x_hi, y_lo, y_hi = (float(end) for end in values["extent"])
    if not (x_lo < x_hi and y_lo < y_hi):
        return None
    none = np.empty(0)
    return Plane(
        (x_lo, x_hi, y_lo, y_hi),
        square(values["landscape"]) if "landscape" in values else None,
        values.get("minimisers", none).reshape(-1, 2),
        values.get("points", none).reshape(-1, 3),
        values.get("test_points", none).reshape(-1, 3),
    )


def square(values: npt.ArrayLike) -> Array:
    """Arrange n · n row-major values as n × n."""
    flat = np.asarray(values, dtype=float)
    side = round(flat.size**0.5)
    return flat.reshape(side, side)


def _positions(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    rows = table[(table["kind"] == "position") & (table["seed"] == seed)].sort_values(["lr", "step"])
    places = np.array([np.asarray(values, dtype=float) for values in rows["values"]]).reshape(-1, 2)
    return rows[["lr", "seed", "step"]].assign(x=places[:, 0], y=places[:, 1])


def _shown(table: pd.DataFrame, trial: dict[str, Any], frames: tuple[Array, pd.DataFrame]) -> Iterable[dict[str, Any]]:
    """Yield what a trial shows at each frame: its last field at or before it."""
    epochs, own = frames
    rows = table[_of_trial(table, trial) & (table["kind"] == "field")]
    # A field is taken when everything else is evaluated; only there is known which epoch it was.
    evaluated = own.drop(columns=["cell", "lr", "seed"]).merge(rows[["step", "values"]], on="step").sort_values("step")
    if evaluated.empty:
        return
    at = np.searchsorted(evaluated["epoch"].to_numpy(dtype=float), epochs * ROUNDING, side="right") - 1
    shown = records(evaluated)
    for frame, (epoch, place) in enumerate(zip(epochs, at, strict=True)):
        if place < 0:
            continue
        row = shown[place]
        values = square(row["values"])
        yield {
            "lr": trial["lr"],
            "seed": trial["seed"],
            "frame": frame,
            "frame_epoch": float(epoch),
            **{name: row[name] for name in ("step", "epoch", *METRICS)},
            "positive": float((values > 0).mean()) if np.isfinite(values).all() else np.nan,
            "values": values,
        }


def _fewer(fields: pd.DataFrame) -> pd.DataFrame:
    """Leave out moments, the same of every trial of a setting, where there are too many fields."""
    if len(fields) <= MOST_FIELDS:
        return fields
    most = max(FRAMES * MOST_FIELDS // len(fields), 4)
    kept = []
    for _, group in fields.groupby(SETTING):
        frames = np.unique(group["frame"])
        chosen = frames[np.unique(np.linspace(0, len(frames) - 1, most).round().astype(int))]
        rows = group[group["frame"].isin(chosen)]
        kept.append(rows.assign(frame=np.searchsorted(chosen, rows["frame"].to_numpy())))
    fewer: pd.DataFrame = pd.concat(kept, ignore_index=True)
    return fewer


def path_ends(pictures: Pictures, paths: pd.DataFrame) -> pd.DataFrame:
    """Say where each path ends.

    Args:
        pictures: What is pictured.
        paths: Rows of `Pictures.paths`.

    Returns:
        Columns `POINT`, `cell`, `lr`, `seed`, `steps` (of the last finite position), `x`, `y` (that position),
        `distance` (to the nearest minimiser; nan where none is known), `left` (it was outside the plane, or not
        finite, at some evaluation): one row per path.
    """
    rows = []
    for key, group in paths.groupby([*POINT, "cell", "lr", "seed"]):
        named = dict(zip([*POINT, "cell", "lr", "seed"], key, strict=True))
        plane = pictures.planes[str(named["cell"])]
        places = group[["x", "y"]].to_numpy(dtype=float)
        finite = np.isfinite(places).all(axis=1)
        last = int(np.flatnonzero(finite)[-1]) if finite.any() else 0
        away = np.hypot(*(plane.minimisers - places[last]).T)
        rows.append(
            named
            | {
                "steps": int(group["step"].iloc[last]),
                "x": float(places[last, 0]),
                "y": float(places[last, 1]),
                "distance": float(away.min()) if away.size else np.nan,
                "left": not bool(plane.inside(places[:, 0], places[:, 1]).all()),
            }
        )
    columns = [*POINT, "cell", "lr", "seed", "steps", "x", "y", "distance", "left"]
    return pd.DataFrame(rows, columns=columns).sort_values(POINT, ignore_index=True)


def noise_paths(trials: pd.DataFrame, paths: pd.DataFrame) -> pd.DataFrame:
    """Choose one path of one optimizer per batch size, at the same learning rate wherever there is one.

    The optimizer is the first of `PLAINEST`, else the first by name. Of the learning rates that are the best of
    some batch size the one stays with which the most batch sizes have a path that stayed finite; of equals the
    one nearest to the smallest batch size's own, then the smaller. A batch size without that path shows its own
    best rate.

    Args:
        trials: Rows of `Pictures.trials` of one setting.
        paths: Rows of `Pictures.paths` of the same setting.

    Returns:
        Rows of `paths`, with `common` (whether the learning rate is the common one).
    """
    names = sorted({str(name) for name in paths["optimizer"]})
    if not names:
        return paths.assign(common=pd.Series(dtype=bool))
    name = next((plain for plain in PLAINEST if plain in names), names[0])
    own = trials[trials["optimizer"] == name].sort_values("batch_size")
    mine = paths[paths["optimizer"] == name]
    broken = mine[~np.isfinite(mine[["x", "y"]].to_numpy(dtype=float)).all(axis=1)]
    pairs = {(int(row["batch_size"]), float(row["lr"])) for row in records(mine)}
    pairs -= {(int(row["batch_size"]), float(row["lr"])) for row in records(broken)}
    smallest = float(own["lr"].iloc[0])

    def preference(rate: float) -> tuple[int, float, float]:
        return -sum(lr == rate for _, lr in pairs), abs(float(np.log2(rate / smallest))), rate

    common = min({float(rate) for rate in own["lr"]}, key=preference)
    shown = []
    for row in records(own):
        rate = common if (int(row["batch_size"]), common) in pairs else float(row["lr"])
        chosen = mine[(mine["batch_size"] == row["batch_size"]) & (mine["lr"] == rate)]
        shown.append(chosen.assign(common=rate == common))
    chosen_paths: pd.DataFrame = pd.concat(shown, ignore_index=True)
    return chosen_paths
