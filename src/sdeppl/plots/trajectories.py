"""Trajectories of a forward or reverse SDE, between the densities at both ends."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import backend_of, host_numbers, place, whole_number
from .paths import COLOURS
from .states import ends_of, states_of

CELLS = 200
BINS = 60
COLUMNS = 120  # times at which the density is shaded


def plot_trajectories(
    figure: Any,
    times: Sequence[float],
    states: Any,
    log_density: Callable[[Any, float], Any] | None = None,
    shown: int = 12,
    span: tuple[float, float] | None = None,
) -> list[Any]:
    """Draw states (times, n, 1) of a solve on a matplotlib figure or subfigure, as they ran in time.

    Time goes from left to right as the SDE was solved, so that a reverse one ends in the data on the right.
    In the middle `shown` of the paths; on the left and right histograms of all of them at the first and the
    last time. log_density: (x (k, 1), t) ↦ ln p_t(x) (k,), such as a mixture denoiser's: shaded behind the
    paths and drawn over the histograms. span: ends of the axis of x, by default those of all states at
    the two ends. Returns the axes, from left to right. Raises: TypeError for what is no numbers; ValueError
    for states that do not fit `times`, or a span whose ends are not in order.
    """
    times, host = states_of("plot_trajectories", times, states, (1,))
    host, shown = host[..., 0], whole_number("plot_trajectories: shown", shown, 0)
    span = _span(host[[0, -1]]) if span is None else ends_of("plot_trajectories: span", span)
    panels = figure.subplots(1, 3, sharey=True, width_ratios=[1.0, 4.0, 1.0])
    left, middle, right = panels
    x = np.linspace(*span, CELLS)

    def density(t: float) -> np.ndarray:
        assert log_density is not None
        column = place(x[:, None], backend_of(states))
        return np.exp(np.asarray(host_numbers(log_density(column, t)), dtype=float))

    if log_density is not None:
        some = np.unique(np.linspace(0, len(times) - 1, COLUMNS).round().astype(int))
        image = np.stack([density(times[k]) for k in some], axis=1)
        image = image / image.max(axis=0)  # each time by its own highest point: spreads dwarf each other
        middle.pcolormesh([times[k] for k in some], x, image, cmap="Greys", vmax=2.0, shading="nearest")
    for k in range(min(shown, host.shape[1])):
        middle.plot(times, host[:, k], color=COLOURS[k % 2], linewidth=0.7, alpha=0.8)
    middle.set(xlabel="t", xlim=(times[0], times[-1]), ylim=span)
    edges = np.linspace(*span, BINS + 1)
    for axes, row, t in ((left, host[0], times[0]), (right, host[-1], times[-1])):
        counts, _ = np.histogram(row, edges)
        share = counts / (row.size * np.diff(edges))
        axes.stairs(share, edges, orientation="horizontal", fill=True, color="0.78")
        if log_density is not None:
            axes.plot(density(t), x, color="black", linewidth=1.2)
        axes.set_title(f"t = {t:.3g}", fontsize="medium")
        axes.set_xticks([])
    left.invert_xaxis()
    left.set_ylabel("x")
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return list(panels)


def _span(values: np.ndarray) -> tuple[float, float]:
    """From the least to the largest, and a twentieth more on both sides."""
    margin = 0.05 * (values.max() - values.min())
    return float(values.min() - margin), float(values.max() + margin)
