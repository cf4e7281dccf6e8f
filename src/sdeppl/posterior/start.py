"""Where the reverse SDE starts."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

from ..denoisers import Denoiser

SIGNAL_LIMIT = 0.5


class SignalLeftWarning(UserWarning):
    """The forward SDE ends with so much signal left that its end is not close to Gaussian noise."""


@dataclass(frozen=True)
class Start:
    """x_T ~ N(mean, root²): mean (dim,), root (dim, dim) symmetric.

    smallest_sd: the smallest standard deviation of x_0 given x_T = 0 along any direction in which
    x_0 varies, in the units of x_0.
    """

    mean: Any
    root: Any
    smallest_sd: float


def start_moments(denoiser: Denoiser) -> Start:
    """The Gaussian whose score has the denoiser's value and slope at x = 0 and t = T.

    With m and C the moments of x_0 given x_T = 0: covariance σ² (I - α²/σ² C)⁻¹ and mean
    (I - α²/σ² C)⁻¹ α m. Exact for a Gaussian x_0, whatever is left of it at T; for others as good
    as x_T is close to Gaussian. A guided denoiser gives the moments of x_T given y.

    Warns: SignalLeftWarning where the largest eigenvalue of α²/σ² C shows that x_T is not mostly
    noise.
    """
    xp, sde, backend = denoiser.backend.xp, denoiser.sde, denoiser.backend
    alpha, sigma = sde.alpha(sde.T), sde.sigma(sde.T)
    origin = xp.zeros((1, denoiser.dim), dtype=backend.dtype, device=backend.device)
    moments = denoiser(origin, sde.T)
    covariance = moments.covariance.dense()
    covariance = covariance if covariance.ndim == 2 else covariance[0, :, :]
    variances, basis = xp.linalg.eigh(covariance)
    share = (alpha / sigma) ** 2 * variances
    largest = float(xp.max(share))
    if largest > SIGNAL_LIMIT:
        warnings.warn(
            f"the forward SDE ends with signal left: along one direction {largest:.0%} of the "
            f"variance of x_T is signal (α={alpha:.3g}, σ={sigma:.3g}); for a prior that is not "
            "Gaussian use a larger T or more noise (a larger beta_max, sigma_max)",
            SignalLeftWarning,
            stacklevel=3,
        )
    # in float32 the difference from 1 must be a number that float32 knows
    share = xp.clip(share, 0.0, 1 - max(1e-9, float(xp.finfo(backend.dtype).eps)))
    mean = (alpha * moments.mean[0, :] @ basis / (1 - share)) @ basis.T
    # the symmetric root: unlike eigenvectors it is unique, so every backend starts at the same draws
    root = (basis * (sigma / xp.sqrt(1 - share))) @ basis.T
    varying = variances > 1e-10 * xp.max(variances)
    smallest = float(xp.min(xp.where(varying, variances, xp.max(variances))))
    return Start(mean, root, math.sqrt(max(smallest, 0.0)))
