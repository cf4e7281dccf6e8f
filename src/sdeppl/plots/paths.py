"""Posterior trajectories: mean, band and a few draws; and what all pictures share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import host_numbers, real_times
from ..backend.arguments import kind, listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Okabe & Ito's colours, told apart with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


@dataclass(frozen=True)
class Band:
    """Mean and lower and upper edge of a trajectory's posterior, each (times,)."""

    mean: Any
    low: Any
    high: Any

    @classmethod
    def of_draws(cls, draws: object, level: float = 0.9) -> "Band":
        """From draws (n, times): central `level` of them at each time."""
        draws = host_numbers(draws)
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return cls(draws.mean(axis=0), low, high)

    @classmethod
    def of_normal(cls, mean: object, sd: object, level: float = 0.9) -> "Band":
        """From a normal posterior's mean and standard deviation at each time."""
        from scipy.stats import norm

        reach = norm.ppf((1 + level) / 2) * host_numbers(sd)
        centre = host_numbers(mean)
        return cls(centre, centre - reach, centre + reach)


def plot_paths(
    axes: "Axes",
    times: object,
    bands: Mapping[str, Band],
    observed: object,
    draws: object = None,
    gaps: Sequence[tuple[float, float]] = (),
) -> None:
    """Draw observations (NaN left out), gaps, each labelled band, and some draws on matplotlib axes.

    times, observed: (times,); draws: (n, times) or None; gaps: (left, right) in units of time. The
    first band is filled; the others are lines, dashed and dotted, over it. Raises: TypeError for what is
    no numbers; ValueError for lengths that differ, or more bands than there are colours.
    """
    kind("bands", bands, Mapping, "{label: Band}")
    times = real_times("", times)
    observed = _along("observed", observed, times)
    gaps = [ends_of("gaps: each", gap) for gap in listed("gaps", gaps, "a list of (left, right)")]
    if len(bands) > len(COLOURS):
        raise ValueError(f"plot_paths shows at most {len(COLOURS)} bands; got {len(bands)}")
    for left, right in gaps:
        axes.axvspan(left, right, color="0.93", zorder=0)
    for row in _along("draws", draws, times, 2) if draws is not None else ():
        axes.plot(times, row, color=COLOURS[0], linewidth=0.5, alpha=0.35, zorder=1)
    styles = ("-", "--", ":", "-.")
    for index, (label, band) in enumerate(bands.items()):
        kind(f"bands[{label!r}]", band, Band, "a Band")
        mean, low, high = (
            _along(f"bands[{label!r}]", one, times) for one in (band.mean, band.low, band.high)
        )
        colour, style = COLOURS[index], styles[index]
        if index == 0:
            axes.fill_between(times, low, high, color=colour, alpha=0.2, linewidth=0)
        else:
            for edge in (low, high):
                axes.plot(times, edge, color=colour, linestyle=style, linewidth=1.0, zorder=3)
        axes.plot(times, mean, color=colour, linestyle=style, linewidth=1.6, label=label, zorder=4)
    axes.plot(times, observed, "o", color="black", markersize=2.5, label="observed", zorder=5)
    axes.margins(x=0.01)


def _along(name: str, values: object, times: list[float], ndim: int = 1) -> np.ndarray:
    """Numbers ([n,] times). Raises: TypeError; ValueError, naming them."""
    host = host_numbers(values, f"{name}:").astype(float)
    if host.ndim != ndim or host.shape[-1] != len(times):
        shape = "(times,)" if ndim == 1 else "(n, times)"
        raise ValueError(f"{name} must be {shape} with {len(times)} times; got shape {host.shape}")
    return host


def states_of(
    who: str, times: object, states: object, dims: tuple[int, ...]
) -> tuple[list[float], np.ndarray]:
    """Times, and states (times, n, dim) in NumPy, dim one of `dims`.

    Raises: TypeError for what is no numbers; ValueError for states that do not fit the times.
    """
    listed = real_times(f"{who}: ", times)
    host = np.asarray(host_numbers(states, f"{who}: the states"), dtype=float)
    fit = host.ndim == 3 and 0 < len(host) == len(listed) and host.shape[1] and host.shape[2] in dims
    if not fit:
        wanted = " or ".join(map(str, dims))
        raise ValueError(
            f"{who}: expected states (times, n, {wanted}) with {len(listed)} times; got {host.shape}"
        )
    return listed, host


def ends_of(name: str, ends: object) -> tuple[float, float]:
    """Two numbers in order. Raises: TypeError; ValueError, naming them."""
    found = real_times(f"{name}: ", ends)
    if len(found) != 2 or not -np.inf < found[0] < found[1] < np.inf:
        raise ValueError(f"{name} must be two numbers, the lower first; got {ends!r:.80}")
    return found[0], found[1]


def histogram(axes: "Axes", values: np.ndarray, edges: np.ndarray, **look: Any) -> None:
    """The density of numbers (n,), as a share of all of them."""
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts / (len(values) * np.diff(edges)), edges, **look)


def level_holding(heights: np.ndarray, share: float, mass: np.ndarray | None = None) -> float:
    """The height above which cells hold `share` of the mass, by default of the heights themselves."""
    order = np.argsort(heights, axis=None)[::-1]
    held = np.cumsum(np.ravel(heights if mass is None else mass)[order])
    first = int(np.searchsorted(held / (held[-1] or 1), share))
    return float(np.ravel(heights)[order[min(first, len(order) - 1)]])


def without_frame(*panels: "Axes") -> None:
    """Leave out the upper and the right line around them."""
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
