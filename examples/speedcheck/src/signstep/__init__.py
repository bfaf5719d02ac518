"""A torch optimizer: momentum, of which every parameter follows the sign."""

from signstep.optimizer import SignMomentum

__all__ = ["SignMomentum"]
