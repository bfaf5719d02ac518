"""What can be measured at evaluation points (`measure.at_evaluations`). docs/measures.md says what each costs."""

from typing import NamedTuple


class Measure(NamedTuple):
    """A measure that is taken at evaluation points.

    Attributes:
        about: What it is, its unit and its source, in a line.
        metrics: Names of its rows in the curves, where `split` is "measure".
        of_curvature: Whether it can move when the parameters are rescaled and the function is not.
    """

    about: str
    metrics: tuple[str, ...]
    of_curvature: bool = False


def _with_interval(name: str) -> tuple[str, ...]:
    return name, f"{name}_lo", f"{name}_hi"


MEASURES: dict[str, Measure] = {
    "distance": Measure("Distance from the initial parameters (1705.08741).", ("distance",)),
    "step_loss_variance": Measure(
        "Variance of the batch loss over the last 32 steps before the point.", ("step_loss_variance",)
    ),
    "noise_scale": Measure(
        "Gradient noise scale tr Σ/|G|², in examples, exact (1812.06162); with tr Σ and |G|².",
        ("noise_scale", "noise_trace", "gradient_norm2"),
    ),
    "noise_scale_two_batch": Measure(
        "The same, estimated from batches of two sizes as parallel workers can (1812.06162).",
        _with_interval("noise_scale_two_batch"),
    ),
    "batch_sharpness": Measure(
        "Curvature of a batch's loss along its own gradient (2412.20553).", _with_interval("batch_sharpness")
    ),
    "lambda_max": Measure(
        "Largest eigenvalue of the Hessian, by Lanczos, with its relative residual.",
        ("lambda_max", "lambda_max_residual"),
        True,
    ),
    "trace": Measure("Trace of the Hessian, by Hutchinson, with its standard error.", ("trace", "trace_error"), True),
    "keskar": Measure(
        "Sharpness in a box of ε = 1e-3 and 5e-4, percent (1609.04836).", ("keskar_1e-3", "keskar_5e-4"), True
    ),
    "keskar_random": Measure(
        "The same in a random subspace of 100 dimensions (1609.04836).",
        ("keskar_random_1e-3", "keskar_random_5e-4"),
        True,
    ),
    "sam": Measure("Rise of the loss within a ball of radius .05 (2010.01412).", ("sam",), True),
    "asam": Measure("Rise of the loss within .5 in units of each parameter (2102.11600).", ("asam",), True),
    "barrier": Measure(
        "At the end: rise of training and test loss on the line to the first seed's parameters (2110.06296).",
        ("barrier_train", "barrier_test"),
    ),
}

#: What a metric's name ends with where parameters were rescaled first.
RESCALED = "_rescaled"
MODES = ("train", "eval")
