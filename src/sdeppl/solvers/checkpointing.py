"""Gradients through a solve in less memory."""

from collections.abc import Callable, Iterator
from typing import Any

from ..backend import Array, checkpoint, whole_number

Step = Callable[[int, Array, Array], tuple[Array, Array]]


def steps_taken(take: Step, steps: int, x: Array, memory: Any, every: int | None) -> Iterator[Any]:
    """The states after each step, of which `take` makes number k: (k, x, memory) ↦ (x, memory).

    every: None, or the steps of a segment: for gradients only the states between segments are held,
    and a segment's steps are taken again, with the same noise, when its gradient is asked for. What
    is held is O(steps/every) states and O(every) times what one step holds, least near
    every = √steps; each step is taken twice. Source: Griewank & Walther 2000, with one level of
    checkpoints; Chen et al. 2016 (Training deep nets with sublinear memory cost).
    """
    if every is None:
        for k in range(steps):
            x, memory = take(k, x, memory)
            yield x
        return

    def segment(x: Array, memory: Any, first: int) -> tuple[list[Array], Array]:
        states = []
        for k in range(first, min(first + every, steps)):
            x, memory = take(k, x, memory)
            states.append(x)
        return states, memory

    for first in range(0, steps, every):
        states, memory = checkpoint(segment, x, memory, first)
        x = states[-1]
        yield from states


def check_checkpoint(every: Any, stream: Any, control: Any) -> None:
    """Raises: ValueError for a number of steps that is none, noise that cannot be drawn again, or a
    controlled solve, whose steps are not known beforehand.
    """
    if every is None:
        return
    whole_number("checkpoint, the steps between two states that are kept,", every, 1)
    if control is not None:
        raise ValueError("checkpoint takes the steps of a grid, not those of a control: give one of the two")
    if getattr(stream, "native", None) is not None:
        raise ValueError(
            "checkpoint draws the same noise again for gradients, which a native stream cannot do: use "
            "Noise(seed, mode='host') or a BrownianPath"
        )
