"""Noised training pairs in the network's own coordinates."""

import torch

from ..backend import resolve
from ..query import GaussianPart
from ..sde import IsotropicSDE, log_snr_grid

LEVELS = 512


class Noising:
    """x_0 ↦ (whitened x_t, ln(α/σ), ρ², target), with t uniform in ln(α/σ) from T to σ/α = 1e-3.

    The target is V-coordinates of (x_0 - best linear E[x_0 given x_t]) over their standard
    deviation: unit variance at every t, and what a network of zero output leaves unexplained. The
    network's output counts ρ² times, ρ the correlation of x_t with x_0, as in NetworkDenoiser.
    """

    def __init__(self, gaussian: GaussianPart, sde: IsotropicSDE) -> None:
        self.sde = sde
        self.denoiser = gaussian.denoiser(sde, resolve("torch"))
        # the grid's last step to t = 0 is left out: there is no noise to learn from at 0
        self.times = torch.tensor(log_snr_grid(sde, LEVELS)[:-1], dtype=torch.float64)

    def sample(
        self, x0: torch.Tensor, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """x0 (batch, dim) in float64 to inputs (batch, rank), levels (batch, 1), ρ² and targets.

        dtype: of all four, the network's own.
        """
        batch = x0.shape[0]
        position = torch.rand((batch, 1), generator=generator, dtype=torch.float64) * (LEVELS - 1)
        left = position.floor().long().clamp(max=LEVELS - 2)
        early, late = self.times[left], self.times[left + 1]
        t = early + (position - left) * (late - early)
        eps = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
        x = self.sde.alpha(t) * x0 + self.sde.sigma(t) * eps + self.sde.shift(t)
        residual = (x0 - self.denoiser.mean(x, t)) @ self.denoiser.basis
        target = residual / self.denoiser.posterior_scale(t)
        inputs = self.denoiser.whiten(x, t)
        return (
            inputs.to(dtype),
            self.sde.half_log_snr(t).to(dtype),
            self.denoiser.explained(t).to(dtype),
            target.to(dtype),
        )
