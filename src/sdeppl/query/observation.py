"""From traced sites to one observation of the standardised vector."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from ..backend import Backend, from_torch, place, to_torch
from ..likelihood import LinearGaussian, NonlinearGaussian, Observation
from ..tracing import GaussianSite
from .gaussian_part import GaussianPart


class LinearisedWarning(UserWarning):
    """An observation's mean is not affine in the latents, so the posterior is approximate."""


def observation_of(sites: Sequence[GaussianSite], gaussian: GaussianPart, backend: Backend) -> Observation:
    """All sites as y = A(x) + N(0, R), z = location + scale · x.

    Linear where every site is: then sampling calls neither torch nor Pyro for the likelihood. Else
    the model is run for mean and Jacobian at each evaluation. Warns: LinearisedWarning.
    """
    y = torch.cat([site.y for site in sites])
    if all(site.R.dim() == 1 for site in sites):
        R = torch.cat([site.R for site in sites])
    else:
        R = torch.block_diag(*(site.R if site.R.dim() == 2 else site.R.diag() for site in sites))
    R = place(R.detach(), backend)
    affine = [(site.H, site.offset) for site in sites if site.H is not None]
    if len(affine) == len(sites):
        H = torch.cat([h for h, _ in affine])
        offset = torch.cat([o for _, o in affine if o is not None])
        shifted = y - offset - H @ gaussian.location
        return LinearGaussian(
            place((H * gaussian.scale).detach(), backend), place(shifted.detach(), backend), R
        )
    curved = [site.name for site in sites if site.H is None]
    warnings.warn(
        f"the mean of {curved} is not affine in the unconstrained latents; it is linearised at "
        "E[x_0 given x_t], so the posterior is approximate: compare it with reference.nuts",
        LinearisedWarning,
        stacklevel=4,
    )
    function = _batched(sites, gaussian, backend)
    return NonlinearGaussian(function, gaussian.location.shape[0], place(y, backend), R)


def posterior_probes(
    sites: Sequence[GaussianSite], gaussian: GaussianPart, draws: torch.Tensor, seed: int
) -> torch.Tensor | None:
    """Draws (n, dim) near the posterior, in z: where else the model must be what it seemed to be.

    Matheron's rule: prior draws x move to x + C Hᵀ S⁻¹ (y - H x - noise), as if all were Gaussian.
    None where a site is not affine, nothing was observed, or R is not positive definite.
    """
    affine = [(site.H, site.offset) for site in sites if site.H is not None]
    if len(affine) < len(sites):
        return None
    y = torch.cat([site.y for site in sites])
    seen = ~torch.isnan(y)
    H = torch.cat([h for h, _ in affine])[seen] * gaussian.scale
    offset = torch.cat([o for _, o in affine if o is not None])[seen]
    R = torch.block_diag(*(site.R if site.R.dim() == 2 else site.R.diag() for site in sites))[seen][:, seen]
    root, failed = torch.linalg.cholesky_ex(R)
    if not seen.any() or failed:
        return None
    x = gaussian.standardise(draws)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((x.shape[0], H.shape[0]), generator=generator, dtype=x.dtype)
    residual = y[seen] - offset - H @ gaussian.location.div(gaussian.scale) - x @ H.T
    residual = residual - noise @ root.T
    cross = (gaussian.basis * gaussian.eigenvalues) @ (gaussian.basis.T @ H.T)
    moved = x + torch.linalg.solve(H @ cross + R, residual.T).T @ cross.T
    return gaussian.location + gaussian.scale * moved


def _batched(sites: Sequence[GaussianSite], gaussian: GaussianPart, backend: Backend) -> Any:
    """x (batch, dim) ↦ means (batch, n) and Jacobians (batch, n, dim), through torch."""

    def one(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = gaussian.location + gaussian.scale * x
        mean = torch.cat([site.mean(z) for site in sites])
        return mean, mean

    with_jacobian = torch.func.vmap(
        torch.func.jacrev(one, has_aux=True), randomness="different", chunk_size=4096
    )

    def function(x: Any) -> tuple[Any, Any]:
        jacobian, mean = with_jacobian(to_torch(x).to(torch.float64))
        return from_torch(mean, backend), from_torch(jacobian, backend)

    return function
