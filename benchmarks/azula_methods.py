"""azula's guidance (DPS, TMPD, MMPS, TDS) on the mixture problem, through its own classes, as peers.

Installed by `pip install --no-deps azula einops`: of what it names for image models nothing is needed here.
"""

from collections.abc import Callable
from typing import Any

import azula.denoise
import azula.guidance
import azula.linalg.covariance
import azula.noise
import azula.sample
import numpy as np
import torch
from mixture_problems import Problem

import sdeppl as sp

DTYPE = torch.float64


class Levels(azula.noise.Schedule):  # type: ignore[misc]
    """α and σ at the times of a forward SDE, in azula's time: T is 1, the k-th of `steps` is 1 - k/steps."""

    def __init__(self, sde: sp.IsotropicSDE, times: list[float]) -> None:
        rising = times[::-1]
        self.alpha = torch.tensor([sde.alpha(t) for t in rising], dtype=DTYPE)
        self.sigma = torch.tensor([sde.sigma(t) for t in rising], dtype=DTYPE)

    def __call__(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.round(t * (len(self.alpha) - 1)).long()
        return self.alpha[index], self.sigma[index]


class ExactDenoiser(azula.denoise.Denoiser):  # type: ignore[misc]
    """E[x_0 given x_t] of the mixture with unit covariances, differentiable; of azula's own kind."""

    def __init__(self, problem: Problem, schedule: Levels) -> None:
        super().__init__()
        self.schedule = schedule
        self.means = torch.tensor(problem.means)
        self.log_weights = torch.tensor(np.log(problem.weights))
        self.squares = 0.5 * (self.means**2).sum(dim=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor, **_: Any) -> azula.denoise.DiracPosterior:
        alpha, sigma = self.schedule(t)
        variance = alpha**2 + sigma**2
        log_joint = (alpha * (x @ self.means.T) - alpha**2 * self.squares) / variance + self.log_weights
        expected = torch.softmax(log_joint, dim=1) @ self.means
        return azula.denoise.DiracPosterior((alpha * x + sigma**2 * expected) / variance)


class Setting:
    """One problem as azula sees it."""

    def __init__(self, problem: Problem, sde: sp.IsotropicSDE, times: list[float]) -> None:
        self.prior = ExactDenoiser(problem, Levels(sde, times))
        self.y, self.H = torch.tensor(problem.y), torch.tensor(problem.A)
        self.variance, self.dim, self.count = problem.sd**2, problem.dim, problem.count
        self.options = {"steps": len(times) - 1, "silent": True, "dtype": DTYPE}

    def A(self, x: torch.Tensor) -> torch.Tensor:
        """H x row by row."""
        return x @ self.H.T

    def draw(self, sampler: Any, n: int, seed: int) -> np.ndarray:
        """From the sampler's own start, N(0, I) under a variance-preserving schedule."""
        torch.manual_seed(seed)
        draws: np.ndarray = sampler(sampler.init((n, self.dim), dtype=DTYPE)).numpy()
        return draws

    def dps(self, n: int, seed: int, per_draw: bool) -> np.ndarray:
        """ζ = 1. The norm that the gradient is of is taken over the whole batch; per_draw: over each draw, by
        a strength for each that undoes the difference."""

        def observe(x: torch.Tensor) -> torch.Tensor:
            seen = self.A(x)
            norms = (self.y - seen.detach()).norm(dim=1, keepdim=True)
            sampler.zeta = norms.norm() / norms if per_draw else 1.0
            return seen

        sampler = azula.guidance.DPSSampler(self.prior, self.y, observe, zeta=1.0, **self.options)
        return self.draw(sampler, n, seed)

    def tmpd(self, n: int, seed: int) -> np.ndarray:
        """By the ancestral sampler, as all denoisers here."""
        guided = azula.guidance.TMPDenoiser(self.prior, self.y, self.A, self.variance)
        return self.draw(azula.sample.DDPMSampler(guided, **self.options), n, seed)

    def mmps(self, n: int, seed: int, iterations: int) -> np.ndarray:
        """By GMRES, its default."""
        noise = azula.linalg.covariance.IsotropicCovariance(self.variance)
        guided = azula.guidance.MMPSDenoiser(self.prior, self.y, self.A, noise, iterations=iterations)
        return self.draw(azula.sample.DDPMSampler(guided, **self.options), n, seed)

    def tds(self, n: int, seed: int) -> np.ndarray:
        """One run of n particles, with the twist N(y; H x̂, sd² I + r² H Hᵀ), r² = σ²/(α² + σ²).

        r² is the variance of x_0 given x_t under N(0, I). azula leaves the twist to its user; its paper's,
        r = 0, throws particles to infinity here, on either schedule.
        """
        identity = torch.eye(self.count, dtype=DTYPE)

        def twist(clean: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
            spread = ratio**2 / (1 + ratio**2)
            covariance = self.variance * identity + spread * self.H @ self.H.T
            normal = torch.distributions.MultivariateNormal(self.A(clean), covariance)
            return normal.log_prob(self.y)

        return self.draw(azula.guidance.TDSSampler(self.prior, twist, **self.options), n, seed)


Method = Callable[[Setting, int, int], np.ndarray]
METHODS: dict[str, Method] = {
    "DPS": lambda s, n, seed: s.dps(n, seed, per_draw=True),
    "DPS, one norm for all": lambda s, n, seed: s.dps(n, seed, per_draw=False),
    "TMPD": lambda s, n, seed: s.tmpd(n, seed),
    "MMPS, 1 iteration": lambda s, n, seed: s.mmps(n, seed, 1),
    "MMPS, d_y": lambda s, n, seed: s.mmps(n, seed, s.count),
    "TDS": lambda s, n, seed: s.tds(n, seed),
}
