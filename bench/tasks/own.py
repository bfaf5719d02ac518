"""What a task of your own is made of: `problem` takes arrays and a torch module (docs/your-own-task.md)."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from bench.errors import UsageError, unknown
from bench.tasks.custom_checks import PROBE_EXAMPLES, attempt
from bench.tasks.problem import CROSS_ENTROPY, HALF_SQUARED_ERROR, Model, Objective, Problem, Split, Splits

OBJECTIVES = {"cross_entropy": CROSS_ENTROPY, "half_squared_error": HALF_SQUARED_ERROR}
#: Outputs and labels → one value per example.
PerExample = Callable[[Tensor, Tensor], Tensor]


def problem(
    *,
    train: tuple[Any, Any],
    val: tuple[Any, Any],
    test: tuple[Any, Any],
    model: Callable[[], nn.Module] | Model,
    target: float,
    loss: str | PerExample = "cross_entropy",
    target_metric: str | None = None,
    correct: PerExample | None = None,
    standardised: bool = False,
    distinct: bool = True,
) -> Problem:
    """Make a problem of arrays, a module and a loss.

    Args:
        train: Inputs and labels to train on, of one length: tensors, numpy arrays or lists. Floats become float32,
            integers int64.
        val: What learning rates and targets are looked at on.
        test: What results are reported on.
        model: Function without arguments that returns a fresh `torch.nn.Module`, or a `Model`.
        target: Value of the target metric to get strictly past: above for an accuracy, below for a loss.
        loss: "cross_entropy" (labels are class indices), "half_squared_error" (½ the sum of squares over an example's
            outputs), or a function of outputs and labels that returns one loss per example.
        target_metric: "val_accuracy" or "val_loss"; by default the accuracy where there is one.
        correct: Function of outputs and labels that returns whether each example is right; only cross-entropy has one
            of its own.
        standardised: Whether the training inputs have mean 0 and standard deviation 1; the self-audit then checks it.
        distinct: Whether no example stands in two splits; likewise.

    Raises:
        UsageError: Something is not what it has to be; the message names the argument.
    """
    splits = Splits(_split("train", train), _split("val", val), _split("test", test), standardised, distinct)
    if not isinstance(model, Model):
        model = module_model(model, splits.train.inputs[:PROBE_EXAMPLES])
    objective = _objective(loss)
    if correct is not None:
        objective = replace(objective, correct=correct)
    classes = None
    if objective.of_logits:
        outputs = model.forward(
            [*model.initialise(Generator().manual_seed(0)), *model.buffers()], splits.train.inputs[:1]
        )
        classes = outputs.shape[1] if outputs.ndim == 2 else None
    metric = target_metric or ("val_loss" if objective.correct is None else "val_accuracy")
    return Problem(splits, model, objective, metric, target, classes)


def module_model(build: Callable[[], nn.Module], inputs: Tensor) -> Model:
    """Make a `Model` of a function that returns a module.

    Each draw of initial parameters builds a module of its own, with torch's generator seeded for it. Buffers, such as
    running statistics, are those of one module for all trials.

    Args:
        build: Function without arguments that returns a fresh module on the CPU, all of whose parameters are float32
            and to be trained.
        inputs: A few examples (batch × …) to try it on.

    Raises:
        UsageError: It does not return such a module, or the module draws random numbers in its forward pass.
    """
    if isinstance(build, nn.Module):
        raise UsageError(
            "model: is a module, must be a function that makes a fresh one for every seed, such as "
            "lambda: nn.Linear(2, 2)"
        )
    if not callable(build):
        raise UsageError(f"model: is of type {type(build).__name__}, must be a function that returns a torch module")
    trained = _seeded(build, 0)
    if not isinstance(trained, nn.Module):
        raise UsageError(f"model: returned a {type(trained).__name__}, must return a torch.nn.Module")
    _check_parameters(trained)
    evaluated = copy.deepcopy(trained).eval()
    trained.train()
    names = [name for name, _ in trained.named_parameters()]
    buffer_names = [name for name, _ in trained.named_buffers()]
    fresh = [buffer.detach().clone() for _, buffer in trained.named_buffers()]
    keys = [*names, *buffer_names]

    def initialise(generator: Generator) -> list[Tensor]:
        seed = int(torch.randint(2**62, (1,), generator=generator).item())
        return [p.detach().clone() for _, p in _seeded(build, seed).named_parameters()]

    def buffers() -> list[Tensor]:
        return [buffer.clone() for buffer in fresh]

    def forward(weights: Sequence[Tensor], examples: Tensor) -> Tensor:
        outputs: Tensor = functional_call(evaluated, dict(zip(keys, weights, strict=True)), (examples,))
        return outputs

    def training_forward(weights: Sequence[Tensor], examples: Tensor) -> Tensor:
        outputs: Tensor = functional_call(trained, dict(zip(keys, weights, strict=True)), (examples,))
        return outputs

    model = Model(type(trained).__name__.lower(), initialise, forward, buffers=buffers)
    modes = replace(model, training_forward=training_forward)
    return modes if _modes_differ(modes, trained, inputs) else model


def _objective(loss: str | PerExample) -> Objective:
    if callable(loss):
        return Objective(getattr(loss, "__name__", "loss").strip("<>"), loss)
    if loss not in OBJECTIVES:
        raise unknown("loss", loss, OBJECTIVES)
    return OBJECTIVES[loss]


def _split(name: str, pair: Any) -> Split:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise UsageError(f"{name}: must be a pair (inputs, labels)")
    tensors = []
    for part, given in zip(("inputs", "labels"), pair, strict=True):
        try:
            tensor = torch.as_tensor(given).detach()
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError(f"{name}: {part} are no array of numbers: {str(error).splitlines()[0]}") from None
        if tensor.is_complex():
            raise UsageError(f"{name}: {part} are complex, must be real or integers")
        tensors.append(tensor.float() if tensor.is_floating_point() else tensor.long())
    inputs, labels = tensors
    for part, tensor in (("inputs", inputs), ("labels", labels)):
        if tensor.ndim == 0:
            raise UsageError(f"{name}: {part} are a single number, must be one for each example")
    return Split(inputs, labels)


def _seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Call `build` with torch's CPU generator seeded, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would seed the devices too, which are not restored.
        torch.default_generator.manual_seed(seed)
        return build()


def _check_parameters(module: nn.Module) -> None:
    parameters = dict(module.named_parameters())
    if not parameters:
        raise UsageError("model: the module has no parameters to train")
    for name, parameter in parameters.items():
        if isinstance(parameter, nn.UninitializedParameter):
            raise UsageError(f"model: parameter {name} has no shape yet; give lazy layers their number of inputs")
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
            found = f"{str(parameter.dtype).removeprefix('torch.')} on {parameter.device.type}"
            raise UsageError(f"model: parameter {name} is {found}, must be float32 on cpu; the suite moves it")
        if not parameter.requires_grad:
            raise UsageError(f"model: parameter {name} is frozen (requires_grad=False); make it a buffer")


@torch.no_grad()
def _modes_differ(model: Model, module: nn.Module, inputs: Tensor) -> bool:
    """Return whether the model does something else in training; refuse what it must not do."""
    assert model.training_forward is not None
    parameters, buffers = model.initialise(Generator().manual_seed(0)), model.buffers()
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        evaluated = attempt("model", model.forward, [*parameters, *buffers], inputs)
        trained = attempt("model", model.training_forward, [*parameters, *buffers], inputs)
        if not torch.equal(torch.get_rng_state(), before):
            raise UsageError("model: draws random numbers in its forward pass (dropout?), so a trial would not repeat")
    reference = copy.deepcopy(module)
    for parameter, value in zip(reference.parameters(), parameters, strict=True):
        parameter.copy_(value)
    reference(inputs)
    for (name, expected), buffer in zip(reference.named_buffers(), buffers, strict=True):
        if not torch.equal(expected, buffer):
            raise UsageError(f"model: buffer {name} is replaced in the forward pass, must be changed in place")
    if not isinstance(evaluated, Tensor) or not isinstance(trained, Tensor):
        raise UsageError(f"model: returns a {type(evaluated).__name__}, must return a tensor")
    moved = any(not torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))
    return moved or not torch.equal(evaluated, trained)
