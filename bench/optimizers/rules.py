"""Rules: how learning rate and arguments follow the batch size."""

import inspect
import math
from typing import Any

from bench.errors import UsageError, unknown
from bench.optimizers.classes import constructor, optimizer_class
from bench.schema import OptimizerConfig, RuleConfig

RULES = ("fixed", "linear", "sqrt", "adam_sqrt", "half_life")


def ruled(optimizer: OptimizerConfig, rule: RuleConfig, batch_size: int) -> tuple[float, dict[str, Any]]:
    """Return the factor on the learning rates and the arguments at a batch size.

    Args:
        optimizer: Optimizer with the arguments that hold at the reference batch size.
        rule: The rule.
        batch_size: Examples per step.

    Returns:
        The factor, and the class's arguments.

    Raises:
        UsageError: An unknown rule, a reference below 1, a class without the arguments the rule moves, or a batch so
            large that β would not be above 0.

    Source: linear 1706.02677, sqrt 1705.08741, adam_sqrt 2205.10287, half_life 2507.07101 (arXiv).
    """
    if rule.name not in RULES:
        raise unknown("rule", rule.name, RULES)
    if rule.reference < 1:
        raise UsageError(f"rule.reference={rule.reference}: must be at least 1")
    ratio = batch_size / rule.reference
    arguments = dict(optimizer.arguments)
    if rule.name == "half_life":
        first, second = _argument(optimizer, rule, "betas")
        return 1.0, arguments | {"betas": [first, second**ratio]}
    if rule.name == "adam_sqrt":
        betas = [1 - ratio * (1 - beta) for beta in _argument(optimizer, rule, "betas")]
        if min(betas) <= 0:
            raise UsageError(
                f"rule=adam_sqrt: at batch size {batch_size}, {ratio:g} times the reference, β = 1 − κ(1 − β) would be "
                f"{min(betas):.3g}; it has to stay above 0"
            )
        eps = _argument(optimizer, rule, "eps") / math.sqrt(ratio)
        return math.sqrt(ratio), arguments | {"betas": betas, "eps": eps}
    return {"fixed": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[rule.name], arguments


def _argument(optimizer: OptimizerConfig, rule: RuleConfig, name: str) -> Any:
    """Return an argument as configured, else the class's default."""
    if name in optimizer.arguments:
        return optimizer.arguments[name]
    parameter = constructor(optimizer_class(optimizer.target)).get(name)
    if parameter is None or parameter.default is inspect.Parameter.empty:
        raise UsageError(f"rule={rule.name}: {optimizer.target} has no argument {name!r} for it to move")
    return parameter.default
