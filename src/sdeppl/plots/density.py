"""Densities over time, of the Fokker–Planck equation, beside Monte Carlo paths."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import host_numbers, real_times
from ..sde import FokkerPlanckGrid
from .paths import COLOURS

PANELS = 3
SHADES = "cividis"  # even in lightness, and the same with any colour vision


def plot_density(
    figure: Any,
    grid: FokkerPlanckGrid,
    densities: Any,
    times: Sequence[float],
    paths: Any = None,
    shown: Sequence[int] | None = None,
) -> list[Any]:
    """Draw densities (times, *cells) on a matplotlib figure, with paths (times, n, dim) of a solve.

    One dimension: an image over time with a few paths on it, and beside it the densities at the
    times number `shown`, over histograms of all paths. Two: contours at those times, which hold 50,
    80 and 95 % of the mass, over 2,000 of the paths. shown: three times by default, from early to the
    last. Returns the axes. Raises: ValueError for densities or paths that do not fit `times`.
    """
    densities = np.asarray(host_numbers(densities))
    paths = None if paths is None else np.asarray(host_numbers(paths))
    if densities.shape != (len(times), *grid.cells):
        raise ValueError(
            f"expected densities (times, *cells) = {(len(times), *grid.cells)}; got {densities.shape}"
        )
    if paths is not None and (paths.ndim != 3 or (len(paths), paths.shape[-1]) != (len(times), grid.dim)):
        raise ValueError(
            f"expected paths (times, n, dim) with {len(times)} times and dim {grid.dim}; got {paths.shape}"
        )
    if shown is None:
        last = len(times) - 1
        shown = sorted({max(1, round(last * k / PANELS)) for k in range(1, PANELS + 1)})
    draw = _draw_line if grid.dim == 1 else _draw_plane
    return draw(figure, grid, densities, real_times("", times), paths, list(shown))


def _draw_line(
    figure: Any, grid: FokkerPlanckGrid, densities: Any, times: list[float], paths: Any, shown: list[int]
) -> list[Any]:
    ratios = [4.0] + [1.0] * len(shown)
    image, *sides = figure.subplots(1, 1 + len(shown), sharey=True, width_ratios=ratios)
    x = np.asarray(host_numbers(grid.axes[0]))
    top = np.quantile(densities.max(axis=1), 0.9)  # a start that is nearly a point does not set the scale
    mesh = image.pcolormesh(times, x, densities.T, cmap=SHADES, vmin=0, vmax=top, shading="nearest")
    for k in range(0 if paths is None else min(4, paths.shape[1])):
        image.plot(times, paths[:, k, 0], color="white", linewidth=0.6, alpha=0.8)
    image.set(xlabel="t", ylabel="x", xlim=(min(times), max(times)), ylim=(grid.lower[0], grid.upper[0]))
    figure.colorbar(mesh, ax=image, location="left", label="density", pad=0.02, extend="max")
    bins = np.linspace(grid.lower[0], grid.upper[0], 61)
    for axes, k in zip(sides, shown, strict=True):
        image.axvline(times[k], color="white", linestyle=":", linewidth=1.0)
        if paths is not None:
            counts, _ = np.histogram(paths[k, :, 0], bins)
            share = counts / (paths.shape[1] * np.diff(bins))
            axes.stairs(share, bins, orientation="horizontal", fill=True, color="0.78", label="paths")
        axes.plot(densities[k], x, color=COLOURS[0], linewidth=1.4, label="Fokker–Planck")
        axes.set(title=f"t = {times[k]:.3g}", xlim=(0, 1.1 * densities[shown].max()))
        axes.tick_params(axis="y", labelleft=False)
    sides[len(sides) // 2].set_xlabel("density")
    handles, labels = sides[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    return [image, *sides]


def _draw_plane(
    figure: Any, grid: FokkerPlanckGrid, densities: Any, times: list[float], paths: Any, shown: list[int]
) -> list[Any]:
    panels = np.atleast_1d(figure.subplots(1, len(shown), sharex=True, sharey=True))
    first, second = (np.asarray(host_numbers(axis)) for axis in grid.axes)
    for axes, k in zip(panels, shown, strict=True):
        if paths is not None:
            axes.plot(*paths[k, :2000].T, ".", color="0.6", markersize=1.5, alpha=0.5, rasterized=True)
        levels = sorted({level_holding(densities[k], share) for share in (0.95, 0.8, 0.5)})
        axes.contour(first, second, densities[k].T, levels=levels, colors=COLOURS[0], linewidths=1.2)
        axes.set(title=f"t = {times[k]:.3g}", xlabel="x₁")
    panels[0].set_ylabel("x₂")
    return list(panels)


def level_holding(density: Any, share: float) -> float:
    """The height above which cells hold `share` of the mass."""
    heights = np.sort(np.ravel(density))[::-1]
    held = np.cumsum(heights) / np.sum(heights)
    return float(heights[min(int(np.searchsorted(held, share)), len(heights) - 1)])
