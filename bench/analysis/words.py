"""Numbers in words: one way to write each kind of quantity, in sentences, tables and figures alike."""

import math
from collections.abc import Sequence


def number(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, thousands as k, M, G: 0.0123, 4.56, 12.3k, 1.5·10⁻⁹.

    Args:
        value: Any number; nan and infinities are written "–".
        digits: Significant digits, ≥ 1.
    """
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    size = abs(rounded)
    if size < 1e-6 or size >= 1e13:
        mantissa, exponent = f"{rounded:.{digits - 1}e}".replace("-", "−", int(rounded < 0)).split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}·10{_power(int(exponent))}"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{_plain(rounded / limit if unit != 'k' else rounded / 1e3, digits)}{unit}"
    return _plain(rounded, digits)


def _plain(value: float, digits: int) -> str:
    if value == round(value):
        return f"{value:.0f}".replace("-", "−")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(decimals, 9)}f}"
    return (text.rstrip("0").rstrip(".") if decimals > 2 else text).replace("-", "−")


def count(value: float) -> str:
    """Write a whole number with thousands set apart: 4 000."""
    return "–" if not math.isfinite(value) else f"{round(value):,}".replace(",", " ")


def plural(value: float, name: str) -> str:
    """Write how many there are of something: 1 seed, 3 seeds."""
    return f"{count(value)} {name}{'' if value == 1 else 's'}"


def percent(fraction: float, digits: int = 1) -> str:
    """Write a fraction as a percentage: 93.4 %."""
    return f"{100 * fraction:.{digits}f} %" if math.isfinite(fraction) else "–"


def percentage_points(fraction: float, digits: int = 1) -> str:
    """Write a difference of fractions in percentage points, always signed: −1.2 pp."""
    return f"{_signed(100 * fraction, digits)} pp" if math.isfinite(fraction) else "–"


def points_interval(lo: float, hi: float, digits: int = 1) -> str:
    """Write an interval of a difference of fractions, in percentage points: [−1.9, +0.4]."""
    if not (math.isfinite(lo) and math.isfinite(hi)):
        return "[no interval]"
    return f"[{_signed(100 * lo, digits)}, {_signed(100 * hi, digits)}]"


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text.replace("+", "±") if float(text) == 0 and text[0] == "+" else text.replace("-", "−")


def seconds(value: float) -> str:
    """Write a duration: 45 ms, 3.21 s, 4.5 min."""
    if not math.isfinite(value):
        return "–"
    if value < 0.1:
        return f"{number(1000 * value, 2)} ms"
    return f"{number(value)} s" if value < 120 else f"{number(value / 60)} min"


def mebibytes(value: float) -> str:
    """Write a size given in MiB: 512 B, 15.6 KiB, 3.2 MiB, 1.5 GiB."""
    if not math.isfinite(value):
        return "–"
    for limit, unit in ((1 / 1024, "B"), (1, "KiB"), (1024, "MiB")):
        if value < limit:
            return f"{number(value / limit * 1024 if unit != 'MiB' else value)} {unit}"
    return f"{number(value / 1024)} GiB"


def ratio(value: float, digits: int = 3) -> str:
    """Write how many times as much: ×12.3."""
    return f"×{number(value, digits)}" if math.isfinite(value) else "–"


def signed(value: float, digits: int = 3) -> str:
    """Write a difference, always signed: +0.0123."""
    return f"+{number(value, digits)}" if math.isfinite(value) and value > 0 else number(value, digits)


def short_batch(batch_size: float) -> str:
    """Write a batch size where there is little room: 1024, 16k."""
    return str(round(batch_size)) if batch_size < 10_000 else number(batch_size)


def learning_rate(value: float) -> str:
    """Write a learning rate, as a power of two where it is one: 2⁻⁴."""
    if not math.isfinite(value) or value <= 0:
        return "–"
    exponent = math.log2(value)
    if exponent != round(exponent):
        return number(value)
    return f"2{_power(round(exponent))}"


def _power(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def capital(text: str) -> str:
    """Write a text with a capital first letter."""
    return text[:1].upper() + text[1:]


def listing(items: Sequence[str]) -> str:
    """Join names as in a sentence: a, b and c."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
