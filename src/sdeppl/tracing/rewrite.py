"""Operations of a recorded graph that need not be done, and fewer in place of several.

Each pass takes the graph and what every node gave where it was recorded; constants are `get_attr` nodes.
"""

import math
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch.fx import GraphModule
from torch.fx import Node as FxNode

ATEN = torch.ops.aten
Node: TypeAlias = Any  # of torch.fx, whose arguments can be nearly anything
Values = dict[Node, Any]
SAME_NUMBERS = {  # the same numbers in the same order, where the layout is the same
    ATEN.view.default, ATEN.expand.default, ATEN.permute.default, ATEN.transpose.int, ATEN.alias.default,
    ATEN.detach.default, ATEN._to_copy.default, ATEN.clone.default, ATEN.lift_fresh_copy.default,
    ATEN.slice.Tensor, ATEN.slice_backward.default,
}  # fmt: skip
RESHAPES = {
    ATEN.view.default, ATEN._unsafe_view.default, ATEN.reshape.default, ATEN.unsqueeze.default,
    ATEN.squeeze.dim,
}  # fmt: skip
NEUTRAL = {  # to which side, and what number, changes nothing
    ATEN.mul.Tensor: (2, 1.0), ATEN.mul.Scalar: (1, 1.0), ATEN.add.Tensor: (2, 0.0),
    ATEN.add.Scalar: (1, 0.0), ATEN.sub.Tensor: (1, 0.0), ATEN.div.Tensor: (1, 1.0),
    ATEN.pow.Tensor_Scalar: (1, 1.0),
}  # fmt: skip


def simplify(made: GraphModule, values: Values) -> None:
    """Leave out operations that give back what they are given."""
    for node in made.graph.nodes:
        if node.op != "call_function" or not isinstance(values.get(node), torch.Tensor):
            continue
        same = _same_as(node, values)
        if same is not None:
            node.replace_all_uses_with(same)
        elif node.target == ATEN.sum.dim_IntList and _sums_nothing(node, values):
            with made.graph.inserting_before(node):
                shape = list(values[node].shape)
                flat = made.graph.call_function(ATEN.reshape.default, (node.args[0], shape))
            values[flat] = values[node]
            node.replace_all_uses_with(_same_as(flat, values) or flat)
    made.graph.eliminate_dead_code()


def _same_as(node: Node, values: Values) -> Node | None:
    """Which of its inputs an operation gives back, if it does."""
    out = values[node]
    source = node.args[0]
    if node.target in SAME_NUMBERS and isinstance(source, FxNode) and _alike(values.get(source), out):
        return source
    while isinstance(source, FxNode) and (node.target in RESHAPES):
        if _alike(values.get(source), out):
            return source
        source = source.args[0] if source.target in RESHAPES else None
    if node.target not in NEUTRAL or node.kwargs or len(node.args) != 2:
        return None
    sides, number = NEUTRAL[node.target]
    for one, other in (node.args, node.args[::-1])[:sides]:
        if isinstance(one, FxNode) and _alike(values.get(one), out) and _is(other, number, values):
            return one
    return None


def _is(argument: Any, number: float, values: Values) -> bool:
    """Whether an argument is this number, wherever it is broadcast to."""
    if isinstance(argument, FxNode):
        return argument.op == "get_attr" and bool((values[argument] == number).all())
    return bool(argument == number)


def _alike(one: Any, other: torch.Tensor) -> bool:
    """Whether two tensors have one layout and dtype."""
    return (
        isinstance(one, torch.Tensor)
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.dtype == other.dtype
    )


def _sums_nothing(node: Node, values: Values) -> bool:
    """Whether a sum is over axes of length one alone."""
    source = node.args[0]
    return (
        isinstance(source, FxNode)
        and math.prod(values[source].shape) == math.prod(values[node].shape)
        and values[source].dtype == values[node].dtype
    )


def combine_factors(made: GraphModule, values: Values) -> None:
    """One product in place of several by constants, as chain rules leave them; x · x in place of x².

    A product that something else needs stays: where it overflows, all that is made of it must.
    """
    scaled: dict[Node, tuple[Node, Any]] = {}
    for node in list(made.graph.nodes):
        if node.op != "call_function" or node.kwargs:
            continue
        if node.target == ATEN.pow.Tensor_Scalar and node.args[1] == 2:
            node.target, node.args = ATEN.mul.Tensor, (node.args[0], node.args[0])
        found = _factor(node, values)
        if found is None:
            continue
        source, factor = found
        if source in scaled and all(_is_factor_of(source, user, values) for user in source.users):
            source, factor = scaled[source][0], scaled[source][1] * factor
            node.target = ATEN.mul.Tensor
            node.args = (source, _constant(made, node, source, factor, values))
        scaled[node] = source, factor
    made.graph.eliminate_dead_code()


def _is_factor_of(source: Node, node: Node, values: Values) -> bool:
    """Whether a node is the source times constants."""
    found = _factor(node, values) if node.op == "call_function" and not node.kwargs else None
    return found is not None and found[0] is source


def _factor(node: Node, values: Values) -> tuple[Node, Any] | None:
    """(x, factor) of a node that is x times finite constants of x's own dtype."""
    one, other = (*node.args, None)[:2]
    if node.target == ATEN.neg.default:
        other = -1.0
    elif node.target == ATEN.mul.Tensor and isinstance(one, FxNode) and one.op == "get_attr":
        one, other = other, one
    elif node.target not in (ATEN.mul.Tensor, ATEN.mul.Scalar, ATEN.div.Tensor):
        return None
    if isinstance(other, FxNode):
        other = values[other] if other.op == "get_attr" else None
    if not isinstance(one, FxNode) or not isinstance(other, int | float | torch.Tensor):
        return None
    factor = torch.as_tensor(other, dtype=None if isinstance(other, torch.Tensor) else values[one].dtype)
    factor = factor.reciprocal() if node.target == ATEN.div.Tensor else factor
    same = factor.dtype == values[one].dtype == values[node].dtype and factor.is_floating_point()
    return (one, factor) if same and bool(factor.isfinite().all()) else None


def _constant(made: GraphModule, node: Node, source: Node, factor: torch.Tensor, values: Values) -> Node:
    """A constant before `node`; of one number along an axis where all are the same and `source` is full."""
    shape = values[node].shape
    if values[source].shape == factor.shape == shape:
        for axis in range(len(shape)):
            first = factor.narrow(axis, 0, 1)
            factor = first if bool((factor == first).all()) else factor
    return _number(made, node, f"_factor_{node.name}", factor, values)


def _number(made: GraphModule, before: Node, name: str, value: torch.Tensor, values: Values) -> Node:
    made.register_buffer(name, value.contiguous())
    with made.graph.inserting_before(before):
        number = made.graph.get_attr(name)
    values[number] = value
    return number


def join_slices(made: GraphModule, values: Values) -> None:
    """One concatenation in place of a sum of the gradients of slices that do not overlap."""
    for node in reversed(list(made.graph.nodes)):
        if node.target != ATEN.add.Tensor or node.kwargs:
            continue
        if not node.users:  # of a sum that was joined: else each sum inside it would be joined again
            made.graph.erase_node(node)
            continue
        terms = _terms(node, node)
        slices = [term for term in terms if _is_slice(term, terms[0])]
        slices.sort(key=_range)
        if len(slices) < 2 or any(_range(a)[1] > _range(b)[0] for a, b in pairwise(slices)):
            continue
        own = set(slices)
        with made.graph.inserting_before(node):
            joined = made.graph.call_function(
                ATEN.cat.default, (_pieces(made, node, slices, values), slices[0].args[2])
            )
            values[joined] = values[node]
            for term in (term for term in terms if term not in own):
                joined = made.graph.call_function(ATEN.add.Tensor, (joined, term))
                values[joined] = values[node]
        node.replace_all_uses_with(joined)
        made.graph.erase_node(node)
    made.graph.eliminate_dead_code()


def _terms(node: Any, top: Node) -> list[Any]:
    """Of a sum of sums that nothing else uses."""
    found, asked = [], [node]
    while asked:  # without recursion, since a sum over sites is as deep as they are many
        one = asked.pop()
        inner = isinstance(one, FxNode) and one.target == ATEN.add.Tensor and not one.kwargs
        if inner and (one is top or len(one.users) == 1):
            asked += [one.args[1], one.args[0]]
        else:
            found.append(one)
    return found


def _is_slice(term: Any, other: Any) -> bool:
    """Whether both are gradients of whole slices, by steps of one, of one axis of one tensor."""
    kind = ATEN.slice_backward.default
    both = all(isinstance(one, FxNode) and one.target == kind for one in (term, other))
    return both and term.args[1:3] == other.args[1:3] and term.args[5] == 1


def _range(term: Node) -> tuple[int, int]:
    """First number of a slice and the one after its last, counted from the front."""
    _, sizes, axis, start, end = term.args[:5]
    size = sizes[axis]
    first, last = (min(max(at + size if at < 0 else at, 0), size) for at in (start, end))
    return first, last


def _pieces(made: GraphModule, before: Node, slices: list[Node], values: Values) -> list[Node]:
    """What to concatenate: zeros where no slice is."""
    _, sizes, axis = slices[0].args[:3]
    axis, found, end = axis % len(sizes), [], 0
    for number, term in enumerate([*slices, None]):
        start, last = (sizes[axis], sizes[axis]) if term is None else _range(term)
        if start > end:
            shape = [*sizes[:axis], start - end, *sizes[axis + 1 :]]
            zeros = values[slices[0]].new_zeros(shape)
            found.append(_number(made, before, f"_zeros_{before.name}_{number}", zeros, values))
        if term is not None:
            found.append(term.args[0])
        end = last
    return found
