"""A task of your own, whole: does a point lie in a ring?

Try it: bench audit task=custom task.module=examples/ring.py:ring
"""

import torch
from torch import nn

from bench.tasks import own
from bench.tasks.problem import Problem


def ring(seed: int) -> Problem:
    """Points of the plane; class 1 between the circles of radius 1 and 2, class 0 elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    points = 1.5 * torch.randn(2000, 2, generator=generator)
    radius = points.norm(dim=1)
    labels = ((radius > 1) & (radius < 2)).long()
    return own.problem(
        train=(points[:1000], labels[:1000]),
        val=(points[1000:1500], labels[1000:1500]),
        test=(points[1500:], labels[1500:]),
        model=lambda: nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2)),
        loss="cross_entropy",
        target_metric="val_accuracy",
        target=0.95,
    )
