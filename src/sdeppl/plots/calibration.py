"""Ranks and coverage of calibration tests, with the bands that they stay in where all is right."""

import textwrap
from typing import Any

import numpy as np
from scipy.stats import binom

from ..backend.arguments import has
from .paths import COLOURS

SHOWN = 4  # quantities with a column each
CURVES = 24  # coverage curves in one picture
BINS = 20


def plot_sbc(figure: Any, result: Any) -> list[Any]:
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
        column[0].fill_between(
            ends,
            np.concatenate([[0.0], lower - levels, [0.0]]),
            np.concatenate([[0.0], upper - levels, [0.0]]),
            color="0.88",
            linewidth=0,
            label="95% band",
        )
        column[0].axhline(0, color="0.5", linewidth=0.7)
        difference = np.concatenate([[0.0], shares - levels, [0.0]])
        column[0].plot(ends, difference, color=_colour(test), linewidth=1.4)
        column[0].set_title(f"{test.name}, p = {test.p:.2g}", fontsize="small")
        _histogram(column[1], test)
    grid[0, 0].set_ylabel("share of ranks below\nminus level")
    grid[1, 0].set_ylabel("data sets")
    for axes in grid.ravel():
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[0]:
        axes.set_xlabel("level")
    for axes in grid[1]:
        axes.set(xlabel=f"rank among {result.draws} draws", ylim=(0, None))
    _verdict(figure, result)
    return list(grid.ravel())


def plot_coverage(figure: Any, result: Any) -> list[Any]:
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
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    _verdict(figure, result)
    return [left, right]


def _histogram(axes: Any, test: Any) -> None:
    values, total = test.draws + 1, len(test.ranks)
    bins = max(min(BINS, values, total // 10), 2)
    edges = np.ceil(np.arange(bins + 1) * values / bins)
    counts, _ = np.histogram(test.ranks, edges - 0.5)
    share = np.diff(edges) / values
    low, high = binom.ppf(0.025, total, share), binom.ppf(0.975, total, share)
    axes.fill_between(
        edges - 0.5,
        np.append(low, low[-1]),
        np.append(high, high[-1]),
        step="post",
        color="0.88",
        linewidth=0,
    )
    axes.stairs(counts, edges - 0.5, color=_colour(test), linewidth=1.4)


def _shown(result: Any, count: int) -> list[Any]:
    """The tests with the smallest p, in the result's order. Raises: TypeError for another result."""
    has("result", result, "tests", "what sp.sbc, sp.coverage or sp.tarp return")
    smallest = sorted(result.tests, key=lambda test: test.p)[:count]
    return [test for test in result.tests if any(test is one for one in smallest)]


def _colour(test: Any) -> str:
    return COLOURS[0] if test.p > 1e-3 else COLOURS[1]


def _verdict(figure: Any, result: Any) -> None:
    colour = COLOURS[2] if result.trusted else COLOURS[1]
    text = "\n".join(textwrap.wrap(f"{result.kind}: {result.verdict}", 110))
    figure.suptitle(text, fontsize="small", color=colour)
