"""Six tasks of the simulation-based inference benchmark: priors, exact ln p(y | θ), and both for sdeppl.

Densities are on arrays of any library. Lueckmann et al. 2021, and the code of sbibm 1.1.0, where the
two differ: noise "scales" of the linear tasks are variances, slcp's covariance has 1e-6 added.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from exact_denoisers import BoxUniformDenoiser

import sdeppl as sp
from sdeppl.backend import Backend, place
from sdeppl.likelihood import DensityObservation, IndependentObservation
from sdeppl.likelihood.families import Bernoulli

LINEAR_VARIANCE = 0.1
MIXTURE_SCALES = (1.0, 0.1)
MOON_OFFSET, MOON_RADIUS, MOON_WIDTH = 0.25, 0.1, 0.01
SLCP_JITTER = 1e-6


@dataclass(frozen=True)
class Task:
    """A prior, uniform on [-bound, bound]^dim or N(0, covariance), and a likelihood.

    log_likelihood: θ (batch, dim) and y (count,), arrays of one library ↦ ln p(y | θ), (batch,), exact
    and normalised. published: C2ST of Calibrated Bayesian Guidance (arXiv 2602.22428), if there is one.
    """

    name: str
    dim: int
    log_likelihood: Callable[[Any, Any], Any]
    bound: float | None = None
    covariance: Callable[[], np.ndarray] | None = None
    published: float | None = None

    def prior_draws(self, draws: int, generator: np.random.Generator) -> np.ndarray:
        """(draws, dim)."""
        if self.covariance is None:
            return generator.uniform(-self.bound, self.bound, (draws, self.dim))
        root = np.linalg.cholesky(self.covariance())
        return generator.standard_normal((draws, self.dim)) @ root.T

    def log_prior(self, theta: np.ndarray) -> np.ndarray:
        """ln p(θ), (batch,)."""
        if self.covariance is None:
            inside = np.all(np.abs(theta) <= self.bound, axis=-1)
            return np.where(inside, -self.dim * math.log(2 * self.bound), -np.inf)
        covariance = self.covariance()
        exponent = np.sum(theta * np.linalg.solve(covariance, theta.T).T, axis=-1)
        return -0.5 * (exponent + np.linalg.slogdet(2 * math.pi * covariance)[1])

    def denoiser(self, sde: sp.IsotropicSDE, backend: Backend) -> sp.Denoiser:
        """The prior's exact denoiser."""
        if self.covariance is None:
            box = place(np.full(self.dim, self.bound), backend)
            return BoxUniformDenoiser(sde, -box, box)
        return sp.GaussianDenoiser(sde, place(np.zeros(self.dim), backend), place(self.covariance(), backend))

    def observation(self, y: np.ndarray, backend: Backend) -> Any:
        """p(y | θ) as sdeppl's observation of the most telling kind."""
        y = place(np.asarray(y, dtype=float), backend)
        if self.log_likelihood is linear_log_likelihood:
            return sp.LinearGaussian(place(np.eye(self.dim), backend), y, LINEAR_VARIANCE)
        if self.log_likelihood is glm_log_likelihood:
            design = place(design_matrix(), backend)
            return IndependentObservation(Bernoulli(), y, H=design)
        return DensityObservation(lambda theta: self.log_likelihood(theta, y), self.dim, y)


def linear_log_likelihood(theta: Any, y: Any) -> Any:
    """y ~ N(θ, .1 I)."""
    xp = array_namespace(theta)
    constant = 0.5 * y.shape[-1] * math.log(2 * math.pi * LINEAR_VARIANCE)
    return -0.5 * xp.sum((y - theta) ** 2, axis=-1) / LINEAR_VARIANCE - constant


def mixture_log_likelihood(theta: Any, y: Any) -> Any:
    """y ~ ½ N(θ, I) + ½ N(θ, .01 I)."""
    xp = array_namespace(theta)
    square = xp.sum((y - theta) ** 2, axis=-1)
    wide, narrow = (
        -0.5 * square / scale**2 - y.shape[-1] * math.log(math.sqrt(2 * math.pi) * scale)
        for scale in MIXTURE_SCALES
    )
    return xp.logaddexp(wide, narrow) - math.log(2)


def moons_log_likelihood(theta: Any, y: Any) -> Any:
    """y = (¼ + r cos a - |θ_1 + θ_2|/√2, r sin a + (θ_2 - θ_1)/√2), a ~ U(-π/2, π/2), r ~ N(.1, .01²).

    A density in polar coordinates, so 1/r belongs to it; sbibm's own `_likelihood` leaves that out, its
    reference draws, made by the simulator, have it. r < 0, at ten standard deviations, is left out.
    """
    xp = array_namespace(theta)
    first, second = theta[..., 0], theta[..., 1]
    u = y[..., 0] + xp.abs(first + second) / math.sqrt(2) - MOON_OFFSET
    v = y[..., 1] - (second - first) / math.sqrt(2)
    r = xp.sqrt(u * u + v * v)
    ahead = u > 0
    r = xp.where(ahead, r, xp.ones_like(r))  # no gradient of √ at 0 meets the mask below
    constant = math.log(math.pi * math.sqrt(2 * math.pi) * MOON_WIDTH)
    value = -0.5 * ((r - MOON_RADIUS) / MOON_WIDTH) ** 2 - xp.log(r) - constant
    return xp.where(ahead, value, -math.inf)


def slcp_log_likelihood(theta: Any, y: Any) -> Any:
    """Four points of N((θ_1, θ_2), S): standard deviations θ_3², θ_4², correlation tanh θ_5."""
    xp = array_namespace(theta)
    points = xp.reshape(y, (-1, 2))
    s, q = theta[..., 2] ** 4, theta[..., 3] ** 4  # variances, without the jitter
    covariance = theta[..., 2] ** 2 * theta[..., 3] ** 2 * xp.tanh(theta[..., 4])
    # s q (1 - ρ²) by sech², which keeps its digits as ρ nears 1
    determinant = s * q / xp.cosh(theta[..., 4]) ** 2 + SLCP_JITTER * (s + q + SLCP_JITTER)
    u = points[:, 0] - theta[..., 0:1]
    v = points[:, 1] - theta[..., 1:2]
    weighted = (
        (q + SLCP_JITTER) * xp.sum(u * u, axis=-1)
        + (s + SLCP_JITTER) * xp.sum(v * v, axis=-1)
        - 2 * covariance * xp.sum(u * v, axis=-1)
    )
    count = points.shape[0]
    return -0.5 * (weighted / determinant + count * xp.log(determinant)) - count * math.log(2 * math.pi)


def glm_log_likelihood(theta: Any, y: Any) -> Any:
    """100 outcomes y_i ~ Bernoulli(logit η_i), η = X θ."""
    xp = array_namespace(theta)
    design = xp.asarray(design_matrix(), dtype=theta.dtype)
    eta = theta @ design.T
    return xp.sum(y * eta - xp.logaddexp(eta, xp.zeros_like(eta)), axis=-1)


@cache
def design_matrix() -> np.ndarray:
    """(100, 10): ones, and white noise at the lags 0 to 8; as stored in the wheel, bit for bit."""
    stimulus = np.random.RandomState(42).randn(100).astype(np.float32).astype(float)
    lags = [np.concatenate([np.zeros(lag), stimulus[: 100 - lag]]) for lag in range(9)]
    return np.stack([np.ones(100), *lags], axis=-1)


@cache
def glm_covariance() -> np.ndarray:
    """Of the offset, variance 2, and of a filter whose second differences are penalised, (10, 10)."""
    difference = np.eye(9) - np.eye(9, k=-1)
    F = difference @ difference + np.diag(np.sqrt(np.arange(9) / 9))
    precision = np.zeros((10, 10))
    precision[0, 0] = 0.5
    precision[1:, 1:] = F.T @ F
    covariance = np.linalg.inv(precision)
    return 0.5 * (covariance + covariance.T)


TASKS = {
    task.name: task
    for task in (
        Task(
            "gaussian_linear",
            10,
            linear_log_likelihood,
            covariance=lambda: LINEAR_VARIANCE * np.eye(10),
            published=0.505,
        ),
        Task("gaussian_linear_uniform", 10, linear_log_likelihood, bound=1.0, published=0.513),
        Task("gaussian_mixture", 2, mixture_log_likelihood, bound=10.0, published=0.507),
        Task("two_moons", 2, moons_log_likelihood, bound=1.0, published=0.525),
        Task("slcp", 5, slcp_log_likelihood, bound=3.0, published=0.584),
        Task("bernoulli_glm", 10, glm_log_likelihood, covariance=glm_covariance),
    )
}
