"""The noisy quadratic model, solved: expected loss after any number of steps of SGD with or without momentum.

Coordinates do not touch each other, and the second moments of each follow a linear recursion (Zhang et al. 2019,
arXiv 1907.04164). With curvature h, learning rate η, batch size B and gradient noise n of variance h/B:

* SGD: E θ² ← (1 − ηh)² E θ² + η²h/B
* momentum, as `torch.optim.SGD` does it, with v its step: v ← m v − η (hθ + n), θ ← θ + v; so E θ², E θv and E v²
  recur together.

Once the transients of momentum have died out, both are sums of one exponential of the number of steps per coordinate,
so a step far ahead costs no more than the first.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Learning rates among which the best is sought: 120 on a logarithmic grid.
LEARNING_RATES = np.geomspace(1e-5, 1.9999, 120)

#: Transients of momentum are followed step by step until mᵗ is below this.
NEGLIGIBLE = 1e-16

#: Steps that are looked at unless said otherwise.
FAR = 10**9


@dataclass(frozen=True)
class NoisyQuadratic:
    """A noisy quadratic model that starts from θ ~ N(0, I), at rest.

    Attributes:
        curvatures: h, shape dimension, all > 0.
    """

    curvatures: Array

    @classmethod
    def harmonic(cls, dimension: int = 10_000) -> "NoisyQuadratic":
        """Return the model with h = 1/i, i = 1 … dimension: that of the task `nqm`."""
        return cls(1 / np.arange(1, dimension + 1))

    def expected_losses(self, batch: float, lr: float, momentum: float, steps: int) -> Array:
        """Return E L after 0, 1 … `steps` steps, by the recursion itself.

        Args:
            batch: Batch size B; infinity for no noise.
            lr: Learning rate η.
            momentum: m, 0 ≤ m < 1.
            steps: Last step.

        Returns:
            steps + 1 losses.
        """
        return self._walk(batch, lr, momentum, steps)[0]

    def expected_loss(self, batch: float, lr: float, momentum: float, step: int) -> float:
        """Return E L after `step` steps of a stable learning rate, in a time that does not grow with them."""
        transient = min(step, transient_steps(momentum))
        losses, positions = self._walk(batch, lr, momentum, transient)
        if step == transient:
            return float(losses[-1])
        return self._decay(positions, batch, lr, momentum).at(step - transient)

    def steps_to_target(
        self, batch: float, lr: float, momentum: float = 0.0, target: float = 0.01, limit: int = FAR
    ) -> float:
        """Return the first step after which E L is strictly below a target.

        Args:
            batch: Batch size B; infinity for no noise.
            lr: Learning rate η.
            momentum: m, 0 ≤ m < 1.
            target: Loss to get strictly below.
            limit: Last step that is looked at.

        Returns:
            A whole number; infinity where the target is not met within the limit, or the learning rate is not below
            the edge of stability, 2 (1 + m) / max h.
        """
        if lr * self.curvatures.max() >= 2 * (1 + momentum):
            return math.inf
        transient = min(limit, transient_steps(momentum))
        losses, positions = self._walk(batch, lr, momentum, transient)
        below = np.flatnonzero(losses < target)
        if len(below):
            return float(below[0])
        return transient + self._decay(positions, batch, lr, momentum).first_below(target, limit - transient)

    def best_lr(
        self,
        batch: float,
        momentum: float = 0.0,
        target: float = 0.01,
        learning_rates: Iterable[float] = tuple(LEARNING_RATES.tolist()),
    ) -> tuple[float, float]:
        """Return the learning rate that meets a target in the fewest steps, and how many those are.

        Args:
            batch: Batch size B; infinity for no noise.
            momentum: m, 0 ≤ m < 1.
            target: Loss to get strictly below.
            learning_rates: Those to choose from.

        Returns:
            The smallest of the best learning rates, and its steps; not a number and infinity where none gets there.
        """
        best, fewest = math.nan, math.inf
        for lr in sorted(learning_rates):
            # Only fewer steps would be of interest.
            steps = self.steps_to_target(batch, lr, momentum, target, FAR if math.isinf(fewest) else int(fewest) - 1)
            if steps < fewest:
                best, fewest = lr, steps
        return best, fewest

    def stationary(self, batch: float, lr: float, momentum: float = 0.0) -> Array:
        """Return E θ² after infinitely many steps of a stable learning rate: the fixed point of the recursion.

        It is η (1 + m) / (B (1 − m) (2 (1 + m) − ηh)) in each coordinate.
        """
        return lr * (1 + momentum) / (batch * (1 - momentum) * (2 * (1 + momentum) - lr * self.curvatures))

    def _walk(self, batch: float, lr: float, momentum: float, steps: int) -> tuple[Array, Array]:
        """Return E L after 0 … `steps` steps, and E θ² after the last."""
        h = self.curvatures
        pull, noise = lr * h, lr**2 * h / batch
        position, mixed, velocity = np.ones_like(h), np.zeros_like(h), np.zeros_like(h)
        losses = [h @ position / 2]
        for _ in range(steps):
            # E θv with the old θ and the new v, from which the other three follow.
            across = momentum * mixed - pull * position
            velocity = momentum * (momentum * velocity - pull * mixed) - pull * across + noise
            position = position + 2 * across + velocity
            mixed = across + velocity
            losses.append(h @ position / 2)
        return np.array(losses), position

    def _decay(self, positions: Array, batch: float, lr: float, momentum: float) -> "Decay":
        """Return how E L goes on from E θ² = `positions`, once the transients have died out."""
        settled = self.stationary(batch, lr, momentum)
        # θ alone is a combination of powers of the roots of r² − (1 + m − ηh) r + m. Of E θ², only the square of the
        # larger root is left; where the roots are complex, both squares are as small as mᵗ, and nothing is left.
        middle = np.abs(1 + momentum - lr * self.curvatures)
        discriminant = middle**2 - 4 * momentum
        real = discriminant >= 0
        root = (middle[real] + np.sqrt(discriminant[real])) / 2
        coefficients = self.curvatures[real] * (positions - settled)[real] / 2
        # A root of 0 is gone after one step, as is one of 1e-150.
        return Decay(float(self.curvatures @ settled / 2), coefficients, 2 * np.log(np.maximum(root, 1e-150)))


class Decay:
    """A constant plus exponentials that decay: c + Σ aᵢ exp(−kᵢ t).

    Args:
        constant: c.
        coefficients: aᵢ, of either sign.
        log_rates: −kᵢ, below 0.
    """

    def __init__(self, constant: float, coefficients: Array, log_rates: Array) -> None:
        self.constant = constant
        falls = coefficients > 0
        self._falling = coefficients[falls], log_rates[falls]
        self._rising = coefficients[~falls], log_rates[~falls]

    def at(self, t: int) -> float:
        """Return the value at t."""
        return self.constant + _sum(self._falling, t) + _sum(self._rising, t)

    def first_below(self, target: float, limit: int) -> float:
        """Return the first t of 1 … `limit` at which the value is strictly below the target; infinity if none is."""
        start, width = 0, 1
        while start < limit:
            end = min(start + width, limit)
            found = self._first_in(start, end, target)
            if found is not None:
                return found
            if self.constant + _sum(self._rising, end) >= target:
                return math.inf
            start, width = end, 2 * width
        return math.inf

    def _first_in(self, start: int, end: int, target: float) -> int | None:
        """Return the first t after `start` and up to `end` at which the value is below the target."""
        # What falls is least at the end and what rises is least at the start: a bound on everything between.
        if self.constant + _sum(self._falling, end) + _sum(self._rising, start) >= target:
            return None
        if end - start == 1:
            return end if self.at(end) < target else None
        middle = (start + end) // 2
        found = self._first_in(start, middle, target)
        return self._first_in(middle, end, target) if found is None else found


def transient_steps(momentum: float) -> int:
    """Return after how many steps the transients of momentum m have died out: mᵗ < 1e-16."""
    return math.ceil(math.log(NEGLIGIBLE) / math.log(momentum)) if momentum > 0 else 0


def _sum(terms: tuple[Array, Array], t: int) -> float:
    coefficients, log_rates = terms
    return float(coefficients @ np.exp(t * log_rates))
