"""Traces of gradients without operations that change nothing, or that give the same at every step.

A gradient needs of a loss's value only that it is one number: the operations that compute it are dropped. What depends
neither on weights nor on a batch, such as the mean's share of each example, is computed once. What is left are the same
kernels on the same operands in the same order, so not a bit differs.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten
#: Bytes of a constant that is kept: a larger one is computed anew, so that memory is what it is without a trace.
MOST_BYTES = 1 << 18


def lean(module: fx.GraphModule) -> fx.GraphModule:
    """Drop operations that change nothing: aliases, what is turned twice, what no gradient depends on."""
    graph = module.graph
    for node in _calls(graph):
        of = node.args[0] if node.args else None
        if not isinstance(of, fx.Node):
            continue
        if node.target in (aten.detach.default, aten.alias.default):
            node.replace_all_uses_with(of)
        elif node.target is aten.t.default and of.target is aten.t.default:
            node.replace_all_uses_with(of.all_input_nodes[0])
    graph.eliminate_dead_code()
    module.recompile()
    return module


def folded(module: fx.GraphModule) -> fx.GraphModule:
    """Compute what is the same at every step once, and drop what was only needed for that.

    Traces that change something in place, such as running statistics, stay as they are: it might be another name of
    something that is kept.

    Args:
        module: A trace of a gradient, which is changed.
    """
    graph = module.graph
    if any(_changes(node) for node in _calls(graph)):
        return module
    for node in _calls(graph):
        _simplify(graph, node)
    constants = _constants(graph)
    for number, (node, value) in enumerate(constants.items()):
        if any(user not in constants for user in node.users):
            name = f"constant_{number}"
            # In the module's own dictionary, where it is found at once.
            module.__dict__[name] = value
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.create_node("get_attr", name))
    graph.eliminate_dead_code()
    module.recompile()
    return module


def playable(module: fx.GraphModule) -> Callable[..., Sequence[Tensor]]:
    """Return what a trace computes as a function that calls torch's kernels themselves.

    A trace looks each operation up by four names and calls it through an object in Python: half a microsecond.

    Args:
        module: A trace, which is changed.
    """

    def bound(match: re.Match[str]) -> str:
        name, overload = match.groups()
        kept = f"{name}_{overload}"
        module.__dict__[kept] = getattr(getattr(aten, name), overload)._op
        return f"self.{kept}"

    def transformed(body: list[str]) -> list[str]:
        return [re.sub(r"\btorch\.ops\.aten\.(\w+)\.(\w+)", bound, line) for line in body]

    with module.graph.on_generate_code(lambda _: transformed):
        module.recompile()
    played: Callable[..., Sequence[Tensor]] = module.forward
    return played


def _simplify(graph: fx.Graph, node: fx.Node) -> None:
    """Drop a power of one, and take a sum in its final shape at once."""
    of = node.args[0] if node.args else None
    if not isinstance(of, fx.Node):
        return
    if node.target is aten.pow.Tensor_Scalar and node.args[1] == 1:
        node.replace_all_uses_with(of)
    elif (
        node.target is aten.view.default
        and of.target is aten.sum.dim_IntList
        and len(of.users) == 1
        and of.args[1:] == ([0], True)
        and node.meta["val"].shape == of.meta["val"].shape[1:]
    ):
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.call_function(of.target, (of.args[0], [0])))


def _constants(graph: fx.Graph) -> dict[fx.Node, Tensor]:
    """Return the values of nodes that depend on no argument, in the graph's order.

    A gradient is none, nor is what leads to one: it belongs to the step, and an optimizer may change it.
    """
    found: dict[fx.Node, Tensor] = {}
    for node in _calls(graph):
        value = _value(node, found)
        if value is not None and value.untyped_storage().nbytes() <= MOST_BYTES:
            found[node] = value
    own = [node for node in graph.nodes if node.op == "output"]
    while own:
        own += [node for node in own.pop().all_input_nodes if found.pop(node, None) is not None]
    return found


def _value(node: fx.Node, found: dict[fx.Node, Tensor]) -> Tensor | None:
    """Return the value of a node, where it follows from constants that have been found; None where it does not."""
    inputs = node.all_input_nodes
    if node.target is aten.ones_like.default and node.meta["val"].dim() == 0:
        # Where autograd starts: the derivative of the loss by itself.
        return torch.ones((), dtype=node.meta["val"].dtype, device=node.meta["val"].device)
    draws = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
    if not inputs or draws or not all(of in found for of in inputs):
        return None
    args: Any = fx.node.map_arg(node.args, found.__getitem__)
    kwargs: Any = fx.node.map_arg(node.kwargs, found.__getitem__)
    assert callable(node.target)
    with torch.no_grad():
        value = node.target(*args, **kwargs)
    return value if isinstance(value, Tensor) else None


def _calls(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "call_function"]


def _changes(node: fx.Node) -> bool:
    """Tell whether an operation changes one of its arguments in place."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)
