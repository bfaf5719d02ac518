"""When a trial is evaluated."""

from collections.abc import Iterator


def evaluation_points(last: int | None, per_octave: int, per_epoch: int, epochs: int) -> Iterator[int]:
    """Yield the steps at which metrics are taken, ascending, beginning with 0 (untrained).

    Args:
        last: Last step of the trial, always a point; None for no end.
        per_octave: Log-spaced points per doubling: round(2^(i / per_octave)).
        per_epoch: Steps per epoch.
        epochs: How many of the first epoch ends are points too.
    """
    step, octave, epoch = 0, 0, 1
    while last is None or step < last:
        yield step
        while round(2 ** (octave / per_octave)) <= step:
            octave += 1
        while epoch <= epochs and epoch * per_epoch <= step:
            epoch += 1
        step = round(2 ** (octave / per_octave))
        if epoch <= epochs:
            step = min(step, epoch * per_epoch)
    if last is not None:
        yield last
