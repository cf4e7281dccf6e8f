"""Trajectories of a forward or reverse SDE, between the densities at both ends, and as an animation."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import backend_of, host_numbers, place, whole_number
from .paths import COLOURS, ends_of, histogram, level_holding, states_of, without_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase


LogDensity = Callable[[Any, float], Any]  # of arrays of any backend
CELLS = 200
BINS = 60
COLUMNS = 120  # times at which the density is shaded
PLANE_CELLS = 80
FRAMES = 100_000


def plot_trajectories(
    figure: "FigureBase",
    times: Sequence[float],
    states: object,
    log_density: LogDensity | None = None,
    shown: int = 12,
    span: tuple[float, float] | None = None,
) -> list["Axes"]:
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

    if log_density is not None:
        some = np.unique(np.linspace(0, len(times) - 1, COLUMNS).round().astype(int))
        image = np.stack([_density(log_density, x[:, None], times[k], states) for k in some], axis=1)
        image = image / image.max(axis=0)  # each time by its own highest point: spreads dwarf each other
        middle.pcolormesh([times[k] for k in some], x, image, cmap="Greys", vmax=2.0, shading="nearest")
    for k in range(min(shown, host.shape[1])):
        middle.plot(times, host[:, k], color=COLOURS[k % 2], linewidth=0.7, alpha=0.8)
    middle.set(xlabel="t", xlim=(times[0], times[-1]), ylim=span)
    edges = np.linspace(*span, BINS + 1)
    for axes, row, t in ((left, host[0], times[0]), (right, host[-1], times[-1])):
        histogram(axes, row, edges, orientation="horizontal", fill=True, color="0.78")
        if log_density is not None:
            axes.plot(_density(log_density, x[:, None], t, states), x, color="black", linewidth=1.2)
        axes.set_title(f"t = {t:.3g}", fontsize="medium")
        axes.set_xticks([])
    left.invert_xaxis()
    left.set_ylabel("x")
    without_frame(*panels)
    return list(panels)


def _density(log_density: LogDensity, points: np.ndarray, t: float, states: object) -> np.ndarray:
    """p_t at points (k, dim) on the backend of the states, (k,)."""
    found = log_density(place(points, backend_of(states)), t)
    return np.exp(np.asarray(host_numbers(found), dtype=float))


def _span(values: np.ndarray) -> tuple[float, float]:
    """From the least to the largest, and a twentieth more on both sides."""
    margin = 0.05 * (values.max() - values.min())
    return float(values.min() - margin), float(values.max() + margin)


def animate_trajectories(
    figure: "Figure",
    times: Sequence[float],
    states: object,
    log_density: LogDensity | None = None,
    frames: int = 60,
    shown: int = 2_000,
) -> Any:
    """A matplotlib animation of states (times, n, 1 or 2) of a solve; `.save("x.gif", writer="pillow")`.

    One dimension: the histogram of all states; two: `shown` of them as dots. log_density: (x (k, dim), t) ↦
    ln p_t(x) (k,), such as a mixture denoiser's: a line, or contours that hold 50 and 95 % of the mass.
    frames: how many of the times, evenly by number, the last among them. The axes stay as they are, wide
    enough for both ends. Raises: TypeError for what is no numbers; ValueError for states that do not fit
    `times`, frames < 2 or shown < 1.
    """
    from matplotlib.animation import FuncAnimation

    times, host = states_of("animate_trajectories", times, states, (1, 2))
    frames = whole_number("animate_trajectories: frames", frames, 2, FRAMES)
    shown = whole_number("animate_trajectories: shown", shown, 1)
    ends = host[[0, -1]].reshape(-1, host.shape[2])
    middle, reach = 0.5 * (ends.max(axis=0) + ends.min(axis=0)), 0.55 * np.ptp(ends, axis=0)
    spans = np.stack([middle - reach, middle + reach])
    picked = np.unique(np.linspace(0, len(times) - 1, frames).round().astype(int))
    axes = figure.subplots()

    draw = _draw_line if host.shape[2] == 1 else _draw_plane
    given = None if log_density is None else partial(_density, log_density, states=states)

    def frame(k: int) -> list["Axes"]:
        axes.clear()
        draw(axes, host[k, : shown if host.shape[2] == 2 else None], times[k], spans, given)
        axes.set_title(f"t = {times[k]:.2f}", loc="left")
        without_frame(axes)
        return [axes]

    return FuncAnimation(
        figure, frame, frames=[int(k) for k in picked], interval=80, init_func=lambda: [axes]
    )


def _draw_line(axes: "Axes", x: np.ndarray, t: float, spans: np.ndarray, density: Any) -> None:
    low, high = spans[:, 0]
    edges = np.linspace(low, high, BINS + 1)
    histogram(axes, x[:, 0], edges, fill=True, color="0.78")
    if density is not None:
        line = np.linspace(low, high, 4 * BINS)
        axes.plot(line, density(line[:, None], t), color=COLOURS[0])
    axes.set(xlabel="x", xlim=(low, high), yticks=[])


def _draw_plane(axes: "Axes", x: np.ndarray, t: float, spans: np.ndarray, density: Any) -> None:
    axes.plot(*x.T, ".", color="0.35", markersize=2, alpha=0.6)
    if density is not None:
        first, second = (np.linspace(spans[0, a], spans[1, a], PLANE_CELLS) for a in (0, 1))
        points = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
        values = density(points, t).reshape(PLANE_CELLS, PLANE_CELLS)
        levels = sorted({level_holding(values, share) for share in (0.95, 0.5)})
        axes.contour(first, second, values.T, levels=levels, colors=COLOURS[0], linewidths=1.2)
    axes.set(xlabel="x₁", ylabel="x₂", xlim=spans[:, 0], ylim=spans[:, 1])
