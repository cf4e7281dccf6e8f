"""Draws by site as an xarray Dataset, with the names and the labels that the prior's axes had."""

from collections.abc import Mapping
from typing import Any

from ..backend import labels_from_json, labels_to_json, same_labels, to_host

Axes = tuple[tuple[str, ...], Mapping[str, Any]]  # names of the last axes, {name: (axes, labels)} along them


def to_xarray(
    draws: Mapping[str, Any], axes: Mapping[str, Axes], lead: tuple[str, ...], attributes: Mapping[str, Any]
) -> Any:
    """An xarray.Dataset of draws {site: (*lead, *shape)}, one variable a site.

    axes: of the sites whose prior has names for them; the others' are called '<site>_dim_0', .... Where sites
    have axes of one name and other labels, those of the later ones are called '<site>_<name>'. Raises:
    ImportError, with what to install; TypeError for draws without site names.
    """
    try:
        import xarray
    except ImportError as error:
        raise ImportError(f"to_xarray needs xarray: pip install 'sdeppl[xarray]' ({error})") from error
    if not isinstance(draws, Mapping):
        raise TypeError("to_xarray takes draws by site name; these are a plain array")
    known: dict[str, Any] = {}
    variables = {}
    for site, value in draws.items():
        host = to_host(value)
        names, labels = axes.get(site, ((), {}))
        unnamed = host.ndim - len(lead) - len(names)
        own = [*lead, *(f"{site}_dim_{k}" for k in range(unnamed)), *names]
        array = xarray.DataArray(host, dims=own, coords=dict(labels), name=site)
        variables[site] = _apart(array, site, known, lead)
    return xarray.Dataset(variables, attrs=dict(attributes))


def _apart(array: Any, site: str, known: dict[str, Any], lead: tuple[str, ...]) -> Any:
    """The array with axes and labels renamed that another site has otherwise."""
    renamed = {}
    for name in dict.fromkeys([*array.dims, *array.coords]):
        held = array.coords.get(name)
        told = (array.sizes.get(name), None if held is None else (held.dims, held.values))
        if name in known and name not in lead and not _same(known[name], told):
            renamed[name] = f"{site}_{name}"
        else:
            known.setdefault(name, told)
    return array.rename(renamed) if renamed else array


def _same(one: Any, other: Any) -> bool:
    """Whether an axis has the same size, and the same labels or none."""
    if one[0] != other[0] or (one[1] is None) != (other[1] is None):
        return False
    return one[1] is None or (one[1][0] == other[1][0] and same_labels(one[1][1], other[1][1]))


def axes_to_json(axes: Axes | None) -> Any:
    """Names and labels as a file has them."""
    if axes is None:
        return None
    labels = {name: {"along": list(along)} | labels_to_json(held) for name, (along, held) in axes[1].items()}
    return {"names": list(axes[0]), "labels": labels}


def axes_from_json(content: Any) -> Axes | None:
    """What `axes_to_json` wrote."""
    if content is None:
        return None
    labels = {name: (tuple(one["along"]), labels_from_json(one)) for name, one in content["labels"].items()}
    return tuple(content["names"]), labels
