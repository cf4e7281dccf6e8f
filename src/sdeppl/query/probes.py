"""Points near the posterior, before it is known."""

import warnings
from collections.abc import Sequence

import torch

from ..backend import resolve
from ..backend.sharing import SHARED
from ..likelihood import Observation
from ..tracing import DensitySite, ObservedSite, SlowDrawsWarning
from .gaussian_part import GaussianPart
from .observation import observation_of

ROUNDS = 4
REACH = 6.0
LARGEST = 20_000_000  # numbers in one array of matrices


def posterior_probes(
    sites: Sequence[ObservedSite], gaussian: GaussianPart, draws: torch.Tensor, seed: int
) -> torch.Tensor | None:
    """Draws (n, dim) near the posterior, in z: where else the model must be what it seemed to be.

    Matheron's rule: prior draws x move to x + C Hᵀ S⁻¹ (y - H x - noise), as if all were Gaussian; where
    a site is not, or not affine, that is repeated about the point arrived at, with y and R of the
    Gaussian that the site's density looks like from there, and points more than six prior standard
    deviations out are dropped. Sites known by their density alone, or without Jacobian, are passed over.
    None where no other was observed.
    """
    usable = [
        site for site in sites if site.differentiable and len(site.seen) and not isinstance(site, DensitySite)
    ]
    if not usable:
        return None
    with SHARED, warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowDrawsWarning)  # said once, when the posterior is compiled
        observation = observation_of(usable, gaussian, resolve("torch"))
    if not observation.is_linear:
        draws = draws[: max(4, LARGEST // max(observation.count, gaussian.location.shape[0]) ** 2)]
    start = gaussian.standardise(draws)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((start.shape[0], observation.count), generator=generator, dtype=start.dtype)
    moved = start
    for _ in range(1 if observation.is_linear else ROUNDS):
        moved = _moved(observation, gaussian, start, noise, moved)
        kept = torch.isfinite(moved).all(dim=1)
        if not observation.is_linear:
            kept = kept & (moved.abs() <= REACH).all(dim=1)
        start, noise, moved = start[kept], noise[kept], moved[kept]
        if not len(moved):
            return None
    return gaussian.location + gaussian.scale * moved


def _moved(
    observation: Observation,
    gaussian: GaussianPart,
    start: torch.Tensor,
    noise: torch.Tensor,
    about: torch.Tensor,
) -> torch.Tensor:
    """Where the draws `start` move to, given the observation linearised about other points; NaN where it
    cannot be."""
    linear = observation.linearise(about)
    basis = gaussian.basis * gaussian.eigenvalues
    cross = basis @ (gaussian.basis.T @ linear.H.mT)
    projected = linear.H @ cross
    surrogate = observation.site_approximation(linear, projected.diagonal(dim1=-2, dim2=-1))
    S = surrogate.add_noise(projected)
    if surrogate.diagonal:
        noise = noise * surrogate.R.sqrt()
    else:
        factor, failed = torch.linalg.cholesky_ex(surrogate.R)
        noise = torch.where(failed[..., None] == 0, (factor @ noise[..., None])[..., 0], torch.nan)
    residual = surrogate.y - linear.predicted + linear.forward(about - start) - noise
    step, singular = torch.linalg.solve_ex(S, residual[..., None])
    return torch.where(singular[..., None] == 0, start + (cross @ step)[..., 0], torch.nan)
