"""Errors against step sizes or costs: slopes are orders."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..backend import host_numbers, whole_number
from ..backend.arguments import kind
from .paths import COLOURS

MARKS = "osD^vX"
TICKS = 8  # sizes written on the axis


def plot_convergence(
    axes: Any, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], fitted: int = 4
) -> dict[str, float]:
    """Draw errors on log-log matplotlib axes; returns the order of each curve, also in the legend.

    curves: {label: (sizes, errors)}, sizes such as steps or evaluations, at least two. The order is minus the
    slope of ln error against ln size, by least squares over the last `fitted` sizes, where the
    leading term of the error is all there is. Raises: ValueError for errors that do not fit the
    sizes or are not positive, or more curves than there are marks.
    """
    kind("curves", curves, Mapping, "{label: (sizes, errors)}")
    fitted = whole_number("fitted", fitted, 2)
    if not 0 < len(curves) <= len(MARKS):
        raise ValueError(f"plot_convergence shows 1 to {len(MARKS)} curves; got {len(curves)}")
    orders = {}
    for k, (label, pair) in enumerate(curves.items()):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"curves: {label!r} must be a pair (sizes, errors); got {pair!r:.80}")
        x, y = (host_numbers(one, f"curves: the numbers of {label!r}").astype(float) for one in pair)
        if x.shape != y.shape or x.ndim != 1 or x.size < 2:
            raise ValueError(
                f"plot_convergence: {label!r} needs as many errors as sizes, at least 2; got {y.shape} and "
                f"{x.shape}"
            )
        if not (np.all(x > 0) and np.all(y > 0)):
            raise ValueError(f"plot_convergence: sizes and errors of {label!r} must be positive")
        slope, _ = np.polyfit(np.log(x[-fitted:]), np.log(y[-fitted:]), 1)
        orders[label] = -float(slope)
        colour = (*COLOURS, "#000000", "#56B4E9")[k]
        text = f"{label}: order {orders[label]:.2f}"
        axes.loglog(x, y, f"{MARKS[k]}-", color=colour, markersize=4, linewidth=1.2, label=text)
    every = sorted({float(size) for sizes, _ in curves.values() for size in sizes})
    ticks = every[:: -(-len(every) // TICKS)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small", loc="lower left")
    return orders
