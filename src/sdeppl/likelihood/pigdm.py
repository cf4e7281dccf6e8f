"""Pseudo-inverse guidance, ΠGDM."""

from typing import Any

from ..denoisers import Denoiser
from .observation import Linearisation, Observation
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
        if not variance > 0:
            raise ValueError(f"PiGDMDenoiser: variance must be positive; got {variance!r}")
        self.variance = variance

    def projected(self, linear: Linearisation, t: float) -> Any:
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        r2 = sigma**2 * self.variance / (alpha**2 * self.variance + sigma**2)
        return r2 * (linear.H @ self.backend.xp.matrix_transpose(linear.H))
