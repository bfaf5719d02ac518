"""How long cells take, from those that have ended: a cell's time is taken to grow with its estimated cost."""


def seconds_left(spent: float, done_cost: float, left_cost: float) -> float | None:
    """Return the seconds that what is left will take, at the rate of what is done.

    Args:
        spent: Seconds that what is done took: of cells one after the other, or on the wall clock where it was shared.
        done_cost: Its estimated cost, in any unit.
        left_cost: The estimated cost of what is left, in the same unit.

    Returns:
        Seconds of the same kind; None where nothing is done yet.
    """
    return spent * left_cost / done_cost if done_cost > 0 else None


def duration(seconds: float) -> str:
    """Return a time in words, to the second; from an hour on to the minute."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
