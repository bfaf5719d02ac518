"""The registry of timing cases: what is timed, on what, and which of it belongs to the default suite.

Every parametrisation of this folder comes from here, so pytest-benchmark (`pytest tests/speed --benchmark-enable
--benchmark-only`) and the comparison of two versions (`bench speed check`) time the same cases under the same names.
The names say nothing of a machine: a case that needs a device which is not here is skipped.

A comparison runs these definitions against the sources of older versions too. So they use little of `bench`, all of
it long-lived: `optimizers.registry` (implementations, all_arguments, requirements, build, watch_implementation) and,
for training, `training.batches.BatchOrder`, `training.stepper.Stepper`, `tasks.task.Task`, `tasks.problem.Split` and
`tasks.models.mlp`. The cases take nothing from other tests; configurations are those of conf/optimizer in the checkout
that this file lies in.

A call of a case costs the same however often it is made: gradients are fixed and learning rates tiny; steps that ask
for the loss begin at the same point with an empty state; an epoch of training is a whole number of calls.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Generator, Tensor

from bench.optimizers.registry import implementations

CONF = Path(__file__).resolve().parents[2] / "conf" / "optimizer"

#: Shapes of the parameters that steps are taken on.
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    # mnist/mlp, 784-128-10: 101 770 numbers in 4 tensors.
    "mlp": ((128, 784), (128,), (10, 128), (10,)),
    # mnist/lenet5: 61 706 numbers in 10 tensors, so that what a tensor costs counts more than what a number costs.
    "lenet": ((6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,)),
    # 784-1536-1536-256-10: 3 962 634 numbers in 8 tensors, too many for the caches of most cores.
    "mlp4m": ((1536, 784), (1536,), (1536, 1536), (1536,), (256, 1536), (256,), (10, 256), (10,)),
    # 4-3-2: 23 numbers, for classes that keep a matrix of parameters × parameters.
    "small": ((3, 4), (3,), (2, 3), (2,)),
}
#: The optimizers with such a matrix. Their classes are not asked: importing one of them takes as long as a case.
SMALL_ONLY = ("bfgs", "newton")
#: A step of these on four million parameters takes half a second or more.
NOT_LARGE = ("lbfgs", "lbfgs_wolfe", "muon", "sparse_adam")
DEVICES = ("cpu", "cuda")
#: Examples in the training split, about as many as mnist5k has; every batch size divides them.
EXAMPLES = 4096
#: Examples that a call trains on: a constant of its own, so that both sides of a comparison do the same work.
EXAMPLES_PER_CALL = 256

#: The default suite: each class of conf/optimizer in its last of forloop, foreach and fused, the usual ones in all; no
#: call over about 8 ms, so that a comparison of all of them takes minutes. Everything else is marked `extended`.
DEFAULT = frozenset(
    f"{name}-cpu"
    for name in (
        *(
            f"{optimizer}-{implementation}-mlp"
            for optimizer in ("sgd", "momentum", "adam", "adamw")
            for implementation in ("forloop", "foreach", "fused")
        ),
        *("adam-foreach-lenet", "adam-fused-lenet", "adam-fused-mlp4m"),
        *("adadelta-foreach-mlp", "adafactor-foreach-mlp", "adagrad-fused-mlp", "adamax-foreach-mlp"),
        *("asgd-foreach-mlp", "nadam-foreach-mlp", "radam-foreach-mlp", "rmsprop-foreach-mlp", "rprop-foreach-mlp"),
        *("lbfgs-default-mlp", "muon-default-mlp", "sparse_adam-default-mlp"),
        *("bfgs-default-small", "newton-default-small"),
        *("sgd-batch32", "adam-batch32", "adam-batch512", "batch32"),
    )
)


@dataclass(frozen=True)
class Case:
    """What a call does.

    Attributes:
        id: Name, the same on every machine.
        device: One of `DEVICES`.
        optimizer: Name in conf/optimizer; "" for the data path.
        implementation: What it is built as.
        parameters: Key of `SHAPES`; "" where it trains.
        batch_size: Examples per batch; 0 where it does not train.
    """

    id: str
    device: str
    optimizer: str = ""
    implementation: str = "default"
    parameters: str = ""
    batch_size: int = 0

    @property
    def extended(self) -> bool:
        """Whether it lies outside the default suite."""
        return self.id not in DEFAULT


def configurations() -> dict[str, Any]:
    """Return the configurations of conf/optimizer by name, with attributes as in `bench.schema.OptimizerConfig`.

    The schema itself is not imported: it brings half the suite.
    """
    found = {}
    for path in sorted(CONF.glob("*.yaml")):
        fields: Any = OmegaConf.to_container(OmegaConf.load(path))
        fallback = fields["fallback"]
        found[path.stem] = SimpleNamespace(**fields | {"fallback": fallback and SimpleNamespace(**fallback)})
    return found


CONFIGURATIONS = configurations()


def steps_differ(names: Iterable[str]) -> list[str]:
    """Return the optimizers whose step is no other's: "stochastic" and the like are SGD at some batch size."""
    first: dict[str, str] = {}
    # The plain name first, so that it stands for them.
    for name in sorted(names, key=lambda name: (name != "sgd", name)):
        chosen = CONFIGURATIONS[name]
        first.setdefault(f"{chosen.target} {chosen.arguments} {chosen.weight_decay} {chosen.fallback}", name)
    return sorted(first.values())


def offered(name: str) -> tuple[str, ...]:
    """Return the implementations that an optimizer is timed in; "default" where the class leaves no choice."""
    target = CONFIGURATIONS[name].target
    found = ("default",) if ":" in target else implementations(target)
    return tuple(one for one in found if one != "default") or ("default",)


def _steps() -> Iterator[Case]:
    for name in steps_differ(CONFIGURATIONS):
        sets = (
            ("small",) if name in SMALL_ONLY else ("mlp", "lenet") if name in NOT_LARGE else ("mlp", "lenet", "mlp4m")
        )
        for implementation, parameters, device in product(offered(name), sets, DEVICES):
            yield Case(f"{name}-{implementation}-{parameters}-{device}", device, name, implementation, parameters)


STEPS = tuple(_steps())
TRAINING = tuple(
    Case(f"{name}-batch{size}-{device}", device, name, batch_size=size)
    for name, size, device in product(("sgd", "adam"), (32, 128, 512), DEVICES)
)
BATCHES = tuple(
    Case(f"batch{size}-{device}", device, batch_size=size) for size, device in product((8, 32, 512), DEVICES)
)


def each(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Parametrise a test by cases, marked and named."""
    return pytest.mark.parametrize("case", [pytest.param(c, id=c.id, marks=_marks(c)) for c in cases])


def _marks(case: Case) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.extended] if case.extended else []
    if case.device == "cuda":
        missing = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
        marks += [pytest.mark.cuda, missing]
    return marks


def drawn(shapes: Iterable[tuple[int, ...]], seed: int, device: str) -> list[Tensor]:
    """Draw tensors from a normal distribution; the numbers are the same on any device."""
    generator = Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(device) for shape in shapes]


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
