"""Reading the observed sites as y = A(z) + Gaussian noise, and recognising an affine A."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyro.distributions as dist
import torch

from .errors import ModelError
from .latents import LatentSpace
from .reader import SiteReader

SLOW_PROBES = 16


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
    affine if its Jacobian at the first leads to all the others, to 1e-5 of its size in float32 and
    1e-9 in float64. A bend that no draw reaches is not seen, so give a few hundred.

    Raises: ModelError, naming the site: unknown, a latent, not normal, wrong shape, scaled, depending
    on no latent or on a site that is neither latent nor given, or of a covariance that depends on the
    latents; pyro.factor.
    """
    reader = SiteReader(model, space, args, dict(kwargs or {}))
    nodes = reader.nodes(draws[0])
    _check_prior(nodes, space)
    for name, value in data.items():
        _check_site(name, value, nodes, space)
    reader = replace(reader, data={name: _like(nodes[name], value) for name, value in data.items()})
    return [_read(reader, name, value.to(torch.float64), draws) for name, value in data.items()]


def _like(node: Any, value: torch.Tensor) -> torch.Tensor:
    """The data in the dtype of what the model draws there, since another site may use them."""
    drawn = node["value"]
    floating = isinstance(drawn, torch.Tensor) and drawn.is_floating_point()
    return value.to(drawn.dtype) if floating else value


def _check_prior(nodes: Mapping[str, Any], space: LatentSpace) -> None:
    """The prior is known by its draws, so nothing may change it after them."""
    for name, node in nodes.items():
        if node["type"] == "sample" and isinstance(node["fn"], dist.Unit):
            raise ModelError(
                f"site '{name}' is a pyro.factor, which prior draws do not show; write it as an observed site"
            )
    for name in space.names:
        scale = nodes[name]["scale"]
        if not isinstance(scale, (int, float)) or scale != 1:
            raise ModelError(f"latent site '{name}' is scaled or subsampled; a posterior needs scale 1")


def _check_site(name: str, value: torch.Tensor, nodes: Mapping[str, Any], space: LatentSpace) -> None:
    known = [n for n in nodes if nodes[n]["type"] == "sample" and n not in space.names]
    if name in space.names:
        raise ModelError(
            f"site '{name}' is a latent of the guide, so it cannot be observed; if it is an observation, "
            "name the latents with ScoreGuide(model, latents=[...])"
        )
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


def _read(reader: SiteReader, name: str, y: torch.Tensor, draws: torch.Tensor) -> GaussianSite:
    def mean(z: torch.Tensor) -> torch.Tensor:
        return reader.moments(name, z)[0]

    first, R = reader.moments(name, draws[0])
    _check_fixed(reader, name, draws, first, R)
    mask = reader.mask(name, draws[0])
    if mask is not None:
        y = torch.where(mask, y, torch.nan)
    means, variances = _look(reader, name, draws)
    tolerance = 1e-9 if {site.dtype for site in reader.space.sites} == {torch.float64} else 1e-5
    full = [reader.moments(name, z)[1] for z in draws[1:4]]
    pairs = [(row, variances[0]) for row in variances] + [(noise, R) for noise in full]
    if not all(torch.allclose(one, other, rtol=tolerance, atol=0.0) for one, other in pairs):
        raise ModelError(
            f"site '{name}': its covariance depends on the latents; the mean likelihood needs a constant one"
        )
    if bool((means == means[0]).all()):
        raise ModelError(f"site '{name}' depends on no latent; observing it says nothing about them")
    H = torch.func.jacrev(mean)(draws[0])
    steps = draws[1 : means.shape[0]] - draws[0]
    size = means[1:].abs() + means[0].abs() + steps.abs() @ H.abs().T
    if bool(((means[1:] - means[0] - steps @ H.T).abs() <= tolerance * size).all()):
        return GaussianSite(name, mean, R, y.reshape(-1), H, first - H @ draws[0])
    if means.shape[0] < draws.shape[0]:
        raise ModelError(
            f"site '{name}': its mean is not affine, and the model cannot be run for many latents at "
            "once by torch.func.vmap; replace control flow on values by torch.where"
        )
    return GaussianSite(name, mean, R, y.reshape(-1), None, None)


def _check_fixed(
    reader: SiteReader, name: str, draws: torch.Tensor, mean: torch.Tensor, R: torch.Tensor
) -> None:
    """Given latents and data, nothing random may be left in the site's distribution."""
    if not (torch.isfinite(mean).all() and torch.isfinite(R).all()):
        raise ModelError(
            f"site '{name}': its mean or covariance is not finite at a draw from the prior; if it depends "
            "on another observed site, that one must be observed completely"
        )
    again = reader.moments(name, draws[0], seed=1)
    if not (torch.equal(mean, again[0]) and torch.equal(R, again[1])):
        raise ModelError(
            f"site '{name}' depends on something random that is neither a latent of the guide "
            f"({reader.space.names}) nor given as data"
        )


def _look(reader: SiteReader, name: str, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and variances (draws, n); at fewer draws where the model cannot be vectorised."""

    def one(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, noise = reader.moments(name, z)
        return mean, noise if noise.dim() == 1 else noise.diagonal()

    try:
        return torch.func.vmap(one, randomness="different", chunk_size=64)(draws)
    except (RuntimeError, NotImplementedError, ValueError):
        means, variances = zip(*(one(z) for z in draws[:SLOW_PROBES]), strict=True)
        return torch.stack(means), torch.stack(variances)
