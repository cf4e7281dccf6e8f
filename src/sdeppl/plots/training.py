"""The training curve of denoising score matching."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import host_numbers, whole_number
from .paths import COLOURS


def plot_training(axes: Any, losses: Sequence[float], gain: Any = None, window: int = 100) -> None:
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
    axes.spines[["top", "right"]].set_visible(False)
    tight = {"columnspacing": 1.0, "handlelength": 1.5, "borderaxespad": 0.2}
    axes.legend(loc="upper right", framealpha=1.0, edgecolor="none", fontsize="small", ncols=2, **tight)
