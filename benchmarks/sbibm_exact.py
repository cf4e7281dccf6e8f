"""Draws from a task's posterior by its density alone, to check densities and reference draws against
each other: importance resampling from kernels round some reference draws."""

import math
from dataclasses import dataclass

import numpy as np
from sbibm_tasks import Task
from scipy.spatial import cKDTree
from scipy.special import logsumexp

CHUNK = 5_000


@dataclass(frozen=True)
class ImportanceDraws:
    """draws (n, dim), resampled, so that a few stand twice; ess: of the weighted proposals before that.

    log_evidence: ln p(y), with its standard error.
    """

    draws: np.ndarray
    ess: float
    log_evidence: float
    log_evidence_error: float


@dataclass(frozen=True)
class Kernels:
    """Σ_k N(centre_k, L_k L_kᵀ)/n: centres (n, dim), roots L (n, dim, dim)."""

    centres: np.ndarray
    roots: np.ndarray

    @classmethod
    def around(cls, points: np.ndarray, number: int, neighbours: int, widen: float) -> "Kernels":
        """Each as wide as `widen` times its nearest neighbours among all points, in every direction."""
        scale = points.std(axis=0)
        _, nearest = cKDTree(points / scale).query(points[:number] / scale, k=neighbours)
        clouds = points[nearest] - points[:number, None]
        covariances = widen**2 * np.einsum("kni,knj->kij", clouds, clouds) / neighbours
        return cls(points[:number], np.linalg.cholesky(covariances))

    def sample(self, draws: int, generator: np.random.Generator) -> np.ndarray:
        chosen = generator.integers(len(self.centres), size=draws)
        z = generator.standard_normal((draws, self.centres.shape[1]))
        return self.centres[chosen] + np.einsum("nij,nj->ni", self.roots[chosen], z)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        inverses = np.linalg.inv(self.roots)
        logdet = np.log(np.einsum("kii->ki", inverses)).sum(axis=1)
        shifts = np.einsum("kij,kj->ki", inverses, self.centres)
        dim = x.shape[1]
        stacked = inverses.reshape(-1, dim).T  # (dim, kernels · dim)
        parts = []
        for first in range(0, len(x), CHUNK):
            white = (x[first : first + CHUNK] @ stacked).reshape(-1, *shifts.shape) - shifts
            parts.append(logsumexp(logdet - 0.5 * (white**2).sum(axis=-1), axis=1))
        return np.concatenate(parts) - math.log(len(self.centres)) - 0.5 * dim * math.log(2 * math.pi)


def importance_draws(
    task: Task, y: np.ndarray, reference: np.ndarray, draws: int, proposals: int = 200_000, seed: int = 0
) -> ImportanceDraws:
    """`draws` from p(θ | y) ∝ p(y | θ) p(θ), with a tenth of the proposals from the prior.

    A mode that the reference lacks would show by weights of prior proposals and a small `ess`. Raises:
    ValueError where more draws are asked for than there are effective ones.
    """
    generator = np.random.default_rng(seed)
    points = generator.permutation(reference)
    narrow = task.dim <= 5  # several modes or a curved ridge; the others are nearly Gaussian
    kernels = Kernels.around(points, *((1_000, 60, 1.0) if narrow else (4, 5_000, 1.1)))
    from_prior = proposals // 10
    theta = np.concatenate(
        [task.prior_draws(from_prior, generator), kernels.sample(proposals - from_prior, generator)]
    )
    log_prior = task.log_prior(theta)
    log_proposal = np.logaddexp(math.log(0.1) + log_prior, math.log(0.9) + kernels.log_density(theta))
    with np.errstate(invalid="ignore"):
        log_weights = log_prior + task.log_likelihood(theta, y) - log_proposal
    log_evidence = logsumexp(log_weights) - math.log(proposals)
    weights = np.exp(log_weights - log_evidence) / proposals
    ess = 1 / np.sum(weights**2)
    if draws > ess:
        raise ValueError(f"{task.name}: {draws} draws from {ess:.0f} effective proposals; use more proposals")
    kept = generator.choice(proposals, size=draws, p=weights / weights.sum())
    return ImportanceDraws(theta[kept], ess, log_evidence, math.sqrt(max(1 / ess - 1 / proposals, 0.0)))
