"""Readings of several sites side by side, so that one run of the model answers what all of them ask."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from .probing import Function, Probes
from .slopes import differentiable

T = TypeVar("T")


@dataclass(frozen=True)
class Values:
    """Asks for a function's values at the draws, or the first `rows`, and whether vmap can run it."""

    function: Function
    rows: int | None = None


@dataclass(frozen=True)
class Smooth:
    """Asks whether the function has a gradient that accounts for its values, and whether under vmap."""

    function: Function
    values: torch.Tensor
    vectorised: bool


@dataclass(frozen=True)
class Affine:
    """Asks for H and offset of a function with these values; None where it is not affine."""

    function: Function
    values: torch.Tensor


Reading = Generator[Values | Smooth | Affine, Any, T]


def read_together(readings: Sequence[Reading[T]], probes: Probes) -> list[T]:
    """What the readings return. Each asks with `yield`; what they ask at the same time is found together.

    Raises: the first error that a reading lets through.
    """
    found: dict[int, T] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(readings)))
    while answers:
        asked = {}
        for k, answer in answers.items():
            try:
                reading = readings[k]
                asked[k] = reading.throw(answer) if isinstance(answer, Exception) else reading.send(answer)
            except StopIteration as stop:
                found[k] = stop.value
        answers = _answers(asked, probes)
    return [found[k] for k in range(len(readings))]


def _answers(asked: dict[int, Any], probes: Probes) -> dict[int, Any]:
    """{reading: answer}, an exception for a function that cannot be run."""
    alike: dict[Any, list[int]] = {}
    for k, request in asked.items():
        sort = request.rows if isinstance(request, Values) else getattr(request, "vectorised", None)
        alike.setdefault((type(request), sort), []).append(k)
    answers: dict[int, Any] = {}
    for (kind, sort), members in alike.items():
        functions = [asked[k].function for k in members]
        if kind is Values:
            found = probes.values(functions, sort)
        elif kind is Smooth:
            found = differentiable(probes, functions, [asked[k].values for k in members], sort)
        else:
            found = probes.affine(functions, [asked[k].values for k in members])
        answers |= dict(zip(members, found, strict=True))
    return answers
