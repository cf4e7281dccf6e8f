"""The posterior of a field on a grid: lines with bands, images, a slice of what has three axes."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import host_numbers, whole_number
from ..backend.arguments import has, kind
from ..linalg import FieldShape, Grid
from .density import SHADES, UNSEEN
from .paths import COLOURS, Band, ends_of, without_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

VALUES, SPREAD = "viridis", SHADES
SPARSE = 0.2  # share of observed cells up to which they are dots
ENDS = (0.005, 0.995)  # quantiles of what is shown that the colours span
ANY = Grid()


def plot_field(
    figure: "FigureBase",
    draws: object,
    layout: Grid = ANY,
    *,
    truth: object = None,
    observed: object = None,
    shown: int = 2,
    level: float = 0.9,
    limits: tuple[float, float] | None = None,
) -> np.ndarray:
    """Draw the posterior of one site on a matplotlib figure, by draws (n, *shape) of it.

    One axis: mean, the central `level` of the draws, `shown` of them, the truth and what was observed. Two:
    images of the truth, the observation, mean, `shown` draws and standard deviation; of three axes the middle
    slice along the first. A row for each channel. The standard deviation has a scale of its own from 0; all
    other images of a row share one, `limits` or from the .5% to the 99.5% quantile of mean, draws and truth.

    draws: of any backend, or a DataArray, as `run.to_xarray()["field"]` is, whose names and coordinates then
    stand at the axes. layout: the site's, for its channels and what is periodic, which the labels say. truth:
    of the site's shape. observed: the same with NaN where nothing was observed, or True where something was,
    at values of the truth; few of them are dots.

    Returns the axes, (channels, panels). Raises: TypeError, ValueError for arrays of another shape.
    """
    kind("layout", layout, Grid, "a Grid")
    host = np.asarray(host_numbers(draws, "draws:"), dtype=float)
    if host.ndim < 2 or len(host) < 2:
        raise ValueError(f"draws must be (n, *shape) with 2 or more; got shape {host.shape}")
    field = layout.of(host.shape[1:])
    shown = min(whole_number("shown", shown, 0), len(host))
    names = _names(draws, field)
    real, seen = _beside("truth", truth, host.shape[1:]), _observed(observed, truth, host.shape[1:])
    shape = (field.channels, *field.shape)
    real, seen = (None if one is None else one.reshape(shape) for one in (real, seen))
    limits = None if limits is None else ends_of("limits", limits)
    rows = host.reshape(len(host), *shape)
    if len(field.shape) == 1:
        return _lines(figure, rows, real, seen, names, shown, level)
    return _images(figure, rows, real, seen, names, shown, limits)


def _beside(name: str, values: object, shape: tuple[int, ...]) -> Any:
    if values is None:
        return None
    found = np.asarray(host_numbers(values, f"{name}:"))
    if found.shape != shape:
        raise ValueError(f"{name} must have the site's shape {shape}; got {found.shape}")
    return found if found.dtype == bool else found.astype(float)


def _observed(observed: object, truth: object, shape: tuple[int, ...]) -> Any:
    found = _beside("observed", observed, shape)
    if found is None or found.dtype != bool:
        return found
    if truth is None:
        raise ValueError("observed says where, and the truth that was observed there is not given: truth=")
    return np.where(found, _beside("truth", truth, shape), np.nan)


def _names(draws: Any, field: FieldShape) -> list[tuple[str, Any]]:
    """Of each axis of the grid its label, and the coordinates along it, by default counted."""
    count = len(field.shape)
    dims = [str(name) for name in getattr(draws, "dims", ())][-count:] or [""] * count
    found = []
    for dim, size, ring in zip(dims, field.shape, field.periodic, strict=True):
        label = f"{dim} (periodic)".strip() if ring else dim
        labels = np.asarray(draws.coords[dim]) if dim and dim in getattr(draws, "coords", {}) else None
        if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iuf":
            labels = np.arange(size)
        else:
            labels = labels.astype(float)
        found.append((label, labels))
    return found


def _lines(
    figure: "FigureBase",
    draws: np.ndarray,
    truth: Any,
    seen: Any,
    names: list[tuple[str, Any]],
    shown: int,
    level: float,
) -> np.ndarray:
    label, x = names[0]
    axes: np.ndarray = figure.subplots(draws.shape[1], 1, squeeze=False, sharex=True)
    for k, panel in enumerate(axes[:, 0]):
        band = Band.of_draws(draws[:, k], level)
        panel.fill_between(
            x, band.low, band.high, color=COLOURS[0], alpha=0.2, linewidth=0, label=f"{level:.0%}"
        )
        for row in draws[:shown, k]:
            panel.plot(x, row, color=COLOURS[0], linewidth=0.6, alpha=0.6)
        panel.plot(x, band.mean, color=COLOURS[0], linewidth=1.6, label="mean")
        if truth is not None:
            panel.plot(x, truth[k], color="black", linewidth=1.0, linestyle="--", label="truth")
        if seen is not None:
            panel.plot(x, seen[k], "o", color="black", markersize=3.5, label="observed")
        panel.margins(x=0.01)
        without_frame(panel)
    axes[-1, 0].set_xlabel(label)
    axes[0, 0].legend(frameon=False, ncols=4, fontsize="small")
    return axes


def _images(
    figure: "FigureBase",
    draws: np.ndarray,
    truth: Any,
    seen: Any,
    names: list[tuple[str, Any]],
    shown: int,
    limits: tuple[float, float] | None,
) -> np.ndarray:
    where = ""
    if draws.ndim == 5:
        middle, (axis, at) = draws.shape[2] // 2, names[0]
        draws, names = draws[:, :, middle], names[1:]
        truth, seen = (None if one is None else one[:, middle] for one in (truth, seen))
        where = f" at {axis.removesuffix(' (periodic)') or 'the first axis'} = {at[middle]:.4g}"
    columns: dict[str, Any] = {"truth": truth, "observed": seen, "mean": draws.mean(axis=0)}
    columns |= {f"draw {k + 1}": draws[k] for k in range(shown)}
    columns["standard deviation"] = draws.std(axis=0, ddof=1)  # last, beside its own scale
    columns = {name: one for name, one in columns.items() if one is not None}
    axes: np.ndarray = figure.subplots(draws.shape[1], len(columns), squeeze=False, sharex=True, sharey=True)
    for k, row in enumerate(axes):
        level = [one[k] for name, one in columns.items() if name not in ("observed", "standard deviation")]
        low, high = limits or np.quantile(np.concatenate([one.ravel() for one in level]), ENDS)
        values: Any = None
        spread: Any = None
        for panel, (name, one) in zip(row, columns.items(), strict=True):
            if name == "standard deviation":
                spread = _image(panel, one[k], names, 0.0, float(one[k].max()), SPREAD)
            else:
                values = _image(panel, one[k], names, float(low), float(high), VALUES)
            panel.set_title(name + (where if k == 0 and name == "mean" else ""), fontsize="small")
        row[0].set_ylabel(names[0][0])
        others = list(row[:-1])
        figure.colorbar(values, ax=others, pad=0.01, aspect=25, extend="neither" if limits else "both")
        figure.colorbar(spread, ax=row[-1], pad=0.02, aspect=25)
    for panel in axes[-1]:
        panel.set_xlabel(names[1][0])
    return axes


def _image(
    panel: "Axes", field: np.ndarray, names: list[tuple[str, Any]], low: float, high: float, shades: str
) -> Any:
    """An image, rows downward unless they have coordinates; few observed cells as dots."""
    y, x = (labels for _, labels in names)
    known = np.isfinite(field)
    panel.set_facecolor(UNSEEN)
    image: Any
    if known.mean() < SPARSE:
        i, j = np.nonzero(known)
        size = max(3.0, min(30.0, 2_000 / max(len(i), 1)))
        image = panel.scatter(
            x[j], y[i], c=field[i, j], s=size, cmap=shades, vmin=low, vmax=high, linewidths=0
        )
        panel.set(xlim=(_edges(x)[0], _edges(x)[-1]), ylim=(_edges(y)[0], _edges(y)[-1]), aspect="auto")
    else:
        image = panel.pcolormesh(
            _edges(x),
            _edges(y),
            np.ma.masked_invalid(field),
            cmap=shades,
            vmin=low,
            vmax=high,
            rasterized=True,
        )
    if y.dtype.kind != "f":  # counted
        panel.yaxis.set_inverted(True)
    panel.set_box_aspect(len(y) / len(x) if 0.2 < len(y) / len(x) < 5 else 1.0)
    panel.tick_params(labelsize="x-small")
    return image


def _edges(centres: np.ndarray) -> np.ndarray:
    """Of cells about their centres."""
    centres = centres.astype(float)
    if len(centres) < 2:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = 0.5 * (centres[1:] + centres[:-1])
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def plot_coverage_map(figure: "FigureBase", found: Any) -> tuple["Axes", "Axes"]:
    """Draw what `sp.coverage_map` returns: the share of each number's intervals that hold the truth, about
    their level, and beside it how these shares are spread, and would be by chance.

    Of one or two axes; of three the middle slice along the first. Returns both axes. Raises: TypeError.
    """
    has("found", found, "share", "what sp.coverage_map returns")
    image, bars = figure.subplots(1, 2, width_ratios=(1.3, 1))
    share = np.asarray(found.share)
    share = share[share.shape[0] // 2] if share.ndim == 3 else share
    reach = max(float(np.abs(share - found.level).max()), 2 * found.noise)
    if share.ndim < 2:
        image.axhspan(found.level - 2 * found.noise, found.level + 2 * found.noise, color="0.9", linewidth=0)
        image.plot(np.ravel(share), color=COLOURS[0], linewidth=1.2)
    else:
        low, high = found.level - reach, found.level + reach
        shown = image.imshow(share, cmap="RdBu", vmin=low, vmax=high, origin="lower")
        bar = figure.colorbar(shown, ax=image, label=f"share, of {found.level:.0%}")
        bar.ax.set_ylim(low, min(high, 1.0))
    step = math.ceil(
        reach * found.truths / 15
    )  # shares are multiples of 1/truths: as many of them in each bar
    edges = (np.arange(0, found.truths + step + 1, step) - 0.5) / found.truths
    edges = edges[(edges > found.level - 1.3 * reach) & (edges < found.level + 1.3 * reach)]
    bars.hist(np.ravel(found.share), edges, density=True, color=COLOURS[0], alpha=0.5, label="found")
    x = np.linspace(edges[0], edges[-1], 200)
    chance = np.exp(-0.5 * ((x - found.level) / found.noise) ** 2) / (found.noise * math.sqrt(2 * math.pi))
    bars.plot(x, chance, color="black", linewidth=1.0, label="chance")
    bars.axvline(found.mean, color=COLOURS[1], linewidth=1.2, label="mean")
    bars.set(xlabel="share", ylabel="density of numbers")
    bars.legend(frameon=False, fontsize="small")
    without_frame(bars)
    return image, bars
