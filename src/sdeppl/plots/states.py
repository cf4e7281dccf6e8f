"""States of a solve, as pictures take them."""

from typing import Any

import numpy as np

from ..backend import host_numbers, real_times


def states_of(who: str, times: Any, states: Any, dims: tuple[int, ...]) -> tuple[list[float], np.ndarray]:
    """Times, and states (times, n, dim) in NumPy, dim one of `dims`.

    Raises: TypeError for what is no numbers; ValueError for states that do not fit the times.
    """
    listed = real_times(f"{who}: ", times)
    host = np.asarray(host_numbers(states, f"{who}: the states"), dtype=float)
    if (
        host.ndim != 3
        or len(host) != len(listed)
        or not listed
        or not host.shape[1]
        or host.shape[2] not in dims
    ):
        wanted = " or ".join(map(str, dims))
        raise ValueError(
            f"{who}: expected states (times, n, {wanted}) with {len(listed)} times; got {host.shape}"
        )
    return listed, host


def ends_of(name: str, ends: Any) -> tuple[float, float]:
    """Two numbers in order. Raises: TypeError; ValueError, naming them."""
    found = real_times(f"{name}: ", ends)
    if len(found) != 2 or not -np.inf < found[0] < found[1] < np.inf:
        raise ValueError(f"{name} must be two numbers, the lower first; got {ends!r:.80}")
    return found[0], found[1]
