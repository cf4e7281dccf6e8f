"""Densities over time, of the Fokker–Planck equation, beside Monte Carlo paths; images and fields."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import host_numbers, real_times
from ..backend.arguments import kind
from ..sde import FokkerPlanckGrid
from .paths import COLOURS, ends_of, histogram, level_holding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase


PANELS = 3
SHADES = "cividis"  # even in lightness, and the same with any colour vision
UNSEEN = "#c9b8a0"  # of cells without a value: no shade of grey, and lighter in print than black


def plot_density(
    figure: "FigureBase",
    grid: FokkerPlanckGrid,
    densities: object,
    times: Sequence[float],
    paths: object = None,
    shown: Sequence[int] | None = None,
) -> list["Axes"]:
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
    figure: "FigureBase",
    grid: FokkerPlanckGrid,
    densities: Any,
    times: list[float],
    paths: Any,
    shown: list[int],
) -> list["Axes"]:
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
            look = {"orientation": "horizontal", "fill": True, "color": "0.78", "label": "paths"}
            histogram(axes, paths[k, :, 0], bins, **look)
        axes.plot(densities[k], x, color=COLOURS[0], linewidth=1.4, label="Fokker–Planck")
        axes.set(title=f"t = {times[k]:.3g}", xlim=(0, 1.1 * densities[shown].max()))
        axes.tick_params(axis="y", labelleft=False)
    sides[len(sides) // 2].set_xlabel("density")
    handles, labels = sides[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
    return [image, *sides]


def _draw_plane(
    figure: "FigureBase",
    grid: FokkerPlanckGrid,
    densities: Any,
    times: list[float],
    paths: Any,
    shown: list[int],
) -> list["Axes"]:
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


def plot_fields(
    figure: "FigureBase",
    rows: Mapping[str, object],
    spreads: Sequence[str] = (),
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """Draw fields {label: (n, height, width)} on a matplotlib figure, a row of n for each label.

    NaN: not observed, tinted. Heights and widths may differ from row to row, as of a coarse observation.
    spreads: labels of rows of standard deviations, with one scale of their own that starts at 0; all other
    rows share the scale `limits`, from their lowest to their highest value by default. Returns the axes,
    (rows, n). Raises: ValueError for fields of another shape, or nothing to draw.
    """
    kind("rows", rows, Mapping, "{label: fields (n, height, width)}")
    limits = None if limits is None else ends_of("limits", limits)
    fields = {label: host_numbers(values, f"row '{label}':") for label, values in rows.items()}
    counts = {array.shape[0] if array.ndim == 3 else 0 for array in fields.values()}
    if len(counts) != 1 or 0 in counts:
        shapes = {label: array.shape for label, array in fields.items()}
        raise ValueError(f"expected rows of fields (n, height, width) with one n; got {shapes}")
    unknown = [label for label in spreads if label not in fields]
    if unknown:
        raise ValueError(f"spreads names {unknown}; the rows are {list(fields)}")
    levels = [array for label, array in fields.items() if label not in spreads]
    top = max((float(np.nanmax(fields[label])) for label in spreads), default=0.0)
    if limits is None and levels:
        limits = (min(float(np.nanmin(a)) for a in levels), max(float(np.nanmax(a)) for a in levels))
    axes = figure.subplots(len(fields), *counts, squeeze=False)
    for row, (label, array) in zip(axes, fields.items(), strict=True):
        scale, shades = ((0.0, top), SHADES) if label in spreads else (limits, "gray_r")
        assert scale is not None
        for panel, field in zip(row, array, strict=True):
            image = _draw(panel, field, scale, shades)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
        if label in spreads:
            figure.colorbar(image, ax=list(row), pad=0.01, aspect=8)
    return axes


def _draw(panel: "Axes", field: np.ndarray, scale: tuple[float, float], shades: str) -> Any:
    panel.set_facecolor(UNSEEN)
    image = panel.imshow(np.ma.masked_invalid(field), cmap=shades, vmin=scale[0], vmax=scale[1])
    panel.set(xticks=[], yticks=[])
    return image
