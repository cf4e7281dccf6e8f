"""The mean likelihood by adaptive Monte Carlo over Tweedie's Gaussian."""

import math

from ..backend import Array, array_namespace, keyed_normal, seed_number, whole_number
from ..denoisers import Denoiser, Moments
from ..linalg import cholesky, log_diagonal, solve_lower
from ..mcmc import smc
from .base import Guided, MeanLikelihood, psd_part
from .observation import Observation

STREAM = (0x6D6F6E7465, 0)  # of its normals: any name that no noise of a solve has
SPREAD = 1.3  # of the next round's variances over those of the weighted draws
KEPT = 0.05  # share of the unweighted covariance that a round keeps at least

SHRINKAGE = 0.2  # share of the unweighted covariance in the weighted one: few draws make it too narrow
EFFECTIVE = 1 / 3  # share of draws that tempering leaves
HALVINGS = 10
MOST = 1_000_000  # samples for each draw


class MonteCarloDenoiser(MeanLikelihood):
    """l(y given x_t) = ∫ p(y given x_0) N(x_0; m, C) dx_0, by draws that move to where the integrand is.

    Assumes p(x_0 given x_t) = N(m, C), and nothing of p(y given x_0), which needs no derivative. Each of
    `rounds` draws x_0 = μ + L ξ, weighs them by p(y given x_0) N(x_0; m, C)/N(x_0; μ, L Lᵀ), to a power
    that leaves a third of them effective, and takes their mean and covariance as the next μ and L Lᵀ; μ = m
    and L Lᵀ = C at first. The last draws give l and, weighted, E[x_0 given x_t, y] and its covariance. The ξ
    are the same at every x_t and t. Costs (rounds + 1) × samples evaluations of p(y given x_0), rounds + 1
    Cholesky factors, and dim products with C where it is not a matrix: for few numbers in x_0.

    samples: an even number, in pairs ±ξ; seed: of ξ. Raises: as `MeanLikelihood`; ValueError for counts out
    of range; TypeError for a hard constraint. Source: Cappé et al. 2008 (adaptive importance sampling).
    """

    name = "monte-carlo"
    needs = "density"
    gradient_free = True

    def __init__(
        self, prior: Denoiser, observation: Observation, samples: int = 64, rounds: int = 3, seed: int = 0
    ) -> None:
        super().__init__(prior, observation)
        samples = whole_number("MonteCarloDenoiser: samples", samples, 2, MOST)
        if samples % 2:
            raise ValueError(f"MonteCarloDenoiser: samples must be an even number from 2; got {samples}")
        rounds, seed = whole_number("MonteCarloDenoiser: rounds", rounds, 0), seed_number(seed)
        xi = keyed_normal(prior.backend, (samples // 2, prior.dim), seed, STREAM)
        xi = self.backend.xp.concat([xi, -xi], axis=0)
        self.xi = xi / self.backend.xp.sqrt(self.backend.xp.mean(xi * xi, axis=0))
        self.rounds = rounds

    def row_numbers(self) -> int:
        n, dim = self.observation.count, self.dim
        return self.xi.shape[0] * (4 * dim + 2 * n) + 6 * dim * dim

    def _guided(self, x: Array, t: float, moments: Moments) -> Guided:
        xp = self.backend.xp
        covariance = psd_part(moments.covariance, self.dim)
        C = self._with_floor(covariance, x, t)
        root = cholesky(C)
        mean, scale, wide = moments.mean, root, C
        for _ in range(self.rounds):
            draws, log_weights = self._weigh(moments.mean, root, mean, scale)
            power = smc.effective_power(log_weights, EFFECTIVE, HALVINGS)
            weights, _ = smc.normalised(power * xp.clip(log_weights, min=-1e30))  # 0 × -∞ would be NaN
            mean, narrow = weighted_moments(weights, draws)
            wide = SPREAD * narrow + KEPT * wide
            scale = cholesky(wide)
        draws, log_weights = self._weigh(moments.mean, root, mean, scale)
        weights, log_likelihood = weights_of(log_weights)
        mean, narrow = weighted_moments(weights, draws)
        covariance_given_y = 0.8 * narrow + 0.2 * wide
        return Guided(Moments(moments.mean, covariance), mean, log_likelihood, covariance=covariance_given_y)

    def _weigh(self, mean: Array, root: Array, centre: Array, scale: Array) -> tuple[Array, Array]:
        """Draws (batch, samples, dim) of N(centre, scale scaleᵀ), and ln p(y given x_0) N(x_0; m, C) over
        their density, (batch, samples)."""
        xp, (batch, dim) = self.backend.xp, mean.shape
        draws = centre[:, None, :] + self.xi @ xp.matrix_transpose(scale)
        flat = xp.reshape(draws, (batch * self.xi.shape[0], dim))
        likelihood = xp.reshape(self.observation.log_prob(flat), (batch, self.xi.shape[0]))
        white = solve_lower(root, xp.matrix_transpose(draws - mean[:, None, :]))
        ratio = 0.5 * (xp.sum(self.xi * self.xi, axis=-1) - xp.sum(white * white, axis=1))
        return draws, likelihood + ratio + (log_diagonal(scale) - log_diagonal(root))[:, None]


def weights_of(log_weights: Array) -> tuple[Array, Array]:
    """Weights (batch, M) that sum to one, and ln of the mean of the unnormalised ones, (batch,).

    A row without any weight gets equal ones, and the logarithm of the smallest number over M.
    """
    xp, (weights, log_mean) = array_namespace(log_weights), smc.normalised(log_weights)
    least = math.log(float(xp.finfo(log_weights.dtype).smallest_normal) / log_weights.shape[1])
    return weights, xp.where(log_mean > -xp.inf, log_mean, xp.full_like(log_mean, least))


def weighted_moments(weights: Array, draws: Array) -> tuple[Array, Array]:
    """Mean (batch, dim) and covariance (batch, dim, dim) of draws (batch, M, dim)."""
    xp = array_namespace(draws)
    mean = xp.sum(weights[..., None] * draws, axis=1)
    centred = draws - mean[:, None, :]
    return mean, xp.matrix_transpose(weights[..., None] * centred) @ centred


def weigh(observation: Observation, moments: Moments, draws: Array) -> Guided:
    """ln l = ln of the mean of p(y given x_0) over draws (batch, M, dim) of p(x_0 given x_t); so the moments.

    That is E[x_0 given x_t, y] as M grows, for any p(y given x_0), and no derivative is needed: it is
    m + σ²/α ∂ ln l/∂x_t.
    """
    xp = array_namespace(draws)
    batch, count, dim = draws.shape
    flat = xp.reshape(draws, (batch * count, dim))
    weights, log_likelihood = weights_of(xp.reshape(observation.log_prob(flat), (batch, count)))
    mean, narrow = weighted_moments(weights, draws)
    _, wide = weighted_moments(xp.ones_like(weights) / count, draws)
    return Guided(moments, mean, log_likelihood, covariance=(1 - SHRINKAGE) * narrow + SHRINKAGE * wide)
