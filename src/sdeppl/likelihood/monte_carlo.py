"""The mean likelihood by Monte Carlo over Tweedie's Gaussian."""

from typing import Any

from ..backend import cholesky, keyed_normal
from ..denoisers import Denoiser, Moments
from .base import Guided, MeanLikelihood
from .gradient import require_density
from .observation import Observation
from .tweedie import positive_part
from .weighted import weigh

STREAM = (0x6D6F6E7465, 0)  # of its normals: any name that no noise of a solve has
JITTER = 1e-9


class MonteCarloDenoiser(MeanLikelihood):
    """l(y given x_t) = mean of p(y given x_0) over `samples` draws m + C^½ ξ, the ξ the same for all x_t and t.

    Assumes p(x_0 given x_t) = N(m, C), and nothing of p(y given x_0), which needs no derivative: the mean is
    the draws' own, weighted by p(y given x_0). For any observation, where few numbers are informed by the
    data: the error of ln l is about √(1/(samples × share of draws that y allows)). C^½ costs a Cholesky
    factor of C a row, and dim products with C where it is not a matrix.

    samples: an even number, in pairs ±ξ; seed: of ξ. Raises: as `MeanLikelihood`; ValueError for an odd
    number or fewer than 2; TypeError for a hard constraint.
    """

    name = "monte-carlo"
    gradient_free = True

    def __init__(self, prior: Denoiser, observation: Observation, samples: int = 64, seed: int = 0) -> None:
        super().__init__(prior, observation)
        require_density(self.name, observation)
        if not isinstance(samples, int) or samples < 2 or samples % 2:
            raise ValueError(f"MonteCarloDenoiser: samples must be an even number from 2; got {samples!r}")
        xi = keyed_normal(prior.backend, (samples // 2, prior.dim), seed, STREAM)
        xi = self.backend.xp.concat([xi, -xi], axis=0)
        self.xi = xi / self.backend.xp.sqrt(self.backend.xp.mean(xi * xi, axis=0))

    def guide(self, x: Any, t: float) -> Guided:
        if self.observation.count == 0:
            return self.unguided(x, t)
        xp, moments = self.backend.xp, self.prior(x, t)
        covariance = positive_part(moments.covariance, self.dim, self.dim)
        matrix = covariance.dense()
        identity = xp.eye(self.dim, dtype=self.backend.dtype, device=self.backend.device)
        # a direction without variance, as of a prior on a subspace, has no root otherwise
        floor = JITTER * self.sde.sigma(t) ** 2 / (self.sde.alpha(t) ** 2 + self.sde.sigma(t) ** 2)
        root = cholesky(matrix + floor * identity)
        draws = moments.mean[:, None, :] + self.xi @ xp.matrix_transpose(root)
        return weigh(self.observation, Moments(moments.mean, covariance), draws)
