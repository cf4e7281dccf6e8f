"""Images and fields: what was observed, the posterior's mean and standard deviation, and draws."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..backend import host_numbers
from ..backend.arguments import kind
from .density import SHADES
from .states import ends_of

UNSEEN = "#c9b8a0"  # of cells without a value: no shade of grey, and lighter in print than black


def plot_fields(
    figure: Any,
    rows: Mapping[str, Any],
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
    counts = {label: array.shape[0] if array.ndim == 3 else None for label, array in fields.items()}
    if not fields or None in counts.values() or len(set(counts.values())) > 1 or 0 in counts.values():
        shapes = {label: array.shape for label, array in fields.items()}
        raise ValueError(f"expected rows of fields (n, height, width) with one n; got {shapes}")
    unknown = [label for label in spreads if label not in fields]
    if unknown:
        raise ValueError(f"spreads names {unknown}; the rows are {list(fields)}")
    levels = [array for label, array in fields.items() if label not in spreads]
    top = max((float(np.nanmax(fields[label])) for label in spreads), default=0.0)
    if limits is None and levels:
        limits = (min(float(np.nanmin(a)) for a in levels), max(float(np.nanmax(a)) for a in levels))
    axes = figure.subplots(len(fields), next(iter(counts.values())), squeeze=False)
    for row, (label, array) in zip(axes, fields.items(), strict=True):
        scale, shades = ((0.0, top), SHADES) if label in spreads else (limits, "gray_r")
        assert scale is not None
        for panel, field in zip(row, array, strict=True):
            image = _draw(panel, field, scale, shades)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
        if label in spreads:
            figure.colorbar(image, ax=list(row), pad=0.01, aspect=8)
    return axes


def _draw(panel: Any, field: np.ndarray, scale: tuple[float, float], shades: str) -> Any:
    panel.set_facecolor(UNSEEN)
    image = panel.imshow(np.ma.masked_invalid(field), cmap=shades, vmin=scale[0], vmax=scale[1])
    panel.set(xticks=[], yticks=[])
    return image
