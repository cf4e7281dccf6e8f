"""The Gaussian mean likelihood with moments of the predicted observation by cubature."""

import math
from typing import Any

from ..backend import cholesky, solve_lower
from ..denoisers import Denoiser, Moments
from .base import Guided, MeanLikelihood, Seen
from .data_sets import matched
from .innovation import Innovation
from .nonlinear_gaussian import NonlinearGaussian
from .observation import Linearisation, Observation, Surrogate
from .tweedie import positive_part

JITTER = 1e-9


class CubatureDenoiser(MeanLikelihood):
    """l(y given x_t) = N(y; E[A], Cov[A] + E[R]), moments over x_0 ~ N(m, C) by 2 dim points.

    For y = A(x_0) + N(0, R(x_0)), however A bends and R varies across p(x_0 given x_t), where a linearisation
    at m alone may be far off. The points are m ± √dim C^½ e_i, exact for polynomials of degree 3; A is taken
    as the linear function with the same covariance with x_0, and what that leaves of Cov[A] counts as noise.
    The mean is Kalman's with it. No derivative is needed. Costs 2 dim evaluations of A and R, and C itself,
    dim products with C where it is not a matrix.

    Raises: as `MeanLikelihood`; TypeError for an observation that is no `NonlinearGaussian`. Source:
    Arasaratnam & Haykin 2009 (cubature Kalman filter), eq. 31 to 39.
    """

    name = "cubature"
    gradient_free = True

    def __init__(self, prior: Denoiser, observation: Observation) -> None:
        super().__init__(prior, observation)
        if not isinstance(observation, NonlinearGaussian):
            raise TypeError(
                f"likelihood='cubature' is for a NonlinearGaussian; got {type(observation).__name__}; use "
                "likelihood='auto'"
            )

    def guide(self, x: Any, t: float) -> Guided:
        if self.observation.count == 0:
            return self.unguided(x, t)
        xp, moments = self.backend.xp, self.prior(x, t)
        covariance = positive_part(moments.covariance, self.dim)
        identity = xp.eye(self.dim, dtype=self.backend.dtype, device=self.backend.device)
        floor = JITTER * self.sde.sigma(t) ** 2 / (self.sde.alpha(t) ** 2 + self.sde.sigma(t) ** 2)
        shape = (x.shape[0], self.dim, self.dim)
        root = cholesky(xp.broadcast_to(covariance.dense(), shape) + floor * identity)
        mean, slope, noise = self._moments(moments.mean, root)
        H = xp.matrix_transpose(slope) @ solve_lower(root, identity)
        linear = Linearisation(mean, H)
        gram = xp.matrix_transpose(slope) @ slope
        seen = Seen(H, Surrogate(matched(self.observation.y, x.shape[0]), noise, 0.0, False))
        innovation = Innovation(seen.noise, linear, gram)
        cross = root @ slope
        shift = (cross @ innovation.weights[..., None])[..., 0]
        return Guided(
            Moments(moments.mean, covariance), moments.mean + shift, innovation.log_likelihood, seen
        )

    def _moments(self, m: Any, root: Any) -> tuple[Any, Any, Any]:
        """E[A], (batch, n); Cov[ξ, A] with x_0 = m + C^½ ξ, (batch, dim, n); E[R] + the rest of Cov[A]."""
        xp, (batch, dim) = self.backend.xp, m.shape
        assert isinstance(self.observation, NonlinearGaussian)
        offsets = math.sqrt(dim) * xp.matrix_transpose(root)  # row i: √dim C^½ e_i
        points = xp.stack([m[:, None, :] + offsets, m[:, None, :] - offsets], axis=1)
        predicted, R = self.observation.predict(xp.reshape(points, (2 * dim * batch, dim)))
        n = predicted.shape[-1]
        predicted = xp.reshape(predicted, (batch, 2, dim, n))
        mean = xp.mean(predicted, axis=(1, 2))
        slope = (predicted[:, 0, ...] - predicted[:, 1, ...]) * (0.5 / math.sqrt(dim))
        centred = xp.reshape(predicted, (batch, 2 * dim, n)) - mean[:, None, :]
        spread = xp.matrix_transpose(centred) @ centred / (2 * dim)
        bend = spread - xp.matrix_transpose(slope) @ slope
        identity = xp.eye(n, dtype=m.dtype, device=self.backend.device)
        if R is None:
            R = self.observation.R
            return mean, slope, bend + (R * identity if R.ndim == 1 else R)
        R = xp.mean(xp.reshape(R, (batch, 2 * dim, *R.shape[1:])), axis=1)
        return mean, slope, bend + (R[..., None, :] * identity if R.ndim == 2 else R)
