"""Every pair of numbers of a posterior, beside a reference."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import host_numbers
from ..backend.arguments import kind, listed
from .paths import COLOURS, histogram, level_holding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase


LARGEST = 10  # panels in a row that can still be read
SHARES = (0.9, 0.5)  # of the mass, inside a contour
CELLS, BLUR = 50, 2.0


def plot_corner(
    figure: "FigureBase",
    draws: Mapping[str, Any],
    reference: Any = None,
    numbers: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    names: tuple[str, str] = ("sdeppl", "reference"),
) -> Any:
    """Draw histograms of each number and contours of each pair on a matplotlib figure.

    draws: {site: (n, *shape)}; reference: the same, or what `reference.nuts` and `reference.hmc` return.
    numbers: which, as 'site' or 'site[0]'; all by default. labels: {number: text on its axis}; names: of
    the two in the legend. The axes hold 99 % of the draws of each; contours, of a histogram of 50 × 50 cells
    blurred by two of them, hold 50 and 90 % of what is shown. Returns the axes, (k, k), None above the
    diagonal.

    Raises: ValueError for none or more than 10 numbers; KeyError, naming the number, for one that is not
    there; TypeError for another argument of a wrong kind.
    """
    mine = numbers_of(draws)
    theirs = numbers_of(getattr(reference, "draws", reference)) if reference is not None else {}
    numbers = list(mine) if numbers is None else listed("numbers", numbers, "a list such as ['x[0]']")
    if labels is not None:
        kind("labels", labels, Mapping, "{number: text}")
    for number in numbers:
        for where, values in (("draws", mine), ("reference", theirs)):
            if values and number not in values:
                raise KeyError(f"'{number}' is not among the {where}; there are {list(values)}")
    if not 0 < len(numbers) <= LARGEST:
        raise ValueError(f"{len(numbers)} numbers do not fit a corner plot; name 1 to {LARGEST} of them")
    sets = [[values[n] for n in numbers] for values in (mine, theirs) if values]
    count = len(numbers)
    grid = figure.subplots(count, count, sharex="col", squeeze=False)
    limits = [_limits([columns[k] for columns in sets]) for k in range(count)]
    for row, column in product(range(count), repeat=2):
        if row < column:
            grid[row, column].remove()
            grid[row, column] = None
        elif row == column:
            _histograms(grid[row, row], [columns[row] for columns in sets], limits[row], names)
        else:
            pairs = [(columns[column], columns[row]) for columns in sets]
            _contours(grid[row, column], pairs, (limits[column], limits[row]))
    _annotate(grid, [(labels or {}).get(number, number) for number in numbers])
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", frameon=False)
    return grid


def numbers_of(draws: Mapping[str, object]) -> dict[str, np.ndarray]:
    """{'site' or 'site[0]': (n,)}, of sites of any shape."""
    kind("draws", draws, Mapping, "{site: draws (n, *shape)}")
    found = {}
    for site, values in draws.items():
        array = host_numbers(values, f"site '{site}': the draws")
        if not array.ndim or not len(array):
            raise ValueError(f"site '{site}': the draws must be (n, *shape); got shape {array.shape}")
        for index in np.ndindex(array.shape[1:]):
            found[f"{site}[{','.join(map(str, index))}]" if index else site] = array[:, *index]
    return found


def _limits(columns: Sequence[np.ndarray]) -> tuple[float, float]:
    edges = np.quantile(np.stack([np.quantile(c, (0.005, 0.995)) for c in columns]), (0, 1), axis=0)
    low, high = edges[0, 0], edges[1, 1]
    if not high > low:  # a number that is always the same
        low, high = low - 0.5, high + 0.5
    return float(low), float(high)


def _histograms(
    axes: "Axes", columns: Sequence[np.ndarray], limits: tuple[float, float], names: Sequence[str]
) -> None:
    bins = np.linspace(*limits, 41)
    for k, values in enumerate(columns):
        look: dict[str, Any] = (
            {"fill": True, "color": COLOURS[0], "alpha": 0.35}
            if k == 0
            else {"color": COLOURS[k], "linestyle": "--", "linewidth": 1.4}
        )
        histogram(axes, values, bins, label=names[k], **look)
    axes.set(xlim=limits, ylim=(0, None), yticks=[])
    axes.spines[["left", "right", "top"]].set_visible(False)


def _contours(axes: "Axes", pairs: Sequence[Any], limits: Sequence[tuple[float, float]]) -> None:
    from scipy.ndimage import gaussian_filter

    edges = [np.linspace(*limit, CELLS + 1) for limit in limits]
    middles = [0.5 * (edge[1:] + edge[:-1]) for edge in edges]
    for k, (x, y) in enumerate(pairs):
        counts = np.histogram2d(x, y, edges)[0]
        heights = gaussian_filter(counts, BLUR, mode="reflect")
        # of the draws, not of their blurred histogram
        levels = sorted({level_holding(heights, share, counts) for share in SHARES})
        if k == 0:
            shades = [*levels, 1.01 * heights.max()]
            fills = [(COLOURS[0], opacity) for opacity in (0.2, 0.45)[-len(levels) :]]
            axes.contourf(*middles, heights.T, shades, colors=fills)
        styles = "-" if k == 0 else "--"
        axes.contour(*middles, heights.T, levels, colors=COLOURS[k], linestyles=styles, linewidths=1.3)
    axes.set(xlim=limits[0], ylim=limits[1])


def _annotate(grid: Any, labels: Sequence[str]) -> None:
    last = len(labels) - 1
    for k, label in enumerate(labels):
        grid[last, k].set_xlabel(label)
        if k:
            grid[k, 0].set_ylabel(label)
        for row in range(k + 1, last + 1):
            grid[row, k].tick_params(axis="y", labelleft=k == 0)
