"""A record of tensor operations with the model around them left out, and what need not be done twice."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch._guards import TracingContext, tracing
from torch._subclasses import FakeTensorMode
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx

from .rewrite import combine_factors, join_slices, simplify

ATEN = torch.ops.aten
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
    def _forward(self) -> Callable[..., Any]:
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
        simplify(made, values.found)
        combine_factors(made, values.found)
        join_slices(made, values.found)
        _merge(made)
        made.graph.eliminate_dead_code()
    constants = _as_arguments(made)
    made.graph.lint()
    return Record(made.graph, constants)


class _Values(Interpreter):
    """Runs the graph and keeps what every node gave."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.found: dict[Node, Any] = {}

    def run_node(self, n: Node) -> Any:
        self.found[n] = super().run_node(n)
        return self.found[n]


def _in_place(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _fold(made: GraphModule, values: dict[Node, Any]) -> None:
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
