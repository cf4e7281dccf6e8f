"""Operators as arrays and JSON, for saved guides and posteriors; and so from one backend to another."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..backend import Array, Backend, array_namespace, place
from .grid import Stationary
from .layouts import FieldShape
from .markov import BlockTridiagonal, GaussMarkov
from .operators import Dense, Diagonal, Isotropic, LinearOperator, Product, Selection, Spectral, Triangular
from .structures import Blocks, LowRankUpdate, blocks_in_places

Arrays = dict[str, Any]
Content = dict[str, Any]


def operator_to_dict(operator: LinearOperator, prefix: str = "operator") -> tuple[Arrays, Content]:
    """Arrays by name, each with the prefix, and JSON, from which `operator_from_dict` makes it again.

    Raises: TypeError for one that is known by functions, whose products nothing but them can make.
    """
    content: Content = {"type": type(operator).__name__}
    arrays: Arrays = {}
    parts: dict[str, LinearOperator] = {}
    match operator:
        case Spectral():
            arrays = {"U": operator.U, "along": operator.along, "across": operator.across}
        case Diagonal():
            arrays, content["n"] = {"values": operator.values}, operator.shape[0]
        case Dense():
            arrays, content["positive"] = {"matrix": operator.matrix}, operator.positive
        case Triangular():
            arrays = {"matrix": operator.matrix}
        case Selection():
            xp = array_namespace(operator.like)
            arrays = {"index": xp.astype(operator.index, operator.like.dtype)}
            content["n"] = operator.shape[1]
        case Stationary():
            arrays = {"spectrum": operator.spectrum, "vectors": operator.vectors}
            content["field"] = asdict(operator.field)
        case Blocks():
            parts = {str(k): part for k, part in enumerate(operator.parts)}
            content["places"] = [[[one.start, one.stop] for one in place] for place in operator.places]
        case LowRankUpdate():
            arrays, parts = {"U": operator.U, "K": operator.K}, {"D": operator.D}
        case BlockTridiagonal():
            arrays = {"blocks": operator.blocks, "lower": operator.lower}
            content["n"] = operator.shape[0]
        case GaussMarkov():
            parts = {"precision": operator.precision}
        case Product():
            parts = {"left": operator.left, "right": operator.right}
        case _:
            raise TypeError(f"cannot save {operator!r}: it is known by functions, not by numbers")
    found = {f"{prefix}.{name}": array for name, array in arrays.items() if array is not None}
    for name, part in parts.items():
        own, content[name] = operator_to_dict(part, f"{prefix}.{name}")
        found |= own
    return found, content


def operator_from_dict(
    arrays: Mapping[str, Any], content: Mapping[str, Any], prefix: str = "operator"
) -> LinearOperator:
    """What `operator_to_dict` took apart, on the arrays' backend. Raises: KeyError for anything else."""

    def own(name: str) -> Any:
        return arrays[f"{prefix}.{name}"]

    def part(name: str) -> Any:
        return operator_from_dict(arrays, content[name], f"{prefix}.{name}")

    match content["type"]:
        case "Spectral":
            return Spectral(own("U"), own("along"), arrays.get(f"{prefix}.across"))
        case "Isotropic":
            return Isotropic(own("values")[..., 0], content["n"])
        case "Diagonal":
            return Diagonal(own("values"), content["n"])
        case "Dense":
            return Dense(own("matrix"), content["positive"])
        case "Triangular":
            return Triangular(own("matrix"))
        case "Selection":
            return Selection(_whole(own("index")), content["n"], own("index"))
        case "Stationary":
            of = content["field"]
            field = FieldShape(of["channels"], tuple(of["shape"]), tuple(of["periodic"]))
            return Stationary(field, own("spectrum"), arrays.get(f"{prefix}.vectors"))
        case "Blocks" | "DiagonalisableBlocks":
            places = [[slice(*one) for one in place] for place in content["places"]]
            return blocks_in_places([part(str(k)) for k in range(len(places))], places)
        case "LowRankUpdate":
            return LowRankUpdate(part("D"), own("U"), own("K"))
        case "BlockTridiagonal":
            return BlockTridiagonal(own("blocks"), own("lower"), content["n"])
        case "GaussMarkov":
            return GaussMarkov(part("precision"))
        case "Product":
            return Product(part("left"), part("right"))
    raise KeyError(content["type"])


def placed(operator: LinearOperator, backend: Backend) -> LinearOperator:
    """The same operator on another backend, in its dtype. Raises: TypeError as `operator_to_dict`."""
    arrays, content = operator_to_dict(operator)
    return operator_from_dict({name: place(array, backend) for name, array in arrays.items()}, content)


def _whole(index: Array) -> Array:
    xp = array_namespace(index)
    return xp.astype(xp.round(index), xp.int64)
