"""The prior's mean and covariance in standardised unconstrained coordinates."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ..backend import Backend, place
from ..denoisers import GaussianDenoiser
from ..sde import IsotropicSDE

RANK_TOLERANCE = 4 * torch.finfo(torch.float64).eps  # times dim: what rounding leaves of zero
CONSTANT = 1e-12


class RankWarning(UserWarning):
    """The prior looks degenerate: some direction has no variance that can be told from rounding."""


@dataclass(frozen=True)
class GaussianPart:
    """z = location + scale · x with x standardised; Cov x = V diag(λ) Vᵀ.

    location, scale (dim,); basis V (dim, rank); eigenvalues λ (rank,); float64 tensors. `draws` is
    how many prior draws the moments were estimated from.
    """

    location: torch.Tensor
    scale: torch.Tensor
    basis: torch.Tensor
    eigenvalues: torch.Tensor
    draws: int

    def __repr__(self) -> str:
        dim, rank = len(self.location), len(self.eigenvalues)
        return f"GaussianPart(dim={dim}, rank={rank}, from {self.draws} draws)"

    @classmethod
    def estimate(cls, batches: Iterable[torch.Tensor]) -> "GaussianPart":
        """From batches (n, dim) of unconstrained draws.

        Raises: ValueError for fewer than 2, or where nothing varies. Warns: RankWarning.
        """
        count, shift = 0, torch.zeros(())
        total = square = torch.zeros(())
        for batch in batches:
            if count == 0:
                shift = batch.mean(dim=0)
                total, square = (
                    torch.zeros_like(shift),
                    torch.zeros(2 * shift.shape, dtype=shift.dtype),
                )
            centred = batch - shift
            total = total + centred.sum(dim=0)
            square = square + centred.T @ centred
            count += batch.shape[0]
        if count < 2:
            raise ValueError(f"moments need at least 2 draws; got {count}")
        mean = total / count
        covariance = (square - count * torch.outer(mean, mean)) / (count - 1)
        scale = covariance.diagonal().clamp_min(0).sqrt()
        # a latent that never varies stays at its value: what rounding leaves of it is no covariance
        varies = scale > CONSTANT * (shift + mean).abs()
        if not varies.any():
            raise ValueError("no latent varies from draw to draw; there is nothing to infer")
        scale = torch.where(varies, scale, torch.ones_like(scale))
        covariance = torch.where(varies & varies[:, None], covariance, 0.0)
        eigenvalues, basis = torch.linalg.eigh(covariance / torch.outer(scale, scale))
        kept = eigenvalues > RANK_TOLERANCE * len(scale) * eigenvalues[-1]
        if int(kept.sum()) < int(varies.sum()):
            warnings.warn(
                f"along {int(varies.sum()) - int(kept.sum())} of {int(varies.sum())} directions the prior's "
                "variance is zero, or too small beside the largest to be told from rounding; the posterior "
                "takes it as zero. If it is not, narrow the widest prior",
                RankWarning,
                stacklevel=4,
            )
        return cls(shift + mean, scale, basis[:, kept], eigenvalues[kept], count)

    def standardise(self, z: torch.Tensor) -> torch.Tensor:
        """(batch, dim) unconstrained to standardised."""
        return (z - self.location) / self.scale

    def denoiser(self, sde: IsotropicSDE, backend: Backend) -> GaussianDenoiser:
        """The best linear denoiser, in standardised coordinates, on a backend."""
        return GaussianDenoiser.from_eigenbasis(
            sde,
            place(torch.zeros_like(self.location), backend),
            place(self.basis, backend),
            place(self.eigenvalues, backend),
        )
