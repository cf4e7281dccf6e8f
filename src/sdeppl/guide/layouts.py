"""What a guide's layouts mean: the grid or path of each site, the network that follows, and their place in
files."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch

from ..linalg import FieldShape, Grid, Layout, PathShape, Time
from ..nn import ResidualMLP, UNet
from ..tracing import LatentSpace, ModelError

NetworkFactory = Callable[[Any], torch.nn.Module]
LAYOUTS: dict[str, type[Layout]] = {"Grid": Grid, "Time": Time}


def fields_of(space: LatentSpace, layout: object) -> dict[str, FieldShape | PathShape]:
    """{site: its grid or path} of the sites with a layout. Raises: TypeError, ModelError, naming the site."""
    if layout is not None and not isinstance(layout, Mapping):
        raise TypeError(f"layout must be {{site: sp.Grid(...)}}, by site name; got {layout!r:.80}")
    sites = {site.name: site for site in space.sites}
    fields: dict[str, FieldShape | PathShape] = {}
    for name, grid in dict(layout or {}).items():
        if name not in sites:
            raise ModelError(f"layout: there is no latent site '{name}'; the model has {space.names}")
        if not isinstance(grid, Layout):
            raise TypeError(f"layout: site '{name}' has {grid!r:.80}; expected sp.Grid(...) or sp.Time(...)")
        site = sites[name]
        if site.shape != site.unconstrained_shape:
            raise ModelError(
                f"layout: site '{name}' has the support {site.support}, whose numbers are not one by one "
                "those of a grid; write it as a function of a site whose support is"
            )
        try:
            fields[name] = grid.of(site.shape)
        except ValueError as error:
            raise ModelError(f"layout: site '{name}': {error}") from error
    return fields


def network_factory(
    net: NetworkFactory | Literal["auto"] | None, fields: Mapping[str, FieldShape | PathShape]
) -> NetworkFactory | None:
    """What makes the network. Raises: ModelError for one on a path."""
    paths = [name for name, field in fields.items() if isinstance(field, PathShape)]
    if net == "auto":
        return None if paths else UNet() if fields else ResidualMLP
    if net is not None and paths:
        raise ModelError(
            f"site '{paths[0]}' has the layout sp.Time(), with which there is no network yet: give net=None, "
            "for the Gaussian part alone, or the layout sp.Grid(), for a path of one length"
        )
    return net


def layout_contents(layout: Mapping[str, Layout]) -> dict[str, Any]:
    """As JSON."""
    return {name: {"type": type(one).__name__, **vars(one)} for name, one in layout.items()}


def check_layout(path: object, found: Mapping[str, Mapping[str, Any]], mine: Mapping[str, Layout]) -> None:
    """Raises: ModelError where a file has another layout."""
    theirs = {
        name: LAYOUTS[settings["type"]](**{k: value for k, value in settings.items() if k != "type"})
        for name, settings in found.items()
    }
    if theirs != mine:
        raise ModelError(f"{path} was trained with layout={theirs}; this guide has {dict(mine)}")
