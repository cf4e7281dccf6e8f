"""Reading the observed sites as y = A(z) + Gaussian noise, and recognising an affine A."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .errors import ModelError
from .latents import LatentSpace
from .reader import SiteReader

PROBES = 4


@dataclass(frozen=True)
class GaussianSite:
    """One observed site, y = A(z) + N(0, R), z (dim,) the unconstrained latents; float64 tensors.

    mean: A, z (dim,) ↦ (n,), differentiable and fit for vmap; R: variances (n,) or covariance (n,
    n); y (n,): NaN where not observed; H (n, dim) and offset (n,): A(z) = H z + offset where A is
    affine, else None.
    """

    name: str
    mean: Callable[[torch.Tensor], torch.Tensor]
    R: torch.Tensor
    y: torch.Tensor
    H: torch.Tensor | None
    offset: torch.Tensor | None


def read_gaussian_sites(
    model: Callable[..., Any],
    space: LatentSpace,
    data: Mapping[str, torch.Tensor],
    draws: torch.Tensor,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> list[GaussianSite]:
    """The observed sites of `data`.

    draws: (at least 4, dim) unconstrained latents from the prior, where A is looked at: it counts as
    affine if its Jacobian is the same at two of them and predicts the others, to 1e-4 in float32 and
    1e-9 in float64.

    Raises: ModelError, naming the site: unknown, a latent, not normal, wrong shape, scaled,
    depending on no latent, or of a covariance that depends on the latents.
    """
    reader = SiteReader(model, space, args, dict(kwargs or {}))
    nodes = reader.nodes(draws[0])
    for name, value in data.items():
        _check_site(name, value, nodes, space)
    return [_read(reader, name, value, draws[:PROBES]) for name, value in data.items()]


def _check_site(name: str, value: torch.Tensor, nodes: Mapping[str, Any], space: LatentSpace) -> None:
    known = [n for n in nodes if nodes[n]["type"] == "sample" and n not in space.names]
    if name in space.names:
        raise ModelError(f"site '{name}' is a latent of the guide; it cannot be observed")
    if name not in known:
        raise ModelError(f"the model has no observable site '{name}'; it has {known}")
    if tuple(value.shape) != tuple(nodes[name]["fn"].shape()):
        raise ModelError(
            f"site '{name}': the data have shape {tuple(value.shape)}, the model "
            f"{tuple(nodes[name]['fn'].shape())}"
        )
    if torch.isinf(value).any():
        raise ModelError(f"site '{name}': the data hold infinity; mark what was not observed with NaN")
    if not isinstance(nodes[name]["scale"], (int, float)) or nodes[name]["scale"] != 1:
        raise ModelError(f"site '{name}' is scaled (poutine.scale); a posterior needs scale 1")


def _read(reader: SiteReader, name: str, value: torch.Tensor, draws: torch.Tensor) -> GaussianSite:
    def mean(z: torch.Tensor) -> torch.Tensor:
        return reader.moments(name, z)[0]

    y = value.to(torch.float64)
    mask = reader.mask(name, draws[0])
    if mask is not None:
        y = torch.where(mask, y, torch.nan)
    H = torch.func.jacrev(mean)(draws[0])
    at_first, R = reader.moments(name, draws[0])
    if not float(H.abs().max()) > 0 and not float(torch.func.jacrev(mean)(draws[1]).abs().max()) > 0:
        raise ModelError(f"site '{name}' depends on no latent; observing it says nothing about them")
    tolerance = 1e-9 if {site.dtype for site in reader.space.sites} == {torch.float64} else 1e-4
    for z in draws[1:]:
        noise = reader.moments(name, z)[1]
        if not torch.allclose(noise, R, rtol=tolerance, atol=0.0):
            raise ModelError(
                f"site '{name}': its covariance depends on the latents; the mean likelihood needs a "
                "constant one"
            )
    if not _is_affine(mean, H, draws, tolerance):
        return GaussianSite(name, mean, R, y.reshape(-1), None, None)
    return GaussianSite(name, mean, R, y.reshape(-1), H, at_first - H @ draws[0])


def _is_affine(mean: Any, H: torch.Tensor, draws: torch.Tensor, tolerance: float) -> bool:
    """Whether the Jacobian at one draw is that at another, and leads to all the others."""
    change = float((torch.func.jacrev(mean)(draws[1]) - H).abs().max())
    if change > tolerance * float(H.abs().max()):
        return False
    start = mean(draws[0])
    for z in draws[1:]:
        there = mean(z)
        size = float(there.abs().max()) + float(start.abs().max())
        if float((there - start - H @ (z - draws[0])).abs().max()) > tolerance * size:
            return False
    return True
