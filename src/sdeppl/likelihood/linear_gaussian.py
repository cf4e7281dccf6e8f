"""y = H x_0 + noise."""

import copy
from typing import Any

from ..backend import real_number, require_arrays
from .data_sets import checked_data, matched
from .normal_noise import NormalNoise, observed_noise, observed_rows
from .observation import Linearisation, Observation, SiteApproximation


def require_operator(xp: Any, H: Any, y: Any) -> None:
    """Check that H (observations, dim) is finite and fits y (observations,). Raises: ValueError."""
    if H is None or y is None:
        raise TypeError("H and y must be arrays, (observations, dim) and (observations,); got None")
    if H.ndim != 2 or tuple(y.shape) != (H.shape[0],):
        raise ValueError(
            f"expected H (observations, dim) and y (observations,); got {tuple(H.shape)} and {tuple(y.shape)}"
        )
    if not bool(xp.all(xp.isfinite(H))):
        raise ValueError("the operator H holds NaN or infinity")


class LinearGaussian(Observation):
    """y = H x_0 + noise, noise ~ N(0, R).

    H: (observations, dim); y: (observations,), where NaN means not observed, and the row is left
    out; R: a variance for all (a float), variances (observations,) or a covariance (observations,
    observations), positive definite. One backend and dtype.

    Raises: ValueError for shapes that do not fit, infinite data, H that is not finite or R that is not
    positive definite; BackendMismatch; TypeError for another dtype.
    """

    is_linear = True
    is_gaussian = True

    def __init__(self, H: Any, y: Any, R: Any) -> None:
        self.backend = require_arrays(type(self).__name__, H=H, y=y, R=R if real_number(R) is None else None)
        xp = self.backend.xp
        require_operator(xp, H, y)
        observed = observed_rows(self.backend, y)
        self.R = observed_noise(self.backend, R, y.shape[0], observed)
        self.H, self.y = xp.take(H, observed, axis=0), xp.take(y, observed, axis=0)
        self.dim = H.shape[1]
        self.noise = NormalNoise(self.R, self.R.ndim == 1)

    def log_prob(self, x0: Any) -> Any:
        return self.noise.log_density(matched(self.y, x0.shape[0]) - x0 @ self.H.T)

    def linearise(self, x0: Any) -> Linearisation:
        return Linearisation(x0 @ self.H.T, self.H)

    def site_approximation(self, linear: Linearisation, variance: Any) -> SiteApproximation:
        return SiteApproximation(matched(self.y, linear.predicted.shape[0]), self.R, 0.0, self.R.ndim == 1)

    def with_data(self, y: Any) -> "LinearGaussian":
        other = copy.copy(self)
        other.y = checked_data(type(self).__name__, y, self.y, self.count)
        return other
