"""The Gaussian mean likelihood with moments of the predicted observation by cubature."""

import math
from typing import Any

from ..backend import Array
from ..denoisers import Denoiser, Moments
from ..linalg import Dense, LinearOperator, Triangular, as_covariance, cholesky
from .base import Guided, Innovation, MeanLikelihood, PseudoObservation, compressed, psd_part
from .nonlinear_gaussian import NonlinearGaussian
from .observation import Linearisation, Observation, SiteApproximation, bounded, matched, positive


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

    def _guided(self, x: Array, t: float, moments: Moments) -> Guided:
        covariance = psd_part(moments.covariance, self.dim)
        root = Triangular(cholesky(self._with_floor(covariance, x, t)))
        linear, site = self._linearised(moments.mean, root)
        slope = linear.jacobian
        pseudo = PseudoObservation(slope.matmat(root.inverse().dense()), site)
        innovation = Innovation.of(site, linear, slope.matmat(slope.T.dense()))
        shift = root.matvec(slope.rmatvec(innovation.weights))
        return Guided(
            Moments(moments.mean, covariance), moments.mean + shift, innovation.log_likelihood, pseudo
        )

    def row_numbers(self) -> int:
        assert isinstance(self.observation, NonlinearGaussian)
        n, dim = self.observation.count, self.dim
        _, R = self.observation.predict(self.prior.mean(self.end, self.sde.T))
        wide = min(n, 2 * dim) if self._is_diagonal(R) else n
        jacobians = 0 if self.observation.value is not None else 6 * dim * n * dim  # it has no other value
        return 10 * dim * n + 6 * dim * dim + 6 * wide * wide + jacobians

    def _linearised(self, m: Array, root: LinearOperator) -> tuple[Linearisation, SiteApproximation]:
        """A(x_0) as a linear function of the white ξ in x_0 = m + C^½ ξ, and noise: R and what that leaves.

        What is left is that of dim more white numbers ζ. Where far more numbers were seen than ξ and ζ
        have, with independent noise, these are `compressed` first.
        """
        xp, (batch, dim) = self.backend.xp, m.shape
        mean, slope, left, noise = self._moments(m, root.dense())
        site = SiteApproximation(matched(self.observation.y, batch), noise)
        if mean.shape[-1] > 2 * dim and noise.is_diagonal:
            both = Linearisation(mean, xp.concat([slope, left], axis=-1))
            few, site = compressed(both, site)
            mean, slope, left = few.predicted, few.H[:, :, :dim], few.H[:, :, dim:]
        spread = Dense(site.noise.added_to(left @ xp.matrix_transpose(left)), positive=True)
        return Linearisation(mean, slope), SiteApproximation(site.y, spread, site.log_scale)

    def _is_diagonal(self, R: Any) -> bool:
        """Whether R, the observation's own or that at some x_0, holds variances alone."""
        assert isinstance(self.observation, NonlinearGaussian)
        own = self.observation.noise
        return R.ndim == 2 if own is None else own.is_diagonal

    def _moments(self, m: Array, root: Array) -> tuple[Array, Array, Array, LinearOperator]:
        """E[A], (batch, n); Cov[A, ξ] and a root of what it leaves of Cov[A], (batch, n, dim); E[R]."""
        xp, (batch, dim) = self.backend.xp, m.shape
        assert isinstance(self.observation, NonlinearGaussian)
        offsets = math.sqrt(dim) * xp.matrix_transpose(root)  # row i: √dim C^½ e_i
        points = xp.stack([m[:, None, :] + offsets, m[:, None, :] - offsets], axis=1)
        predicted, R = self.observation.predict(xp.reshape(points, (2 * dim * batch, dim)))
        predicted = bounded(predicted)
        n = predicted.shape[-1]
        predicted = xp.reshape(predicted, (batch, 2, dim, n))
        mean = xp.mean(predicted, axis=(1, 2))
        ahead, behind = predicted[:, 0, ...], predicted[:, 1, ...]
        slope = (ahead - behind) * (0.5 / math.sqrt(dim))
        left = (0.5 * (ahead + behind) - mean[:, None, :]) * (1 / math.sqrt(dim))
        noise = self.observation.noise
        if R is not None:
            R = xp.mean(xp.reshape(positive(R), (batch, 2 * dim, *R.shape[1:])), axis=1)
            noise = as_covariance(R, leading_axis=True)
        assert noise is not None
        return mean, xp.matrix_transpose(slope), xp.matrix_transpose(left), noise
