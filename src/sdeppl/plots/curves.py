"""Errors against step sizes or costs, whose slopes are orders, and the curve of a training."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import host_numbers, whole_number
from ..backend.arguments import kind
from .paths import COLOURS, without_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MARKS = "osD^vX"
TICKS = 8  # sizes written on the axis


def plot_convergence(
    axes: "Axes", curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], fitted: int = 4
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
    without_frame(axes)
    axes.legend(frameon=False, fontsize="small", loc="lower left")
    return orders


def plot_training(axes: "Axes", losses: Sequence[float], gain: Any = None, window: int = 100) -> None:
    """Draw the losses of `ScoreMatching` on matplotlib axes, with their mean over `window` steps.

    losses: one a step, as `ScoreMatching.losses`, in units of the loss of the Gaussian part alone, which
    is the line at 1. gain: `ScoreMatching.gain`, drawn as the network's loss on fresh draws, 1 - mean, with
    a band of three standard errors. The axis starts where a scatter of single losses does not rule
    it. Raises: ValueError for no losses, or window < 1.
    """
    values, window = host_numbers(losses, "losses").astype(float), whole_number("window", window, 1, 10**9)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"plot_training: losses must be a list of finite numbers, one a step; got {losses!r:.80}"
        )
    steps = np.arange(1, values.size + 1)
    total = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(steps - window, 0)
    mean = (total[steps] - total[first]) / (steps - first)
    axes.plot(steps, values, color="0.88", linewidth=0.5, label="each step")
    axes.plot(steps, mean, color=COLOURS[0], linewidth=1.6, label=f"mean of the last {window}")
    axes.axhline(1.0, color="black", linestyle=":", linewidth=1.0, label="Gaussian part alone")
    if gain is not None:
        level, reach = 1 - gain.mean, 3 * gain.standard_error
        axes.axhspan(level - reach, level + reach, color=COLOURS[1], alpha=0.25, linewidth=0)
        axes.axhline(level, color=COLOURS[1], linestyle="--", linewidth=1.2, label="on fresh draws")
    low, high = np.quantile(values, [0.1, 0.9])
    axes.set(xlabel="step", ylabel="loss", xlim=(1, max(values.size, 2)))
    bottom, top = min(low, mean.min()), max(high, mean.max(), 1.0)
    axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.4 * (top - bottom))  # above: room for the legend
    without_frame(axes)
    tight = {"columnspacing": 1.0, "handlelength": 1.5, "borderaxespad": 0.2}
    axes.legend(loc="upper right", framealpha=1.0, edgecolor="none", fontsize="small", ncols=2, **tight)
