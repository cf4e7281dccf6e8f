"""Diffusion posterior sampling."""

import math

from ..backend import Array, real_parameter
from ..denoisers import Denoiser, Moments
from .base import Guided, MeanLikelihood, require_density
from .observation import Observation


class DPSDenoiser(MeanLikelihood):
    """l(y given x_t) = p(y given x_0 = m), with m = E[x_0 given x_t]: p(x_0 given x_t) is taken as a point.

    Mean m + C ∂ ln p(y given x_0)/∂x_0 at m, C ∂ being the pullback through m. Assumes that x_0 is known once
    x_t is, so far from the data the guidance is too strong by a factor of about H C Hᵀ/R, and a solver
    blows up on it. Hence the published method puts a step size in place of R: with `zeta`, each solver
    step of length `step` in ln(α/σ) moves x by -ζ ∂ |y - η(m)|/∂x_t, whatever the noise, as the ancestral
    sampler's first coefficient α (1 - e^{-2 step}) turns the mean's shift into that of x. One product with C.

    zeta: None for the likelihood itself, else ζ (1 in the paper's pixel units); step: of the solver,
    needed with zeta. Raises: as `MeanLikelihood`; ValueError for zeta without step; TypeError for zeta with
    an observation that has no predictor, and for a hard constraint without it. Source: Chung et al. 2023
    (DPS), eq. 11 and algorithm 1.
    """

    name = "dps"

    def __init__(
        self, prior: Denoiser, observation: Observation, zeta: float | None = None, step: float | None = None
    ) -> None:
        super().__init__(prior, observation)
        if zeta is None:
            require_density(self.name, observation)
        elif step is None or not (real_parameter("zeta", zeta) > 0 and real_parameter("step", step) > 0):
            raise ValueError(f"DPSDenoiser: zeta and step must be positive; got zeta={zeta!r}, step={step!r}")
        elif not observation.has_jacobian:
            raise TypeError(
                "DPSDenoiser: zeta measures |y - η(m)|, and the observation has no predictor η; use zeta=None"
            )
        self.zeta, self.step = zeta, step

    def row_numbers(self) -> int:
        n, dim = self.observation.count, self.dim
        return 2 * n * dim + 8 * (n + dim)

    def _guided(self, x: Array, t: float, moments: Moments) -> Guided:
        if self.zeta is None:
            gradient = self.observation.log_prob_gradient(moments.mean)
            likelihood = self.observation.log_prob(moments.mean)
        else:
            gradient, likelihood = self._normalised(moments.mean, t)
        return Guided(moments, moments.mean + moments.covariance.matvec(gradient), likelihood)

    def _normalised(self, mean: Array, t: float) -> tuple[Array, Array]:
        """Gradient at m, and value, of -ζ' |y - η(m)|, with ζ' such that a step moves x by ζ."""
        assert self.zeta is not None and self.step is not None
        xp, sde = self.backend.xp, self.sde
        linear = self.observation.linearise(mean)
        residual = self.observation.site_approximation(linear, 0 * linear.predicted).y - linear.predicted
        norm = xp.sqrt(xp.sum(residual * residual, axis=-1))
        unit = residual / xp.where(norm > 0, norm, xp.ones_like(norm))[:, None]
        # α where ln(α/σ) has grown by step: the odds α²/(α² + σ²) of a VP process, exact for it
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        size = math.hypot(alpha, sigma)
        snr = (alpha / sigma * math.exp(self.step)) ** 2
        first = size * math.sqrt(snr / (1 + snr)) * -math.expm1(-2 * self.step)
        # the shift of the mean is C times the gradient at m, and C = σ²/α ∂m/∂x
        weight = self.zeta / first * alpha / sigma**2
        return weight * linear.jacobian.rmatvec(unit), -weight * norm
