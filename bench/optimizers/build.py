"""Checking a configured optimizer against its task, and building the real object."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bench.errors import Incompatible, UsageError, unknown
from bench.optimizers.classes import (
    IMPLEMENTATIONS,
    argument_names,
    class_title,
    implementations,
    learning_rate_argument,
    optimizer_class,
    takes_any,
)
from bench.optimizers.requirements import CLOSURE, GRADIENT_FIRST, GROUPS, MATRICES, SPARSE, construct, requirements
from bench.references import definition_sha256, is_foreign

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from bench.schema import OptimizerConfig
    from bench.tasks.registry import TaskFacts


def build(
    optimizer: "OptimizerConfig", parameters: "Iterable[Tensor]", lr: float, implementation: str | None = None
) -> "Optimizer":
    """Build the real optimizer object of a configuration.

    It comes inside a `Composite` where it has a fallback, or where it requires a gradient before its closure.

    Args:
        optimizer: A checked configuration.
        parameters: Leaf tensors to optimise.
        lr: Learning rate, of both where there is a fallback.
        implementation: Another than the configured one.
    """
    chosen = implementation or optimizer.implementation
    arguments, fallback, leaves = all_arguments(optimizer), optimizer.fallback, list(parameters)
    needs = requirements(optimizer.target, arguments)
    matrices = [p for p in leaves if p.dim() == 2]
    alone = fallback is None or len(matrices) == len(leaves)
    main = build_optimizer(optimizer.target, chosen, arguments, leaves if alone else matrices, lr)
    if alone and GRADIENT_FIRST not in needs:
        return main
    from bench.optimizers.composite import Composite

    parts = [(main, CLOSURE in needs)]
    if fallback is not None and not alone:
        rest = [p for p in leaves if p.dim() != 2]
        parts.append((build_optimizer(fallback.target, "default", fallback.arguments, rest, lr), False))
    return Composite(parts)


def build_optimizer(
    target: str, implementation: str, arguments: Mapping[str, Any], parameters: "Iterable[Tensor]", lr: float
) -> "Optimizer":
    """Build one real optimizer object.

    Args:
        target: As for `bench.optimizers.classes.optimizer_class`.
        implementation: One of `implementations(target)`.
        arguments: Keyword arguments beyond the learning rate.
        parameters: Leaf tensors to optimise.
        lr: Learning rate.
    """
    chosen: dict[str, bool] = {
        "default": {},
        "forloop": {"foreach": False},
        "foreach": {"foreach": True},
        "fused": {"fused": True},
    }[implementation]
    if implementation == "forloop" and "fused" in implementations(target):
        chosen["fused"] = False
    needs = requirements(target, arguments)
    return construct(optimizer_class(target), list(parameters), needs, lr, {**arguments, **chosen})


def all_arguments(optimizer: "OptimizerConfig") -> dict[str, Any]:
    """Return the keyword arguments of a configuration beyond the learning rate, weight decay among them."""
    decay = {} if optimizer.weight_decay is None else {"weight_decay": optimizer.weight_decay}
    return {**optimizer.arguments, **decay}


def own_targets(optimizer: "OptimizerConfig") -> dict[str, str]:
    """Return the classes of a configuration that are neither torch's nor this suite's, by their configuration key."""
    targets = {"optimizer.target": optimizer.target}
    if optimizer.fallback is not None:
        targets["optimizer.fallback.target"] = optimizer.fallback.target
    return {key: target for key, target in targets.items() if is_foreign(target)}


def own_source(optimizer: "OptimizerConfig") -> str | None:
    """Return the SHA-256 of the code of `own_targets`; None where there are none.

    Raises:
        UsageError: One of them cannot be imported.
    """
    sources = [definition_sha256(target, key) for key, target in own_targets(optimizer).items()]
    return hashlib.sha256("".join(sources).encode()).hexdigest() if sources else None


def check_optimizer(optimizer: "OptimizerConfig", facts: "TaskFacts") -> None:
    """Check that an optimizer can be built, and that the task has what it requires.

    Raises:
        UsageError: Unknown class, an implementation it does not offer, arguments it refuses, or a need that the task
            does not meet; the message says which and why.
    """
    target = optimizer.target
    optimizer_class(target)
    if optimizer.implementation not in IMPLEMENTATIONS:
        raise unknown("optimizer.implementation", optimizer.implementation, IMPLEMENTATIONS)
    if optimizer.implementation not in implementations(target):
        raise UsageError(
            f"optimizer.implementation={optimizer.implementation}: {class_title(target)} offers "
            f"{', '.join(implementations(target))}"
        )
    _check_arguments(target, optimizer.arguments, "optimizer")
    _check_weight_decay(optimizer)
    needs = _check_constructor(target, all_arguments(optimizer), "optimizer")
    if learning_rate_argument(optimizer_class(target)) is None and len(set(optimizer.lr_log2)) > 1:
        raise UsageError(
            f"optimizer.lr_log2={list(optimizer.lr_log2)}: {class_title(target)} has no learning rate; "
            "give one value twice, such as [0, 0]"
        )
    _check_fallback(optimizer, needs)
    _check_task(optimizer, needs, facts)


def _check_arguments(target: str, arguments: Mapping[str, Any], key: str) -> None:
    kind = optimizer_class(target, f"{key}.target")
    known = argument_names(kind)
    taken = {learning_rate_argument(kind), "foreach", "fused"} if takes_any(kind) else set()
    for name in arguments:
        if name not in known and (not takes_any(kind) or name in taken):
            raise unknown(f"argument of {class_title(target)} ({key}.arguments)", name, known)


def _check_weight_decay(optimizer: "OptimizerConfig") -> None:
    value, title = optimizer.weight_decay, class_title(optimizer.target)
    if value is None:
        return
    if not math.isfinite(value) or value < 0:
        raise UsageError(f"optimizer.weight_decay={value}: must be a finite number from 0")
    if "weight_decay" not in argument_names(optimizer_class(optimizer.target)):
        raise UsageError(f"optimizer.weight_decay={value}: {title} has no argument weight_decay; leave it null")
    if "weight_decay" in optimizer.arguments:
        raise UsageError(f"optimizer.weight_decay={value}: optimizer.arguments has weight_decay too; leave one out")


def _check_constructor(target: str, arguments: Mapping[str, Any], key: str) -> frozenset[str]:
    """Return what the class requires with these arguments; refuse what its constructor refuses, in its words."""
    try:
        requirements(target)
    except UsageError:
        # Not even with its defaults: what it says then is what there is to say.
        return requirements(target, arguments)
    try:
        return requirements(target, arguments)
    except UsageError as error:
        reason = str(error).rpartition(f"{dict(arguments)}: ")[2]
        raise UsageError(f"{key}.arguments={dict(arguments)}: {class_title(target)} says: {reason}") from None


def _check_fallback(optimizer: "OptimizerConfig", needs: frozenset[str]) -> None:
    fallback, title = optimizer.fallback, class_title(optimizer.target)
    if fallback is None:
        return
    if MATRICES not in needs:
        raise UsageError(
            f"optimizer.fallback.target={fallback.target}: {title} takes parameters of every shape and leaves none to "
            "a fallback; set optimizer.fallback=null"
        )
    _check_arguments(fallback.target, fallback.arguments, "optimizer.fallback")
    wants = _check_constructor(fallback.target, fallback.arguments, "optimizer.fallback")
    if wants:
        raise UsageError(
            f"optimizer.fallback.target={fallback.target}: requires {', '.join(sorted(wants))}; a fallback has to "
            "take any parameter with a plain gradient"
        )


def _check_task(optimizer: "OptimizerConfig", needs: frozenset[str], facts: "TaskFacts") -> None:
    where = facts.data if facts.data == facts.model or not facts.model else f"{facts.data} with {facts.model}"
    given = f"optimizer.target={optimizer.target}"
    if SPARSE in needs and not facts.sparse:
        raise Incompatible(f"{given}: requires sparse gradients, which {where} does not give")
    matrices = sum(len(shape) == 2 for shape in facts.shapes)
    if needs & {MATRICES, GROUPS} and not matrices:
        raise Incompatible(f"{given}: is made for matrices, of which {where} has none among its parameters")
    if MATRICES in needs and optimizer.fallback is None and matrices < len(facts.shapes):
        raise Incompatible(
            f"{given}: takes matrices alone, and {len(facts.shapes) - matrices} of the {len(facts.shapes)} parameters "
            f"of {where} are none; set optimizer.fallback.target to a class for them, such as AdamW"
        )
    most = getattr(optimizer_class(optimizer.target), "most_parameters", None)
    if most is not None and facts.parameters > most:
        allowed, has = (f"{count:,}".replace(",", " ") for count in (most, facts.parameters))
        raise Incompatible(
            f"{given}: keeps a matrix of parameters × parameters, so at most {allowed} parameters; {where} has {has}"
        )
