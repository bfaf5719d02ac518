"""Image tasks: a data set, its knobs and a network, put together."""

import math

from bench.tasks.catalogue import DATA_SETS, NETWORKS
from bench.tasks.images import RawSplits, scaled, turned
from bench.tasks.problem import CROSS_ENTROPY, Problem, Untrained
from bench.tasks.registry import TaskSpec, build_network, image_knobs


def image_problem(spec: TaskSpec, raw: RawSplits, seed: int) -> Problem:
    """Make a problem of loaded images.

    The target is left to the configuration: it is a property of data set and network together.

    Args:
        spec: Data set, network and knobs.
        raw: The loaded data set.
        seed: Data seed of the knobs that draw.
    """
    entry = DATA_SETS[spec.data]
    knobs, of_network = image_knobs(spec.model, dict(spec.knobs))
    model = build_network(spec.model, spec.data, of_network)
    tolerance = 1e-5 if model.uniform_at_start else NETWORKS[spec.model].untrained_tolerance
    return Problem(
        splits=scaled(turned(raw, knobs, entry.classes, seed), knobs.inputs),
        model=model,
        objective=CROSS_ENTROPY,
        target_metric="val_accuracy",
        target=math.nan,
        classes=entry.classes,
        untrained=Untrained("val", math.log(entry.classes), tolerance, f"ln {entry.classes}"),
    )
