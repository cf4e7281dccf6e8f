"""A comparison of draws with a reference: errors of means, standard deviations and quantiles by site."""

import textwrap
from typing import Any

import numpy as np

from ..backend.arguments import has
from .paths import COLOURS

ROWS = 4
LINES = 3  # of the verdict
FEW = 40  # numbers of a site that get an error bar each


def plot_comparison(figure: Any, comparison: Any) -> list[Any]:
    """Draw what `sp.compare` returns on a matplotlib figure: a row for each site, the verdict above.

    Left: errors of means by number, in the reference's standard deviations, with a standard error each way.
    Middle: relative errors of standard deviations. Right: errors of quantiles by level, a line for each
    number, that of the largest error with its standard error; a shift is a flat line, a wrong spread a slope,
    a missing mode a step. Grey: the tolerance. Of many sites the worst four by their largest error of a mean
    or a standard deviation. Returns the axes, row by row.
    """
    has("comparison", comparison, "sites", "what sp.compare returns")
    shown = sorted(comparison.sites, key=lambda site: -_worst(site))[:ROWS]
    shown = [site for site in comparison.sites if site in shown]
    grid = figure.subplots(len(shown), 3, squeeze=False, width_ratios=(1, 1, 1.1))
    for row, site in zip(grid, shown, strict=True):
        numbers = site.numbers
        _errors(row[0], numbers.mean, numbers.mean_noise, comparison.tolerance)
        _errors(row[1], 100 * numbers.sd, 100 * numbers.sd_noise, 100 * comparison.tolerance)
        _quantiles(row[2], numbers, comparison.tolerance)
        row[0].set(ylabel=site.site, title=f"mean, error in sd (rms {site.mean_error:.3f})")
        row[1].set(title=f"sd, error in % (rms {100 * site.sd_error:.1f})")
        row[2].set(title=_tests(site))
        for axes in row:
            axes.title.set_fontsize("small")
            axes.spines[["top", "right"]].set_visible(False)
    for axes, label in zip(grid[-1], ("number", "number", "level"), strict=True):
        axes.set_xlabel(label)
    colour = COLOURS[2] if comparison.trusted else COLOURS[1]
    text = textwrap.wrap(comparison.verdict, 120)
    text = [*text[:LINES], "…"] if len(text) > LINES else text
    figure.suptitle("\n".join(text), fontsize="small", color=colour)
    return [axes for row in grid for axes in row]


def _worst(site: Any) -> float:
    return float(max(np.abs(site.numbers.mean).max(), np.abs(site.numbers.sd).max()))


def _errors(axes: Any, error: Any, noise: Any, tolerance: float) -> None:
    index = np.arange(len(error))
    axes.axhspan(-tolerance, tolerance, color="0.9", linewidth=0)
    axes.axhline(0, color="0.5", linewidth=0.7)
    if len(error) <= FEW:
        axes.errorbar(index, error, noise, fmt="o", markersize=3.5, linewidth=1.2, color=COLOURS[0])
        axes.set_xlim(-0.7, len(error) - 0.3)
        axes.set_xticks(index[:: 1 + len(error) // 8])
        return
    axes.fill_between(index, error - noise, error + noise, color=COLOURS[0], alpha=0.3, linewidth=0)
    axes.plot(index, error, color=COLOURS[0], linewidth=1.0)


def _quantiles(axes: Any, numbers: Any, tolerance: float) -> None:
    axes.axhspan(-tolerance, tolerance, color="0.9", linewidth=0)
    axes.axhline(0, color="0.5", linewidth=0.7)
    if numbers.quantile is None:
        axes.text(0.5, 0.5, "the reference has no draws", transform=axes.transAxes, ha="center", va="bottom")
        return
    axes.plot(numbers.levels, numbers.quantile, color=COLOURS[0], linewidth=0.7, alpha=0.4)
    k = int(np.argmax(np.abs(numbers.quantile_z).max(axis=0)))
    error, noise = numbers.quantile[:, k], numbers.quantile_noise[:, k]
    axes.errorbar(numbers.levels, error, noise, fmt="o-", markersize=3, linewidth=1.2, color=COLOURS[0])
    axes.set_xlim(0, 1)


def _tests(site: Any) -> str:
    text = "quantiles, error in sd"
    if site.tests is None:
        return text
    text += f"\nenergy {site.tests.energy:.2f} (p = {site.tests.energy_p:.3f})"
    if site.tests.accuracy is not None:
        text += f", C2ST {site.tests.accuracy:.3f}"
    return text
