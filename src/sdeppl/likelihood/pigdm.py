"""Pseudo-inverse guidance, ΠGDM."""

from ..backend import Array, real_parameter
from ..denoisers import Denoiser
from .base import Innovation, compressed
from .observation import Linearisation, Observation, SiteApproximation
from .sda import FixedVarianceDenoiser


class PiGDMDenoiser(FixedVarianceDenoiser):
    """S = R + r² H Hᵀ with r² = σ² v/(α² v + σ²): x_0 taken as N(·, v I) before x_t is known.

    Assumes that the prior is isotropic with variance v, as standardised data without correlations are.
    variance: v, in units of x_0². Raises: as `MeanLikelihood`; ValueError for v ≤ 0. Source: Song et al.
    2023 (ΠGDM), eq. 7 and section 3.2.
    """

    name = "pigdm"

    def __init__(self, prior: Denoiser, observation: Observation, variance: float = 1.0) -> None:
        super().__init__(prior, observation)
        if not real_parameter("PiGDMDenoiser: variance", variance) > 0:
            raise ValueError(f"PiGDMDenoiser: variance must be positive; got {variance!r}")
        self.variance = variance

    def predicted_variance(self, linear: Linearisation, t: float) -> Array:
        H = linear.H
        return self._r2(t) * self.backend.xp.sum(H * H, axis=-1)

    def innovation(
        self, noise: SiteApproximation, linear: Linearisation, t: float
    ) -> tuple[Array, Linearisation, Array]:
        if linear.jacobian.shape[0] > self.dim and noise.diagonal and not self.observation.hard:
            linear, noise = compressed(linear, noise)
        projected = self._r2(t) * linear.jacobian.matmat(linear.jacobian.T.dense())
        found = Innovation.of(noise, linear, projected)
        return found.weights, linear, found.log_likelihood

    def row_numbers(self) -> int:
        n, dim = self.observation.count, self.dim
        return 4 * n * dim + 4 * min(n, dim) ** 2 + 4 * dim if n > dim else super().row_numbers()

    def _r2(self, t: float) -> float:
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        return sigma**2 * self.variance / (alpha**2 * self.variance + sigma**2)
