"""Posterior trajectories: mean, band and a few draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backend import host_numbers, real_times
from ..backend.arguments import kind, listed
from .states import ends_of

# Okabe & Ito's colours, told apart with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


@dataclass(frozen=True)
class Band:
    """Mean and lower and upper edge of a trajectory's posterior, each (times,)."""

    mean: Any
    low: Any
    high: Any

    @classmethod
    def of_draws(cls, draws: Any, level: float = 0.9) -> "Band":
        """From draws (n, times): central `level` of them at each time."""
        draws = host_numbers(draws)
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return cls(draws.mean(axis=0), low, high)

    @classmethod
    def of_normal(cls, mean: Any, sd: Any, level: float = 0.9) -> "Band":
        """From a normal posterior's mean and standard deviation at each time."""
        from scipy.stats import norm

        reach = norm.ppf((1 + level) / 2) * host_numbers(sd)
        centre = host_numbers(mean)
        return cls(centre, centre - reach, centre + reach)


def plot_paths(
    axes: Any,
    times: Any,
    bands: Mapping[str, Band],
    observed: Any,
    draws: Any = None,
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


def _along(name: str, values: Any, times: list[float], ndim: int = 1) -> np.ndarray:
    """Numbers ([n,] times). Raises: TypeError; ValueError, naming them."""
    host = host_numbers(values, f"{name}:").astype(float)
    if host.ndim != ndim or host.shape[-1] != len(times):
        shape = "(times,)" if ndim == 1 else "(n, times)"
        raise ValueError(f"{name} must be {shape} with {len(times)} times; got shape {host.shape}")
    return host
