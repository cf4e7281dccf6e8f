"""An animation of a solve: noise that turns into data."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import backend_of, host_numbers, place, whole_number
from .density import level_holding
from .paths import COLOURS
from .states import states_of

CELLS = 80
BINS = 60
FRAMES = 100_000


def animate_trajectories(
    figure: Any,
    times: Sequence[float],
    states: Any,
    log_density: Callable[[Any, float], Any] | None = None,
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

    def density(points: np.ndarray, t: float) -> np.ndarray:
        assert log_density is not None
        found = log_density(place(points, backend_of(states)), t)
        return np.exp(np.asarray(host_numbers(found), dtype=float))

    draw = _draw_line if host.shape[2] == 1 else _draw_plane
    given = None if log_density is None else density

    def frame(k: int) -> list[Any]:
        axes.clear()
        draw(axes, host[k, : shown if host.shape[2] == 2 else None], times[k], spans, given)
        axes.set_title(f"t = {times[k]:.2f}", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        return [axes]

    return FuncAnimation(
        figure, frame, frames=[int(k) for k in picked], interval=80, init_func=lambda: [axes]
    )


def _draw_line(axes: Any, x: np.ndarray, t: float, spans: np.ndarray, density: Any) -> None:
    low, high = spans[:, 0]
    edges = np.linspace(low, high, BINS + 1)
    counts, _ = np.histogram(x[:, 0], edges)
    axes.stairs(counts / (x.shape[0] * np.diff(edges)), edges, fill=True, color="0.78")
    if density is not None:
        line = np.linspace(low, high, 4 * BINS)
        axes.plot(line, density(line[:, None], t), color=COLOURS[0])
    axes.set(xlabel="x", xlim=(low, high), yticks=[])


def _draw_plane(axes: Any, x: np.ndarray, t: float, spans: np.ndarray, density: Any) -> None:
    axes.plot(*x.T, ".", color="0.35", markersize=2, alpha=0.6)
    if density is not None:
        first, second = (np.linspace(spans[0, a], spans[1, a], CELLS) for a in (0, 1))
        points = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
        values = density(points, t).reshape(CELLS, CELLS)
        levels = sorted({level_holding(values, share) for share in (0.95, 0.5)})
        axes.contour(first, second, values.T, levels=levels, colors=COLOURS[0], linewidths=1.2)
    axes.set(xlabel="x₁", ylabel="x₂", xlim=spans[:, 0], ylim=spans[:, 1])
