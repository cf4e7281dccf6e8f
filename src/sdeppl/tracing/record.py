"""A record of tensor operations with the model around them left out, and what need not be done twice."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch._guards import TracingContext, tracing
from torch._subclasses import FakeTensorMode
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx

from ..distributions.typing import Model

ATEN = torch.ops.aten
Values = dict[Node, Any]  # what every node of a graph gave
FROM_SHAPES = {  # their values do not depend on those of what they are given
    ATEN.ones_like.default, ATEN.zeros_like.default, ATEN.full_like.default, ATEN.new_zeros.default,
    ATEN.new_ones.default, ATEN.new_full.default,
}  # fmt: skip
QUICK: dict[Any, Callable[..., Any]] = {  # the same operations, by a way with less Python in it
    ATEN.mul.Tensor: torch.mul, ATEN.mul.Scalar: torch.mul, ATEN.add.Tensor: torch.add,
    ATEN.add.Scalar: torch.add, ATEN.sub.Tensor: torch.sub, ATEN.div.Tensor: torch.div,
    ATEN.neg.default: torch.neg, ATEN.exp.default: torch.exp, ATEN.log.default: torch.log,
    ATEN.log1p.default: torch.log1p, ATEN.sum.dim_IntList: torch.sum, ATEN.where.self: torch.where,
    ATEN.mm.default: torch.mm, ATEN.cat.default: torch.cat, ATEN.stack.default: torch.stack,
    ATEN.unsqueeze.default: torch.unsqueeze, ATEN.masked_fill.Scalar: torch.masked_fill,
    ATEN.reciprocal.default: torch.reciprocal, ATEN.sqrt.default: torch.sqrt,
    ATEN.pow.Tensor_Scalar: torch.pow, ATEN.view.default: torch.Tensor.view,
    ATEN.expand.default: torch.Tensor.expand,
}  # fmt: skip
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


@dataclass(frozen=True)
class Record:
    """Operations on z, (*constants, z) in their graph; called with z, the tuple of all that they give.

    Constants are arguments, since to look one up in a module costs as much as to use it.
    """

    graph: Graph
    constants: tuple[torch.Tensor, ...]

    def __call__(self, z: torch.Tensor) -> Any:
        return self._forward(z)

    @cached_property
    def _forward(self) -> Model:
        return partial(GraphModule({}, self.graph).forward, *self.constants)

    def first(self) -> "Record":
        """What leads to the first of its results, alone."""
        graph = copy.deepcopy(self.graph)
        output = next(node for node in graph.nodes if node.op == "output")
        output.args = (output.args[0][:1],)
        graph.eliminate_dead_code()
        *places, _ = (node for node in graph.nodes if node.op == "placeholder")
        pairs = list(zip(places, self.constants, strict=True))
        for place, _ in pairs:
            if not place.users:
                graph.erase_node(place)
        return Record(graph, tuple(constant for place, constant in pairs if place.users))


def record(function: Callable[..., Any], z: torch.Tensor) -> Record:
    """The function of tensors like z, as its tensor operations: without Python between them, without what
    does not depend on z, and each once.

    z ↦ a tuple of tensors. Constants stay what they are at z, random numbers among them. Raises: whatever
    torch raises for a function that cannot be traced.
    """
    with tracing(TracingContext(FakeTensorMode())):  # one; make_fx would make one for each operation
        made = make_fx(torch.func.functionalize(lambda z: function(z)))(z)  # it takes no bound methods
    made.graph.eliminate_dead_code()
    if not any(_in_place(node) for node in made.graph.nodes):
        values = _Values(made)
        values.run(z)
        _fold(made, values.found)
        _simplify(made, values.found)
        _merge(made)
        made.graph.eliminate_dead_code()
    constants = _as_arguments(made)
    made.graph.lint()
    return Record(made.graph, constants)


class _Values(Interpreter):
    """Runs the graph and keeps what every node gave."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.found: Values = {}

    def run_node(self, n: Node) -> Any:
        self.found[n] = super().run_node(n)
        return self.found[n]


def _in_place(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _fold(made: GraphModule, values: Values) -> None:
    """Put numbers in place of what does not depend on the input."""
    constant: set[Node] = set()
    for node in made.graph.nodes:
        fixed = node.op == "call_function" and all(parent in constant for parent in node.all_input_nodes)
        if node.op == "get_attr" or fixed or node.target in FROM_SHAPES:
            constant.add(node)
    for node in list(constant):
        used = any(user not in constant for user in node.users)
        if node.op == "get_attr" or not used or not isinstance(values[node], torch.Tensor):
            continue
        name = f"_folded_{node.name}"
        made.register_buffer(name, values[node].detach())
        with made.graph.inserting_before(node):
            number = made.graph.get_attr(name)
        values[number] = values[node]
        node.replace_all_uses_with(number)
    for node in reversed(list(made.graph.nodes)):  # random draws and checks too, which torch would keep
        if node in constant and not node.users:
            made.graph.erase_node(node)


def _simplify(made: GraphModule, values: Values) -> None:
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
    if node.target in SAME_NUMBERS and isinstance(source, Node) and _alike(values.get(source), out):
        return source
    while isinstance(source, Node) and (node.target in RESHAPES):
        if _alike(values.get(source), out):
            return source
        source = source.args[0] if source.target in RESHAPES else None
    if node.target not in NEUTRAL or node.kwargs or len(node.args) != 2:
        return None
    sides, number = NEUTRAL[node.target]
    for one, other in (node.args, node.args[::-1])[:sides]:
        if isinstance(one, Node) and _alike(values.get(one), out) and _is(other, number, values):
            return one
    return None


def _is(argument: object, number: float, values: Values) -> bool:
    """Whether an argument is this number, wherever it is broadcast to."""
    if isinstance(argument, Node):
        return argument.op == "get_attr" and bool((values[argument] == number).all())
    return bool(argument == number)


def _alike(one: object, other: torch.Tensor) -> bool:
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
        isinstance(source, Node)
        and math.prod(values[source].shape) == math.prod(values[node].shape)
        and values[source].dtype == values[node].dtype
    )


def _merge(made: GraphModule) -> None:
    """Do what is done twice once."""
    seen: dict[Any, Node] = {}
    for node in made.graph.nodes:
        random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if node.op != "call_function" or random:
            continue
        key = (node.target, repr(node.args), repr(sorted(node.kwargs.items())))
        if key in seen:
            node.replace_all_uses_with(seen[key])
        else:
            seen[key] = node


def _as_arguments(made: GraphModule) -> tuple[torch.Tensor, ...]:
    """Turn constants into arguments before z; what they are. Operations go by their quick names."""
    places: dict[Any, Node] = {}
    first = next(iter(made.graph.nodes))
    for node in list(made.graph.nodes):
        node.target = QUICK.get(node.target, node.target)
        if node.op != "get_attr":
            continue
        if node.target not in places:
            with made.graph.inserting_before(first):
                places[node.target] = made.graph.placeholder(f"constant_{len(places)}")
        node.replace_all_uses_with(places[node.target])
        made.graph.erase_node(node)
    return tuple(getattr(made, name) for name in places)
