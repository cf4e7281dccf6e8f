"""What a network learns from: noised draws, as it will see them, and what it is to find in them."""

from typing import Any

import torch

from ..backend import Backend, resolve
from ..denoisers import Coordinates, Eigenbasis
from ..query import GaussianPart
from ..sde import IsotropicSDE, log_snr_grid

LEVELS = 512
Noisy = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class Noising:
    """x_0 ↦ (what the network sees of x_t, ln(α/σ), ρ², target), t uniform in ln(α/σ) from T to σ/α = 1e-3.

    The target is (x_0 - best linear E[x_0 given x_t]) over its standard deviation, in the coordinates that
    `NetworkDenoiser` has the network see and answer in: unit variance at every t, and what a network of zero
    output leaves unexplained. The network's output counts ρ² times, ρ the correlation of x_t with x_0.

    backend: of torch, where and in which dtype it is computed. In float32 a target has a relative error of
    about 1e-4 at the lowest noise and less above. Time and memory grow as those of a product with the
    covariance for each row.
    """

    def __init__(
        self,
        gaussian: GaussianPart,
        sde: IsotropicSDE,
        coordinates: type[Coordinates] = Eigenbasis,
        backend: Backend | None = None,
    ) -> None:
        self.sde, self.coordinates = sde, coordinates
        self.backend = resolve("torch") if backend is None else backend
        self.denoiser = gaussian.denoiser(sde, self.backend)
        # the grid's last step to t = 0 is left out: there is no noise to learn from at 0
        times = log_snr_grid(sde, LEVELS)[:-1]
        self.times = torch.tensor(times, dtype=torch.float64, device=self.backend.device)

    def sample(
        self, x0: torch.Tensor, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Noisy:
        """x0 (batch, dim) to inputs (batch, ·), levels (batch, 1), ρ² and targets.

        generator: on the backend's device; dtype: of all four, the network's own.
        """
        batch, like = x0.shape[0], {"generator": generator, "device": self.backend.device}
        x0 = x0.to(device=self.backend.device, dtype=self.backend.dtype)
        position = torch.rand((batch, 1), dtype=torch.float64, **like) * (LEVELS - 1)
        left = position.floor().long().clamp(max=LEVELS - 2)
        early, late = self.times[left], self.times[left + 1]
        t = (early + (position - left) * (late - early)).to(x0.dtype)
        eps = torch.randn(x0.shape, dtype=x0.dtype, **like)
        x: Any = self.sde.alpha(t) * x0 + self.sde.sigma(t) * eps + self.sde.shift(t)
        here = self.coordinates(self.denoiser, t)
        target = here.target(x0 - self.denoiser.mean(x, t))
        found: Any = here.inputs(x), self.sde.half_log_snr(t), here.reach, target
        inputs, level, reach, target = (part.to(dtype) for part in found)
        return inputs, level, reach, target
