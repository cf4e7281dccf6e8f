"""Masks on latents, which switch their prior density off in Pyro: which of them matter."""

from collections.abc import Collection, Mapping
from typing import Any

import torch

from .errors import ModelError
from .provenance import origins_of
from .reader import SiteReader
from .runs import sample_sites_of
from .supports import log_density
from .unwrap import own_mask

PAIRS = 8  # of draws, with the masked numbers of one put into the other


def check_masks(reader: SiteReader, draws: torch.Tensor, observed: Collection[str]) -> None:
    """Check that what is masked on latents touches nothing that is not: no density of a latent or of an
    observed site depends on it, as where a padded group and its data are masked together.

    The draws of such numbers are then those of the prior, and do not matter to the others. draws (rows, dim):
    unconstrained, from the prior. Raises: ModelError, naming the latent and what depends on it.
    """
    nodes = reader.nodes(draws[0])
    masked = {}
    for name in reader.space.names:
        mask = own_mask(nodes[name]["fn"], nodes[name]["mask"])
        if mask is not None and not bool(mask.all()):
            masked[name] = ~mask
    if not masked:
        return
    kept = {*reader.space.names, *observed}
    for row in range(min(PAIRS, len(draws) - 1)):
        one, other = (reader.space.unflatten(draws[k]) for k in (row, row + 1))
        before = _densities(reader, one, kept)
        changed = {name: torch.where(gone, other[name], one[name]) for name, gone in masked.items()}
        if not _touched(before, _densities(reader, one | changed, kept)):
            continue
        for name, value in changed.items():
            touched = _touched(before, _densities(reader, one | {name: value}, kept))
            if touched:
                raise _switched_off(name, touched)
        raise _switched_off(next(iter(masked)), _touched(before, _densities(reader, one | changed, kept)))
    _check_without_density(reader, nodes, masked)


def _switched_off(name: str, touched: str) -> ModelError:
    return ModelError(
        f"latent site '{name}' is masked, which switches its prior density off in Pyro while its draws stay, "
        f"and site '{touched}' depends on it; give it the prior that is meant, without a mask (a wide one "
        f"for a flat one), or mask '{touched}' where it is masked too"
    )


def _densities(
    reader: SiteReader, values: Mapping[str, torch.Tensor], kept: Collection[str]
) -> dict[str, torch.Tensor]:
    """{site: log-densities where it is not masked} of the sites that are kept and have one."""
    found = {}
    for name, node in reader.at(values).items():
        if name not in kept:
            continue
        try:
            terms = log_density(node["fn"], node["value"])
        except NotImplementedError:
            continue
        mask = True if node["mask"] is None else node["mask"]
        found[name] = torch.where(torch.as_tensor(mask), terms, 0.0)
    return found


def _touched(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> str:
    """The first site whose densities are others, or ''."""
    for name, terms in before.items():
        if not torch.allclose(terms, after[name], rtol=1e-6, atol=1e-9, equal_nan=True):
            return name
    return ""


def _check_without_density(
    reader: SiteReader, nodes: Mapping[str, Any], masked: Mapping[str, torch.Tensor]
) -> None:
    """A latent that is only drawn shows by its draws alone what it depends on."""
    parents = origins_of(reader.model, reader.args, reader.kwargs, sample_sites_of(nodes)).parents()
    for name in reader.space.names:
        try:
            log_density(nodes[name]["fn"], nodes[name]["value"])
        except NotImplementedError:
            above = [parent for parent in masked if parent in parents[name]]
            if above:
                raise _switched_off(above[0], name) from None
