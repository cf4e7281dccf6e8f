"""Observations as arrays and JSON, for saved posteriors."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from array_api_compat import is_array_api_obj

from ..linalg import LinearOperator, operator_from_dict, operator_to_dict
from . import families
from .independent import IndependentObservation, LinearPredictor
from .joint import JointObservation, joint_observation
from .linear_gaussian import AffineObservation, LinearConstraint, LinearGaussian
from .observation import Observation, entries

Arrays = dict[str, Any]


def observation_to_dict(
    observation: Observation, prefix: str = "observation"
) -> tuple[Arrays, dict[str, Any]]:
    """Arrays by name, each with the prefix, and JSON, from which `observation_from_dict` makes it again.

    Operators without their entries at hand are taken apart themselves. Raises: TypeError for one that holds a
    function, such as a Pyro model's.
    """
    if isinstance(observation, JointObservation):
        found = [observation_to_dict(part, f"{prefix}.{k}") for k, part in enumerate(observation.parts)]
        arrays = {name: array for part, _ in found for name, array in part.items()}
        return arrays, {"type": "JointObservation", "parts": [content for _, content in found]}
    content: dict[str, Any] = {"type": type(observation).__name__}
    operators: dict[str, LinearOperator] = {}
    if isinstance(observation, AffineObservation):
        arrays, operators = {"y": observation.y}, {"H": observation.jacobian}
        if not observation.hard:
            operators["R"] = observation.noise
    elif isinstance(observation, IndependentObservation) and _is_plain(observation):
        predictor: Any = observation.predictor
        arrays, operators = {"offset": predictor.offset, "y": observation.y}, {"H": predictor.jacobian}
        family: Any = observation.log_density
        values = {field.name: getattr(family, field.name) for field in fields(family)}
        arrays |= {f"family.{name}": value for name, value in values.items() if is_array_api_obj(value)}
        numbers = {name: value for name, value in values.items() if not is_array_api_obj(value)}
        content |= {"family": type(family).__name__, "numbers": numbers, "nodes": observation.nodes}
    else:
        raise TypeError(
            f"cannot save the observation: {type(observation).__name__} holds a function of the latents. "
            "Affine Gaussian observations, affine constraints, and sdeppl.likelihood.families of an affine "
            "predictor can be saved; for others save the guide, and condition it again"
        )
    for name, operator in operators.items():
        if operator.materialised:
            arrays[name] = operator.dense() if name == "H" else entries(operator)
        else:
            held, content[name] = operator_to_dict(operator, name)
            arrays |= held
    return {f"{prefix}.{name}": array for name, array in arrays.items()}, content


def observation_from_dict(
    arrays: Mapping[str, Any], content: Mapping[str, Any], prefix: str = "observation"
) -> Observation:
    """What `observation_to_dict` took apart, on the arrays' backend. Raises: KeyError for anything else."""
    if content["type"] == "JointObservation":
        parts = content["parts"]
        return joint_observation(
            [observation_from_dict(arrays, part, f"{prefix}.{k}") for k, part in enumerate(parts)]
        )
    mine = {name.removeprefix(f"{prefix}."): a for name, a in arrays.items() if name.startswith(f"{prefix}.")}
    mine |= {name: operator_from_dict(mine, content[name], name) for name in ("H", "R") if name in content}
    if content["type"] == "LinearConstraint":
        return LinearConstraint(mine["H"], mine["y"])
    if content["type"] == "LinearGaussian":
        return LinearGaussian(mine["H"], mine["y"], mine["R"])
    if content["type"] != "IndependentObservation":
        raise KeyError(content["type"])
    kind = getattr(families, content["family"], None)
    if not (isinstance(kind, type) and issubclass(kind, families.Family)):
        raise KeyError(content["family"])
    parameters = {n.removeprefix("family."): a for n, a in mine.items() if n.startswith("family.")}
    family = kind(**_tuples(content["numbers"]), **parameters)
    return IndependentObservation(
        family, mine["y"], H=mine["H"], offset=mine["offset"], nodes=content["nodes"]
    )


def _is_plain(observation: IndependentObservation) -> bool:
    return isinstance(observation.predictor, LinearPredictor) and isinstance(
        observation.log_density, families.Family
    )


def _tuples(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows lists alone."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in numbers.items()}
