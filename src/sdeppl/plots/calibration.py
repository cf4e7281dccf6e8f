"""What calibration tests and comparisons with a reference found, with what is tolerated."""

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binom

from ..backend.arguments import has
from .paths import COLOURS, without_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase


SHOWN = 4  # quantities with a column each
CURVES = 24  # coverage curves in one picture
BINS = 20
ROWS = 4
LINES = 3  # of the verdict
FEW = 40  # numbers of a site that get an error bar each


def plot_sbc(figure: "FigureBase", result: Any) -> list["Axes"]:
    """Draw what `sp.sbc` returns on a matplotlib figure: a column for each quantity, the verdict above.

    Upper row: the ranks' distribution function minus that of uniform ones, with the band that holds all of
    it in 95% of right posteriors. Lower: counts of ranks in bins, with the 95% range of each. Draws that are
    too narrow give a rise and then a fall, and counts shaped as ∪; draws that are too small a sag. Of many
    quantities the four with the smallest p. Returns the axes, row by row.
    """
    shown = _shown(result, SHOWN)
    grid = figure.subplots(2, len(shown), squeeze=False, sharey="row")
    for column, test in zip(grid.T, shown, strict=True):
        levels, shares = test.shares
        lower, upper = test.band
        ends = np.concatenate([[0.0], levels, [1.0]])
        low, high, found = (np.concatenate([[0.0], part - levels, [0.0]]) for part in (lower, upper, shares))
        column[0].fill_between(ends, low, high, color="0.88", linewidth=0, label="95% band")
        column[0].axhline(0, color="0.5", linewidth=0.7)
        column[0].plot(ends, found, color=_colour(test), linewidth=1.4)
        column[0].set_title(f"{test.name}, p = {test.p:.2g}", fontsize="small")
        _histogram(column[1], test)
    grid[0, 0].set_ylabel("share of ranks below\nminus level")
    grid[1, 0].set_ylabel("data sets")
    without_frame(*grid.ravel())
    for above, below in grid.T:
        above.set_xlabel("level")
        below.set(xlabel=f"rank among {result.draws} draws", ylim=(0, None))
    _verdict(figure, result.trusted, textwrap.wrap(f"{result.kind}: {result.verdict}", 110))
    return list(grid.ravel())


def plot_coverage(figure: "FigureBase", result: Any) -> list["Axes"]:
    """Draw what `sp.tarp` or `sp.coverage` returns: coverage by level, and minus it, for each quantity.

    Grey: the band that holds a whole curve in 95% of right posteriors. Below the diagonal regions hold the
    truth too seldom. Of many quantities the 24 with the smallest p, the worst in colour. Returns the axes.
    """
    shown = _shown(result, CURVES)
    left, right = figure.subplots(1, 2)
    levels, _ = shown[0].shares
    lower, upper = shown[0].band
    left.fill_between(levels, lower, upper, color="0.88", linewidth=0)
    right.fill_between(levels, lower - levels, upper - levels, color="0.88", linewidth=0, label="95% band")
    left.plot([0, 1], [0, 1], color="0.5", linewidth=0.7)
    right.axhline(0, color="0.5", linewidth=0.7)
    few = sorted(shown, key=lambda test: test.p)[:SHOWN]
    for test in sorted(shown, key=lambda test: -test.p):
        levels, shares = test.shares
        place = next((i for i, one in enumerate(few) if one is test), None)
        colour = "0.7" if place is None else COLOURS[place]
        label = None if place is None else f"{test.name}, p = {test.p:.2g}"
        left.plot(levels, shares, linewidth=1.3, color=colour)
        right.plot(levels, shares - levels, linewidth=1.3, color=colour, label=label)
    left.set(xlabel="level", ylabel="coverage", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    right.set(xlabel="level", ylabel="coverage minus level", xlim=(0, 1))
    right.legend(fontsize="small", frameon=False)
    without_frame(left, right)
    _verdict(figure, result.trusted, textwrap.wrap(f"{result.kind}: {result.verdict}", 110))
    return [left, right]


def _histogram(axes: "Axes", test: Any) -> None:
    values, total = test.draws + 1, len(test.ranks)
    bins = max(min(BINS, values, total // 10), 2)
    edges = np.ceil(np.arange(bins + 1) * values / bins)
    counts, _ = np.histogram(test.ranks, edges - 0.5)
    share = np.diff(edges) / values
    low, high = binom.ppf(0.025, total, share), binom.ppf(0.975, total, share)
    low, high = (np.append(end, end[-1]) for end in (low, high))
    axes.fill_between(edges - 0.5, low, high, step="post", color="0.88", linewidth=0)
    axes.stairs(counts, edges - 0.5, color=_colour(test), linewidth=1.4)


def _shown(result: Any, count: int) -> list[Any]:
    """The tests with the smallest p, in the result's order. Raises: TypeError for another result."""
    has("result", result, "tests", "what sp.sbc, sp.coverage or sp.tarp return")
    smallest = sorted(result.tests, key=lambda test: test.p)[:count]
    return [test for test in result.tests if any(test is one for one in smallest)]


def _colour(test: Any) -> str:
    return COLOURS[0] if test.p > 1e-3 else COLOURS[1]


def _verdict(figure: "FigureBase", trusted: bool, lines: list[str]) -> None:
    figure.suptitle("\n".join(lines), fontsize="small", color=COLOURS[2] if trusted else COLOURS[1])


def plot_comparison(figure: "FigureBase", comparison: Any) -> list["Axes"]:
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
        _quantiles(row[2], site.told or numbers, comparison.tolerance)
        row[0].set(ylabel=site.site, title=f"mean, error in sd (rms {site.mean_error:.3f})")
        row[1].set(title=f"sd, error in % (rms {100 * site.sd_error:.1f})")
        row[2].set(title=_tests(site))
        for axes in row:
            axes.title.set_fontsize("small")
            without_frame(axes)
    for axes, label in zip(grid[-1], ("number", "number", "level"), strict=True):
        axes.set_xlabel(label)
    text = textwrap.wrap(comparison.verdict, 120)
    _verdict(figure, comparison.trusted, [*text[:LINES], "…"] if len(text) > LINES else text)
    return [axes for row in grid for axes in row]


def _worst(site: Any) -> float:
    return float(max(np.abs(site.numbers.mean).max(), np.abs(site.numbers.sd).max()))


def _tolerated(axes: "Axes", tolerance: float) -> None:
    """A grey span about zero."""
    axes.axhspan(-tolerance, tolerance, color="0.9", linewidth=0)
    axes.axhline(0, color="0.5", linewidth=0.7)


def _errors(axes: "Axes", error: Any, noise: Any, tolerance: float) -> None:
    index = np.arange(len(error))
    _tolerated(axes, tolerance)
    if len(error) <= FEW:
        axes.errorbar(index, error, noise, fmt="o", markersize=3.5, linewidth=1.2, color=COLOURS[0])
        axes.set_xlim(-0.7, len(error) - 0.3)
        axes.set_xticks(index[:: 1 + len(error) // 8])
        return
    axes.fill_between(index, error - noise, error + noise, color=COLOURS[0], alpha=0.3, linewidth=0)
    axes.plot(index, error, color=COLOURS[0], linewidth=1.0)


def _quantiles(axes: "Axes", numbers: Any, tolerance: float) -> None:
    _tolerated(axes, tolerance)
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
